// Converts between runs and their records (server/store/records.proto).
#ifndef BACKPROP_SERVER_SESSION_RUN_RECORDS_H_
#define BACKPROP_SERVER_SESSION_RUN_RECORDS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/keys.h"
#include "server/session/run.h"
#include "server/session/run_log.h"
#include "server/session/trainer.h"

namespace backprop::store::v1 {
class Metrics;
}

namespace backprop::session {

void Encode(const Metrics& metrics, store::v1::Metrics* message);
Metrics Decode(const store::v1::Metrics& message);

// An active run.
struct StoredRun {
  int64_t number = 0;
  RunConfig config;
  RequestKey key;
  bool resumes = false;
  int64_t start_step = 0;
  uint32_t training_chunks = 0;
  uint32_t validation_chunks = 0;
  Uid training_dataset = 0;  // 0: its rows are stored as chunks
  Uid validation_dataset = 0;
  std::string model;  // the id of the model
};
std::string EncodeRun(const StoredRun& run);
absl::StatusOr<StoredRun> DecodeRun(absl::string_view value, absl::string_view model);

// Without the state of the best epoch, which has its own record.
std::string EncodeMark(const TrainerMark& mark, const RunLogImage& log);
struct StoredMark {
  TrainerMark mark;
  RunLogImage log;
};
absl::StatusOr<StoredMark> DecodeMark(absl::string_view value, absl::string_view model);

// Encodes a run that has ended with `summary`, which is not yet in its log. `unfinished`: the epoch
// that it left unfinished, or null.
std::string EncodeFinishedRun(const Run& run, const RunSummary& summary,
                              const UnfinishedEpoch* unfinished);
struct FinishedRun {
  std::shared_ptr<Run> run;
  UnfinishedEpochPtr unfinished;
};
// `model` is "models/{id}".
absl::StatusOr<FinishedRun> DecodeFinishedRun(absl::string_view value, const std::string& model);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RUN_RECORDS_H_
