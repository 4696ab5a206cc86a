// Runs of a session: they start, are executed in slices, and end.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/engine/workspace.h"
#include "server/exec/compute_pool.h"
#include "server/records/row_records.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/session/datasets.h"
#include "server/session/errors.h"
#include "server/session/session_impl.h"
#include "server/store/store.h"

namespace backprop::session {
namespace {

absl::Status RunNotFound(const std::string& model, int64_t number) {
  const std::string message = number == 0 ? absl::StrCat(model, ": has no runs")
                                          : absl::StrCat(model, "/runs/", number, ": no such run");
  return base::ReasonError(absl::StatusCode::kNotFound, message,
                           {"RUN_NOT_FOUND", {{"model", model}}});
}

}  // namespace

void Session::Train(TrainArgs args, Callback<std::shared_ptr<Run>> done) {
  strand_.Post(0, [self = shared_from_this(), args = std::move(args),
                   done = std::move(done)]() mutable { self->DoTrain(args, std::move(done)); });
}

void Session::DoTrain(TrainArgs& args, Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run = nullptr;
  std::vector<WaitingTrain> next;  // requests that can proceed
  bool started = false;
  {
    const base::MutexLock lock(&mu_);
    run = LookUpRunOf(args.key);
    if (run.ok() && *run == nullptr) {
      if (run_ != nullptr && args.wait && !closed_) {
        if (waiting_.size() < base::kMaxWaitingRuns) {
          waiting_.push_back({std::move(args), std::move(done)});
          return;
        }
        run = base::LimitError(
            "wait",
            absl::StrCat(base::kMaxWaitingRuns, " runs already wait for ", name(), ", the limit"));
      } else {
        store::WriteBatch batch;
        const bool behind = run_ == nullptr && !excluded_.empty() && !args.wait;
        run = behind ? RunUnderWay(latest_run_->name()) : StartRun(args, &batch);
        if (IsRunUnderWay(run.status()) && TryLater(args, done, &Session::DoTrain)) return;
        started = run.ok();
        if (started && journal_.has_value()) {
          journal_->Commit(std::move(batch), [self = shared_from_this(), run = *run,
                                              done = std::exchange(done, nullptr)](
                                                 const absl::Status& status) mutable {
            if (status.ok()) return done(run);
            run->RequestStop(records::StopReason::kServerShutdown);
            done(NotStored(self->name(), status));
          });
        }
      }
    }
    next = TakeReady(args.key);
  }
  for (WaitingTrain& waiting : next) Train(std::move(waiting.args), std::move(waiting.done));
  if (started) {
    if (done) done(run);
    PostSlice();
    return;
  }
  RespondWhenStored<std::shared_ptr<Run>>(std::move(run), std::move(done));
}

absl::StatusOr<std::shared_ptr<Run>> Session::FindRunOf(const records::RequestKey& key) const {
  const base::MutexLock lock(&mu_);
  return LookUpRunOf(key);
}

absl::StatusOr<std::shared_ptr<Run>> Session::LookUpRunOf(const records::RequestKey& key) const {
  const bool same = run_ != nullptr && !key.id.empty() && run_->key().id == key.id &&
                    run_->key().fingerprint == key.fingerprint;
  if (same) return run_;  // regardless of the age of the request
  const auto recorded = FindResponse<RunResponse>(key);
  if (!recorded.ok()) return recorded.status();
  if (!recorded->has_value()) return nullptr;
  if ((*recorded)->run == nullptr) return RunNotFound(name(), (*recorded)->number);
  return (*recorded)->run;
}

// Removes and returns the waiting requests that can proceed: the first one if no run is active, and
// retries of the request with `key`, which attach to the run that it started.
std::vector<Session::WaitingTrain> Session::TakeReady(const records::RequestKey& key) {
  std::vector<WaitingTrain> ready;
  for (size_t i = 0; i < waiting_.size();) {
    const bool same = !key.id.empty() && waiting_[i].args.key.id == key.id;
    if (same || (run_ == nullptr && ready.empty())) {
      ready.push_back(std::move(waiting_[i]));
      waiting_.erase(waiting_.begin() + static_cast<int64_t>(i));
    } else {
      ++i;
    }
  }
  return ready;
}

absl::StatusOr<std::shared_ptr<Run>> Session::StartRun(TrainArgs& args, store::WriteBatch* batch) {
  const absl::Status status = CheckMutable(args.cancelled, std::nullopt);
  if (!status.ok()) return status;
  if (environment_->draining) return ShuttingDown();
  if (args.config.checkpoints.keep_best && checkpoints_.lasting() >= base::kMaxCheckpoints) {
    return base::LimitError("config.checkpoints.keep_best",
                            absl::StrCat(name(), " already has ", base::kMaxCheckpoints,
                                         " checkpoints, the limit; delete some"));
  }
  args.memory = {};
  auto memory = environment_->memory.AskForWork(RunBytes(args.config, args.data, args.validation),
                                                absl::StrCat("a run of ", name()));
  if (!memory.ok()) return memory.status();
  const int64_t limit = environment_->limits.max_concurrent_runs;
  if (environment_->runs_under_way.fetch_add(1) >= limit) {
    environment_->runs_under_way.fetch_sub(1);
    return base::ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat(limit, " runs are already under way, the limit (max_concurrent_runs)"),
        {"LIMIT_EXCEEDED", {{"limit", "max_concurrent_runs"}}});
  }
  run_memory_ = *std::move(memory);
  ++run_count_;
  run_ = std::make_shared<Run>(absl::StrCat(name(), "/runs/", run_count_), run_count_,
                               ConfigFor(args), args.key, args.resumes && journal_.has_value());
  run_->SetOwned(args.owned);
  const RecordedResponse response =
      Remember({args.key, environment_->clock->Now(), RunResponse{run_count_, run_}});
  if (journal_.has_value()) {
    AddRunRecords(args, batch);
    journal_->AddResponse(response, batch);
  }
  trainer_ = std::make_unique<Trainer>(
      network_, run_, RunData{std::move(args.data.rows), std::move(args.validation.rows)}, state_,
      &lent_threads_);
  return run_;
}

// Approximate maximum of a run's memory in bytes: the state that the next step writes, one that a
// reader or a mark still uses, the best one, a pass over a batch, and rows of the request. Rows of
// a dataset are counted where they are read.
int64_t Session::RunBytes(const records::RunConfig& config, const RowsInUse& data,
                          const RowsInUse& validation) const {
  const bool keeps_best = config.early_stopping.has_value() || config.checkpoints.keep_best;
  int64_t bytes = StateBytes() * (keeps_best ? 3 : 2);
  bytes += engine::Workspace::BytesNeeded(*network_, config.batch_size,
                                          engine::PassKind::kForwardBackward);
  for (const RowsInUse* rows : {&data, &validation}) {
    if (rows->rows == nullptr) continue;
    bytes += rows->rows->rows * int64_t{sizeof(int32_t)};  // the order of the rows
    if (rows->dataset == 0) bytes += rows->rows->size_bytes();
  }
  if (config.shuffle && data.rows != nullptr && data.rows->rows > 0) {  // batches are copied
    bytes += config.batch_size * (data.rows->size_bytes() / data.rows->rows);
  }
  return bytes + int64_t{sizeof(Trainer)} + int64_t{sizeof(Run)};
}

// The settings of the run that starts. It takes over the unfinished epoch if requested and
// possible.
records::RunConfig Session::ConfigFor(const TrainArgs& args) {
  records::RunConfig config = args.config;
  const records::UnfinishedEpochPtr unfinished = std::exchange(unfinished_, nullptr);
  if (!config.continue_epoch || unfinished == nullptr) return config;
  const records::EpochPlan plan = PlanOf({args.data.rows, args.validation.rows}, config);
  if (!unfinished->Fits(plan, state_->step)) return config;
  config.resumed = unfinished;
  if (config.whole_epochs) config.iterations -= unfinished->batches;
  return config;
}

// A run that resumes needs its rows. For other runs only the number is needed.
void Session::AddRunRecords(const TrainArgs& args, store::WriteBatch* batch) {
  const records::Uid uid = journal_->uid();
  records::StoredRun stored;
  stored.number = run_->number();
  stored.resumes = run_->resumes();
  stored.start_step = state_->step;
  if (run_->resumes()) {
    stored.config = run_->config();
    stored.key = run_->key();
    stored.model = info_.id;
    stored.training_dataset = args.data.dataset;
    stored.validation_dataset = args.validation.dataset;
    const auto add = [&, run = run_->number()](const RowsInUse& rows, records::RowsOf which) {
      uint32_t count = 0;
      if (rows.rows == nullptr || rows.dataset != 0) return count;
      for (records::Piece& piece : records::EncodeRows(*rows.rows)) {
        batch->Put(records::kChunks, records::ChunkKey(uid, run, which, count++),
                   std::move(piece.record));
      }
      return count;
    };
    stored.training_chunks = add(args.data, records::RowsOf::kTraining);
    stored.validation_chunks = add(args.validation, records::RowsOf::kValidation);
  }
  batch->Put(records::kRuns, records::RunKey(uid, records::RunPart::kRun),
             records::EncodeRun(stored));
  last_mark_ = environment_->clock->Now();
}

void Session::PostSlice() {
  environment_->pool->Post(exec::Priority::kBackground,
                           [self = shared_from_this()] { self->RunSlice(); });
}

void Session::RunSlice() {
  if (ParkRun()) return;
  const auto summary = trainer_->Slice(exec::ComputePool::kSlice);
  if (summary.has_value()) {
    EndRun(*summary);
    return;
  }
  RetryDue(/*run_ended=*/false);
  KeepPeriodic();
  MarkRun();
  // Last, because while the run waits another thread may continue it.
  if (!WaitForCheckpoints()) PostSlice();
}

std::shared_ptr<Run> Session::TakeRun() {
  std::shared_ptr<Run> run = std::move(run_);
  run_ = nullptr;
  latest_run_ = run;
  stored_best_ = nullptr;
  run_memory_ = {};
  CountMemory();
  environment_->runs_under_way.fetch_sub(1);
  return run;
}

// Adds the last state and the record of the ended run, and deletes the records of the active run.
void Session::AddEnd(const records::RunSummary& summary, store::WriteBatch* batch) {
  const records::Uid uid = journal_->uid();
  journal_->AddState(*state_, batch);
  batch->Put(records::kRuns, records::RunKey(uid, records::RunPart::kFinished),
             records::EncodeFinishedRun(
                 {run_->number(), run_->config(), run_->log().Image(), summary, unfinished_}));
  for (const records::RunPart part :
       {records::RunPart::kRun, records::RunPart::kMark, records::RunPart::kBest}) {
    batch->Delete(records::kRuns, records::RunKey(uid, part));
  }
  if (run_->resumes()) {
    batch->DeletePrefix(records::kChunks, records::ChunksKey(uid, run_->number()));
  }
}

void Session::EndRun(const records::RunSummary& summary) {
  std::shared_ptr<Run> run;
  std::unique_ptr<Trainer> trainer;
  std::vector<WaitingTrain> next;
  bool stores = false;
  store::WriteBatch batch;
  {
    const base::MutexLock lock(&mu_);
    if (trainer_ != nullptr) {
      state_ = trainer_->state();
      step_ = state_->step;
      unfinished_ = trainer_->Unfinished();
      if (!closed_) AddBest(&batch);
      trainer = std::move(trainer_);
    }
  }
  // Its memory is freed without the lock, and before the end of the run is visible, so that a
  // caller that then deletes its dataset succeeds.
  trainer = nullptr;
  {
    const base::MutexLock lock(&mu_);
    stores = journal_.has_value() && !closed_;
    if (stores) AddEnd(summary, &batch);
    run = TakeRun();
    next = TakeReady({});
    if (stores) {
      journal_->Commit(std::move(batch),
                       [self = shared_from_this(), run, summary](const absl::Status& status) {
                         if (status.ok()) return run->Finish(summary);
                         run->Park(NotStored(self->name(), status));
                       });
    } else if (!batch.ops().empty()) {
      CommitToArchive(std::move(batch), [](const absl::Status&) {});
    }
  }
  Touch();
  if (environment_->on_run_end) environment_->on_run_end(*run, summary);
  if (!stores) run->Finish(summary);
  for (WaitingTrain& waiting : next) Train(std::move(waiting.args), std::move(waiting.done));
  RetryDue(/*run_ended=*/true);
}

void Session::StopTraining(int64_t number, const records::RequestKey& key,
                           Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run = nullptr;
  {
    const base::MutexLock lock(&mu_);
    const auto recorded = FindResponse<RunResponse>(key);
    if (!recorded.ok()) {
      run = recorded.status();
    } else if (recorded->has_value()) {
      run = (*recorded)->run;
      if (*run == nullptr) run = RunNotFound(name(), (*recorded)->number);
    } else if (closed_) {
      run = ModelDeleted(name());
    } else if (run_ == nullptr || (number != 0 && run_->number() != number)) {
      run = base::ReasonError(absl::StatusCode::kFailedPrecondition,
                              number == 0
                                  ? absl::StrCat(name(), ": no run is under way")
                                  : absl::StrCat(name(), "/runs/", number, ": is not under way"),
                              {"NO_RUN", {{"model", name()}}});
    } else {
      run = run_;
      run_->RequestStop(records::StopReason::kStopped);
      const RecordedResponse response =
          Remember({key, environment_->clock->Now(), RunResponse{run_->number(), run_}});
      // It is stored before the end of the run, for which the caller waits.
      if (journal_.has_value() && !key.id.empty()) journal_->Response(response, [](const auto&) {});
    }
  }
  if (!run.ok()) {
    done(run.status());
    return;
  }
  (*run)->OnFinish([run = *run, done = std::move(done)](
                       const absl::StatusOr<records::RunSummary>& summary) mutable {
    if (!summary.ok()) return done(summary.status());
    done(run);
  });
}

absl::StatusOr<std::shared_ptr<Run>> Session::FindRun(int64_t number) const {
  const base::MutexLock lock(&mu_);
  for (const auto& run : {run_, latest_run_}) {
    if (run != nullptr && (number == 0 || run->number() == number)) return run;
  }
  return RunNotFound(name(), number);
}

}  // namespace backprop::session
