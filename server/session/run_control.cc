#include "server/session/run_control.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/engine/workspace.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/session/errors.h"

namespace backprop::session {
namespace {

using Phase = RunControl::Phase;

// A run is held while this number of its periodic checkpoints are being stored.
constexpr int kMostPendingCheckpoints = 4;

bool MayFollow(Phase phase, Phase next) {
  switch (phase) {
    case Phase::kIdle:
      return next == Phase::kTraining || next == Phase::kReadingRows;
    case Phase::kReadingRows:
      return next == Phase::kTraining || next == Phase::kEnding || next == Phase::kIdle;
    case Phase::kTraining:
      return next == Phase::kHeld || next == Phase::kEnding || next == Phase::kIdle;
    case Phase::kHeld:
      return next == Phase::kTraining;
    case Phase::kEnding:
      return next == Phase::kIdle;
  }
  return false;
}

const char* NameOf(Phase phase) {
  switch (phase) {
    case Phase::kIdle:
      return "kIdle";
    case Phase::kReadingRows:
      return "kReadingRows";
    case Phase::kTraining:
      return "kTraining";
    case Phase::kHeld:
      return "kHeld";
    case Phase::kEnding:
      return "kEnding";
  }
  return "?";
}

std::string NameOf(const records::ModelInfo& model) { return records::ModelName(model.id); }

}  // namespace

RunControl::RunControl(Environment* environment, const Model& model, std::shared_ptr<Run> latest,
                       records::UnfinishedEpochPtr unfinished, int64_t count)
    : environment_(environment),
      model_(model),
      count_(count),
      latest_(std::move(latest)),
      unfinished_(std::move(unfinished)) {}

// Checked in all builds: a run in a wrong phase could lose steps.
void RunControl::Enter(Phase next) {
  if (!MayFollow(phase_, next)) {
    std::fprintf(stderr, "run_control.cc: a run cannot go from %s to %s\n", NameOf(phase_),
                 NameOf(next));
    std::abort();
  }
  phase_ = next;
}

absl::Status RunControl::NotFound(int64_t number) const {
  const std::string model = NameOf(model_.info);
  const std::string message = number == 0 ? absl::StrCat(model, ": has no runs")
                                          : absl::StrCat(model, "/runs/", number, ": no such run");
  return base::ReasonError(absl::StatusCode::kNotFound, message,
                           {"RUN_NOT_FOUND", {{"model", model}}});
}

absl::StatusOr<std::shared_ptr<Run>> RunControl::Find(int64_t number) const {
  for (const auto& run : {active_, latest_}) {
    if (run != nullptr && (number == 0 || run->number() == number)) return run;
  }
  return NotFound(number);
}

absl::Status RunControl::Enqueue(TrainArgs* args, Callback<std::shared_ptr<Run>>* done) {
  if (waiting_.size() >= base::kMaxWaitingRuns) {
    return base::LimitError("wait", absl::StrCat(base::kMaxWaitingRuns, " runs already wait for ",
                                                 NameOf(model_.info), ", the limit"));
  }
  waiting_.push_back({std::move(*args), std::move(*done)});
  return absl::OkStatus();
}

std::vector<WaitingTrain> RunControl::TakeReady(const records::RequestKey& key) {
  std::vector<WaitingTrain> ready;
  for (size_t i = 0; i < waiting_.size();) {
    const bool same = !key.id.empty() && waiting_[i].args.key.id == key.id;
    if (same || (idle() && ready.empty())) {
      ready.push_back(std::move(waiting_[i]));
      waiting_.erase(waiting_.begin() + static_cast<int64_t>(i));
    } else {
      ++i;
    }
  }
  return ready;
}

// Whether the rows and the checkpoints of a run fit into the project's quota when it starts.
absl::Status RunControl::CheckStoredBytes(const TrainArgs& args) const {
  int64_t bytes = 0;
  if (args.resumes && model_.log.stored()) {
    for (const RowsInUse* rows : {&args.data, &args.validation}) {
      if (rows->rows != nullptr && rows->dataset == 0) bytes += rows->rows->size_bytes();
    }
  }
  const records::CheckpointPolicy& checkpoints = args.config.checkpoints;
  const int64_t kept = (checkpoints.every_iterations > 0 ? checkpoints.keep_last : 0) +
                       (checkpoints.keep_best ? 1 : 0);
  bytes += kept * engine::StateBytes(*model_.network);
  if (bytes == 0) return absl::OkStatus();
  return model_.project.Ask(Resource::kStoredBytes, bytes).status();
}

absl::StatusOr<std::shared_ptr<Run>> RunControl::Start(TrainArgs* args, StatePtr state) {
  const std::string model = NameOf(model_.info);
  if (environment_->draining) return ShuttingDown();
  if (args->config.checkpoints.keep_best && model_.checkpoints.lasting() >= base::kMaxCheckpoints) {
    return base::LimitError("config.checkpoints.keep_best",
                            absl::StrCat(model, " already has ", base::kMaxCheckpoints,
                                         " checkpoints, the limit; delete some"));
  }
  args->memory = {};
  auto memory = environment_->memory.AskForWork(
      RunBytes(args->config, args->data, args->validation), absl::StrCat("a run of ", model));
  if (!memory.ok()) return memory.status();
  absl::Status allowed = CheckStoredBytes(*args);
  if (allowed.ok()) allowed = model_.project.Take(Resource::kRuns, 1);
  if (!allowed.ok()) return allowed;
  const int64_t limit = environment_->limits.max_concurrent_runs;
  if (environment_->runs_under_way.fetch_add(1) >= limit) {
    environment_->runs_under_way.fetch_sub(1);
    model_.project.Release(Resource::kRuns, 1);
    return base::ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat(limit, " runs are already under way, the limit (max_concurrent_runs)"),
        {"LIMIT_EXCEEDED", {{"limit", "max_concurrent_runs"}}});
  }
  Enter(Phase::kTraining);
  memory_ = std::make_unique<MemoryBudget::Claim>(*std::move(memory));
  ++count_;
  active_ = std::make_shared<Run>(absl::StrCat(model, "/runs/", count_), count_,
                                  ConfigFor(*args, state->step), args->key,
                                  args->resumes && model_.log.stored());
  active_->SetOwned(args->owned);
  last_mark_ = environment_->clock->Now();
  trainer_ = std::make_unique<Trainer>(model_.network, active_,
                                       RunData{args->data.rows, args->validation.rows},
                                       std::move(state), &model_.lent_threads);
  return active_;
}

// Approximate maximum of a run's memory in bytes: the state that the next step writes, one that a
// reader or a mark still uses, the best one, a pass over a batch, and rows of the request. Rows of
// a dataset are counted where they are read.
int64_t RunControl::RunBytes(const records::RunConfig& config, const RowsInUse& data,
                             const RowsInUse& validation) const {
  const bool keeps_best = config.early_stopping.has_value() || config.checkpoints.keep_best;
  int64_t bytes = engine::StateBytes(*model_.network) * (keeps_best ? 3 : 2);
  bytes += engine::Workspace::BytesNeeded(*model_.network, config.batch_size,
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

// The settings of a run that starts at `step`. It takes over the unfinished epoch if requested and
// possible.
records::RunConfig RunControl::ConfigFor(const TrainArgs& args, int64_t step) {
  records::RunConfig config = args.config;
  const records::UnfinishedEpochPtr unfinished = std::exchange(unfinished_, nullptr);
  if (!config.continue_epoch || unfinished == nullptr) return config;
  const records::EpochPlan plan = PlanOf({args.data.rows, args.validation.rows}, config);
  if (!unfinished->Fits(plan, step)) return config;
  config.resumed = unfinished;
  if (config.whole_epochs) config.iterations -= unfinished->batches;
  return config;
}

void RunControl::Resume(std::shared_ptr<Run> run) {
  Enter(Phase::kReadingRows);
  environment_->runs_under_way.fetch_add(1);
  model_.project.Count(Resource::kRuns, 1);
  active_ = std::move(run);
  count_ = std::max(count_, active_->number());
  last_mark_ = environment_->clock->Now();
}

void RunControl::Continue(ResumeArgs args, StatePtr state) {
  Enter(Phase::kTraining);
  memory_ = std::make_unique<MemoryBudget::Claim>(environment_->memory.CountWork(
      RunBytes(active_->config(), {args.data.training, args.training_read},
               {args.data.validation, args.validation_read})));
  if (args.mark.has_value()) {
    trainer_ =
        std::make_unique<Trainer>(model_.network, active_, std::move(args.data), std::move(state),
                                  &model_.lent_threads, args.start_step, *args.mark);
  } else {
    trainer_ = std::make_unique<Trainer>(model_.network, active_, std::move(args.data),
                                         std::move(state), &model_.lent_threads);
  }
}

bool RunControl::MustPark() const {
  const bool stops = active_->resumes() && !trainer_->ended() &&
                     active_->stop_requested() == records::StopReason::kServerShutdown;
  return stops || model_.log.broken();
}

// A model in memory has no progress to store, but the best epoch.
bool RunControl::MarkIsDue() const {
  if (mark_pending_ || (!model_.log.stored() && !trainer_->has_best())) return false;
  const absl::Time due = last_mark_ + environment_->limits.mark_interval;
  return environment_->clock->Now() >= due && !trainer_->ended();
}

void RunControl::Mark(ModelLog::Done done) {
  last_mark_ = environment_->clock->Now();
  mark_pending_ = true;
  store::WriteBatch best = TakeBest();
  const std::optional<records::ProgressMark> mark =
      active_->resumes() ? trainer_->Mark() : std::nullopt;
  model_.log.MarkRun(*active_, *trainer_->Share(), mark.has_value() ? &*mark : nullptr,
                     std::move(best), std::move(done));
}

// Adds a checkpoint of the active run. If one with the same name exists from before a crash, it has
// the same state.
void RunControl::AddCheckpoint(const DueCheckpoint& due, std::string state,
                               store::WriteBatch* batch) {
  records::Checkpoint checkpoint;
  const std::string prefix = absl::StrCat("run-", active_->number(), "-");
  checkpoint.id =
      due.best ? absl::StrCat(prefix, "best") : absl::StrCat(prefix, "iteration-", due.iteration);
  checkpoint.step = due.state->step;
  checkpoint.create_time = environment_->clock->Now();
  checkpoint.run = active_->number();
  checkpoint.iteration = due.iteration;
  checkpoint.best = due.best;
  checkpoint.metrics = due.metrics;
  checkpoint.validation = due.validation;
  model_.checkpoints.Add(model_.uid, std::move(checkpoint), std::move(state), batch);
}

// The best epoch so far, if it is not stored yet.
store::WriteBatch RunControl::TakeBest() {
  store::WriteBatch batch;
  if (const auto best = trainer_->TakeBest()) {
    AddCheckpoint(*best, records::EncodeState(*best->state), &batch);
  }
  return batch;
}

void RunControl::KeepPeriodic(const DueCheckpoint& due, std::string state, ModelLog::Done done) {
  store::WriteBatch batch;
  AddCheckpoint(due, std::move(state), &batch);
  model_.checkpoints.KeepNewest(model_.uid, active_->config().checkpoints.keep_last, &batch);
  ++pending_checkpoints_;
  model_.log.Checkpoints(std::move(batch), {}, std::move(done));
}

bool RunControl::HoldIfBehind() {
  if (pending_checkpoints_ < kMostPendingCheckpoints) return false;
  Enter(Phase::kHeld);
  return true;
}

bool RunControl::CheckpointStored() {
  --pending_checkpoints_;
  if (phase_ != Phase::kHeld) return false;
  Enter(Phase::kTraining);
  return true;
}

RunControl::Last RunControl::BeginEnd() {
  Last last;
  if (trainer_ != nullptr) {
    last.state = trainer_->state();
    unfinished_ = trainer_->Unfinished();
    last.checkpoints = TakeBest();
    last.trainer = std::move(trainer_);
  }
  Enter(Phase::kEnding);
  return last;
}

std::shared_ptr<Run> RunControl::End() { return TakeActive(); }

RunControl::Parked RunControl::Park() {
  Parked parked;
  if (trainer_ != nullptr) {
    parked.state = trainer_->state();
    parked.trainer = std::move(trainer_);
  }
  parked.run = TakeActive();
  return parked;
}

std::shared_ptr<Run> RunControl::TakeActive() {
  Enter(Phase::kIdle);
  latest_ = std::exchange(active_, nullptr);
  memory_ = nullptr;
  environment_->runs_under_way.fetch_sub(1);
  model_.project.Release(Resource::kRuns, 1);
  return latest_;
}

}  // namespace backprop::session
