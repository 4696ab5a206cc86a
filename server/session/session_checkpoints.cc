// Checkpoints of a session that callers request. Those of runs: run_control.cc.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/engine/network.h"
#include "server/records/checkpoint_records.h"
#include "server/records/frame.h"
#include "server/records/model_records.h"
#include "server/records/tables.h"
#include "server/session/errors.h"
#include "server/session/session_mutation.h"
#include "server/store/store.h"

namespace backprop::session {
void Session::CreateCheckpoint(CheckpointArgs args, Callback<records::CheckpointPtr> done) {
  const int64_t cost = network_->parameter_count() * (1 + network_->slot_count());
  strand_.Post(
      cost, [self = shared_from_this(), args = std::move(args), done = std::move(done)]() mutable {
        self->DoCreateCheckpoint(args, std::move(done));
      });
}

absl::Status Session::CheckNewCheckpoint(const CheckpointArgs& args) const {
  absl::Status open = CheckOpen(args.cancelled);
  if (!open.ok()) return open;
  if (checkpoints_.Find(args.id) != nullptr) {
    const std::string checkpoint = absl::StrCat(name(), "/checkpoints/", args.id);
    return base::ReasonError(absl::StatusCode::kAlreadyExists,
                             absl::StrCat(checkpoint, ": already exists"),
                             {"CHECKPOINT_EXISTS", {{"checkpoint", checkpoint}}});
  }
  if (checkpoints_.lasting() >= base::kMaxCheckpoints) {
    return base::LimitError("checkpoint_id",
                            absl::StrCat(name(), " already has ", base::kMaxCheckpoints,
                                         " checkpoints, the limit; delete some"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::variant<records::CheckpointPtr, Session::StatePtr>> Session::BeginCheckpoint(
    const CheckpointArgs& args) const {
  const base::MutexLock lock(&mu_);
  const auto recorded = FindResponse<records::CheckpointPtr>(args.key);
  if (!recorded.ok()) return recorded.status();
  if (recorded->has_value()) return **recorded;
  const absl::Status status = CheckNewCheckpoint(args);
  if (!status.ok()) return status;
  StatePtr of_run = runs_.SharedState();
  return of_run != nullptr ? of_run : state_;
}

void Session::DoCreateCheckpoint(const CheckpointArgs& args,
                                 Callback<records::CheckpointPtr> done) {
  const auto begin = BeginCheckpoint(args);
  if (!begin.ok())
    return RespondWhenStored<records::CheckpointPtr>(begin.status(), std::move(done));
  if (const auto* recorded = std::get_if<records::CheckpointPtr>(&*begin)) {
    return RespondWhenStored<records::CheckpointPtr>(*recorded, std::move(done));
  }
  const StatePtr& state = std::get<StatePtr>(*begin);
  const absl::Status fits = CountUntilDone(StateBytes(), "a checkpoint", &done);
  if (!fits.ok()) return done(fits);
  const absl::Status allowed = StoreUntilDone(StateBytes(), &done);
  if (!allowed.ok()) return done(allowed);
  std::string record = records::EncodeState(*state);  // may take long, so without the lock
  absl::Status status;
  {
    const base::MutexLock lock(&mu_);
    // Again, because StopTraining may have recorded the same id meanwhile.
    status = FindResponse<records::CheckpointPtr>(args.key).status();
    if (status.ok()) status = CheckOpen(args.cancelled);
    if (status.ok()) {
      records::Checkpoint checkpoint;
      checkpoint.id = args.id;
      checkpoint.step = state->step;
      checkpoint.create_time = environment_->clock->Now();
      store::WriteBatch batch;
      const records::CheckpointPtr added =
          checkpoints_.Add(uid_, std::move(checkpoint), std::move(record), &batch);
      CommitCheckpoints<records::CheckpointPtr>(std::move(batch), args.key, added, Forget(args.id),
                                                std::move(done));
      return;
    }
  }
  done(status);
}

// What to undo when the archive rejects a checkpoint.
absl::AnyInvocable<void()> Session::Forget(const std::string& id) {
  return [this, id]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    store::WriteBatch nothing;
    checkpoints_.Remove(uid_, id, &nothing);
  };
}

void Session::DeleteCheckpoint(CheckpointArgs args, Callback<int64_t> done) {
  strand_.Post(
      0, [self = shared_from_this(), args = std::move(args), done = std::move(done)]() mutable {
        self->DoDeleteCheckpoint(args, std::move(done));
      });
}

void Session::DoDeleteCheckpoint(const CheckpointArgs& args, Callback<int64_t> done) {
  absl::StatusOr<int64_t> response = 0;
  {
    const base::MutexLock lock(&mu_);
    const auto recorded = FindResponse<int64_t>(args.key);
    const absl::Status open = CheckOpen(args.cancelled);
    const records::CheckpointPtr checkpoint = checkpoints_.Find(args.id);
    if (!recorded.ok()) {
      response = recorded.status();
    } else if (recorded->has_value()) {
      response = **recorded;
    } else if (!open.ok()) {
      response = open;
    } else if (checkpoint == nullptr) {
      response = CheckpointNotFound(absl::StrCat(name(), "/checkpoints/", args.id));
    } else {
      store::WriteBatch batch;
      checkpoints_.Remove(uid_, args.id, &batch);
      // An archive in memory never rejects a deletion, so there is nothing to undo.
      CommitCheckpoints<int64_t>(
          std::move(batch), args.key, 0, [] {}, std::move(done));
      return;
    }
  }
  RespondWhenStored<int64_t>(std::move(response), std::move(done));
}

void Session::RestoreCheckpoint(CheckpointArgs args, std::optional<int64_t> expected_step,
                                Callback<int64_t> done) {
  EditArgs edit;
  edit.edit = [this, id = args.id](const engine::State&) { return ReadCheckpoint(id); };
  edit.expected_step = expected_step;
  edit.key = std::move(args.key);
  edit.cancelled = std::move(args.cancelled);
  edit.reads_store = true;
  // The checkpoint may not be stored yet. An empty commit waits for that.
  environment_->archive->Commit(
      {}, store::Durability::kNone, nullptr,
      [self = shared_from_this(), edit = std::move(edit), done = std::move(done)](
          const absl::Status&) mutable { self->Edit(std::move(edit), std::move(done)); });
}

absl::StatusOr<std::shared_ptr<engine::State>> Session::ReadCheckpoint(
    const std::string& id) const {
  const std::string checkpoint_name = absl::StrCat(name(), "/checkpoints/", id);
  records::CheckpointPtr checkpoint;
  {
    const base::MutexLock lock(&mu_);
    checkpoint = checkpoints_.Find(id);
  }
  if (checkpoint == nullptr) return CheckpointNotFound(checkpoint_name);
  const auto record = environment_->archive->Get(
      records::kCheckpoints, records::CheckpointStateKey(uid_, checkpoint->state_hash));
  if (!record.ok()) return record.status();
  if (!record->has_value()) return records::Damaged(checkpoint_name, "its parameters are missing");
  if (records::HashOfState(**record) != checkpoint->state_hash) {
    return records::Damaged(checkpoint_name, "its parameters do not match its hash");
  }
  return records::DecodeState(**record, *network_, checkpoint_name);
}

std::vector<records::CheckpointPtr> Session::ListCheckpoints(const std::string& after,
                                                             size_t count) const {
  const base::MutexLock lock(&mu_);
  return checkpoints_.List(after, count);
}

}  // namespace backprop::session
