// Templates for the files that define the methods of Session: they find remembered responses,
// change the state, and respond.
#ifndef BACKPROP_SERVER_SESSION_SESSION_MUTATION_H_
#define BACKPROP_SERVER_SESSION_SESSION_MUTATION_H_

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/records/request_key.h"
#include "server/records/row_records.h"
#include "server/session/errors.h"
#include "server/session/session.h"
#include "server/store/store.h"

namespace backprop::session {

template <class T>
absl::StatusOr<std::optional<T>> Session::FindResponse(const records::RequestKey& key) const {
  if (key.id.empty() || ledger_ == nullptr) return std::nullopt;
  const auto found = ledger_->Find(key, environment_->clock->Now());
  if (!found.ok()) return found.status();
  if (*found == nullptr) return std::nullopt;
  // The fingerprint includes the method, so only a forged record has another type.
  const auto* response = std::get_if<T>(&(*found)->response);
  if (response == nullptr) {
    return base::FieldError("request_id", "was already used for a different kind of request");
  }
  return *response;
}

template <class T>
absl::StatusOr<std::variant<T, Session::StatePtr>> Session::Begin(
    const records::RequestKey& key, const IsCancelled& cancelled,
    const std::optional<int64_t>& expected_step) {
  const base::MutexLock lock(&mu_);
  const auto recorded = FindResponse<T>(key);
  if (!recorded.ok()) return recorded.status();
  if (recorded->has_value()) return **recorded;
  // Excluded operations are earlier, and must be made first. The error makes this one wait as well;
  // it leaves the session only if too many already wait (TryLater).
  if (runs_.idle() && !excluded_.empty()) return RunUnderWay(runs_.latest()->name());
  const absl::Status status = CheckMutable(cancelled, expected_step);
  if (!status.ok()) return status;
  return state_;
}

template <class Args, class T>
bool Session::TryLater(Args& args, Callback<T>& done,
                       void (Session::*operation)(Args&, Callback<T>)) {
  const auto until = MayTryUntil(&args.excluded_since);
  if (!until.has_value()) return false;
  excluded_.push_back(
      {*until, [operation, args = std::move(args), done = std::move(done)](Session* self) mutable {
         (self->*operation)(args, std::move(done));
       }});
  return true;
}

template <class T>
absl::Status Session::CountUntilDone(int64_t bytes, const char* what, Callback<T>* done) {
  if (bytes < base::kUncountedBytes) return absl::OkStatus();
  auto memory = environment_->memory.AskForWork(bytes, absl::StrCat(what, " of ", name()));
  if (!memory.ok()) return memory.status();
  *done = [memory = *std::move(memory), done = std::move(*done)](
              absl::StatusOr<T> response) mutable { done(std::move(response)); };
  return absl::OkStatus();
}

template <class T>
absl::Status Session::StoreUntilDone(int64_t bytes, Callback<T>* done) {
  auto stored = project_->Ask(Resource::kStoredBytes, bytes);
  if (!stored.ok()) return stored.status();
  *done = [stored = *std::move(stored),
           done = std::move(*done)](absl::StatusOr<T> response) mutable {
    stored = {};  // the store has counted them
    done(std::move(response));
  };
  return absl::OkStatus();
}

// If the change is rejected, the ledger keeps the response. The log is broken then: a retry in this
// session fails as well, and the model is loaded again with the responses that are stored.
template <class T>
void Session::Commit(const records::RequestKey& key, StatePtr next, const records::StepInput* work,
                     const T& response, Callback<T> done) {
  ModelLog::Done call_now;
  Callback<T> rejected;
  {
    const base::MutexLock lock(&mu_);
    if (phase_ == Phase::kDeleted) {
      rejected = std::move(done);
    } else {
      state_.swap(next);
      step_ = state_->step;
      const RecordedResponse recorded = Remember({key, environment_->clock->Now(), response});
      ModelLog::Done respond = [self = shared_from_this(), response,
                                done = std::move(done)](const absl::Status& status) mutable {
        if (status.ok()) return done(response);
        done(NotStored(self->name(), status));
      };
      call_now = work != nullptr ? log_->Step(*state_, *work, recorded, std::move(respond))
                                 : log_->State(*state_, recorded, std::move(respond));
    }
  }
  if (rejected) return rejected(ModelDeleted(name()));
  if (call_now) call_now(absl::OkStatus());
}

// If the changes are rejected, the ledger drops the response. The log of a model in memory is never
// broken, so a retry must find nothing.
template <class T>
void Session::CommitCheckpoints(store::WriteBatch&& changes, const records::RequestKey& key,
                                const T& response, absl::AnyInvocable<void()> undo,
                                Callback<T> done) {
  const RecordedResponse recorded = Remember({key, environment_->clock->Now(), response});
  log_->Checkpoints(std::move(changes), recorded,
                    [self = shared_from_this(), key, response, undo = std::move(undo),
                     done = std::move(done)](const absl::Status& status) mutable {
                      if (status.ok()) return done(response);
                      {
                        const base::MutexLock lock(&self->mu_);
                        if (!key.id.empty()) self->ledger_->Drop(key);
                        undo();
                      }
                      done(NotStored(self->name(), status));
                    });
}

template <class T>
void Session::RespondWhenStored(absl::StatusOr<T> response, Callback<T> done) {
  WhenStored([self = shared_from_this(), response = std::move(response),
              done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(NotStored(self->name(), status));
    done(std::move(response));
  });
}

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_SESSION_MUTATION_H_
