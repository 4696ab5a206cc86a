// Users of datasets, and the thread that reads rows for them.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/datasets/contents.h"
#include "server/datasets/datasets.h"
#include "server/datasets/errors.h"
#include "server/datasets/reader.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/records/keys.h"
#include "server/records/model_info.h"
#include "server/records/project.h"
#include "server/session/errors.h"

namespace backprop::datasets {
namespace {

// Interval at which a deletion checks whether its dataset is still in use.
constexpr absl::Duration kLookAgain = absl::Milliseconds(2);

}  // namespace

Datasets::Datasets(session::Environment* environment, std::string scratch_dir)
    : environment_(environment),
      scratch_dir_(std::move(scratch_dir)),
      reader_([this] { Work(); }) {}

Datasets::~Datasets() {
  Stop();
  {
    const base::MutexLock lock(&mu_);
    ended_ = true;
    changed_.NotifyAll();
  }
  reader_.join();
}

void Datasets::Stop() {
  const base::MutexLock lock(&mu_);
  stop_ = true;
  changed_.NotifyAll();
  changed_.Wait(
      &mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !reading_ && to_read_.empty(); });
}

void Datasets::Use(absl::string_view id, const records::ModelInfo& model,
                   const engine::Network& network, const std::string& field,
                   Callback<session::RowsInUse> done) {
  EntryPtr entry;
  {
    const base::MutexLock lock(&mu_);
    entry = Find(id);
  }
  if (entry == nullptr) return done(DatasetNotFound(records::DatasetName(id)));
  BeginUse(entry, model, network, field, User::kNew, std::move(done));
}

void Datasets::UseAgain(records::Uid uid, const records::ModelInfo& model,
                        const engine::Network& network, Callback<session::RowsInUse> done) {
  EntryPtr entry;
  {
    const base::MutexLock lock(&mu_);
    entry = FindByUid(uid);
  }
  if (entry == nullptr) return done(DatasetNotFound("the dataset of the run"));
  BeginUse(entry, model, network, "dataset", User::kResumed, std::move(done));
}

absl::Status Datasets::CheckUsable(const Entry& entry, User user) const {
  if (entry.removed) return DatasetNotFound(entry.info.name());
  if (!entry.deleting || user == User::kResumed) return absl::OkStatus();
  return base::ReasonError(absl::StatusCode::kUnavailable,
                           absl::StrCat(entry.info.name(), ": is being deleted"),
                           {"DATASET_BEING_DELETED", {{"dataset", entry.info.name()}}});
}

void Datasets::BeginUse(const EntryPtr& entry, const records::ModelInfo& model,
                        const engine::Network& network, absl::string_view field, User user,
                        Callback<session::RowsInUse> done) {
  const absl::Status fresh = Refresh(entry);
  if (!fresh.ok()) return done(fresh);
  Reading reading;
  {
    const base::MutexLock lock(&mu_);
    reading.info = entry->info;
  }
  if (!reading.info.ready) {
    return done(base::ReasonError(
        absl::StatusCode::kFailedPrecondition,
        absl::StrCat(field, ": ", reading.info.name(), ": the upload is not complete"),
        {"DATASET_UPLOADING", {{"dataset", reading.info.name()}}}));
  }
  auto classes = FitClasses(reading.info, network, model, field);
  if (!classes.ok()) return done(classes.status());
  reading.form = {network.spec().data_type, *std::move(classes)};
  reading.user = records::ModelName(model.id);
  absl::Status usable;
  session::RowsInUse in_use;
  {
    const base::MutexLock lock(&mu_);
    usable = CheckUsable(*entry, user);
    auto rows = usable.ok() ? entry->in_memory[reading.form].lock() : nullptr;
    if (rows != nullptr) {
      in_use = Hold(entry, std::move(rows), reading.user);
    } else if (usable.ok()) {
      entry->users.insert(reading.user);  // while the rows are read
      reading.entry = entry;
      reading.counted = entry->counted;
      reading.done = std::move(done);
      to_read_.push_back(std::move(reading));
      changed_.NotifyAll();
      return;
    }
  }
  if (!usable.ok()) return done(usable);
  done(std::move(in_use));
}

// Holds rows and their dataset's user; removes the user when the last reference is released.
class Datasets::InUse {
 public:
  InUse(Datasets* datasets, EntryPtr entry, std::string user,
        std::shared_ptr<const engine::Dataset> rows)
      : datasets_(datasets),
        entry_(std::move(entry)),
        user_(std::move(user)),
        rows_(std::move(rows)) {}
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;
  ~InUse() {
    rows_ = nullptr;  // may take long, so without the lock
    const base::MutexLock lock(&datasets_->mu_);
    entry_->users.extract(user_);
  }

 private:
  Datasets* const datasets_;
  const EntryPtr entry_;
  const std::string user_;
  std::shared_ptr<const engine::Dataset> rows_;
};

session::RowsInUse Datasets::Hold(const EntryPtr& entry,
                                  std::shared_ptr<const engine::Dataset> rows,
                                  const std::string& user) {
  entry->users.insert(user);
  const engine::Dataset* const view = rows.get();
  auto use = std::make_shared<InUse>(this, entry, user, std::move(rows));
  return {std::shared_ptr<const engine::Dataset>(std::move(use), view), entry->info.uid};
}

void Datasets::Work() {
  for (;;) {
    Reading reading;
    std::shared_ptr<const engine::Dataset> known;
    std::vector<Deletion> due;
    {
      const base::MutexLock lock(&mu_);
      // Also after Stop(): a call that is active then may still request rows, and gets an error.
      changed_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return ended_ || !to_read_.empty() || !deletions_in_wait_.empty();
      });
      due = TakeDueDeletions();
      if (due.empty() && to_read_.empty() && !deletions_in_wait_.empty()) {
        // Users and deadlines are checked again soon.
        changed_.WaitFor(&mu_, kLookAgain,
                         [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return ended_; });
        continue;
      }
      if (due.empty() && to_read_.empty()) return;
    }
    for (Deletion& deletion : due) BeginDelete(std::move(deletion));
    {
      const base::MutexLock lock(&mu_);
      if (to_read_.empty()) continue;
      reading_ = true;
      reading = std::move(to_read_.front());
      to_read_.pop_front();
      known = reading.entry->in_memory[reading.form].lock();
    }
    absl::StatusOr<std::shared_ptr<const engine::Dataset>> rows = known;
    if (stop_) {
      rows = session::ShuttingDown();
    } else if (known == nullptr) {
      ReadArgs args{archive(), scratch_dir_,          reading.form.first, reading.form.second,
                    &stop_,    &environment_->memory, reading.counted};
      rows = ReadDataset(reading.info, args);
    }
    absl::StatusOr<session::RowsInUse> in_use = session::RowsInUse();
    if (!rows.ok()) in_use = rows.status();
    {
      const base::MutexLock lock(&mu_);
      reading.entry->users.extract(reading.user);
      if (rows.ok()) {
        reading.entry->counted = true;
        std::erase_if(reading.entry->in_memory,
                      [](const auto& form) { return form.second.expired(); });
        reading.entry->in_memory[reading.form] = *rows;
        in_use = Hold(reading.entry, *std::move(rows), reading.user);
      }
    }
    reading.done(std::move(in_use));
    const base::MutexLock lock(&mu_);
    reading_ = false;
    changed_.NotifyAll();
  }
}

}  // namespace backprop::datasets
