#include "server/session/datasets.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/session/records.h"
#include "server/session/run_records.h"
#include "server/session/status.h"

namespace backprop::session {
namespace {

absl::Status RowsMissing(const DatasetInfo& info, absl::string_view field, int64_t got) {
  return ReasonError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(field, ": expected ", info.rows, ", the rows that have come, got ", got),
      {"ROWS_MISSING", {{"dataset", info.name()}, {"expected_row", absl::StrCat(info.rows)}}});
}

// The rows from number `skipped` on.
engine::Dataset Behind(const engine::Dataset& rows, int64_t skipped) {
  std::vector<int32_t> order;
  for (int64_t row = skipped; row < rows.rows; ++row) order.push_back(static_cast<int32_t>(row));
  engine::Dataset rest = engine::EmptyLike(rows, rows.rows - skipped);
  engine::Gather(rows, order, &rest);
  return rest;
}

}  // namespace

absl::StatusOr<int64_t> Datasets::Open() {
  const absl::Time now = environment_->clock->Now();
  std::map<std::string, EntryPtr, std::less<>> found;
  const auto visit = [&](absl::string_view id, absl::string_view value) {
    auto info = DecodeDataset(value, id);
    auto entry = std::make_shared<Entry>();
    entry->last_append = now;
    if (info.ok()) {
      entry->info = *std::move(info);
    } else {  // it answers DATA_LOSS, and can be deleted
      entry->info.id = std::string(id);
      entry->doubtful = true;
    }
    found[std::string(id)] = std::move(entry);
    return true;
  };
  absl::Status scanned = archive()->Scan(store::Table::kDatasets, "", "", visit);
  if (!scanned.ok()) return scanned;
  const auto answers = ReadRegistryAnswers(archive(), RegistryAnswerKind::kDeleteDataset);
  if (!answers.ok()) return answers.status();
  const MutexLock lock(&mu_);
  entries_ = std::move(found);
  for (const RegistryAnswer& answer : *answers) {
    deletions_.Record(answer.key, answer.time, 0);
    deletion_count_ = answer.sequence + 1;
  }
  return static_cast<int64_t>(entries_.size());
}

Datasets::EntryPtr Datasets::Find(absl::string_view id) const {
  const auto it = entries_.find(id);
  return it == entries_.end() || it->second->deleting ? nullptr : it->second;
}

Datasets::EntryPtr Datasets::FindByUid(Uid uid) const {
  for (const auto& [id, entry] : entries_) {
    if (entry->info.uid == uid && !entry->deleting) return entry;
  }
  return nullptr;
}

void Datasets::Begin(const EntryPtr& entry, absl::AnyInvocable<void()> change) {
  {
    const MutexLock lock(&mu_);
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
    const MutexLock lock(&mu_);
    entry->busy = !entry->waiting.empty();
    if (!entry->busy) return;
    next = std::move(entry->waiting.front());
    entry->waiting.pop_front();
  }
  // Not here: this may be the store's thread.
  environment_->pool->Post(Priority::kInteractive, std::move(next));
}

// What the store holds of a dataset of which it refused a change, or which was damaged.
absl::Status Datasets::Refresh(const EntryPtr& entry) {
  std::string id;
  {
    const MutexLock lock(&mu_);
    if (!entry->doubtful) return absl::OkStatus();
    id = entry->info.id;
  }
  absl::Status health = archive()->health();
  if (!health.ok()) return NotStored(absl::StrCat("datasets/", id), health);
  const auto value = archive()->Get(store::Table::kDatasets, id);
  if (!value.ok()) return value.status();
  const MutexLock lock(&mu_);
  if (!value->has_value()) {
    entry->deleting = true;
    entries_.erase(id);
    return DatasetNotFound(absl::StrCat("datasets/", id));
  }
  auto info = DecodeDataset(**value, id);
  if (!info.ok()) return info.status();
  entry->info = *std::move(info);
  entry->doubtful = false;
  return absl::OkStatus();
}

absl::StatusOr<DatasetInfo> Datasets::BeginUpload(UploadArgs args) {
  EntryPtr entry;
  {
    const MutexLock lock(&mu_);
    if (environment_->restoring) return Restoring();
    entry = Find(args.id);
    if (entry == nullptr && entries_.size() >= kMaxDatasets) {
      return LimitError("header.dataset_id", absl::StrCat("the server holds ", kMaxDatasets,
                                                          " datasets already, which is the limit"));
    }
    if (entry == nullptr) {
      if (entries_.find(args.id) != entries_.end()) {
        return ReasonError(absl::StatusCode::kAlreadyExists,
                           absl::StrCat("datasets/", args.id, ": is being deleted"),
                           {"DATASET_EXISTS", {{"dataset", absl::StrCat("datasets/", args.id)}}});
      }
      entry = std::make_shared<Entry>();
      entry->info.id = args.id;
      entry->info.uid = DrawUid();
      entry->info.request_id = args.request_id;
      entry->info.labels = std::move(args.labels);
      entry->info.data_type = args.data_type;
      entry->info.create_time = entry->last_append = environment_->clock->Now();
      entries_[args.id] = entry;
      return entry->info;  // stored with its first rows
    }
  }
  absl::Status fresh = Refresh(entry);
  if (absl::IsNotFound(fresh)) return BeginUpload(std::move(args));  // of an upload that is gone
  if (!fresh.ok()) return fresh;
  const MutexLock lock(&mu_);
  const bool same = entry->info.request_id == args.request_id &&
                    entry->info.data_type == args.data_type && entry->info.labels == args.labels;
  if (same) {
    entry->last_append = environment_->clock->Now();
    return entry->info;
  }
  return ReasonError(absl::StatusCode::kAlreadyExists,
                     absl::StrCat(entry->info.name(), ": exists already, by another request_id"),
                     {"DATASET_EXISTS", {{"dataset", entry->info.name()}}});
}

void Datasets::Append(AppendArgs args, Callback<DatasetInfo> done) {
  EntryPtr entry;
  {
    const MutexLock lock(&mu_);
    entry = FindByUid(args.uid);
  }
  if (entry == nullptr) return done(DatasetNotFound("the dataset of this upload"));
  Begin(entry, [this, entry, args = std::move(args), done = std::move(done)]() mutable {
    DoAppend(entry, std::move(args), std::move(done));
  });
}

void Datasets::DoAppend(const EntryPtr& entry, AppendArgs args, Callback<DatasetInfo> done) {
  const absl::Status fresh = Refresh(entry);
  DatasetInfo next;
  bool gone = false;
  {
    const MutexLock lock(&mu_);
    next = entry->info;
    gone = entry->deleting;
  }
  const auto refuse = [&](const absl::Status& status) {
    Finish(entry);
    done(status);
  };
  if (!fresh.ok()) return refuse(fresh);
  if (gone) return refuse(DatasetNotFound(next.name()));
  if (args.first_row > next.rows) {
    return refuse(RowsMissing(next, "chunk.first_row", args.first_row));
  }
  const absl::Status checked = args.check(next, &args.rows, &next.class_names);
  if (!checked.ok()) {
    if (next.ready || !absl::IsInvalidArgument(checked)) return refuse(checked);
    // Nothing of a broken upload remains.
    return Remove(entry, {}, [checked, done = std::move(done)](const absl::Status&) mutable {
      done(checked);
    });
  }
  const int64_t skipped = next.rows - args.first_row;
  if (next.ready || skipped >= args.rows.rows) {
    Finish(entry);
    return done(next);
  }
  if (args.rows.rows - skipped > kMaxDatasetRows - next.rows) {
    return refuse(
        LimitError("chunk.rows", absl::StrCat("a dataset has at most ", kMaxDatasetRows, " rows")));
  }
  const engine::Dataset rows = skipped > 0 ? Behind(args.rows, skipped) : std::move(args.rows);
  store::Batch batch;
  int64_t first = next.rows;
  for (Piece& piece : EncodeRows(rows)) {
    batch.Put(store::Table::kDatasetRows, DatasetRowsKey(next.uid, first), std::move(piece.record));
    first += piece.rows;
  }
  if (next.rows == 0) {
    next.inputs_per_row = rows.inputs_per_row;
    next.targets_per_row = rows.targets_per_row;
    next.sample_weights = rows.sample_weights.count() > 0;
  }
  AddRows(rows, &next);
  // What counts is the commit at the end: until then a loss of power may cost rows, and the record
  // with them.
  Store(entry, std::move(next), std::move(batch), store::Durability::kNone, std::move(done));
}

void Datasets::Complete(Uid uid, int64_t rows, Callback<DatasetInfo> done) {
  EntryPtr entry;
  {
    const MutexLock lock(&mu_);
    entry = FindByUid(uid);
  }
  if (entry == nullptr) return done(DatasetNotFound("the dataset of this upload"));
  Begin(entry, [this, entry, rows, done = std::move(done)]() mutable {
    DoComplete(entry, rows, std::move(done));
  });
}

void Datasets::DoComplete(const EntryPtr& entry, int64_t rows, Callback<DatasetInfo> done) {
  absl::Status status = Refresh(entry);
  DatasetInfo next;
  {
    const MutexLock lock(&mu_);
    next = entry->info;
    if (entry->deleting && status.ok()) status = DatasetNotFound(next.name());
  }
  if (status.ok() && (rows < 1 || rows < next.rows)) {
    status = FieldError("commit.rows", absl::StrCat("expected ", next.rows,
                                                    ", the rows that have come, got ", rows));
  } else if (status.ok() && rows > next.rows) {
    status = RowsMissing(next, "commit.rows", rows);
  } else if (status.ok() && !(next.weight_sum > 0)) {
    status = FieldError("chunk.rows.sample_weights", "must not all be 0");
  }
  if (!status.ok() || next.ready) {
    Finish(entry);
    if (!status.ok()) return done(status);
    return done(next);
  }
  next.ready = true;
  Store(entry, std::move(next), {}, store::Durability::kSync, std::move(done));
}

// Stores what the dataset is from now on, with what else is in the batch.
void Datasets::Store(const EntryPtr& entry, DatasetInfo next, store::Batch batch,
                     store::Durability durability, Callback<DatasetInfo> done) {
  batch.Put(store::Table::kDatasets, next.id, EncodeDataset(next));
  archive()->Commit(std::move(batch), durability, nullptr,
                    [this, entry, next = std::move(next),
                     done = std::move(done)](const absl::Status& status) mutable {
                      {
                        const MutexLock lock(&mu_);
                        entry->last_append = environment_->clock->Now();
                        if (status.ok()) {
                          entry->info = next;
                        } else {
                          entry->doubtful = true;
                        }
                      }
                      Finish(entry);
                      if (!status.ok()) return done(NotStored(next.name(), status));
                      done(std::move(next));
                    });
}

absl::StatusOr<DatasetInfo> Datasets::Get(absl::string_view id) {
  EntryPtr entry;
  {
    const MutexLock lock(&mu_);
    entry = Find(id);
  }
  if (entry == nullptr) return DatasetNotFound(absl::StrCat("datasets/", id));
  absl::Status fresh = Refresh(entry);
  if (!fresh.ok()) return fresh;
  const MutexLock lock(&mu_);
  return entry->info;
}

std::vector<DatasetInfo> Datasets::List(const std::string& after, size_t count) const {
  const MutexLock lock(&mu_);
  std::vector<DatasetInfo> list;
  for (auto it = entries_.upper_bound(after); it != entries_.end() && list.size() < count; ++it) {
    if (!it->second->deleting && !it->second->doubtful) list.push_back(it->second->info);
  }
  return list;
}

void Datasets::Delete(absl::string_view id, const RequestKey& key,
                      absl::AnyInvocable<void(absl::Status)> done) {
  EntryPtr entry;
  absl::StatusOr<const Uid*> repeated = nullptr;
  {
    const MutexLock lock(&mu_);
    repeated = deletions_.Find(key, environment_->clock->Now());
    if (repeated.ok() && *repeated == nullptr) entry = Find(id);
  }
  if (!repeated.ok()) return done(repeated.status());
  if (*repeated != nullptr) {
    return archive()->Commit({}, store::Durability::kSync, nullptr, std::move(done));
  }
  if (entry == nullptr) return done(DatasetNotFound(absl::StrCat("datasets/", id)));
  // The barrier: what uses the dataset is in the store then, if it is to be found there.
  Begin(entry, [this, entry, key, done = std::move(done)]() mutable {
    {
      const MutexLock lock(&mu_);
      entry->deleting = true;  // nobody begins to use it any more
    }
    archive()->Commit({}, store::Durability::kNone, nullptr,
                      [this, entry, key, done = std::move(done)](const absl::Status&) mutable {
                        environment_->pool->Post(
                            Priority::kInteractive,
                            [this, entry, key, done = std::move(done)]() mutable {
                              DoDelete(entry, key, std::move(done));
                            });
                      });
  });
}

// Why it cannot be deleted, if so: a run uses it, also one that waits in the store to go on.
absl::Status Datasets::CheckUnused(const EntryPtr& entry) {
  DatasetInfo info;
  std::string user;
  {
    const MutexLock lock(&mu_);
    info = entry->info;
    if (!entry->users.empty()) user = *entry->users.begin();
  }
  if (user.empty()) {
    const std::string prefix(1, static_cast<char>(RunPart::kRun));
    absl::Status scanned = archive()->Scan(
        store::Table::kRuns, prefix, store::EndOfPrefix(prefix),
        [&](absl::string_view, absl::string_view value) {
          const auto run = DecodeRun(value, "");
          if (run.ok() && info.uid != 0 &&
              (run->training_dataset == info.uid || run->validation_dataset == info.uid)) {
            user = absl::StrCat("models/", run->model, "/runs/", run->number);
          }
          return user.empty();
        });
    if (!scanned.ok()) return scanned;
  }
  if (user.empty()) return absl::OkStatus();
  return ReasonError(absl::StatusCode::kFailedPrecondition,
                     absl::StrCat(info.name(), ": ", user, " uses it"),
                     {"DATASET_IN_USE", {{"dataset", info.name()}, {"user", user}}});
}

void Datasets::DoDelete(const EntryPtr& entry, const RequestKey& key,
                        absl::AnyInvocable<void(absl::Status)> done) {
  const absl::Status unused = CheckUnused(entry);
  store::Batch batch;
  {
    const MutexLock lock(&mu_);
    if (!unused.ok()) {
      entry->deleting = false;
    } else if (!key.id.empty()) {
      const absl::Time now = environment_->clock->Now();
      deletions_.Record(key, now, entry->info.uid);
      const uint64_t sequence = deletion_count_++;
      batch.Put(store::Table::kRequests,
                RegistryAnswerKey(RegistryAnswerKind::kDeleteDataset, 0,
                                  static_cast<uint16_t>(sequence % kRegistryRequestWindow)),
                EncodeRegistryAnswer({key, now, sequence, ""}));
    }
  }
  if (!unused.ok()) {
    Finish(entry);
    return done(unused);
  }
  Remove(entry, std::move(batch), [this, key, done = std::move(done)](absl::Status status) mutable {
    if (!status.ok() && !key.id.empty()) {
      const MutexLock lock(&mu_);
      deletions_.Drop(key.id);
    }
    done(std::move(status));
  });
}

// Deletes it, whatever it is; ends the change of the entry that is under way.
void Datasets::Remove(const EntryPtr& entry, store::Batch batch,
                      absl::AnyInvocable<void(absl::Status)> done) {
  DatasetInfo info;
  {
    const MutexLock lock(&mu_);
    info = entry->info;
    entry->deleting = true;
  }
  batch.Delete(store::Table::kDatasets, info.id);
  if (info.uid != 0) {
    batch.DeletePrefix(store::Table::kDatasetRows, session::KeyOf(info.uid));
  }
  archive()->Commit(
      std::move(batch), store::Durability::kSync, nullptr,
      [this, entry, info, done = std::move(done)](const absl::Status& status) mutable {
        {
          const MutexLock lock(&mu_);
          if (status.ok()) {
            entries_.erase(info.id);
          } else {
            entry->deleting = false;
            entry->doubtful = true;
          }
        }
        Finish(entry);
        done(status.ok() ? status : NotStored(info.name(), status));
      });
}

int64_t Datasets::ExpireUploads() {
  std::vector<EntryPtr> expired;
  {
    const MutexLock lock(&mu_);
    const absl::Time now = environment_->clock->Now();
    for (const auto& [id, entry] : entries_) {
      if (!entry->info.ready && !entry->busy && !entry->deleting && !entry->doubtful &&
          entry->last_append + kUploadAge <= now) {
        entry->busy = true;
        expired.push_back(entry);
      }
    }
  }
  for (const EntryPtr& entry : expired) Remove(entry, {}, [](const absl::Status&) {});
  return static_cast<int64_t>(expired.size());
}

}  // namespace backprop::session
