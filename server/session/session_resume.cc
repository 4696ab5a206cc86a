// How a run survives a restart of the server: progress marks, parking, resumption.
#include <algorithm>
#include <utility>

#include "server/base/mutex.h"
#include "server/records/model_records.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/session/datasets.h"
#include "server/session/errors.h"
#include "server/session/session_impl.h"
#include "server/store/store.h"

namespace backprop::session {

// Adds the state of the run and, if the run resumes, its progress.
void Session::AddMark(store::WriteBatch* batch) {
  AddBest(batch);
  journal_->AddState(*trainer_->Share(), batch);
  const auto mark = trainer_->Mark();
  if (!run_->resumes() || !mark.has_value()) return;
  const records::Uid uid = journal_->uid();
  batch->Put(records::kRuns, records::RunKey(uid, records::RunPart::kMark),
             records::EncodeMark(*mark, run_->log().Image()));
  if (mark->best_state == stored_best_) return;
  stored_best_ = mark->best_state;
  batch->Put(records::kRuns, records::RunKey(uid, records::RunPart::kBest),
             records::EncodeState(*stored_best_));
}

// Stores a mark every mark_interval, but not before the last one is stored. A crash loses the
// progress of a run since its last mark.
void Session::MarkRun() {
  const base::MutexLock lock(&mu_);
  step_ = trainer_->state()->step;
  if (closed_ || mark_pending_ || (!journal_.has_value() && !trainer_->has_best())) return;
  const absl::Time now = environment_->clock->Now();
  if (now < last_mark_ + environment_->limits.mark_interval || trainer_->ended()) return;
  last_mark_ = now;
  mark_pending_ = true;
  store::WriteBatch batch;
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

// Stops working on the run if the server stops or the store rejected a change; the run resumes when
// the model is loaded again. Returns whether it did so.
bool Session::ParkRun() {
  std::shared_ptr<Run> run;
  std::unique_ptr<Trainer> trainer;
  std::vector<WaitingTrain> waiting;
  {
    const base::MutexLock lock(&mu_);
    if (!journal_.has_value() || closed_) return false;
    const bool broken = journal_->broken();
    const bool stops = run_->resumes() && !trainer_->ended() &&
                       run_->stop_requested() == records::StopReason::kServerShutdown;
    if (!broken && !stops) return false;
    store::WriteBatch batch;
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

// Reads the rows of datasets, then calls GoOn(). Until then the run has no trainer.
void Session::ReadRowsAndGoOn(ResumeArgs args) {
  const bool training = args.training_dataset != 0;
  const records::Uid dataset = training ? args.training_dataset : args.validation_dataset;
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
    // Never rejected, because the run was admitted before the restart.
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

// Called if the rows of the run could not be read. Ends the run; or parks it if the rows may be
// available when the model is loaded again.
void Session::CannotGoOn(const absl::Status& why) {
  records::RunSummary summary;
  std::shared_ptr<Run> parked;
  {
    const base::MutexLock lock(&mu_);
    if (absl::IsUnavailable(why) || absl::IsResourceExhausted(why)) {
      journal_->Break();
      parked = TakeRun();
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

}  // namespace backprop::session
