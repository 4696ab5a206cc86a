// Runs of a session: the calls that start and stop them, and the slices that execute them. What
// happens to a run is decided by RunControl.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/exec/compute_pool.h"
#include "server/records/model_records.h"
#include "server/session/errors.h"
#include "server/session/resumable.h"
#include "server/session/row_source.h"
#include "server/session/session_mutation.h"

namespace backprop::session {

void Session::Train(TrainArgs args, Callback<std::shared_ptr<Run>> done) {
  strand_.Post(0, [self = shared_from_this(), args = std::move(args),
                   done = std::move(done)]() mutable { self->DoTrain(args, std::move(done)); });
}

void Session::DoTrain(TrainArgs& args, Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run = nullptr;
  std::vector<WaitingTrain> next;  // requests that can proceed
  ModelLog::Done call_now;
  Trainer* trainer = nullptr;  // of the run if one starts
  {
    const base::MutexLock lock(&mu_);
    run = LookUpRunOf(args.key);
    if (run.ok() && *run == nullptr) {
      if (!runs_.idle() && args.wait && phase_ != Phase::kDeleted) {
        const absl::Status queued = runs_.Enqueue(&args, &done);
        if (queued.ok()) return;
        run = queued;
      } else {
        const absl::Status may_start = CheckMayStart(args);
        if (IsRunUnderWay(may_start) && TryLater(args, done, &Session::DoTrain)) return;
        if (may_start.ok()) {
          run = BeginRun(&args, &done, &call_now);
        } else {
          run = may_start;
        }
        if (run.ok()) trainer = runs_.trainer();
      }
    }
    next = runs_.TakeReady(args.key);
  }
  for (WaitingTrain& waiting : next) Train(std::move(waiting.args), std::move(waiting.done));
  if (trainer == nullptr) {
    return RespondWhenStored<std::shared_ptr<Run>>(std::move(run), std::move(done));
  }
  trainer->LogStart();
  if (call_now) call_now(absl::OkStatus());
  PostSlice();
}

absl::Status Session::CheckMayStart(const TrainArgs& args) const {
  // Excluded operations are earlier, and must be made first. A request that waits for runs is not
  // excluded by them. The error leaves the session only if too many already wait (TryLater).
  if (runs_.idle() && !excluded_.empty() && !args.wait) {
    return RunUnderWay(runs_.latest()->name());
  }
  return CheckMutable(args.cancelled, std::nullopt);
}

// If a run starts, takes `done`, which is called when the start is stored. `call_now`: set to what
// the caller must call without the lock, if there is nothing to wait for.
absl::StatusOr<std::shared_ptr<Run>> Session::BeginRun(TrainArgs* args,
                                                       Callback<std::shared_ptr<Run>>* done,
                                                       ModelLog::Done* call_now) {
  auto run = runs_.Start(args, state_);
  if (!run.ok()) return run;
  const RecordedResponse response =
      Remember({args->key, environment_->clock->Now(), RunResponse{(*run)->number(), *run}});
  *call_now =
      log_->StartRun({info_.id, run->get(), state_->step, &args->data, &args->validation}, response,
                     [self = shared_from_this(), run = *run,
                      done = std::move(*done)](const absl::Status& stored) mutable {
                       if (stored.ok()) return done(run);
                       run->RequestStop(records::StopReason::kServerShutdown);
                       done(NotStored(self->name(), stored));
                     });
  // Only the run uses its rows, so that their dataset can be deleted when it has ended.
  args->data = {};
  args->validation = {};
  return run;
}

absl::StatusOr<std::shared_ptr<Run>> Session::FindRunOf(const records::RequestKey& key) const {
  const base::MutexLock lock(&mu_);
  return LookUpRunOf(key);
}

absl::StatusOr<std::shared_ptr<Run>> Session::LookUpRunOf(const records::RequestKey& key) const {
  const std::shared_ptr<Run>& active = runs_.active();
  const bool same = active != nullptr && !key.id.empty() && active->key().id == key.id &&
                    active->key().fingerprint == key.fingerprint;
  if (same) return active;  // regardless of the age of the request
  const auto recorded = FindResponse<RunResponse>(key);
  if (!recorded.ok()) return recorded.status();
  if (!recorded->has_value()) return nullptr;
  if ((*recorded)->run == nullptr) return runs_.NotFound((*recorded)->number);
  return (*recorded)->run;
}

absl::StatusOr<std::shared_ptr<Run>> Session::FindRun(int64_t number) const {
  const base::MutexLock lock(&mu_);
  return runs_.Find(number);
}

void Session::PostSlice() {
  share()->Post(exec::Priority::kBackground, [self = shared_from_this()] { self->RunSlice(); });
}

void Session::RunSlice() {
  Trainer* trainer = nullptr;  // null: the run is parked
  {
    const base::MutexLock lock(&mu_);
    if (phase_ == Phase::kDeleted || !runs_.MustPark()) trainer = runs_.trainer();
  }
  if (trainer == nullptr) return ParkRun();
  const Trainer::Made before = trainer->made();
  const auto summary = trainer->Slice(exec::ComputePool::kSlice);
  environment_->work_counters.steps_of_runs.Add(trainer->made().steps - before.steps);
  environment_->work_counters.rows_of_runs.Add(trainer->made().rows - before.rows);
  if (summary.has_value()) return EndRun(*summary);
  // Last, because another thread may execute the next slice then.
  if (StoreProgress(trainer)) PostSlice();
}

// Stores what is due after a slice. Returns whether the next slice is to be posted now.
bool Session::StoreProgress(Trainer* trainer) {
  const auto periodic = trainer->TakePeriodic();
  std::string encoded;  // may take long, so without the lock
  if (periodic.has_value()) encoded = records::EncodeState(*periodic->state);
  const base::MutexLock lock(&mu_);
  RetryDue(/*run_ended=*/false);
  step_ = trainer->state()->step;
  if (phase_ == Phase::kDeleted) return true;
  if (periodic.has_value()) {
    runs_.KeepPeriodic(*periodic, std::move(encoded),
                       [self = shared_from_this()](const absl::Status&) {
                         {
                           const base::MutexLock callback_lock(&self->mu_);
                           if (!self->runs_.CheckpointStored()) return;
                         }
                         self->PostSlice();
                       });
  }
  if (runs_.MarkIsDue()) {
    runs_.Mark([self = shared_from_this()](const absl::Status&) {
      const base::MutexLock callback_lock(&self->mu_);
      self->runs_.MarkStored();
    });
  }
  return !runs_.HoldIfBehind();
}

void Session::EndRun(const records::RunSummary& summary) {
  RunControl::Last last;
  {
    const base::MutexLock lock(&mu_);
    last = runs_.BeginEnd();
    if (last.state != nullptr) {
      state_ = last.state;
      step_ = state_->step;
    }
  }
  // Its memory is freed without the lock, and before the end of the run is visible, so that a
  // caller that then deletes its dataset succeeds.
  last.trainer = nullptr;
  std::shared_ptr<Run> run;
  std::vector<WaitingTrain> next;
  ModelLog::Done call_now;
  {
    const base::MutexLock lock(&mu_);
    run = runs_.End();
    CountMemory();
    next = runs_.TakeReady({});
    ModelLog::Done finish = [self = shared_from_this(), run, summary](const absl::Status& status) {
      if (status.ok()) return run->Finish(summary);
      run->Park(NotStored(self->name(), status));
    };
    if (phase_ == Phase::kDeleted) {
      call_now = std::move(finish);
    } else {
      call_now = log_->EndRun(*run, *state_, summary, runs_.unfinished(),
                              std::move(last.checkpoints), std::move(finish));
    }
  }
  Touch();
  environment_->work_counters.CountEnd(summary.stop_reason);
  if (environment_->on_run_end) environment_->on_run_end(*run, summary);
  if (call_now) call_now(absl::OkStatus());
  for (WaitingTrain& waiting : next) Train(std::move(waiting.args), std::move(waiting.done));
  const base::MutexLock lock(&mu_);
  RetryDue(/*run_ended=*/true);
}

// The server stops, or the store rejected a change. A run that resumes does so when the model is
// loaded again; another one has ended then, with the last stored state.
void Session::ParkRun() {
  RunControl::Parked parked;
  std::vector<WaitingTrain> waiting;
  {
    const base::MutexLock lock(&mu_);
    const bool broken = log_->broken();
    if (!broken) {
      runs_.Mark([run = runs_.active()](const absl::Status&) { run->Park(ShuttingDown()); });
    }
    parked = runs_.Park();
    state_ = parked.state;
    step_ = state_->step;
    CountMemory();
    PostRetry();
    if (!broken) return;
    waiting = runs_.TakeWaiting();
    environment_->AddParked(info_.id);
  }
  parked.run->Park(NotStored(name(), absl::OkStatus()));
  for (WaitingTrain& train : waiting) train.done(NotStored(name(), absl::OkStatus()));
}

void Session::ResumeRun(ResumeArgs args) {
  {
    const base::MutexLock lock(&mu_);
    runs_.Resume(args.run);
  }
  ReadRowsOfRun(std::move(args));
}

// Reads the rows of datasets, then calls ContinueRun(), or FailToResume().
void Session::ReadRowsOfRun(ResumeArgs args) {
  const bool training = args.training_dataset != 0;
  const records::Uid dataset = training ? args.training_dataset : args.validation_dataset;
  if (dataset == 0) return ContinueRun(std::move(args));
  environment_->row_source->UseAgain(
      dataset, info_, *network_,
      [self = shared_from_this(), training,
       args = std::move(args)](absl::StatusOr<RowsInUse> rows) mutable {
        if (!rows.ok()) return self->FailToResume(rows.status());
        (training ? args.data.training : args.data.validation) = std::move(rows->rows);
        (training ? args.training_dataset : args.validation_dataset) = 0;
        (training ? args.training_read : args.validation_read) = rows->dataset;
        self->ReadRowsOfRun(std::move(args));
      });
}

void Session::ContinueRun(ResumeArgs args) {
  const absl::Status usable = CheckResumable(*network_, *args.run, args.data, environment_->limits);
  if (!usable.ok()) return FailToResume(usable);
  const bool begins = !args.mark.has_value();
  Trainer* trainer = nullptr;
  {
    const base::MutexLock lock(&mu_);
    runs_.Continue(std::move(args), state_);
    trainer = runs_.trainer();
  }
  if (begins) trainer->LogStart();
  PostSlice();
}

// The rows of the run could not be read, or do not fit its settings. Ends the run; or parks it if
// the rows may be available when the model is loaded again.
void Session::FailToResume(const absl::Status& why) {
  records::RunSummary summary;
  std::shared_ptr<Run> parked;
  {
    const base::MutexLock lock(&mu_);
    if (absl::IsUnavailable(why) || absl::IsResourceExhausted(why)) {
      log_->Break();
      parked = runs_.Park().run;
      CountMemory();
      PostRetry();
    }
    summary.stop_reason = records::StopReason::kDataLost;
    summary.message = std::string(why.message());
    summary.step = step_;
  }
  if (parked == nullptr) return EndRun(summary);
  environment_->AddParked(info_.id);
  parked->Park(why);
}

void Session::StopTraining(int64_t number, const records::RequestKey& key,
                           Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run = nullptr;
  {
    const base::MutexLock lock(&mu_);
    const std::shared_ptr<Run>& active = runs_.active();
    const auto recorded = FindResponse<RunResponse>(key);
    if (!recorded.ok()) {
      run = recorded.status();
    } else if (recorded->has_value()) {
      run = (*recorded)->run;
      if (*run == nullptr) run = runs_.NotFound((*recorded)->number);
    } else if (phase_ == Phase::kDeleted) {
      run = ModelDeleted(name());
    } else if (active == nullptr || (number != 0 && active->number() != number)) {
      run = base::ReasonError(absl::StatusCode::kFailedPrecondition,
                              number == 0
                                  ? absl::StrCat(name(), ": no run is under way")
                                  : absl::StrCat(name(), "/runs/", number, ": is not under way"),
                              {"NO_RUN", {{"model", name()}}});
    } else {
      run = active;
      active->RequestStop(records::StopReason::kStopped);
      const RecordedResponse response =
          Remember({key, environment_->clock->Now(), RunResponse{active->number(), active}});
      // It is stored before the end of the run, for which the caller waits.
      if (!key.id.empty()) (void)log_->Response(response, [](const auto&) {});
    }
  }
  if (!run.ok()) return done(run.status());
  (*run)->OnFinish([run = *run, done = std::move(done)](
                       const absl::StatusOr<records::RunSummary>& summary) mutable {
    if (!summary.ok()) return done(summary.status());
    done(run);
  });
}

}  // namespace backprop::session
