// Between runs and their records (server/store/records.proto).
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

// A run under way.
struct StoredRun {
  int64_t number = 0;
  RunConfig config;
  RequestKey key;
  bool resumes = false;
  int64_t start_step = 0;
  uint32_t training_chunks = 0;
  uint32_t validation_chunks = 0;
  Uid training_dataset = 0;  // instead of pieces
  Uid validation_dataset = 0;
  std::string model;  // the id
};
std::string EncodeRun(const StoredRun& run);
absl::StatusOr<StoredRun> DecodeRun(absl::string_view value, absl::string_view model);

// Without the state of the best epoch, which is a record of its own.
std::string EncodeMark(const TrainerMark& mark, const RunLogImage& log);
struct StoredMark {
  TrainerMark mark;
  RunLogImage log;
};
absl::StatusOr<StoredMark> DecodeMark(absl::string_view value, absl::string_view model);

// A run that has ended; its log's newest event is `summary`. `unfinished`: where it left its epoch,
// or null.
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
