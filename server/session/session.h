// One model: its state, the order of its mutations, its runs, and its checkpoints.
#ifndef BACKPROP_SERVER_SESSION_SESSION_H_
#define BACKPROP_SERVER_SESSION_SESSION_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/call_times.h"
#include "server/base/mutex.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/exec/compute_pool.h"
#include "server/exec/lent_threads.h"
#include "server/exec/strand.h"
#include "server/records/checkpoint.h"
#include "server/records/keys.h"
#include "server/records/model_info.h"
#include "server/records/progress_mark.h"
#include "server/records/project.h"
#include "server/records/request_key.h"
#include "server/records/response_records.h"
#include "server/records/row_records.h"
#include "server/records/run_config.h"
#include "server/records/run_events.h"
#include "server/records/unfinished_epoch.h"
#include "server/session/checkpoints.h"
#include "server/session/environment.h"
#include "server/session/model_log.h"
#include "server/session/operation.h"
#include "server/session/projects.h"
#include "server/session/recorded_response.h"
#include "server/session/rows_in_use.h"
#include "server/session/run.h"
#include "server/session/run_control.h"
#include "server/session/trainer.h"
#include "server/store/store.h"

namespace backprop::session {

// Initial contents of a session.
struct SessionStart {
  records::ModelInfo info;
  records::Uid uid = 0;
  std::shared_ptr<const engine::Network> network;
  std::shared_ptr<const engine::State> state;
  absl::Time create_time;
  records::RequestKey created_by;
  int64_t created_at_step = 0;
  std::unique_ptr<ModelLog> log;  // null: the model is only in memory
  std::vector<RecordedResponse> responses =
      {};                                // remembered responses, in the order of their numbers
  std::shared_ptr<Run> latest_run = {};  // the last one that has ended
  records::UnfinishedEpochPtr unfinished = {};  // the epoch that it left unfinished
  int64_t run_count = 0;
  Checkpoints checkpoints = {};
};

// Thread-safe. Operations that may take long return their results through a callback. A mutation
// calls it when the change is stored, on a thread of the store, or at once if there is nothing to
// store.
//
// Phases:
//
//   kOpen          → kBroken   the store rejects a change; the registry then loads the model again,
//                              in another session, and this one only responds to readers
//   kOpen, kBroken → kDeleted  Close()
//
// The runs of the model have phases of their own (run_control.h).
class Session : public std::enable_shared_from_this<Session> {
 public:
  enum class Phase { kOpen, kBroken, kDeleted };
  using TrainArgs = session::TrainArgs;
  using StatePtr = std::shared_ptr<const engine::State>;

  Session(Environment* environment, SessionStart start);

  Environment* environment() const { return environment_; }
  const records::ModelInfo& info() const { return info_; }
  records::Uid uid() const { return uid_; }  // prefix of the keys of its records
  std::string name() const { return records::ModelName(info_.id); }
  Project* project() const { return project_; }
  // The project's part of the compute pool.
  exec::ComputePool::Share* share() const { return project_->share(); }
  const engine::Network& network() const { return *network_; }
  absl::Time create_time() const { return create_time_; }
  int64_t created_at_step() const { return created_at_step_; }
  const records::RequestKey& created_by() const { return created_by_; }

  // When the model expires if it is not used before. Unset without a ttl and while a run is active.
  std::optional<absl::Time> ExpireTime() const;
  // Counts as a use of the model.
  void Touch();
  // Whether Touch() was called since the last call of this method.
  bool TakeTouched() { return touched_.exchange(false, std::memory_order_relaxed); }
  // Approximate memory use in bytes, without the parts that grow with use: remembered responses,
  // the latest run, metadata of checkpoints. Environment::memory counts all of it.
  int64_t MemoryBytes() const { return fixed_bytes_; }
  // Size of one state of the model in bytes.
  int64_t StateBytes() const { return engine::StateBytes(*network_); }
  // Whether the session can be destroyed without loss when it is not referenced: the store has all
  // of it.
  bool Evictable() const;

  // Step count and active run (empty: none), at some moment during the call.
  struct Activity {
    int64_t step = 0;
    std::string active_run;
  };
  Activity activity() const;

  // Makes one optimiser step, with a batch or gradients (P) of the caller. `expected_step` is
  // checked when all earlier mutations have been made. Errors of Step, Edit and RestoreCheckpoint:
  // NOT_FOUND (MODEL_DELETED); FAILED_PRECONDITION (RUN_UNDER_WAY); ABORTED (STEP_MISMATCH);
  // INVALID_ARGUMENT if the request id was used for another request; RESOURCE_EXHAUSTED;
  // NOT_STORED; CANCELLED. Also of Step: FAILED_PRECONDITION (NOT_FITTED, NOT_FINITE).
  struct StepArgs {
    // Callers must have checked it against the model, and a batch with CheckWorkspace().
    records::StepInput work;
    std::optional<int64_t> expected_step;
    records::RequestKey key;
    IsCancelled cancelled;  // must be set
    ExcludedSince excluded_since = {};
    base::CallTimes* times = nullptr;  // must live until `done` is called; null: not timed
    exec::Strand::Wait wait = exec::Strand::Wait::kIgnored;  // whether it counts for RefuseChange
  };
  // The costs of a step with `rows` rows and of one with gradients, in floating-point operations.
  int64_t CostOfStep(int64_t rows) const;
  int64_t CostOfApply() const;
  // Whether a change of this cost should be refused, because it would wait too long for earlier
  // ones or for a thread (queue_delay.h).
  std::optional<exec::Refusal> RefuseChange(int64_t cost) { return strand_.Refuse(cost); }
  void Step(StepArgs args, Callback<records::StepOutcome> done);

  // Replaces the state by the result of `edit` for the current state. Returns the step count.
  // Errors: also those of `edit`.
  struct EditArgs {
    absl::AnyInvocable<absl::StatusOr<std::shared_ptr<engine::State>>(const engine::State&)> edit;
    std::optional<int64_t> expected_step;
    records::RequestKey key;
    IsCancelled cancelled;     // must be set
    bool reads_store = false;  // `edit` reads the store, which may take long
    ExcludedSince excluded_since = {};
    base::CallTimes* times = nullptr;  // as in StepArgs
  };
  void Edit(EditArgs args, Callback<int64_t> done);

  // Starts a run, or returns the run that the same request started earlier. With `wait`, the
  // request is queued if another run is active, otherwise it fails. Callers must have checked the
  // rows against the model, and the settings with the number of rows and CheckWorkspace(). Errors:
  // those of Step but for STEP_MISMATCH, NOT_FITTED and NOT_FINITE; NOT_FOUND (RUN_NOT_FOUND) if
  // the same request started a run that is no longer known; UNAVAILABLE while the server stops.
  void Train(TrainArgs args, Callback<std::shared_ptr<Run>> done);

  // The run that a request started; null if the request is new. INVALID_ARGUMENT if its id was used
  // for another request, NOT_FOUND if the run is no longer known.
  absl::StatusOr<std::shared_ptr<Run>> FindRunOf(const records::RequestKey& key) const;

  // Stops the run with that number (0: the active run), and returns it when it has ended.
  void StopTraining(int64_t number, const records::RequestKey& key,
                    Callback<std::shared_ptr<Run>> done);

  // The run with that number if it is the active or the latest one; 0: either of these.
  absl::StatusOr<std::shared_ptr<Run>> FindRun(int64_t number) const;

  // Stores the state after the last step, also during a run, as checkpoint `id`.
  struct CheckpointArgs {
    std::string id;
    records::RequestKey key;
    IsCancelled cancelled;  // must be set
  };
  void CreateCheckpoint(CheckpointArgs args, Callback<records::CheckpointPtr> done);
  // The result is 0.
  void DeleteCheckpoint(CheckpointArgs args, Callback<int64_t> done);
  // Replaces the state by that of the checkpoint. Returns the step count. Errors: also NOT_FOUND
  // (CHECKPOINT_NOT_FOUND); DATA_LOSS.
  void RestoreCheckpoint(CheckpointArgs args, std::optional<int64_t> expected_step,
                         Callback<int64_t> done);
  // Up to `count` checkpoints with ids greater than `after`, by id.
  std::vector<records::CheckpointPtr> ListCheckpoints(const std::string& after, size_t count) const;

  // The state after the last step, complete and immutable. Never waits for a step that is computed.
  StatePtr Read() const;

  // The same for computations with the state: NOT_FITTED if its standardisation is not computed
  // yet.
  absl::StatusOr<StatePtr> ReadFitted() const;

  // Deletes the model: its run stops, every later operation returns MODEL_DELETED, and nothing more
  // is written to the store, from which it is deleted together with a commit of `registry_part`.
  // `done` gets the result of that commit.
  void Close(store::WriteBatch registry_part, store::Store::Done done);

  // Stores a new model together with `registry_part`. `done` gets the result.
  void StoreCreation(std::string spec, store::WriteBatch registry_part, store::Store::Done done);
  // Calls `done` when all earlier changes are stored.
  void WhenStored(store::Store::Done done);
  Phase phase() const;
  // How the model's changes are stored. kNone also for a model in memory: stored() tells them
  // apart.
  store::Durability durability() const { return log_->durability(); }
  // Whether the model can be loaded from the store.
  bool stored() const { return log_->stored(); }

  // Resumes a run from the store. Must be called before other threads know the session.
  void ResumeRun(ResumeArgs args);

  // Stops the run with `reason`, and rejects the requests that wait for it. Does not affect later
  // calls.
  void StopRun(records::StopReason reason, const absl::Status& refusal_of_waiting);

 private:
  // An operation that a run excludes. It is tried again when the run has ended, or at `deadline`,
  // when it may be rejected.
  struct ExcludedOperation {
    std::chrono::steady_clock::time_point deadline;
    absl::AnyInvocable<void(Session*)> again;
  };

  // The remembered response if the request is a retry; nothing if it is new.
  template <class T>
  absl::StatusOr<std::optional<T>> FindResponse(const records::RequestKey& key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Records a response with a request id. FindResponse() must have returned nothing since the
  // lock was acquired. Returns the response with its number.
  RecordedResponse Remember(RecordedResponse recorded) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  ModelLedger& Ledger() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t FixedBytes() const;
  void CountMemory() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Phase CurrentPhase() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // OK, or the reason why nothing can be changed now.
  absl::Status CheckOpen(const IsCancelled& cancelled) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // OK, or the reason why the state cannot be changed now.
  absl::Status CheckMutable(const IsCancelled& cancelled,
                            const std::optional<int64_t>& expected_step) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Starts a mutation: returns its remembered response, or the state to change.
  template <class T>
  absl::StatusOr<std::variant<T, StatePtr>> Begin(const records::RequestKey& key,
                                                  const IsCancelled& cancelled,
                                                  const std::optional<int64_t>& expected_step);
  // Makes `next` the state, and calls `done` when it is stored. `work`: the input of a step, or
  // null.
  template <class T>
  void Commit(const records::RequestKey& key, StatePtr next, const records::StepInput* work,
              const T& response, Callback<T> done);
  // Stores changes of checkpoints, and calls `done` when they are stored. If they are rejected,
  // `undo` is called under the lock.
  template <class T>
  void CommitCheckpoints(store::WriteBatch&& changes, const records::RequestKey& key,
                         const T& response, absl::AnyInvocable<void()> undo, Callback<T> done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Calls `done` with an earlier decision when the changes that led to it are stored.
  template <class T>
  void RespondWhenStored(absl::StatusOr<T> response, Callback<T> done);

  // Claims memory for a change until `done` is called. Small changes are not counted.
  template <class T>
  absl::Status CountUntilDone(int64_t bytes, const char* what, Callback<T>* done);
  // Counts bytes that are being stored for the project until `done` is called. RESOURCE_EXHAUSTED.
  template <class T>
  absl::Status StoreUntilDone(int64_t bytes, Callback<T>* done);
  // Memory for the next state, and for its record until that is stored.
  int64_t ChangeBytes() const { return StateBytes() * (log_->stored() ? 2 : 1); }

  // Handles an operation that a run excluded. True if it will be tried again later; then `args` and
  // `done` are moved from.
  template <class Args, class T>
  bool TryLater(Args& args, Callback<T>& done, void (Session::*operation)(Args&, Callback<T>))
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::optional<std::chrono::steady_clock::time_point> MayTryUntil(ExcludedSince* since)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PostRetry() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RetryExcluded();
  void RetryDue(bool run_ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void CountStep(const records::StepInput& work);
  void DoStep(StepArgs& args, Callback<records::StepOutcome> done);
  void DoEdit(EditArgs& args, Callback<int64_t> done);
  absl::StatusOr<std::variant<records::CheckpointPtr, StatePtr>> BeginCheckpoint(
      const CheckpointArgs& args) const;
  absl::AnyInvocable<void()> Forget(const std::string& id);
  void DoCreateCheckpoint(const CheckpointArgs& args, Callback<records::CheckpointPtr> done);
  void DoDeleteCheckpoint(const CheckpointArgs& args, Callback<int64_t> done);
  absl::Status CheckNewCheckpoint(const CheckpointArgs& args) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<engine::State>> ReadCheckpoint(const std::string& id) const;
  void DoTrain(TrainArgs& args, Callback<std::shared_ptr<Run>> done);
  absl::StatusOr<std::shared_ptr<Run>> LookUpRunOf(const records::RequestKey& key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckMayStart(const TrainArgs& args) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<Run>> BeginRun(TrainArgs* args,
                                                Callback<std::shared_ptr<Run>>* done,
                                                ModelLog::Done* call_now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReadRowsOfRun(ResumeArgs args);
  void ContinueRun(ResumeArgs args);
  void FailToResume(const absl::Status& why);
  void PostSlice();
  void RunSlice();
  bool StoreProgress(Trainer* trainer);
  void EndRun(const records::RunSummary& summary);
  void ParkRun();

  Environment* const environment_;
  const records::ModelInfo info_;
  const records::Uid uid_;
  const std::shared_ptr<const engine::Network> network_;
  const absl::Time create_time_;
  const records::RequestKey created_by_;
  const int64_t created_at_step_;
  const int64_t fixed_bytes_;
  std::atomic<int64_t> last_used_unix_nanos_;
  exec::LentThreads lent_threads_;
  Project* const project_;
  exec::Strand strand_;

  // The pointer does not change. Any thread may call durability() and stored(); other functions
  // need the lock.
  const std::unique_ptr<ModelLog> log_;

  mutable base::Mutex mu_;
  // kBroken is a phase of the log, which threads of the store break; it is never stored here.
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kOpen;
  bool retry_posted_ ABSL_GUARDED_BY(mu_) = false;
  std::atomic<bool> touched_{true};      // without the lock
  StatePtr state_ ABSL_GUARDED_BY(mu_);  // older than the trainer's, if there is one
  int64_t step_ ABSL_GUARDED_BY(mu_);    // step count at the last boundary between slices
  std::unique_ptr<ModelLedger> ledger_ ABSL_GUARDED_BY(mu_);  // created when first needed
  Checkpoints checkpoints_ ABSL_GUARDED_BY(mu_);
  RunControl runs_ ABSL_GUARDED_BY(mu_);
  MemoryBudget::Claim memory_ ABSL_GUARDED_BY(mu_);
  std::vector<ExcludedOperation> excluded_ ABSL_GUARDED_BY(mu_);  // in the order of arrival
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_SESSION_H_
