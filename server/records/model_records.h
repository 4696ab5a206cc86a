// Records of a model: its description and its state.
#ifndef BACKPROP_SERVER_RECORDS_MODEL_RECORDS_H_
#define BACKPROP_SERVER_RECORDS_MODEL_RECORDS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/engine/network.h"
#include "server/records/keys.h"
#include "server/records/request_key.h"
#include "server/store/store.h"

namespace backprop::records {

// The record of a model.
struct StoredModel {
  Uid uid = 0;
  std::string spec;  // encoded by codec::EncodeSpecRecord
  std::map<std::string, std::string> labels;
  std::optional<absl::Duration> ttl;
  absl::Time create_time;
  RequestKey created_by;
  int64_t created_at_step = 0;
  int64_t value_count = 0;
  int64_t value_bytes = 0;  // of records that an older version wrote: 0
  store::Durability durability = store::Durability::kSync;
};
std::string EncodeModel(const StoredModel& model);
absl::StatusOr<StoredModel> DecodeModel(absl::string_view value, absl::string_view id);

std::string EncodeState(const engine::State& state);
absl::StatusOr<std::shared_ptr<engine::State>> DecodeState(absl::string_view value,
                                                           const engine::Network& network,
                                                           absl::string_view model);
// Decodes only the step count of a state.
absl::StatusOr<int64_t> DecodeStepCount(absl::string_view value, absl::string_view model);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_MODEL_RECORDS_H_
