#include "server/session/session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/session/mutex.h"

namespace backprop::session {
namespace {

// A workspace for the work of this thread that is not a run's.
engine::Workspace* ThreadWorkspace() {
  thread_local engine::Workspace workspace;
  return &workspace;
}
constexpr int64_t kKeptWorkspaceBytes = int64_t{4} << 20;
// Operations of an optimiser's step per parameter, about.
constexpr int64_t kOptimizerCost = 20;

absl::Status StepMismatch(int64_t expected, int64_t current) {
  return ReasonError(
      absl::StatusCode::kAborted,
      absl::StrCat("expected_step: expected ", expected, ", the model is at step ", current),
      {"STEP_MISMATCH", {{"current_step", absl::StrCat(current)}}});
}

absl::Status RunNotFound(const std::string& model, int64_t number) {
  const std::string message = number == 0 ? absl::StrCat(model, ": has had no run")
                                          : absl::StrCat(model, "/runs/", number, ": no such run");
  return ReasonError(absl::StatusCode::kNotFound, message, {"RUN_NOT_FOUND", {{"model", model}}});
}

}  // namespace

Session::Session(Environment* environment, ModelInfo info,
                 std::shared_ptr<const engine::Network> network, StatePtr initial,
                 RequestKey created_by)
    : environment_(environment),
      info_(std::move(info)),
      network_(std::move(network)),
      create_time_(environment->clock->Now()),
      created_by_(std::move(created_by)),
      created_at_step_(initial->step),
      last_used_unix_nanos_(absl::ToUnixNanos(create_time_)),
      lent_threads_(environment->pool),
      strand_(environment->pool),
      state_(std::move(initial)),
      step_(state_->step) {}

void Session::Touch() {
  last_used_unix_nanos_.store(absl::ToUnixNanos(environment_->clock->Now()),
                              std::memory_order_relaxed);
}

std::optional<absl::Time> Session::ExpireTime() const {
  if (!info_.ttl.has_value()) return std::nullopt;
  const MutexLock lock(&mu_);
  if (run_ != nullptr) return std::nullopt;
  return absl::FromUnixNanos(last_used_unix_nanos_.load(std::memory_order_relaxed)) + *info_.ttl;
}

Session::Status Session::status() const {
  const MutexLock lock(&mu_);
  return {step_, run_ == nullptr ? "" : run_->name()};
}

template <class T>
absl::StatusOr<std::optional<T>> Session::RecordedAnswer(const RequestKey& key) {
  if (key.id.empty() || window_ == nullptr) return std::nullopt;
  const auto found = window_->Find(key, environment_->clock->Now());
  if (!found.ok()) return found.status();
  if (*found == nullptr) return std::nullopt;
  // The fingerprint covers the method, so the kind of answer fits.
  return std::get<T>(**found);
}

void Session::Record(const RequestKey& key, Answer answer) {
  if (key.id.empty()) return;
  if (window_ == nullptr) window_ = std::make_unique<RequestWindow<Answer>>(kModelRequestWindow);
  window_->Record(key, environment_->clock->Now(), std::move(answer));
}

absl::Status Session::CheckMutable(const IsCancelled& cancelled,
                                   const std::optional<int64_t>& expected_step) const {
  if (cancelled()) return absl::CancelledError("the caller has gone");
  if (closed_) return ModelDeleted(name());
  if (run_ != nullptr) return RunUnderWay(run_->name());
  if (expected_step.has_value() && *expected_step != state_->step) {
    return StepMismatch(*expected_step, state_->step);
  }
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<std::variant<T, Session::StatePtr>> Session::Begin(
    const RequestKey& key, const IsCancelled& cancelled,
    const std::optional<int64_t>& expected_step) {
  const MutexLock lock(&mu_);
  const auto recorded = RecordedAnswer<T>(key);
  if (!recorded.ok()) return recorded.status();
  if (recorded->has_value()) return **recorded;
  const absl::Status status = CheckMutable(cancelled, expected_step);
  if (!status.ok()) return status;
  return state_;
}

void Session::Commit(const RequestKey& key, StatePtr next, Answer answer) {
  const MutexLock lock(&mu_);
  state_.swap(next);
  step_ = state_->step;
  Record(key, std::move(answer));
}

void Session::Step(StepArgs args, Callback<StepOutcome> done) {
  const auto* batch = std::get_if<engine::Dataset>(&args.work);
  const int64_t cost = batch != nullptr ? 3 * engine::ForwardCost(*network_, batch->rows)
                                        : kOptimizerCost * network_->parameter_count();
  strand_.Post(cost, [self = shared_from_this(), args = std::move(args),
                      done = std::move(done)]() mutable { done(self->DoStep(args)); });
}

absl::StatusOr<StepOutcome> Session::DoStep(const StepArgs& args) {
  const auto begin = Begin<StepOutcome>(args.key, args.cancelled, args.expected_step);
  if (!begin.ok()) return begin.status();
  if (const auto* recorded = std::get_if<StepOutcome>(&*begin)) return *recorded;
  const StatePtr& state = std::get<StatePtr>(*begin);
  auto next = std::make_shared<engine::State>(*network_);
  StepOutcome outcome;
  if (const auto* batch = std::get_if<engine::Dataset>(&args.work)) {
    if (engine::AwaitsFit(*network_, *state)) return NotFitted(name());
    outcome.result = engine::TrainStep(*network_, *state, batch->All(), ThreadWorkspace(),
                                       next.get(), &lent_threads_);
  } else {
    outcome.result = engine::ApplyStep(*network_, *state, std::get<engine::Buffer>(args.work),
                                       ThreadWorkspace(), next.get(), &lent_threads_);
  }
  ThreadWorkspace()->Trim(kKeptWorkspaceBytes);
  if (outcome.result.not_finite != engine::NotFinite::kNothing) {
    return NotFiniteError(outcome.result.not_finite);
  }
  outcome.step = next->step;
  Commit(args.key, std::move(next), outcome);
  return outcome;
}

void Session::Edit(EditArgs args, Callback<int64_t> done) {
  // An edit writes the whole state: about an operation per number.
  const int64_t cost = network_->parameter_count() * (1 + network_->slot_count());
  strand_.Post(cost, [self = shared_from_this(), args = std::move(args),
                      done = std::move(done)]() mutable { done(self->DoEdit(args)); });
}

absl::StatusOr<int64_t> Session::DoEdit(EditArgs& args) {
  const auto begin = Begin<int64_t>(args.key, args.cancelled, args.expected_step);
  if (!begin.ok()) return begin.status();
  if (const auto* recorded = std::get_if<int64_t>(&*begin)) return *recorded;
  auto next = args.edit(*std::get<StatePtr>(*begin));
  if (!next.ok()) return next.status();
  const int64_t step = (*next)->step;
  Commit(args.key, *std::move(next), step);
  return step;
}

void Session::Train(TrainArgs args, Callback<std::shared_ptr<Run>> done) {
  strand_.Post(
      0, [self = shared_from_this(), args = std::move(args), done = std::move(done)]() mutable {
        self->DoTrain(std::move(args), std::move(done));
      });
}

void Session::DoTrain(TrainArgs args, Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run;
  bool started = false;
  std::vector<WaitingTrain> next;  // whose turn it is
  {
    const MutexLock lock(&mu_);
    auto recorded = RecordedAnswer<std::shared_ptr<Run>>(args.key);
    if (!recorded.ok()) {
      run = recorded.status();
    } else if (recorded->has_value()) {
      run = **std::move(recorded);
    } else if (run_ != nullptr && args.wait && !closed_) {
      if (waiting_.size() < kMaxWaitingRuns) {
        waiting_.push_back({std::move(args), std::move(done)});
        return;
      }
      run =
          LimitError("wait", absl::StrCat(kMaxWaitingRuns, " runs wait for ", name(), " already"));
    } else {
      run = StartRun(args);
      started = run.ok();
    }
    next = TakeReady(args.key);
  }
  for (WaitingTrain& waiting : next) Train(std::move(waiting.args), std::move(waiting.done));
  done(run);
  if (started) {
    environment_->pool->Post(Priority::kBackground,
                             [self = shared_from_this()] { self->RunSlice(); });
  }
}

// Those who wait and need not any more: the first one if there is no run, and with a run the
// retries of the request that started it, which attach to it.
std::vector<Session::WaitingTrain> Session::TakeReady(const RequestKey& key) {
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

absl::StatusOr<std::shared_ptr<Run>> Session::StartRun(TrainArgs& args) {
  const absl::Status status = CheckMutable(args.cancelled, std::nullopt);
  if (!status.ok()) return status;
  if (environment_->draining) return ShuttingDown();
  const int64_t limit = environment_->limits.max_concurrent_runs;
  if (environment_->runs_under_way.fetch_add(1) >= limit) {
    environment_->runs_under_way.fetch_sub(1);
    return ReasonError(absl::StatusCode::kResourceExhausted,
                       absl::StrCat(limit, " runs are under way already, which is the limit"),
                       {"LIMIT_EXCEEDED", {{"limit", "max_concurrent_runs"}}});
  }
  ++run_count_;
  run_ = std::make_shared<Run>(absl::StrCat(name(), "/runs/", run_count_), run_count_, args.config);
  trainer_ = std::make_unique<Trainer>(network_, run_,
                                       RunData{std::move(args.data), std::move(args.validation)},
                                       state_, &lent_threads_);
  Record(args.key, run_);
  return run_;
}

void Session::RunSlice() {
  const auto summary = trainer_->Slice(ComputePool::kSlice);
  if (summary.has_value()) {
    EndRun(*summary);
    return;
  }
  {
    const MutexLock lock(&mu_);
    step_ = trainer_->state()->step;
  }
  environment_->pool->Post(Priority::kBackground,
                           [self = shared_from_this()] { self->RunSlice(); });
}

void Session::EndRun(const RunSummary& summary) {
  std::shared_ptr<Run> run;
  std::unique_ptr<Trainer> trainer;  // its memory is freed outside of the lock
  std::vector<WaitingTrain> next;
  {
    const MutexLock lock(&mu_);
    state_ = trainer_->state();
    step_ = state_->step;
    trainer = std::move(trainer_);
    run = std::move(run_);
    run_ = nullptr;
    latest_run_ = run;
    next = TakeReady({});
  }
  Touch();
  environment_->runs_under_way.fetch_sub(1);
  if (environment_->on_run_end) environment_->on_run_end(*run, summary);
  run->Finish(summary);
  for (WaitingTrain& waiting : next) Train(std::move(waiting.args), std::move(waiting.done));
}

void Session::StopTraining(int64_t number, const RequestKey& key,
                           Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run;
  {
    const MutexLock lock(&mu_);
    auto recorded = RecordedAnswer<std::shared_ptr<Run>>(key);
    if (!recorded.ok()) {
      run = recorded.status();
    } else if (recorded->has_value()) {
      run = **std::move(recorded);
    } else if (closed_) {
      run = ModelDeleted(name());
    } else if (run_ == nullptr || (number != 0 && run_->number() != number)) {
      run = ReasonError(absl::StatusCode::kFailedPrecondition,
                        number == 0 ? absl::StrCat(name(), ": no run is under way")
                                    : absl::StrCat(name(), "/runs/", number, ": is not under way"),
                        {"NO_RUN", {{"model", name()}}});
    } else {
      run = run_;
      run_->RequestStop(StopReason::kStopped);
      Record(key, run_);
    }
  }
  if (!run.ok()) {
    done(run.status());
    return;
  }
  (*run)->OnFinish([run = *run, done = std::move(done)](const RunSummary&) mutable { done(run); });
}

absl::StatusOr<std::shared_ptr<Run>> Session::FindRun(int64_t number) const {
  const MutexLock lock(&mu_);
  for (const auto& run : {run_, latest_run_}) {
    if (run != nullptr && (number == 0 || run->number() == number)) return run;
  }
  return RunNotFound(name(), number);
}

Session::StatePtr Session::Read() const {
  const MutexLock lock(&mu_);
  return trainer_ != nullptr ? trainer_->Share() : state_;
}

absl::StatusOr<Session::StatePtr> Session::ReadFitted() const {
  StatePtr state = Read();
  if (engine::AwaitsFit(network(), *state)) return NotFitted(name());
  return state;
}

void Session::Close() {
  {
    const MutexLock lock(&mu_);
    closed_ = true;
  }
  StopRun(StopReason::kModelDeleted, ModelDeleted(name()));
}

void Session::StopRun(StopReason reason, const absl::Status& refusal_of_waiting) {
  std::vector<WaitingTrain> waiting;
  {
    const MutexLock lock(&mu_);
    waiting.swap(waiting_);
    if (run_ != nullptr) run_->RequestStop(reason);
  }
  for (WaitingTrain& train : waiting) train.done(refusal_of_waiting);
}

}  // namespace backprop::session
