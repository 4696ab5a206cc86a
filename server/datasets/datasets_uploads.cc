// Uploads of datasets: how they begin, get rows, are completed, and expire.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/datasets/contents.h"
#include "server/datasets/datasets.h"
#include "server/datasets/errors.h"
#include "server/engine/data.h"
#include "server/records/keys.h"
#include "server/records/project.h"
#include "server/records/row_records.h"
#include "server/records/tables.h"
#include "server/session/errors.h"
#include "server/session/projects.h"
#include "server/store/store.h"

namespace backprop::datasets {
namespace {

absl::Status RowsMissing(const records::DatasetInfo& info, absl::string_view field, int64_t got) {
  return base::ReasonError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(field, ": expected ", info.rows, ", the number of received rows, got ", got),
      {"ROWS_MISSING", {{"dataset", info.name()}, {"expected_row", absl::StrCat(info.rows)}}});
}

// The rows from row `skipped` to the end.
engine::Dataset Behind(const engine::Dataset& rows, int64_t skipped) {
  std::vector<int32_t> order;
  for (int64_t row = skipped; row < rows.rows; ++row) order.push_back(static_cast<int32_t>(row));
  engine::Dataset rest = engine::EmptyLike(rows, rows.rows - skipped);
  engine::Gather(rows, order, &rest);
  return rest;
}

// Adds the records of `rows` to `batch`, and counts the rows in `info`.
void AddRecords(const engine::Dataset& rows, records::DatasetInfo* info, store::WriteBatch* batch) {
  int64_t first = info->rows;
  for (records::Chunk& chunk : records::EncodeRows(rows)) {
    batch->Put(records::kDatasetRows, records::DatasetRowsKey(info->uid, first),
               std::move(chunk.record));
    first += chunk.rows;
  }
  if (info->rows == 0) {
    info->inputs_per_row = rows.inputs_per_row;
    info->targets_per_row = rows.targets_per_row;
    info->sample_weights = rows.sample_weights.count() > 0;
  }
  AddRows(rows, info);
}

}  // namespace

absl::StatusOr<records::DatasetInfo> Datasets::BeginUpload(records::NewDataset args) {
  EntryPtr entry;
  const absl::Status room = archive()->CheckRoom(0);
  {
    const base::MutexLock lock(&mu_);
    if (environment_->restoring) return session::Restoring();
    entry = Find(args.id);
    if (entry == nullptr && entries_.size() >= base::kMaxDatasets) {
      return base::LimitError(
          "header.dataset_id",
          absl::StrCat("the server already holds ", base::kMaxDatasets, " datasets, the limit"));
    }
    if (entry == nullptr && !room.ok()) return session::NoRoom(records::DatasetName(args.id), room);
    if (entry == nullptr) {
      entry = std::make_shared<Entry>();
      entry->counted = true;
      entry->info.id = args.id;
      entry->info.uid = records::DrawUid();
      entry->info.request_id = args.request_id;
      entry->info.labels = std::move(args.labels);
      entry->info.data_type = args.data_type;
      entry->info.feature_names = std::move(args.feature_names);
      entry->info.create_time = entry->last_append = environment_->clock->Now();
      entries_[args.id] = entry;
      return entry->info;  // it is stored with its first rows
    }
  }
  absl::Status fresh = Refresh(entry);
  if (absl::IsNotFound(fresh)) return BeginUpload(std::move(args));  // that upload is gone
  if (!fresh.ok()) return fresh;
  const base::MutexLock lock(&mu_);
  const bool same = entry->info.request_id == args.request_id &&
                    entry->info.data_type == args.data_type && entry->info.labels == args.labels &&
                    entry->info.feature_names == args.feature_names;
  if (same) {
    entry->last_append = environment_->clock->Now();
    return entry->info;
  }
  return base::ReasonError(
      absl::StatusCode::kAlreadyExists,
      absl::StrCat(
          entry->info.name(),
          ": already exists with a different request_id, data type, labels or feature names"),
      {"DATASET_EXISTS", {{"dataset", entry->info.name()}}});
}

void Datasets::Append(AppendArgs args, Callback<records::DatasetInfo> done) {
  EntryPtr entry;
  {
    const base::MutexLock lock(&mu_);
    entry = FindByUid(args.uid);
  }
  if (entry == nullptr) return done(DatasetNotFound("the dataset of this upload"));
  Begin(entry, [this, entry, args = std::move(args), done = std::move(done)]() mutable {
    DoAppend(entry, std::move(args), std::move(done));
  });
}

void Datasets::DoAppend(const EntryPtr& entry, AppendArgs args,
                        Callback<records::DatasetInfo> done) {
  const absl::Status fresh = Refresh(entry);
  records::DatasetInfo next;
  bool gone = false;
  {
    const base::MutexLock lock(&mu_);
    next = entry->info;
    gone = entry->removed;
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
    return RemoveUpload(entry, checked, std::move(done));
  }
  const int64_t skipped = next.rows - args.first_row;
  if (next.ready || skipped >= args.rows.rows) {
    Finish(entry);
    return done(next);
  }
  if (args.rows.rows - skipped > base::kMaxDatasetRows - next.rows) {
    return refuse(base::LimitError(
        "chunk.rows", absl::StrCat("the dataset would have more rows than the limit of ",
                                   base::kMaxDatasetRows)));
  }
  const engine::Dataset rows = skipped > 0 ? Behind(args.rows, skipped) : std::move(args.rows);
  store::WriteBatch batch;
  AddRecords(rows, &next, &batch);
  auto claimed = AskForRoom(next, static_cast<int64_t>(batch.bytes()));
  if (!claimed.ok()) return RemoveUpload(entry, claimed.status(), std::move(done));
  stats_.rows.Add(rows.rows);
  stats_.bytes.Add(static_cast<int64_t>(batch.bytes()));
  // Not synced, because Complete() syncs. A power failure before that may lose rows together with
  // the record that counts them.
  Store(entry, std::move(next), std::move(batch), store::Durability::kNone,
        [claimed = *std::move(claimed),
         done = std::move(done)](absl::StatusOr<records::DatasetInfo> info) mutable {
          claimed = {};  // the store has counted them
          done(std::move(info));
        });
}

// Whether there is room for `bytes` more bytes of rows, on the disk and in the project's quota. The
// claim is for the time until they are stored.
absl::StatusOr<session::Project::Claim> Datasets::AskForRoom(const records::DatasetInfo& info,
                                                             int64_t bytes) {
  const absl::Status room = archive()->CheckRoom(bytes);
  if (!room.ok()) return session::NoRoom(info.name(), room);
  return environment_->projects.Of(records::ProjectOf(info.id))
      ->Ask(session::Resource::kStoredBytes, bytes);
}

// Deletes an upload that is invalid or for which there is no room, so that it does not keep the
// space that it took. `done` gets `why`.
void Datasets::RemoveUpload(const EntryPtr& entry, absl::Status why,
                            Callback<records::DatasetInfo> done) {
  Remove(entry, {}, {},
         [why = std::move(why), done = std::move(done)](const absl::Status&) mutable {
           done(std::move(why));
         });
}

void Datasets::Complete(records::Uid uid, int64_t rows, Callback<records::DatasetInfo> done) {
  EntryPtr entry;
  {
    const base::MutexLock lock(&mu_);
    entry = FindByUid(uid);
  }
  if (entry == nullptr) return done(DatasetNotFound("the dataset of this upload"));
  Begin(entry, [this, entry, rows, done = std::move(done)]() mutable {
    DoComplete(entry, rows, std::move(done));
  });
}

void Datasets::DoComplete(const EntryPtr& entry, int64_t rows,
                          Callback<records::DatasetInfo> done) {
  absl::Status status = Refresh(entry);
  records::DatasetInfo next;
  {
    const base::MutexLock lock(&mu_);
    next = entry->info;
    if (entry->removed && status.ok()) status = DatasetNotFound(next.name());
  }
  if (status.ok() && (rows < 1 || rows < next.rows)) {
    status = base::FieldError(
        "commit.rows",
        absl::StrCat("expected ", next.rows, ", the number of received rows, got ", rows));
  } else if (status.ok() && rows > next.rows) {
    status = RowsMissing(next, "commit.rows", rows);
  } else if (status.ok() && !(next.weight_sum > 0)) {
    status = base::FieldError("chunk.rows.sample_weights", "must not all be 0");
  }
  if (!status.ok() || next.ready) {
    Finish(entry);
    if (!status.ok()) return done(status);
    return done(next);
  }
  next.ready = true;
  Store(entry, std::move(next), {}, store::Durability::kSync, std::move(done));
}

// Stores `next` as the record of the dataset, together with `batch`.
void Datasets::Store(const EntryPtr& entry, records::DatasetInfo next, store::WriteBatch batch,
                     store::Durability durability, Callback<records::DatasetInfo> done) {
  batch.Put(records::kDatasets, next.id, records::EncodeDataset(next));
  archive()->Commit(std::move(batch), durability, nullptr,
                    [this, entry, next = std::move(next),
                     done = std::move(done)](const absl::Status& status) mutable {
                      {
                        const base::MutexLock lock(&mu_);
                        entry->last_append = environment_->clock->Now();
                        if (status.ok()) {
                          entry->info = next;
                        } else {
                          entry->doubtful = true;
                        }
                      }
                      Finish(entry);
                      if (!status.ok()) return done(session::NotStored(next.name(), status));
                      done(std::move(next));
                    });
}

int64_t Datasets::ExpireUploads() {
  const absl::Duration age =
      archive()->CheckRoom(0).ok() ? base::kUploadAge : base::kUploadAgeWithoutRoom;
  std::vector<EntryPtr> doubtful;
  {
    const base::MutexLock lock(&mu_);
    for (const auto& [id, entry] : entries_) {
      if (entry->doubtful && !entry->busy && !entry->info.ready) doubtful.push_back(entry);
    }
  }
  // The store rejected a change of these uploads. Reads them again, if it works.
  for (const EntryPtr& entry : doubtful) Refresh(entry).IgnoreError();
  std::vector<EntryPtr> expired;
  {
    const base::MutexLock lock(&mu_);
    const absl::Time now = environment_->clock->Now();
    for (const auto& [id, entry] : entries_) {
      if (!entry->info.ready && !entry->busy && !entry->doubtful &&
          entry->last_append + age <= now) {
        entry->busy = true;
        expired.push_back(entry);
      }
    }
  }
  for (const EntryPtr& entry : expired) Remove(entry, {}, {}, [](const absl::Status&) {});
  return static_cast<int64_t>(expired.size());
}

}  // namespace backprop::datasets
