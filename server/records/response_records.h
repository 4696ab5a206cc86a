// Records of responses, which retries of the same request receive again.
#ifndef BACKPROP_SERVER_RECORDS_RESPONSE_RECORDS_H_
#define BACKPROP_SERVER_RECORDS_RESPONSE_RECORDS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/engine/step.h"
#include "server/records/checkpoint.h"
#include "server/records/keys.h"
#include "server/records/request_key.h"
#include "server/store/store.h"

namespace backprop::records {

struct StepOutcome {
  int64_t step = 0;  // after the step
  engine::StepResult result;
};

// The run that a request started or stopped.
struct RunNumber {
  int64_t number = 0;
};

// The response to a mutation of a model. int64_t: the step count after an edit, or 0 after the
// deletion of a checkpoint.
struct StoredResponse {
  RequestKey key;
  absl::Time time;
  uint64_t sequence = 0;  // among the responses of the model
  std::variant<StepOutcome, int64_t, RunNumber, CheckpointPtr> response;
};
std::string EncodeResponse(const StoredResponse& response);
absl::StatusOr<StoredResponse> DecodeResponse(absl::string_view value, absl::string_view model);

// The response of CreateModel, DeleteModel or DeleteDataset; `model_id` is of CreateModel only.
struct RegistryResponse {
  RequestKey key;
  absl::Time time;
  uint64_t sequence = 0;
  std::string model_id;
};
std::string EncodeRegistryResponse(const RegistryResponse& response);
absl::StatusOr<RegistryResponse> DecodeRegistryResponse(absl::string_view value);
// Reads all responses of one kind, oldest first. Damaged ones are omitted: a late retry then counts
// as a new request, which the model's name or step still protects against repetition.
absl::StatusOr<std::vector<RegistryResponse>> ReadRegistryResponses(store::Store* store,
                                                                    RegistryRequestKind kind);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_RESPONSE_RECORDS_H_
