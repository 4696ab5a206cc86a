#include "server/session/session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/exec/compute_pool.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/records/tables.h"
#include "server/session/errors.h"
#include "server/session/memory_model_log.h"
#include "server/session/session_mutation.h"
#include "server/store/store.h"

namespace backprop::session {
namespace {

// A workspace for work of this thread that is not part of a run.
engine::Workspace* ThreadWorkspace() {
  thread_local engine::Workspace workspace;
  return &workspace;
}
constexpr int64_t kKeptWorkspaceBytes = int64_t{4} << 20;
// Approximate number of operations per parameter in a step of the optimiser.
constexpr int64_t kOptimizerCost = 20;

// Memory that a remembered response refers to.
int64_t ReferencedBytes(const MutationResponse& response) {
  const auto* run = std::get_if<RunResponse>(&response);
  return run != nullptr && run->run != nullptr ? run->run->MemoryBytes() : 0;
}

absl::Status StepMismatch(int64_t expected, int64_t current) {
  return base::ReasonError(
      absl::StatusCode::kAborted,
      absl::StrCat("expected_step: expected ", expected, ", but the model is at step ", current),
      {"STEP_MISMATCH", {{"current_step", absl::StrCat(current)}}});
}

}  // namespace

Session::Session(Environment* environment, SessionStart start)
    : environment_(environment),
      info_(std::move(start.info)),
      uid_(start.uid),
      network_(std::move(start.network)),
      create_time_(start.create_time),
      created_by_(std::move(start.created_by)),
      created_at_step_(start.created_at_step),
      fixed_bytes_(FixedBytes()),
      last_used_unix_nanos_(absl::ToUnixNanos(environment->clock->Now())),
      lent_threads_(environment->pool),
      project_(environment->projects.Of(records::ProjectOf(info_.id))),
      strand_(project_->share()),
      log_(start.log != nullptr ? std::move(start.log)
                                : std::make_unique<MemoryModelLog>(environment->archive, uid_)),
      state_(std::move(start.state)),
      step_(state_->step),
      checkpoints_(std::move(start.checkpoints)),
      runs_(environment, {info_, uid_, network_, *log_, checkpoints_, lent_threads_, *project_},
            std::move(start.latest_run), std::move(start.unfinished), start.run_count),
      memory_(environment->memory.CountModel(MemoryBytes())) {
  for (RecordedResponse& recorded : start.responses) {
    const int64_t bytes = ReferencedBytes(recorded.response);
    Ledger().Restore({std::move(recorded.key), recorded.time, recorded.sequence,
                      std::move(recorded.response), bytes});
  }
  CountMemory();
}

int64_t Session::FixedBytes() const {
  const auto bytes_of = [](const std::vector<std::string>& names) {
    size_t bytes = names.size() * sizeof(std::string);
    for (const std::string& name : names) bytes += name.size();
    return static_cast<int64_t>(bytes);
  };
  int64_t bytes = base::kSessionBytes + StateBytes() + bytes_of(info_.class_names) +
                  bytes_of(info_.feature_names) +
                  base::kLayerBytes * static_cast<int64_t>(network_->spec().layers.size());
  for (const auto& [key, value] : info_.labels) {
    bytes += base::kLabelBytes + static_cast<int64_t>(key.size() + value.size());
  }
  return bytes;
}

// Must be called when any of the counted parts has changed.
void Session::CountMemory() {
  int64_t bytes = MemoryBytes() + checkpoints_.MemoryBytes();
  if (ledger_ != nullptr) bytes += ledger_->MemoryBytes();
  if (runs_.latest() != nullptr) bytes += runs_.latest()->MemoryBytes();
  memory_.Resize(bytes);
}

void Session::Touch() {
  last_used_unix_nanos_.store(absl::ToUnixNanos(environment_->clock->Now()),
                              std::memory_order_relaxed);
  touched_.store(true, std::memory_order_relaxed);
}

bool Session::Evictable() const {
  const base::MutexLock lock(&mu_);
  return log_->stored() && !log_->broken() && runs_.idle() && !runs_.has_waiting() &&
         excluded_.empty();
}

std::optional<absl::Time> Session::ExpireTime() const {
  if (!info_.ttl.has_value()) return std::nullopt;
  const base::MutexLock lock(&mu_);
  if (!runs_.idle()) return std::nullopt;
  return absl::FromUnixNanos(last_used_unix_nanos_.load(std::memory_order_relaxed)) + *info_.ttl;
}

Session::Activity Session::activity() const {
  const base::MutexLock lock(&mu_);
  return {step_, runs_.idle() ? "" : runs_.active()->name()};
}

ModelLedger& Session::Ledger() {
  if (ledger_ == nullptr) ledger_ = std::make_unique<ModelLedger>();
  return *ledger_;
}

RecordedResponse Session::Remember(RecordedResponse recorded) {
  if (recorded.key.id.empty()) return recorded;
  recorded.sequence = Ledger().Record(recorded.key, recorded.time, recorded.response,
                                      ReferencedBytes(recorded.response));
  CountMemory();
  return recorded;
}

Session::Phase Session::CurrentPhase() const {
  return phase_ == Phase::kOpen && log_->broken() ? Phase::kBroken : phase_;
}

Session::Phase Session::phase() const {
  const base::MutexLock lock(&mu_);
  return CurrentPhase();
}

absl::Status Session::CheckOpen(const IsCancelled& cancelled) const {
  if (cancelled()) return base::CallerGone();
  switch (CurrentPhase()) {
    case Phase::kOpen:
      return absl::OkStatus();
    case Phase::kBroken:
      return NotStored(name(), absl::OkStatus());
    case Phase::kDeleted:
      return ModelDeleted(name());
  }
  return absl::OkStatus();
}

absl::Status Session::CheckMutable(const IsCancelled& cancelled,
                                   const std::optional<int64_t>& expected_step) const {
  absl::Status open = CheckOpen(cancelled);
  if (!open.ok()) return open;
  if (!runs_.idle()) return RunUnderWay(runs_.active()->name());
  if (expected_step.has_value() && *expected_step != state_->step) {
    return StepMismatch(*expected_step, state_->step);
  }
  return absl::OkStatus();
}

void Session::WhenStored(store::Store::Done done) {
  {
    const base::MutexLock lock(&mu_);
    done = log_->WhenStored(std::move(done));
  }
  if (done) done(absl::OkStatus());
}

void Session::StoreCreation(std::string spec, store::WriteBatch registry_part,
                            store::Store::Done done) {
  {
    const base::MutexLock lock(&mu_);
    records::StoredModel model;
    model.spec = std::move(spec);
    model.labels = info_.labels;
    model.ttl = info_.ttl;
    model.create_time = create_time_;
    model.created_by = created_by_;
    model.created_at_step = created_at_step_;
    model.value_count = state_->values.count();
    model.value_bytes = static_cast<int64_t>(state_->values.size_bytes());
    done = log_->Create(info_.id, std::move(model), *state_, std::move(registry_part),
                        std::move(done));
  }
  if (done) done(absl::OkStatus());
}

int64_t Session::CostOfStep(int64_t rows) const { return 3 * engine::ForwardCost(*network_, rows); }
int64_t Session::CostOfApply() const { return kOptimizerCost * network_->parameter_count(); }

void Session::Step(StepArgs args, Callback<records::StepOutcome> done) {
  const auto* batch = std::get_if<engine::Dataset>(&args.work);
  const int64_t cost = batch != nullptr ? CostOfStep(batch->rows) : CostOfApply();
  const auto wait = args.wait;
  strand_.Post(
      cost,
      [self = shared_from_this(), args = std::move(args), done = std::move(done)]() mutable {
        self->DoStep(args, std::move(done));
      },
      wait);
}

void Session::CountStep(const records::StepInput& work) {
  WorkCounters& counters = environment_->work_counters;
  counters.steps_of_calls.Add();
  if (const auto* batch = std::get_if<engine::Dataset>(&work)) {
    counters.rows_of_calls.Add(batch->rows);
  }
}

void Session::DoStep(StepArgs& args, Callback<records::StepOutcome> done) {
  base::EndOf(base::CallStage::kQueue, args.times);
  const auto begin = Begin<records::StepOutcome>(args.key, args.cancelled, args.expected_step);
  if (IsRunUnderWay(begin.status())) {
    const base::MutexLock lock(&mu_);
    if (TryLater(args, done, &Session::DoStep)) return;
  }
  if (!begin.ok()) return RespondWhenStored<records::StepOutcome>(begin.status(), std::move(done));
  if (const auto* recorded = std::get_if<records::StepOutcome>(&*begin)) {
    return RespondWhenStored<records::StepOutcome>(*recorded, std::move(done));
  }
  int64_t bytes = ChangeBytes();
  if (const auto* batch = std::get_if<engine::Dataset>(&args.work)) {
    bytes +=
        engine::Workspace::BytesNeeded(*network_, batch->rows, engine::PassKind::kForwardBackward);
  }
  const absl::Status fits = CountUntilDone(bytes, "a step", &done);
  if (!fits.ok()) return done(fits);
  const StatePtr& state = std::get<StatePtr>(*begin);
  auto next = std::make_shared<engine::State>(*network_);
  records::StepOutcome outcome;
  if (const auto* batch = std::get_if<engine::Dataset>(&args.work)) {
    if (engine::AwaitsFit(*network_, *state)) return done(NotFitted(name()));
    outcome.result = engine::TrainStep(*network_, *state, batch->All(), ThreadWorkspace(),
                                       next.get(), &lent_threads_);
  } else {
    outcome.result = engine::ApplyStep(*network_, *state, std::get<engine::Buffer>(args.work),
                                       ThreadWorkspace(), next.get(), &lent_threads_);
  }
  ThreadWorkspace()->Trim(kKeptWorkspaceBytes);
  if (outcome.result.not_finite != engine::NotFinite::kNothing) {
    return done(NotFiniteError(outcome.result.not_finite));
  }
  outcome.step = next->step;
  CountStep(args.work);
  base::EndOf(base::CallStage::kCompute, args.times);
  Commit<records::StepOutcome>(args.key, std::move(next), &args.work, outcome, std::move(done));
}

void Session::Edit(EditArgs args, Callback<int64_t> done) {
  // An edit writes the whole state: about one operation per number.
  const int64_t cost = args.reads_store
                           ? exec::ComputePool::kInlineCost + 1
                           : network_->parameter_count() * (1 + network_->slot_count());
  strand_.Post(cost, [self = shared_from_this(), args = std::move(args),
                      done = std::move(done)]() mutable { self->DoEdit(args, std::move(done)); });
}

void Session::DoEdit(EditArgs& args, Callback<int64_t> done) {
  base::EndOf(base::CallStage::kQueue, args.times);
  const auto begin = Begin<int64_t>(args.key, args.cancelled, args.expected_step);
  if (IsRunUnderWay(begin.status())) {
    const base::MutexLock lock(&mu_);
    if (TryLater(args, done, &Session::DoEdit)) return;
  }
  if (!begin.ok()) return RespondWhenStored<int64_t>(begin.status(), std::move(done));
  if (const auto* recorded = std::get_if<int64_t>(&*begin)) {
    return RespondWhenStored<int64_t>(*recorded, std::move(done));
  }
  const absl::Status fits = CountUntilDone(ChangeBytes(), "a change", &done);
  if (!fits.ok()) return done(fits);
  auto next = args.edit(*std::get<StatePtr>(*begin));
  if (!next.ok()) return done(next.status());
  const int64_t step = (*next)->step;
  base::EndOf(base::CallStage::kCompute, args.times);
  Commit<int64_t>(args.key, *std::move(next), nullptr, step, std::move(done));
}

Session::StatePtr Session::Read() const {
  const base::MutexLock lock(&mu_);
  StatePtr of_run = runs_.SharedState();
  return of_run != nullptr ? of_run : state_;
}

absl::StatusOr<Session::StatePtr> Session::ReadFitted() const {
  StatePtr state = Read();
  if (engine::AwaitsFit(network(), *state)) return NotFitted(name());
  return state;
}

void Session::Close(store::WriteBatch registry_part, store::Store::Done done) {
  {
    const base::MutexLock lock(&mu_);
    phase_ = Phase::kDeleted;
    ModelLog::Deletion deletion{info_.id};
    deletion.response_places = ledger_ == nullptr ? 0 : ledger_->places();
    if (!runs_.idle() && runs_.active()->resumes()) deletion.run = runs_.active()->number();
    deletion.has_checkpoints = !checkpoints_.empty();
    done = log_->Delete(deletion, std::move(registry_part), std::move(done));
  }
  StopRun(records::StopReason::kModelDeleted, ModelDeleted(name()));
  if (done) done(absl::OkStatus());
}

void Session::StopRun(records::StopReason reason, const absl::Status& refusal_of_waiting) {
  std::vector<WaitingTrain> waiting;
  {
    const base::MutexLock lock(&mu_);
    waiting = runs_.TakeWaiting();
    if (!runs_.idle()) runs_.active()->RequestStop(reason);
  }
  for (WaitingTrain& train : waiting) train.done(refusal_of_waiting);
}

}  // namespace backprop::session
