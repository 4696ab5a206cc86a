// Responses of a model's mutations, which retries of the same request receive again.
#ifndef BACKPROP_SERVER_SESSION_RECORDED_RESPONSE_H_
#define BACKPROP_SERVER_SESSION_RECORDED_RESPONSE_H_

#include <cstdint>
#include <memory>
#include <variant>

#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/records/checkpoint.h"
#include "server/records/request_key.h"
#include "server/records/response_records.h"
#include "server/session/request_ledger.h"
#include "server/session/run.h"

namespace backprop::session {

// A run and its number. `run` is null after the model was loaded from the store, unless the run
// resumed or is the latest one that has ended.
struct RunResponse {
  int64_t number = 0;
  std::shared_ptr<Run> run;
};

// int64_t: the step count after an edit, or 0 after the deletion of a checkpoint.
using MutationResponse =
    std::variant<records::StepOutcome, int64_t, RunResponse, records::CheckpointPtr>;

// A response and the key of its request. Without a request id it is not remembered.
struct RecordedResponse {
  records::RequestKey key;
  absl::Time time;
  MutationResponse response;
  uint64_t sequence = 0;  // its number in the model's ledger
};

// The responses that a model remembers.
using ModelLedger = RequestLedger<MutationResponse, base::kModelRequestWindow>;

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RECORDED_RESPONSE_H_
