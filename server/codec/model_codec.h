// Converts between the messages about models and the values of records.
#ifndef BACKPROP_SERVER_CODEC_MODEL_CODEC_H_
#define BACKPROP_SERVER_CODEC_MODEL_CODEC_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backprop/v1/model.pb.h"
#include "server/base/fields.h"
#include "server/engine/network.h"
#include "server/records/model_info.h"

namespace backprop::codec {

// Copies the labels to `out` and adds violations about `labels`.
void DecodeLabels(const google::protobuf::Map<std::string, std::string>& labels,
                  std::map<std::string, std::string>* out, base::Fields* fields);
// Sets `ttl` and adds a violation about `ttl` unless it is 1 second to 10 years.
void DecodeTtl(const google::protobuf::Duration& message, std::optional<absl::Duration>* ttl,
               base::Fields* fields);

// The durability for a request. `stores`: whether the server has a data directory. An unspecified
// one means SYNC with a data directory and NONE without. INVALID_ARGUMENT for an unknown value;
// FAILED_PRECONDITION (NO_DATA_DIR) if the server cannot provide what was requested.
absl::StatusOr<records::Durability> DecodeDurability(bool stores, v1::Durability asked);

// What a Model message says about a model.
struct ModelDescription {
  const records::ModelInfo& info;
  const engine::Network& network;
  absl::Time create_time;
  records::Durability durability = records::Durability::kNone;
  std::optional<absl::Time> expire_time;
  int64_t step = 0;
  std::string active_run;  // empty: none
};
void EncodeModel(const ModelDescription& description, v1::Model* model);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_MODEL_CODEC_H_
