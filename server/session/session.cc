#include "server/session/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/session/mutex.h"
#include "server/session/run_records.h"

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

Session::Session(Environment* environment, SessionStart start)
    : environment_(environment),
      info_(std::move(start.info)),
      network_(std::move(start.network)),
      create_time_(start.create_time),
      created_by_(std::move(start.created_by)),
      created_at_step_(start.created_at_step),
      last_used_unix_nanos_(absl::ToUnixNanos(environment->clock->Now())),
      lent_threads_(environment->pool),
      strand_(environment->pool),
      journal_(std::move(start.journal)),
      state_(std::move(start.state)),
      step_(state_->step),
      run_count_(start.run_count),
      latest_run_(std::move(start.latest_run)) {
  for (KeyedAnswer& answer : start.answers) Remember(std::move(answer));
}

void Session::Touch() {
  last_used_unix_nanos_.store(absl::ToUnixNanos(environment_->clock->Now()),
                              std::memory_order_relaxed);
  touched_.store(true, std::memory_order_relaxed);
}

bool Session::Evictable() const {
  const MutexLock lock(&mu_);
  return journal_.has_value() && !journal_->broken() && run_ == nullptr && waiting_.empty();
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

KeyedAnswer Session::Remember(KeyedAnswer answer) {
  if (answer.key.id.empty()) return answer;
  if (window_ == nullptr) window_ = std::make_unique<RequestWindow<Answer>>(kModelRequestWindow);
  window_->Record(answer.key, answer.time, answer.answer);
  return answer;
}

absl::Status Session::CheckMutable(const IsCancelled& cancelled,
                                   const std::optional<int64_t>& expected_step) const {
  if (cancelled()) return absl::CancelledError("the caller has gone");
  if (closed_) return ModelDeleted(name());
  if (journal_.has_value() && journal_->broken()) return NotStored(name(), absl::OkStatus());
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

template <class T>
void Session::Commit(const RequestKey& key, StatePtr next, const StepWork* work, const T& answer,
                     Callback<T> done) {
  {
    const MutexLock lock(&mu_);
    if (closed_) {
      next = nullptr;
    } else {
      state_.swap(next);
      step_ = state_->step;
      const KeyedAnswer keyed = Remember({key, environment_->clock->Now(), answer});
      if (journal_.has_value()) {
        auto stored = [self = shared_from_this(), answer,
                       done = std::move(done)](const absl::Status& status) mutable {
          if (status.ok()) return done(answer);
          done(NotStored(self->name(), status));
        };
        if (work != nullptr) {
          journal_->Step(*state_, *work, keyed, std::move(stored));
        } else {
          journal_->State(*state_, keyed, std::move(stored));
        }
        return;
      }
    }
  }
  if (next == nullptr) return done(ModelDeleted(name()));
  done(answer);
}

template <class T>
void Session::AnswerWhenStored(absl::StatusOr<T> answer, Callback<T> done) {
  WhenStored([self = shared_from_this(), answer = std::move(answer),
              done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(NotStored(self->name(), status));
    done(std::move(answer));
  });
}

void Session::WhenStored(store::Store::Done done) {
  {
    const MutexLock lock(&mu_);
    if (journal_.has_value()) return journal_->Answer({}, std::move(done));
  }
  done(absl::OkStatus());
}

void Session::StoreCreation(std::string spec, store::Batch registry_part, store::Store::Done done) {
  const MutexLock lock(&mu_);
  StoredModel model;
  model.uid = journal_->uid();
  model.spec = std::move(spec);
  model.labels = info_.labels;
  model.ttl = info_.ttl;
  model.create_time = create_time_;
  model.created_by = created_by_;
  model.created_at_step = created_at_step_;
  model.numbers = state_->values.count();
  model.durability = journal_->durability();
  registry_part.Put(store::Table::kModels, info_.id, EncodeModel(model));
  journal_->AddState(*state_, &registry_part);
  journal_->Commit(std::move(registry_part), std::move(done));
}

bool Session::broken() const {
  const MutexLock lock(&mu_);
  return journal_.has_value() && journal_->broken();
}

void Session::Step(StepArgs args, Callback<StepOutcome> done) {
  const auto* batch = std::get_if<engine::Dataset>(&args.work);
  const int64_t cost = batch != nullptr ? 3 * engine::ForwardCost(*network_, batch->rows)
                                        : kOptimizerCost * network_->parameter_count();
  strand_.Post(cost, [self = shared_from_this(), args = std::move(args),
                      done = std::move(done)]() mutable { self->DoStep(args, std::move(done)); });
}

void Session::DoStep(const StepArgs& args, Callback<StepOutcome> done) {
  const auto begin = Begin<StepOutcome>(args.key, args.cancelled, args.expected_step);
  if (!begin.ok()) return AnswerWhenStored<StepOutcome>(begin.status(), std::move(done));
  if (const auto* recorded = std::get_if<StepOutcome>(&*begin)) {
    return AnswerWhenStored<StepOutcome>(*recorded, std::move(done));
  }
  const StatePtr& state = std::get<StatePtr>(*begin);
  auto next = std::make_shared<engine::State>(*network_);
  StepOutcome outcome;
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
  Commit<StepOutcome>(args.key, std::move(next), &args.work, outcome, std::move(done));
}

void Session::Edit(EditArgs args, Callback<int64_t> done) {
  // An edit writes the whole state: about an operation per number.
  const int64_t cost = network_->parameter_count() * (1 + network_->slot_count());
  strand_.Post(cost, [self = shared_from_this(), args = std::move(args),
                      done = std::move(done)]() mutable { self->DoEdit(args, std::move(done)); });
}

void Session::DoEdit(EditArgs& args, Callback<int64_t> done) {
  const auto begin = Begin<int64_t>(args.key, args.cancelled, args.expected_step);
  if (!begin.ok()) return AnswerWhenStored<int64_t>(begin.status(), std::move(done));
  if (const auto* recorded = std::get_if<int64_t>(&*begin)) {
    return AnswerWhenStored<int64_t>(*recorded, std::move(done));
  }
  auto next = args.edit(*std::get<StatePtr>(*begin));
  if (!next.ok()) return done(next.status());
  const int64_t step = (*next)->step;
  Commit<int64_t>(args.key, *std::move(next), nullptr, step, std::move(done));
}

void Session::Train(TrainArgs args, Callback<std::shared_ptr<Run>> done) {
  strand_.Post(
      0, [self = shared_from_this(), args = std::move(args), done = std::move(done)]() mutable {
        self->DoTrain(std::move(args), std::move(done));
      });
}

void Session::DoTrain(TrainArgs args, Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run = nullptr;
  std::vector<WaitingTrain> next;  // whose turn it is
  bool started = false;
  {
    const MutexLock lock(&mu_);
    run = FindRunOf(args.key);
    if (run.ok() && *run == nullptr) {
      if (run_ != nullptr && args.wait && !closed_) {
        if (waiting_.size() < kMaxWaitingRuns) {
          waiting_.push_back({std::move(args), std::move(done)});
          return;
        }
        run = LimitError("wait",
                         absl::StrCat(kMaxWaitingRuns, " runs wait for ", name(), " already"));
      } else {
        store::Batch batch;
        run = StartRun(args, &batch);
        started = run.ok();
        if (started && journal_.has_value()) {
          journal_->Commit(std::move(batch), [self = shared_from_this(), run = *run,
                                              done = std::exchange(done, nullptr)](
                                                 const absl::Status& status) mutable {
            if (status.ok()) return done(run);
            run->RequestStop(StopReason::kServerShutdown);
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
    environment_->pool->Post(Priority::kBackground,
                             [self = shared_from_this()] { self->RunSlice(); });
    return;
  }
  AnswerWhenStored<std::shared_ptr<Run>>(std::move(run), std::move(done));
}

// The run that a request started, if it did; null if it is new.
absl::StatusOr<std::shared_ptr<Run>> Session::FindRunOf(const RequestKey& key) {
  const bool same = run_ != nullptr && !key.id.empty() && run_->key().id == key.id &&
                    run_->key().fingerprint == key.fingerprint;
  if (same) return run_;  // however long ago that was
  const auto recorded = RecordedAnswer<RunAnswer>(key);
  if (!recorded.ok()) return recorded.status();
  if (!recorded->has_value()) return nullptr;
  if ((*recorded)->run == nullptr) return RunNotFound(name(), (*recorded)->number);
  return (*recorded)->run;
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

absl::StatusOr<std::shared_ptr<Run>> Session::StartRun(TrainArgs& args, store::Batch* batch) {
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
  run_ = std::make_shared<Run>(absl::StrCat(name(), "/runs/", run_count_), run_count_, args.config,
                               args.key, args.resumes && journal_.has_value());
  const KeyedAnswer answer =
      Remember({args.key, environment_->clock->Now(), RunAnswer{run_count_, run_}});
  if (journal_.has_value()) {
    AddRunRecords(args, batch);
    journal_->AddAnswer(answer, batch);
  }
  trainer_ = std::make_unique<Trainer>(network_, run_,
                                       RunData{std::move(args.data), std::move(args.validation)},
                                       state_, &lent_threads_);
  return run_;
}

// A run that resumes needs its rows; of another one only the number counts.
void Session::AddRunRecords(const TrainArgs& args, store::Batch* batch) {
  const Uid uid = journal_->uid();
  StoredRun stored;
  stored.number = run_->number();
  stored.resumes = run_->resumes();
  stored.start_step = state_->step;
  if (run_->resumes()) {
    stored.config = run_->config();
    stored.key = run_->key();
    const auto add = [&, run = run_->number()](const std::shared_ptr<const engine::Dataset>& rows,
                                               RowsOf which) {
      uint32_t count = 0;
      if (rows == nullptr) return count;
      for (std::string& piece : EncodeRows(*rows)) {
        batch->Put(store::Table::kChunks, ChunkKey(uid, run, which, count++), std::move(piece));
      }
      return count;
    };
    stored.training_chunks = add(args.data, RowsOf::kTraining);
    stored.validation_chunks = add(args.validation, RowsOf::kValidation);
  }
  batch->Put(store::Table::kRuns, RunKey(uid, RunPart::kRun), EncodeRun(stored));
  last_mark_ = environment_->clock->Now();
}

void Session::ResumeRun(ResumeArgs args) {
  environment_->runs_under_way.fetch_add(1);
  {
    const MutexLock lock(&mu_);
    run_ = std::move(args.run);
    run_count_ = std::max(run_count_, run_->number());
    last_mark_ = environment_->clock->Now();
    if (args.mark.has_value()) {
      stored_best_ = args.mark->best_state;
      trainer_ = std::make_unique<Trainer>(network_, run_, std::move(args.data), state_,
                                           &lent_threads_, args.start_step, *args.mark);
    } else {
      trainer_ =
          std::make_unique<Trainer>(network_, run_, std::move(args.data), state_, &lent_threads_);
    }
  }
  environment_->pool->Post(Priority::kBackground,
                           [self = shared_from_this()] { self->RunSlice(); });
}

void Session::RunSlice() {
  if (ParkRun()) return;
  const auto summary = trainer_->Slice(ComputePool::kSlice);
  if (summary.has_value()) {
    EndRun(*summary);
    return;
  }
  MarkRun();
  environment_->pool->Post(Priority::kBackground,
                           [self = shared_from_this()] { self->RunSlice(); });
}

// The run's state, and for a run that resumes how far it is.
void Session::AddMark(store::Batch* batch) {
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
  const MutexLock lock(&mu_);
  step_ = trainer_->state()->step;
  if (!journal_.has_value() || closed_ || mark_pending_) return;
  const absl::Time now = environment_->clock->Now();
  if (now < last_mark_ + environment_->limits.mark_interval || trainer_->ended()) return;
  last_mark_ = now;
  mark_pending_ = true;
  store::Batch batch;
  AddMark(&batch);
  journal_->Commit(std::move(batch), [self = shared_from_this()](const absl::Status&) {
    const MutexLock callback_lock(&self->mu_);
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
    const MutexLock lock(&mu_);
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
      return true;
    }
    waiting.swap(waiting_);
  }
  run->Park(NotStored(name(), absl::OkStatus()));
  for (WaitingTrain& train : waiting) train.done(NotStored(name(), absl::OkStatus()));
  return true;
}

std::shared_ptr<Run> Session::TakeRun() {
  std::shared_ptr<Run> run = std::move(run_);
  run_ = nullptr;
  latest_run_ = run;
  stored_best_ = nullptr;
  environment_->runs_under_way.fetch_sub(1);
  return run;
}

// The last state, the run among those that have ended, and nothing of it among those under way.
void Session::AddEnd(const RunSummary& summary, store::Batch* batch) {
  const Uid uid = journal_->uid();
  journal_->AddState(*state_, batch);
  batch->Put(store::Table::kRuns, RunKey(uid, RunPart::kFinished),
             EncodeFinishedRun(*run_, summary));
  for (const RunPart part : {RunPart::kRun, RunPart::kMark, RunPart::kBest}) {
    batch->Delete(store::Table::kRuns, RunKey(uid, part));
  }
  if (run_->resumes()) {
    batch->DeletePrefix(store::Table::kChunks, ChunksKey(uid, run_->number()));
  }
}

void Session::EndRun(const RunSummary& summary) {
  std::shared_ptr<Run> run;
  std::unique_ptr<Trainer> trainer;  // its memory is freed outside of the lock
  std::vector<WaitingTrain> next;
  bool stores = false;
  {
    const MutexLock lock(&mu_);
    state_ = trainer_->state();
    step_ = state_->step;
    trainer = std::move(trainer_);
    stores = journal_.has_value() && !closed_;
    store::Batch batch;
    if (stores) AddEnd(summary, &batch);
    run = TakeRun();
    next = TakeReady({});
    if (stores) {
      journal_->Commit(std::move(batch),
                       [self = shared_from_this(), run, summary](const absl::Status& status) {
                         if (status.ok()) return run->Finish(summary);
                         run->Park(NotStored(self->name(), status));
                       });
    }
  }
  Touch();
  if (environment_->on_run_end) environment_->on_run_end(*run, summary);
  if (!stores) run->Finish(summary);
  for (WaitingTrain& waiting : next) Train(std::move(waiting.args), std::move(waiting.done));
}

void Session::StopTraining(int64_t number, const RequestKey& key,
                           Callback<std::shared_ptr<Run>> done) {
  absl::StatusOr<std::shared_ptr<Run>> run = nullptr;
  {
    const MutexLock lock(&mu_);
    const auto recorded = RecordedAnswer<RunAnswer>(key);
    if (!recorded.ok()) {
      run = recorded.status();
    } else if (recorded->has_value()) {
      run = (*recorded)->run;
      if (*run == nullptr) run = RunNotFound(name(), (*recorded)->number);
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
      const KeyedAnswer answer =
          Remember({key, environment_->clock->Now(), RunAnswer{run_->number(), run_}});
      // It is stored before the run's end, which is what the caller waits for.
      if (journal_.has_value() && !key.id.empty()) journal_->Answer(answer, [](const auto&) {});
    }
  }
  if (!run.ok()) {
    done(run.status());
    return;
  }
  (*run)->OnFinish(
      [run = *run, done = std::move(done)](const absl::StatusOr<RunSummary>& summary) mutable {
        if (!summary.ok()) return done(summary.status());
        done(run);
      });
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

void Session::Close(store::Batch registry_part, store::Store::Done done) {
  {
    const MutexLock lock(&mu_);
    closed_ = true;
    if (journal_.has_value()) {
      registry_part.Delete(store::Table::kModels, info_.id);
      journal_->AddDeletion(run_ != nullptr && run_->resumes() ? run_->number() : 0,
                            &registry_part);
      // On its own: it follows from nothing that could have been refused.
      journal_->store()->Commit(std::move(registry_part), journal_->durability(), nullptr,
                                std::exchange(done, nullptr));
    }
  }
  StopRun(StopReason::kModelDeleted, ModelDeleted(name()));
  if (done) done(absl::OkStatus());
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
