// Records of runs: active ones, their progress, and those that have ended.
#ifndef BACKPROP_SERVER_RECORDS_RUN_RECORDS_H_
#define BACKPROP_SERVER_RECORDS_RUN_RECORDS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/records/keys.h"
#include "server/records/progress_mark.h"
#include "server/records/request_key.h"
#include "server/records/run_config.h"
#include "server/records/run_events.h"
#include "server/records/unfinished_epoch.h"

namespace backprop::records {

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
std::string EncodeMark(const ProgressMark& mark, const RunLogImage& log);
struct StoredMark {
  ProgressMark mark;
  RunLogImage log;
};
absl::StatusOr<StoredMark> DecodeMark(absl::string_view value, absl::string_view model);

// A run that has ended.
struct FinishedRun {
  int64_t number = 0;
  RunConfig config;
  RunLogImage log;  // without the summary
  RunSummary summary;
  UnfinishedEpochPtr unfinished;  // the epoch that it left unfinished, or null
};
std::string EncodeFinishedRun(FinishedRun run);
absl::StatusOr<FinishedRun> DecodeFinishedRun(absl::string_view value, absl::string_view model);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_RUN_RECORDS_H_
