// How a run outlives its server: it leaves marks, is parked, and goes on.
#include <algorithm>
#include <utility>

#include "server/base/mutex.h"
#include "server/session/datasets.h"
#include "server/session/errors.h"
#include "server/session/run_records.h"
#include "server/session/session_impl.h"
#include "server/store/store.h"

namespace backprop::session {

// The run's state, and for a run that resumes how far it is.
void Session::AddMark(store::Batch* batch) {
  AddBest(batch);
  journal_->AddState(*trainer_->Share(), batch);
  const auto mark = trainer_->Mark();
  if (!run_->resumes() || !mark.has_value()) return;
  const Uid uid = journal_->uid();
  batch->Put(store::Table::kRuns, RunKey(uid, RunPart::kMark),
             EncodeMark(*mark, run_->log().Image()));
  if (mark->best_state == stored_best_) return;
  stored_best_ = mark->best_state;
  batch->Put(store::Table::kRuns, RunKey(uid, RunPart::kBest), EncodeState(*stored_best_));
}

// Once a second, or when the store has taken the last mark: what a crash can cost a run.
void Session::MarkRun() {
  const base::MutexLock lock(&mu_);
  step_ = trainer_->state()->step;
  if (closed_ || mark_pending_ || (!journal_.has_value() && !trainer_->has_best())) return;
  const absl::Time now = environment_->clock->Now();
  if (now < last_mark_ + environment_->limits.mark_interval || trainer_->ended()) return;
  last_mark_ = now;
  mark_pending_ = true;
  store::Batch batch;
  if (journal_.has_value()) {
    AddMark(&batch);
  } else {
    AddBest(&batch);
  }
  CommitToArchive(std::move(batch), [self = shared_from_this()](const absl::Status&) {
    const base::MutexLock callback_lock(&self->mu_);
    self->mark_pending_ = false;
  });
}

// Leaves the run to who loads the model next, if the server stops or the store has refused a
// change.
bool Session::ParkRun() {
  std::shared_ptr<Run> run;
  std::unique_ptr<Trainer> trainer;
  std::vector<WaitingTrain> waiting;
  {
    const base::MutexLock lock(&mu_);
    if (!journal_.has_value() || closed_) return false;
    const bool broken = journal_->broken();
    const bool stops = run_->resumes() && !trainer_->ended() &&
                       run_->stop_requested() == StopReason::kServerShutdown;
    if (!broken && !stops) return false;
    store::Batch batch;
    if (!broken) AddMark(&batch);
    state_ = trainer_->state();
    step_ = state_->step;
    trainer = std::move(trainer_);
    run = TakeRun();
    if (!broken) {
      journal_->Commit(std::move(batch), [run](const absl::Status&) { run->Park(ShuttingDown()); });
      PostRetry();
      return true;
    }
    waiting.swap(waiting_);
    PostRetry();
    environment_->AddParked(info_.id);
  }
  run->Park(NotStored(name(), absl::OkStatus()));
  for (WaitingTrain& train : waiting) train.done(NotStored(name(), absl::OkStatus()));
  return true;
}

void Session::ResumeRun(ResumeArgs args) {
  environment_->runs_under_way.fetch_add(1);
  {
    const base::MutexLock lock(&mu_);
    run_ = args.run;
    run_count_ = std::max(run_count_, run_->number());
    last_mark_ = environment_->clock->Now();
  }
  ReadRowsAndGoOn(std::move(args));
}

// Until the rows have been read the run has no trainer.
void Session::ReadRowsAndGoOn(ResumeArgs args) {
  const bool training = args.training_dataset != 0;
  const Uid dataset = training ? args.training_dataset : args.validation_dataset;
  if (dataset == 0) return GoOn(std::move(args));
  environment_->datasets->UseAgain(
      dataset, info_, *network_,
      [self = shared_from_this(), training,
       args = std::move(args)](absl::StatusOr<RowsInUse> rows) mutable {
        if (!rows.ok()) return self->CannotGoOn(rows.status());
        (training ? args.data.training : args.data.validation) = std::move(rows->rows);
        (training ? args.training_dataset : args.validation_dataset) = 0;
        (training ? args.training_read : args.validation_read) = rows->dataset;
        self->ReadRowsAndGoOn(std::move(args));
      });
}

void Session::GoOn(ResumeArgs args) {
  {
    const base::MutexLock lock(&mu_);
    // It had been admitted before the restart, and goes on.
    run_memory_ = environment_->memory.CountWork(
        RunBytes(run_->config(), {args.data.training, args.training_read},
                 {args.data.validation, args.validation_read}));
    if (args.mark.has_value()) {
      stored_best_ = args.mark->best_state;
      trainer_ = std::make_unique<Trainer>(network_, run_, std::move(args.data), state_,
                                           &lent_threads_, args.start_step, *args.mark);
    } else {
      trainer_ =
          std::make_unique<Trainer>(network_, run_, std::move(args.data), state_, &lent_threads_);
    }
  }
  PostSlice();
}

// The rows of the run could not be read. Without them it ends; or, if they may be there later, it
// is left to who loads the model next.
void Session::CannotGoOn(const absl::Status& why) {
  RunSummary summary;
  std::shared_ptr<Run> parked;
  {
    const base::MutexLock lock(&mu_);
    if (absl::IsUnavailable(why) || absl::IsResourceExhausted(why)) {
      journal_->Break();
      parked = TakeRun();
      PostRetry();
    }
    summary.stop_reason = StopReason::kDataLost;
    summary.message = std::string(why.message());
    summary.step = step_;
  }
  if (parked == nullptr) return EndRun(summary);
  environment_->AddParked(info_.id);
  parked->Park(why);
}

}  // namespace backprop::session
