#include "server/datasets/datasets.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/datasets/errors.h"
#include "server/exec/compute_pool.h"
#include "server/records/project.h"
#include "server/records/response_records.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/session/errors.h"
#include "server/store/store.h"

namespace backprop::datasets {
namespace {

using SteadyClock = std::chrono::steady_clock;

// A deletion waits this long for users. A caller that cancels its Train and deletes the dataset at
// once can be earlier than the end of the run, by a step or two, and earlier than gRPC's
// notification that the call is cancelled.
constexpr auto kReleasePatience = std::chrono::milliseconds(500);

absl::Status DatasetInUse(const records::DatasetInfo& info, const std::string& user) {
  return base::ReasonError(absl::StatusCode::kFailedPrecondition,
                           absl::StrCat(info.name(), ": is in use by ", user),
                           {"DATASET_IN_USE", {{"dataset", info.name()}, {"user", user}}});
}

}  // namespace

absl::StatusOr<int64_t> Datasets::Open() {
  const absl::Time now = environment_->clock->Now();
  std::map<std::string, EntryPtr, std::less<>> found;
  const auto visit = [&](absl::string_view id, absl::string_view value) {
    auto info = records::DecodeDataset(value, id);
    auto entry = std::make_shared<Entry>();
    entry->last_append = now;
    if (info.ok()) {
      entry->info = *std::move(info);
    } else {  // reading it fails with DATA_LOSS; it can be deleted
      entry->info.id = std::string(id);
      entry->doubtful = true;
    }
    found[std::string(id)] = std::move(entry);
    return true;
  };
  absl::Status scanned = archive()->Scan(records::kDatasets, "", "", visit);
  if (!scanned.ok()) return scanned;
  const auto responses =
      records::ReadRegistryResponses(archive(), records::RegistryRequestKind::kDeleteDataset);
  if (!responses.ok()) return responses.status();
  const base::MutexLock lock(&mu_);
  entries_ = std::move(found);
  deletions_.Clear();  // a restore has replaced the store
  for (const records::RegistryResponse& response : *responses) {
    deletions_.Restore({response.key, response.time, response.sequence, {}});
  }
  return static_cast<int64_t>(entries_.size());
}

Datasets::EntryPtr Datasets::Find(absl::string_view id) const {
  const auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : it->second;
}

Datasets::EntryPtr Datasets::FindByUid(records::Uid uid) const {
  for (const auto& [id, entry] : entries_) {
    if (entry->info.uid == uid) return entry;
  }
  return nullptr;
}

void Datasets::Begin(const EntryPtr& entry, absl::AnyInvocable<void()> change) {
  {
    const base::MutexLock lock(&mu_);
    if (std::exchange(entry->busy, true)) {
      entry->waiting.push_back(std::move(change));
      return;
    }
  }
  change();
}

void Datasets::Finish(const EntryPtr& entry) {
  absl::AnyInvocable<void()> next;
  {
    const base::MutexLock lock(&mu_);
    entry->busy = !entry->waiting.empty();
    if (!entry->busy) return;
    next = std::move(entry->waiting.front());
    entry->waiting.pop_front();
  }
  // Not on this thread, which may be the store's.
  environment_->pool->Post(exec::Priority::kInteractive, std::move(next));
}

// Reads the entry again if it may differ from the store: a change of it was rejected, or it was
// damaged.
absl::Status Datasets::Refresh(const EntryPtr& entry) {
  std::string id;
  {
    const base::MutexLock lock(&mu_);
    if (!entry->doubtful) return absl::OkStatus();
    id = entry->info.id;
  }
  absl::Status health = archive()->health();
  if (!health.ok()) return session::NotStored(records::DatasetName(id), health);
  const auto value = archive()->Get(records::kDatasets, id);
  if (!value.ok()) return value.status();
  const base::MutexLock lock(&mu_);
  if (!value->has_value()) {
    entry->removed = true;
    entries_.erase(id);
    return DatasetNotFound(records::DatasetName(id));
  }
  auto info = records::DecodeDataset(**value, id);
  if (!info.ok()) return info.status();
  entry->info = *std::move(info);
  entry->doubtful = false;
  return absl::OkStatus();
}

absl::StatusOr<records::DatasetInfo> Datasets::Get(absl::string_view id) {
  EntryPtr entry;
  {
    const base::MutexLock lock(&mu_);
    entry = Find(id);
  }
  if (entry == nullptr) return DatasetNotFound(records::DatasetName(id));
  absl::Status fresh = Refresh(entry);
  if (!fresh.ok()) return fresh;
  const base::MutexLock lock(&mu_);
  return entry->info;
}

Datasets::Counts Datasets::counts() const {
  Counts counts;
  const base::MutexLock lock(&mu_);
  for (const auto& [id, entry] : entries_)
    ++(entry->info.ready ? counts.complete : counts.uploading);
  return counts;
}

std::vector<records::DatasetInfo> Datasets::List(absl::string_view prefix, absl::string_view after,
                                                 size_t count) {
  std::vector<EntryPtr> entries;
  {
    const base::MutexLock lock(&mu_);
    for (auto it = entries_.upper_bound(std::max(prefix, after));
         it != entries_.end() && absl::StartsWith(it->first, prefix); ++it) {
      entries.push_back(it->second);
    }
  }
  std::vector<records::DatasetInfo> list;
  for (const EntryPtr& entry : entries) {
    if (list.size() == count) break;
    if (!Refresh(entry).ok()) continue;
    const base::MutexLock lock(&mu_);
    if (!entry->removed) list.push_back(entry->info);
  }
  return list;
}

void Datasets::Delete(absl::string_view id, const records::RequestKey& key,
                      absl::AnyInvocable<void(absl::Status)> done) {
  EntryPtr entry;
  absl::StatusOr<bool> repeated = false;
  {
    const base::MutexLock lock(&mu_);
    repeated = IsRepeatedDeletion(key);
    entry = Find(id);
  }
  if (!repeated.ok()) return done(repeated.status());
  if (*repeated) return RespondToRepeatedDeletion(id, key, std::move(done));
  if (entry == nullptr) return done(DatasetNotFound(records::DatasetName(id)));
  BeginDelete({entry, key, SteadyClock::now() + kReleasePatience, std::move(done)});
}

void Datasets::BeginDelete(Deletion deletion) {
  const EntryPtr entry = deletion.entry;
  Begin(entry, [this, deletion = std::move(deletion)]() mutable {
    const absl::Status unused = CheckUsers(deletion.entry);
    if (!unused.ok()) {
      Finish(deletion.entry);
      if (absl::IsNotFound(unused)) return EndDeletionOfRemoved(std::move(deletion), unused);
      const bool waits =
          absl::IsFailedPrecondition(unused) && SteadyClock::now() < deletion.deadline;
      if (!waits) return deletion.done(unused);
      const base::MutexLock lock(&mu_);
      deletions_in_wait_.push_back(std::move(deletion));
      changed_.NotifyAll();
      return;
    }
    // A barrier: after it, the runs of the former users are in the store.
    archive()->Commit({}, store::Durability::kNone, nullptr,
                      [this, deletion = std::move(deletion)](const absl::Status&) mutable {
                        environment_->pool->Post(exec::Priority::kInteractive,
                                                 [this, deletion = std::move(deletion)]() mutable {
                                                   DoDelete(deletion.entry, deletion.key,
                                                            std::move(deletion.done));
                                                 });
                      });
  });
}

absl::StatusOr<bool> Datasets::IsRepeatedDeletion(const records::RequestKey& key) {
  const auto found = deletions_.Find(key, environment_->clock->Now());
  if (!found.ok()) return found.status();
  return *found != nullptr;
}

// A retry gets its response when the store has answered the deletion, which was passed to it
// earlier. The store may accept the empty batch of the retry although it rejected the deletion,
// such as on a full disk; then the deletion is no longer recorded.
void Datasets::RespondToRepeatedDeletion(absl::string_view id, const records::RequestKey& key,
                                         absl::AnyInvocable<void(absl::Status)> done) {
  archive()->Commit(
      {}, store::Durability::kSync, nullptr,
      [this, key, name = records::DatasetName(id),
       done = std::move(done)](const absl::Status& status) mutable {
        if (!status.ok()) return done(session::NotStored(name, status));
        absl::StatusOr<bool> recorded = false;
        {
          const base::MutexLock lock(&mu_);
          recorded = IsRepeatedDeletion(key);
        }
        if (recorded.ok() && *recorded) return done(absl::OkStatus());
        done(session::NotStored(name, absl::UnavailableError("the store rejected the deletion")));
      });
}

// Another change removed the dataset while the deletion waited. If that was the first attempt of
// the same request, the response is the same.
void Datasets::EndDeletionOfRemoved(Deletion deletion, const absl::Status& not_found) {
  absl::StatusOr<bool> repeated = false;
  std::string id;
  {
    const base::MutexLock lock(&mu_);
    repeated = IsRepeatedDeletion(deletion.key);
    id = deletion.entry->info.id;
  }
  if (!repeated.ok()) return deletion.done(repeated.status());
  if (*repeated) return RespondToRepeatedDeletion(id, deletion.key, std::move(deletion.done));
  deletion.done(not_found);
}

std::vector<Datasets::Deletion> Datasets::TakeDueDeletions() {
  const SteadyClock::time_point now = SteadyClock::now();
  const bool ended = ended_;
  const auto first_due = std::stable_partition(
      deletions_in_wait_.begin(), deletions_in_wait_.end(), [&](const Deletion& deletion) {
        return !ended && now < deletion.deadline && !deletion.entry->users.empty();
      });
  std::vector<Deletion> due(std::make_move_iterator(first_due),
                            std::make_move_iterator(deletions_in_wait_.end()));
  deletions_in_wait_.erase(first_due, deletions_in_wait_.end());
  if (ended) {
    for (Deletion& deletion : due) deletion.deadline = now;
  }
  return due;
}

// Fails if the dataset is in use in this process. Otherwise rejects new users from now on.
absl::Status Datasets::CheckUsers(const EntryPtr& entry) {
  const base::MutexLock lock(&mu_);
  if (entry->removed) return DatasetNotFound(entry->info.name());
  if (!entry->users.empty()) return DatasetInUse(entry->info, *entry->users.begin());
  entry->deleting = true;
  return absl::OkStatus();
}

// Fails if the dataset is used by a run in the store, which will resume.
absl::Status Datasets::CheckStoredRuns(const EntryPtr& entry) {
  records::DatasetInfo info;
  {
    const base::MutexLock lock(&mu_);
    info = entry->info;
  }
  std::string user;
  const std::string prefix(1, static_cast<char>(records::RunPart::kRun));
  absl::Status scanned = archive()->Scan(
      records::kRuns, prefix, store::EndOfPrefix(prefix),
      [&](absl::string_view, absl::string_view value) {
        const auto run = records::DecodeRun(value, "");
        if (run.ok() && info.uid != 0 &&
            (run->training_dataset == info.uid || run->validation_dataset == info.uid)) {
          user = absl::StrCat(records::ModelName(run->model), "/runs/", run->number);
        }
        return user.empty();
      });
  if (!scanned.ok()) return scanned;
  return user.empty() ? absl::OkStatus() : DatasetInUse(info, user);
}

void Datasets::DoDelete(const EntryPtr& entry, const records::RequestKey& key,
                        absl::AnyInvocable<void(absl::Status)> done) {
  absl::Status status = CheckStoredRuns(entry);
  store::WriteBatch batch;
  {
    const base::MutexLock lock(&mu_);
    if (status.ok()) status = RecordDeletion(key, &batch);
    if (!status.ok()) entry->deleting = false;
  }
  if (!status.ok()) {
    Finish(entry);
    return done(status);
  }
  Remove(entry, key, std::move(batch), std::move(done));
}

// Remembers a deletion with a request id, and adds its record to `batch`.
absl::Status Datasets::RecordDeletion(const records::RequestKey& key, store::WriteBatch* batch) {
  if (key.id.empty()) return absl::OkStatus();
  const absl::Time now = environment_->clock->Now();
  // Again, because the same id may have deleted another dataset meanwhile. It cannot have deleted
  // this one, because changes of a dataset are made one after the other, and a retry that waited
  // for the first attempt does not get here.
  const auto found = deletions_.Find(key, now);
  if (!found.ok()) return found.status();
  const uint64_t sequence = deletions_.Record(key, now, {});
  batch->Put(
      records::kRequests,
      records::RegistryResponseKey(records::RegistryRequestKind::kDeleteDataset, 0,
                                   session::RegistryLedger<std::monostate>::PlaceOf(sequence)),
      records::EncodeRegistryResponse({key, now, sequence, ""}));
  return absl::OkStatus();
}

void Datasets::Remove(const EntryPtr& entry, const records::RequestKey& key,
                      store::WriteBatch batch, absl::AnyInvocable<void(absl::Status)> done) {
  records::DatasetInfo info;
  {
    const base::MutexLock lock(&mu_);
    info = entry->info;
  }
  batch.Delete(records::kDatasets, info.id);
  if (info.uid != 0) {
    batch.DeletePrefix(records::kDatasetRows, records::UidKey(info.uid));
  }
  archive()->Commit(
      std::move(batch), store::Durability::kSync, nullptr,
      [this, entry, key, info, done = std::move(done)](const absl::Status& status) mutable {
        {
          const base::MutexLock lock(&mu_);
          entry->deleting = false;
          if (status.ok()) {
            entry->removed = true;
            entries_.erase(info.id);
          } else {
            entry->doubtful = true;
            deletions_.Drop(key);
          }
        }
        Finish(entry);
        done(status.ok() ? status : session::NotStored(info.name(), status));
      });
}

}  // namespace backprop::datasets
