// The life of one model: what it is, the order of its mutations, its run, its snapshots.
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
#include "server/base/mutex.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/exec/lent_threads.h"
#include "server/exec/strand.h"
#include "server/session/answer.h"
#include "server/session/checkpoints.h"
#include "server/session/environment.h"
#include "server/session/journal.h"
#include "server/session/model_info.h"
#include "server/session/request_window.h"
#include "server/session/rows_in_use.h"
#include "server/session/run.h"
#include "server/session/trainer.h"
#include "server/store/store.h"

namespace backprop::session {

// Whether the caller of an operation has gone; asked before the operation changes anything.
using IsCancelled = absl::AnyInvocable<bool() const>;

// When a run first stood in an operation's way (session_excluded.cc); nothing yet: it has not.
using ExcludedSince = std::optional<std::chrono::steady_clock::time_point>;

// What a session begins with.
struct SessionStart {
  ModelInfo info;
  Uid uid = 0;
  std::shared_ptr<const engine::Network> network;
  std::shared_ptr<const engine::State> state;
  absl::Time create_time;
  RequestKey created_by;
  int64_t created_at_step = 0;
  std::optional<Journal> journal;         // nothing: the model lives in memory
  std::vector<KeyedAnswer> answers = {};  // what retries can still get, the oldest first
  std::shared_ptr<Run> latest_run = {};   // the last one that has ended
  UnfinishedEpochPtr unfinished = {};     // where it left its epoch
  int64_t run_count = 0;
  Checkpoints checkpoints = {};
};

// Thread-safe. Operations that may take long answer through a callback, which is called exactly
// once, from any thread, possibly before the operation returns.
class Session : public std::enable_shared_from_this<Session> {
 public:
  template <class T>
  using Callback = absl::AnyInvocable<void(absl::StatusOr<T>)>;
  using StatePtr = std::shared_ptr<const engine::State>;

  Session(Environment* environment, SessionStart start);

  const ModelInfo& info() const { return info_; }
  Uid uid() const { return uid_; }  // of its records
  std::string name() const { return "models/" + info_.id; }
  const engine::Network& network() const { return *network_; }
  absl::Time create_time() const { return create_time_; }
  int64_t created_at_step() const { return created_at_step_; }
  const RequestKey& created_by() const { return created_by_; }

  // When the model expires if nobody uses it, if ever. A model with a run under way does not.
  std::optional<absl::Time> ExpireTime() const;
  void Touch();
  // Whether it was touched since this was last asked.
  bool TakeTouched() { return touched_.exchange(false, std::memory_order_relaxed); }
  // What it holds in memory, about, beside what comes with use: remembered answers, its latest run,
  // what is known of its checkpoints. All of it is counted in Environment::memory.
  int64_t MemoryBytes() const { return fixed_bytes_; }
  // Of one state of the model.
  int64_t StateBytes() const {
    return network_->parameter_count() * (1 + network_->slot_count()) *
           engine::SizeOf(network_->spec().data_type);
  }
  // Whether nothing is lost when nobody holds it any more: the store has all of it.
  bool Evictable() const;

  // Step count and run under way, at some moment during the call.
  struct Status {
    int64_t step = 0;
    std::string active_run;
  };
  Status status() const;

  // One optimiser step, on a batch or with gradients (P) of the caller's; `expected_step` is
  // checked in the model's order.
  struct StepArgs {
    StepWork work;
    std::optional<int64_t> expected_step;
    RequestKey key;
    IsCancelled cancelled;
    ExcludedSince excluded_since = {};
  };
  void Step(StepArgs args, Callback<StepOutcome> done);

  // Replaces the state by what `edit` makes of the current one. Answers the step count.
  struct EditArgs {
    absl::AnyInvocable<absl::StatusOr<std::shared_ptr<engine::State>>(const engine::State&)> edit;
    std::optional<int64_t> expected_step;
    RequestKey key;
    IsCancelled cancelled;
    bool reads_store = false;  // `edit` does, which may take long
    ExcludedSince excluded_since = {};
  };
  void Edit(EditArgs args, Callback<int64_t> done);

  // Starts a run, or finds the one that the same request started; `wait` queues behind a run under
  // way instead of being refused.
  struct TrainArgs {
    RunConfig config;
    RowsInUse data;
    RowsInUse validation;  // without rows: what config.validation_split takes
    bool wait = false;
    bool resumes = false;  // goes on by itself after a restart of the server
    bool owned = false;    // ends when the call that asks for it ends
    RequestKey key;
    IsCancelled cancelled;
    MemoryBudget::Claim memory =
        {};  // of rows that came with the request, until the run counts them
    ExcludedSince excluded_since = {};
  };
  void Train(TrainArgs args, Callback<std::shared_ptr<Run>> done);

  // The run that a request started, if it did; null if it is new. INVALID_ARGUMENT if its id was
  // used for another request, NOT_FOUND if the run is not known any more.
  absl::StatusOr<std::shared_ptr<Run>> FindRunOf(const RequestKey& key) const;

  // Stops the run of that number (0: whichever is under way) and answers it once it has ended.
  void StopTraining(int64_t number, const RequestKey& key, Callback<std::shared_ptr<Run>> done);

  // The run of that number if it is under way or the latest; 0: either.
  absl::StatusOr<std::shared_ptr<Run>> FindRun(int64_t number) const;

  // Keeps the state after the last step, also during a run, under `id`.
  struct CheckpointArgs {
    std::string id;
    RequestKey key;
    IsCancelled cancelled;
  };
  void CreateCheckpoint(CheckpointArgs args, Callback<CheckpointPtr> done);
  // Answers 0.
  void DeleteCheckpoint(CheckpointArgs args, Callback<int64_t> done);
  // Makes the state what it was. Answers the step count.
  void RestoreCheckpoint(CheckpointArgs args, std::optional<int64_t> expected_step,
                         Callback<int64_t> done);
  // Up to `count` whose id is greater than `after`, by id.
  std::vector<CheckpointPtr> ListCheckpoints(const std::string& after, size_t count) const;

  // The state after the last step, complete and unchanging. Never waits for a step under way.
  StatePtr Read() const;

  // The same for who computes with it: NOT_FITTED while the model awaits its standardisation.
  absl::StatusOr<StatePtr> ReadFitted() const;

  // Ends a deleted model: its run stops, every later operation answers MODEL_DELETED, and nothing
  // more is written to the store, from which it is deleted together with `registry_part`. `done`
  // says whether that is stored.
  void Close(store::Batch registry_part, store::Store::Done done);

  // Stores the model as created, for a model with a journal, together with `registry_part`. `done`
  // says whether that is stored.
  void StoreCreation(std::string spec, store::Batch registry_part, store::Store::Done done);
  // `done` says that all that was changed before is stored.
  void WhenStored(store::Store::Done done);
  // Whether the store refused a change, so that the session has to be loaded again.
  bool broken() const;
  // Null for a model that lives in memory. Its keys and its store do not change.
  const Journal* journal() const ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return journal_.has_value() ? &*journal_ : nullptr;
  }

  // Goes on with a run that the store holds; called before anybody else knows the session.
  struct ResumeArgs {
    std::shared_ptr<Run> run;
    RunData data;
    int64_t start_step = 0;
    std::optional<TrainerMark> mark;  // nothing: from the beginning
    // Whose rows have to be read first, instead of those in `data`.
    Uid training_dataset = 0;
    Uid validation_dataset = 0;
    // Whose rows were read into `data`.
    Uid training_read = 0;
    Uid validation_read = 0;
  };
  void ResumeRun(ResumeArgs args);

  // Stops the run for `reason` and refuses who waits for it; later calls are as before.
  void StopRun(StopReason reason, const absl::Status& refusal_of_waiting);

 private:
  struct WaitingTrain {
    TrainArgs args;
    Callback<std::shared_ptr<Run>> done;
  };

  // An operation that a run has excluded, and that is tried again when the run has ended, or at
  // `deadline`, to be refused.
  struct ExcludedOperation {
    std::chrono::steady_clock::time_point deadline;
    absl::AnyInvocable<void(Session*)> again;
  };

  // The recorded answer of a retry, or nothing for a new request.
  template <class T>
  absl::StatusOr<std::optional<T>> RecordedAnswer(const RequestKey& key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Puts it into the window if it has a key. Returns it.
  KeyedAnswer Remember(KeyedAnswer answer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t FixedBytes() const;
  void CountMemory() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t RunBytes(const RunConfig& config, const RowsInUse& data,
                   const RowsInUse& validation) const;
  // Why nothing can be changed now, if so.
  absl::Status CheckOpen(const IsCancelled& cancelled) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Why a mutation of the state cannot be made now, if so.
  absl::Status CheckMutable(const IsCancelled& cancelled,
                            const std::optional<int64_t>& expected_step) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What a mutation starts from: its recorded answer, or the state to change.
  template <class T>
  absl::StatusOr<std::variant<T, StatePtr>> Begin(const RequestKey& key,
                                                  const IsCancelled& cancelled,
                                                  const std::optional<int64_t>& expected_step);
  // Makes `next` the state and answers when that is stored. `work`: what made it, if anything.
  template <class T>
  void Commit(const RequestKey& key, StatePtr next, const StepWork* work, const T& answer,
              Callback<T> done);
  // Stores what is not the state and answers when that is done. Without a journal a change that the
  // archive refuses is undone by `undo`, under the lock.
  template <class T>
  void CommitRecords(store::Batch batch, const RequestKey& key, const T& answer,
                     absl::AnyInvocable<void()> undo, Callback<T> done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CommitToArchive(store::Batch batch, store::Store::Done done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Answers what was decided earlier, once what led to it is stored.
  template <class T>
  void AnswerWhenStored(absl::StatusOr<T> answer, Callback<T> done);

  // Asks for the memory of a change, which is counted until `done` is called. Small ones are not.
  template <class T>
  absl::Status CountUntilDone(int64_t bytes, const char* what, Callback<T>* done);
  // What the next state takes, and its record until it is stored.
  int64_t ChangeBytes() const { return StateBytes() * (environment_->store != nullptr ? 2 : 1); }

  // What becomes of an operation that was refused because of a run: true if it is tried again
  // later, which leaves nothing of `args` and `done`.
  template <class Args, class T>
  bool TryLater(Args& args, Callback<T>& done, void (Session::*operation)(Args&, Callback<T>))
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::optional<std::chrono::steady_clock::time_point> MayTryUntil(ExcludedSince* since)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PostRetry() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RetryExcluded();
  void RetryDue(bool run_ended);

  void DoStep(StepArgs& args, Callback<StepOutcome> done);
  void DoEdit(EditArgs& args, Callback<int64_t> done);
  absl::StatusOr<std::variant<CheckpointPtr, StatePtr>> BeginCheckpoint(
      const CheckpointArgs& args) const;
  absl::AnyInvocable<void()> Forget(const std::string& id);
  void DoCreateCheckpoint(const CheckpointArgs& args, Callback<CheckpointPtr> done);
  void DoDeleteCheckpoint(const CheckpointArgs& args, Callback<int64_t> done);
  absl::Status CheckNewCheckpoint(const CheckpointArgs& args) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<engine::State>> ReadCheckpoint(const std::string& id) const;
  void AddRunCheckpoint(const DueCheckpoint& due, std::string state, store::Batch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddBest(store::Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void KeepPeriodic();
  bool WaitForCheckpoints();
  void DoTrain(TrainArgs& args, Callback<std::shared_ptr<Run>> done);
  absl::StatusOr<std::shared_ptr<Run>> LookUpRunOf(const RequestKey& key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReadRowsAndGoOn(ResumeArgs args);
  void GoOn(ResumeArgs args);
  void CannotGoOn(const absl::Status& why);
  absl::StatusOr<std::shared_ptr<Run>> StartRun(TrainArgs& args, store::Batch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddRunRecords(const TrainArgs& args, store::Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  RunConfig ConfigFor(const TrainArgs& args) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddMark(store::Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddEnd(const RunSummary& summary, store::Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkRun();
  bool ParkRun();
  std::shared_ptr<Run> TakeRun() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<WaitingTrain> TakeReady(const RequestKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PostSlice();
  void RunSlice();
  void EndRun(const RunSummary& summary);

  Environment* const environment_;
  const ModelInfo info_;
  const Uid uid_;
  const std::shared_ptr<const engine::Network> network_;
  const absl::Time create_time_;
  const RequestKey created_by_;
  const int64_t created_at_step_;
  const int64_t fixed_bytes_;
  std::atomic<int64_t> last_used_unix_nanos_;
  std::atomic<bool> touched_{true};
  exec::LentThreads lent_threads_;
  exec::Strand strand_;

  mutable base::Mutex mu_;
  std::optional<Journal> journal_ ABSL_GUARDED_BY(mu_);
  StatePtr state_ ABSL_GUARDED_BY(mu_);  // while there is a trainer, the trainer's is newer
  int64_t step_ ABSL_GUARDED_BY(mu_);    // step count at the last boundary between slices
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<RequestWindow<Answer>> window_ ABSL_GUARDED_BY(mu_);  // made when first needed
  int64_t run_count_ ABSL_GUARDED_BY(mu_) = 0;
  std::shared_ptr<Run> run_ ABSL_GUARDED_BY(mu_);  // under way
  std::shared_ptr<Run> latest_run_ ABSL_GUARDED_BY(mu_);
  UnfinishedEpochPtr unfinished_ ABSL_GUARDED_BY(mu_);  // where it left its epoch, if it did
  // Exists with run_. Changed under mu_; the thread that runs a slice uses it without.
  std::unique_ptr<Trainer> trainer_;
  absl::Time last_mark_ ABSL_GUARDED_BY(mu_);  // when the run's state was last handed to the store
  bool mark_pending_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<const engine::State> stored_best_ ABSL_GUARDED_BY(mu_);
  Checkpoints checkpoints_ ABSL_GUARDED_BY(mu_);
  MemoryBudget::Claim memory_ ABSL_GUARDED_BY(mu_);      // of the session
  MemoryBudget::Claim run_memory_ ABSL_GUARDED_BY(mu_);  // of run_
  int pending_checkpoints_ ABSL_GUARDED_BY(mu_) = 0;     // periodic ones on their way to the disk
  bool waits_for_checkpoints_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<WaitingTrain> waiting_ ABSL_GUARDED_BY(mu_);
  std::vector<ExcludedOperation> excluded_ ABSL_GUARDED_BY(mu_);  // in the order in which they came
  bool retry_posted_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_SESSION_H_
