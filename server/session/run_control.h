// The runs of one model: the active one, those that wait for it, and the last one that has ended.
#ifndef BACKPROP_SERVER_SESSION_RUN_CONTROL_H_
#define BACKPROP_SERVER_SESSION_RUN_CONTROL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/engine/network.h"
#include "server/exec/lent_threads.h"
#include "server/records/keys.h"
#include "server/records/model_info.h"
#include "server/records/progress_mark.h"
#include "server/records/request_key.h"
#include "server/records/run_config.h"
#include "server/records/unfinished_epoch.h"
#include "server/session/checkpoints.h"
#include "server/session/environment.h"
#include "server/session/memory_budget.h"
#include "server/session/model_log.h"
#include "server/session/operation.h"
#include "server/session/projects.h"
#include "server/session/rows_in_use.h"
#include "server/session/run.h"
#include "server/session/trainer.h"
#include "server/store/store.h"

namespace backprop::session {

// A request for a run.
struct TrainArgs {
  records::RunConfig config;
  RowsInUse data;        // with rows
  RowsInUse validation;  // without rows: config.validation_split selects them
  bool wait = false;     // waits while another run is active
  bool resumes = false;  // resumes automatically after a restart of the server
  bool owned = false;    // stops when the call that requested it ends
  records::RequestKey key;
  IsCancelled cancelled;            // must be set
  MemoryBudget::Claim memory = {};  // of rows in the request, until the run counts them
  ExcludedSince excluded_since = {};
};
struct WaitingTrain {
  TrainArgs args;
  Callback<std::shared_ptr<Run>> done;
};

// A run of the store that resumes.
struct ResumeArgs {
  std::shared_ptr<Run> run;
  RunData data;
  int64_t start_step = 0;
  std::optional<records::ProgressMark> mark;  // unset: from the beginning
  // Datasets whose rows must be read first, instead of rows in `data`; 0: none.
  records::Uid training_dataset = 0;
  records::Uid validation_dataset = 0;
  // Datasets whose rows were read into `data`; 0: none.
  records::Uid training_read = 0;
  records::Uid validation_read = 0;
};

// Decides what happens to runs, and writes their progress and checkpoints to the model's log. Its
// session writes their start and end, executes slices, and calls callers back.
//
// Phases of the active run; there is one in all of them but kIdle:
//
//   kIdle        → kTraining     Start()
//   kIdle        → kReadingRows  Resume()
//   kReadingRows → kTraining     Continue(): the rows of datasets were read
//   kTraining    → kHeld         HoldIfBehind(): too many checkpoints are being stored
//   kHeld        → kTraining     CheckpointStored()
//   kReadingRows → kEnding       BeginEnd(): rows are lost
//   kTraining    → kEnding       BeginEnd()
//   kEnding      → kIdle         End()
//   kReadingRows → kIdle         Park(): the rows cannot be read now
//   kTraining    → kIdle         Park(): the server stops, or the log is broken
//
// There is a trainer in kTraining and kHeld. In kTraining one slice is running or posted.
//
// Thread-compatible: the session calls it with its lock held. The trainer is used without the lock,
// by the thread that executes a slice; only that thread calls BeginEnd() and Park() then.
class RunControl {
 public:
  enum class Phase : uint8_t { kIdle, kReadingRows, kTraining, kHeld, kEnding };
  using StatePtr = std::shared_ptr<const engine::State>;

  // Parts of the session, which must outlive this object.
  struct Model {
    const records::ModelInfo& info;
    records::Uid uid;
    const std::shared_ptr<const engine::Network>& network;
    ModelLog& log;
    Checkpoints& checkpoints;
    exec::LentThreads& lent_threads;
    Project& project;
  };
  // `latest`: the last run that has ended, or null. `unfinished`: the epoch that it left
  // unfinished, or null. `count`: the number of the last run.
  RunControl(Environment* environment, const Model& model, std::shared_ptr<Run> latest,
             records::UnfinishedEpochPtr unfinished, int64_t count);

  Phase phase() const { return phase_; }
  bool idle() const { return phase_ == Phase::kIdle; }
  // Null in kIdle.
  const std::shared_ptr<Run>& active() const { return active_; }
  // The last run that has ended or was parked, or null.
  const std::shared_ptr<Run>& latest() const { return latest_; }
  // The active or the latest run if it has that number; `number` 0: either of these. RUN_NOT_FOUND.
  absl::StatusOr<std::shared_ptr<Run>> Find(int64_t number) const;
  absl::Status NotFound(int64_t number) const;
  // The state after the last step of the active run; null without a trainer.
  StatePtr SharedState() const { return trainer_ != nullptr ? trainer_->Share() : nullptr; }

  // Adds a request that waits for the active run. RESOURCE_EXHAUSTED, without using the arguments,
  // if too many wait.
  absl::Status Enqueue(TrainArgs* args, Callback<std::shared_ptr<Run>>* done);
  bool has_waiting() const { return !waiting_.empty(); }
  // Removes the waiting requests that can proceed: the first one if no run is active, and retries
  // of the request with `key`, which attach to the run that it started.
  std::vector<WaitingTrain> TakeReady(const records::RequestKey& key);
  std::vector<WaitingTrain> TakeWaiting() { return std::exchange(waiting_, {}); }

  // Admits and starts a run with the model in `state`. Releases args->memory. Errors: UNAVAILABLE
  // while the server stops; RESOURCE_EXHAUSTED (LIMIT_EXCEEDED, QUOTA_EXCEEDED).
  absl::StatusOr<std::shared_ptr<Run>> Start(TrainArgs* args, StatePtr state);
  // A run that was admitted before a restart: nothing is rejected. Continue() makes the trainer,
  // when the rows of datasets are in `args`.
  void Resume(std::shared_ptr<Run> run);
  void Continue(ResumeArgs args, StatePtr state);

  // Between slices, in kTraining.
  Trainer* trainer() const { return trainer_.get(); }
  bool MustPark() const;
  // Whether the progress of the run is to be stored: every mark_interval, but not before the last
  // one is stored. A crash loses the progress of a run since its last mark.
  bool MarkIsDue() const;
  // Stores the progress. `done` must call MarkStored(), also if the run has ended meanwhile. It
  // need not if Park() follows.
  void Mark(ModelLog::Done done);
  void MarkStored() { mark_pending_ = false; }
  // Stores a periodic checkpoint, whose state is encoded in `state`. `done` must call
  // CheckpointStored(), and post the next slice if that returns true.
  void KeepPeriodic(const DueCheckpoint& due, std::string state, ModelLog::Done done);
  bool HoldIfBehind();
  bool CheckpointStored();

  // Takes the trainer, whose memory the caller frees without the lock. `state` and `trainer` are
  // null if the run had none.
  struct Last {
    StatePtr state;
    std::unique_ptr<Trainer> trainer;
    store::WriteBatch checkpoints;  // the best epoch, if it is not stored yet
  };
  Last BeginEnd();
  // Returns the run.
  std::shared_ptr<Run> End();
  // The epoch that the last ended run left unfinished, or null. After BeginEnd(), that run is the
  // ending one.
  const records::UnfinishedEpochPtr& unfinished() const { return unfinished_; }
  // The run resumes when the model is loaded again.
  struct Parked {
    std::shared_ptr<Run> run;
    StatePtr state;
    std::unique_ptr<Trainer> trainer;
  };
  Parked Park();

 private:
  void Enter(Phase next);
  absl::Status CheckStoredBytes(const TrainArgs& args) const;
  int64_t RunBytes(const records::RunConfig& config, const RowsInUse& data,
                   const RowsInUse& validation) const;
  records::RunConfig ConfigFor(const TrainArgs& args, int64_t step);
  std::shared_ptr<Run> TakeActive();
  void AddCheckpoint(const DueCheckpoint& due, std::string state, store::WriteBatch* batch);
  store::WriteBatch TakeBest();

  Environment* const environment_;
  const Model model_;
  Phase phase_ = Phase::kIdle;
  bool mark_pending_ = false;
  int pending_checkpoints_ = 0;  // periodic ones that are being stored
  int64_t count_;
  std::shared_ptr<Run> active_;
  std::shared_ptr<Run> latest_;
  records::UnfinishedEpochPtr unfinished_;  // of latest_, or null
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<MemoryBudget::Claim> memory_;  // of the active run; most models have none
  absl::Time last_mark_;                         // when the progress was last passed to the log
  std::vector<WaitingTrain> waiting_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RUN_CONTROL_H_
