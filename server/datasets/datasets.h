// All datasets of a server: uploads, users, and rows in memory.
#ifndef BACKPROP_SERVER_DATASETS_DATASETS_H_
#define BACKPROP_SERVER_DATASETS_DATASETS_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/counters.h"
#include "server/base/mutex.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/engine/spec.h"
#include "server/records/dataset_info.h"
#include "server/records/keys.h"
#include "server/records/model_info.h"
#include "server/records/request_key.h"
#include "server/session/environment.h"
#include "server/session/projects.h"
#include "server/session/request_ledger.h"
#include "server/session/row_source.h"
#include "server/session/rows_in_use.h"
#include "server/store/store.h"

namespace backprop::datasets {

// Holds the metadata of all datasets. Their rows are in the store and, while they are used, also in
// memory or in a mapped file. A separate thread reads them. Ids are those of records::ScopedId.
// Thread-safe.
class Datasets : public session::RowSource {
 public:
  template <class T>
  using Callback = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  // `scratch_dir`: where the mapped files of large datasets are created; empty: all rows are read
  // into memory. `environment` must outlive the object.
  Datasets(session::Environment* environment, std::string scratch_dir);
  ~Datasets() override;

  // Loads the metadata of all datasets from the store and returns their number. Must be called
  // before all other methods, and again after a backup was restored.
  absl::StatusOr<int64_t> Open();

  // Begins an upload. If the same upload exists already (the same request_id and contents), returns
  // its dataset, which may be incomplete or complete. Errors: ALREADY_EXISTS (DATASET_EXISTS) if
  // another dataset has the name; RESOURCE_EXHAUSTED; UNAVAILABLE.
  absl::StatusOr<records::DatasetInfo> BeginUpload(records::NewDataset args);
  // Appends rows. `first_row` is the number of the first of them; rows that the dataset already has
  // are skipped. `check` is called first, in the order of the upload, and may change the classes of
  // the rows and the class names. Errors: those of `check`; FAILED_PRECONDITION (ROWS_MISSING) if
  // rows before `first_row` are missing; RESOURCE_EXHAUSTED; NOT_FOUND; NOT_STORED. If `check`
  // returns INVALID_ARGUMENT, or the disk or the quota of stored bytes is full, an incomplete
  // upload is deleted.
  struct AppendArgs {
    records::Uid uid = 0;
    int64_t first_row = 0;
    engine::Dataset rows;
    absl::AnyInvocable<absl::Status(const records::DatasetInfo&, engine::Dataset*,
                                    std::vector<std::string>* class_names)>
        check;
  };
  void Append(AppendArgs args, Callback<records::DatasetInfo> done);
  // Completes the upload if the dataset has `rows` rows. Errors: INVALID_ARGUMENT;
  // FAILED_PRECONDITION (ROWS_MISSING); NOT_FOUND; NOT_STORED.
  void Complete(records::Uid uid, int64_t rows, Callback<records::DatasetInfo> done);

  bool empty() const {
    const base::MutexLock lock(&mu_);
    return entries_.empty();
  }
  // How many datasets there are, at some moment during the call.
  struct Counts {
    int64_t complete = 0;
    int64_t uploading = 0;
  };
  Counts counts() const;
  // What was added to datasets since the object was created.
  struct Stats {
    base::Counter rows;
    base::Counter bytes;  // of their records
  };
  const Stats& stats() const { return stats_; }
  absl::StatusOr<records::DatasetInfo> Get(absl::string_view id);
  // Up to `count` datasets with ids that begin with `prefix` (that of a project) and are greater
  // than `after`, by id, without damaged ones.
  std::vector<records::DatasetInfo> List(absl::string_view prefix, absl::string_view after,
                                         size_t count);
  // A retry gets the response of the first attempt, also while that is under way. Errors:
  // NOT_FOUND; FAILED_PRECONDITION (DATASET_IN_USE) if the dataset is still in use after
  // kReleasePatience, the time in which a run ends after its call was cancelled. While a deletion
  // searches for stored runs that use the dataset, new users get UNAVAILABLE.
  void Delete(absl::string_view id, const records::RequestKey& key,
              absl::AnyInvocable<void(absl::Status)> done);

  // Gets all rows in the form that a model takes: those in memory, or else from the store. The
  // model is a user of the dataset until the last reference to the result is released.
  //
  // `model`, `network` and `field` need to live only until Use returns. `done` is called exactly
  // once, before Use returns or later by the thread that reads rows. Errors: NOT_FOUND
  // (DATASET_NOT_FOUND); FAILED_PRECONDITION (DATASET_UPLOADING) and INVALID_ARGUMENT, which name
  // `field`, if the upload is not complete or the dataset does not fit the model; UNAVAILABLE
  // (DATASET_BEING_DELETED), or if the server stops; RESOURCE_EXHAUSTED; DATA_LOSS.
  void Use(absl::string_view id, const records::ModelInfo& model, const engine::Network& network,
           const std::string& field, Callback<session::RowsInUse> done);
  void UseAgain(records::Uid uid, const records::ModelInfo& model, const engine::Network& network,
                Callback<session::RowsInUse> done) override;

  // Deletes incomplete uploads without activity for base::kUploadAge (if the disk is full,
  // base::kUploadAgeWithoutRoom). Returns their number.
  int64_t ExpireUploads();

  // Stops reading: callers that wait for rows, now or later, get UNAVAILABLE. Returns when the
  // current ones have got it.
  void Stop();

 private:
  // How rows were converted: the precision, and the new number of each class.
  using Form = std::pair<engine::DataType, std::vector<int32_t>>;
  struct Entry {
    records::DatasetInfo info;
    absl::Time last_append;
    bool busy = false;      // a change is under way
    bool doubtful = false;  // `info` may differ from the store; Refresh reads it again
    bool deleting = false;  // a deletion is under way, so new users are rejected
    bool removed = false;   // no longer in entries_
    bool counted = false;   // its rows were uploaded or read by this process
    std::deque<absl::AnyInvocable<void()>> waiting;  // changes to run when not busy
    std::multiset<std::string> users;
    std::map<Form, std::weak_ptr<const engine::Dataset>> in_memory;  // or in a mapped file
  };
  using EntryPtr = std::shared_ptr<Entry>;
  // A deletion. It fails if the dataset is still in use at `deadline`.
  struct Deletion {
    EntryPtr entry;
    records::RequestKey key;
    std::chrono::steady_clock::time_point deadline;
    absl::AnyInvocable<void(absl::Status)> done;
  };
  class InUse;
  struct Reading {
    EntryPtr entry;
    records::DatasetInfo info;
    Form form;
    bool counted = false;  // as in Entry
    std::string user;
    Callback<session::RowsInUse> done;
  };

  EntryPtr Find(absl::string_view id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  EntryPtr FindByUid(records::Uid uid) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Runs `change` when no other change of the entry is under way. The change must end with
  // Finish().
  void Begin(const EntryPtr& entry, absl::AnyInvocable<void()> change);
  void Finish(const EntryPtr& entry);
  absl::Status Refresh(const EntryPtr& entry);
  absl::StatusOr<session::Project::Claim> AskForRoom(const records::DatasetInfo& info,
                                                     int64_t bytes);
  void DoAppend(const EntryPtr& entry, AppendArgs args, Callback<records::DatasetInfo> done);
  void RemoveUpload(const EntryPtr& entry, absl::Status why, Callback<records::DatasetInfo> done);
  void DoComplete(const EntryPtr& entry, int64_t rows, Callback<records::DatasetInfo> done);
  void Store(const EntryPtr& entry, records::DatasetInfo next, store::WriteBatch batch,
             store::Durability durability, Callback<records::DatasetInfo> done);
  void DoDelete(const EntryPtr& entry, const records::RequestKey& key,
                absl::AnyInvocable<void(absl::Status)> done);
  absl::StatusOr<bool> IsRepeatedDeletion(const records::RequestKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RespondToRepeatedDeletion(absl::string_view id, const records::RequestKey& key,
                                 absl::AnyInvocable<void(absl::Status)> done);
  void EndDeletionOfRemoved(Deletion deletion, const absl::Status& not_found);
  absl::Status RecordDeletion(const records::RequestKey& key, store::WriteBatch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Deletes the dataset, complete or not, and calls Finish(). `key`: of the request to delete it,
  // which is forgotten if the dataset cannot be deleted.
  void Remove(const EntryPtr& entry, const records::RequestKey& key, store::WriteBatch batch,
              absl::AnyInvocable<void(absl::Status)> done);
  absl::Status CheckUsers(const EntryPtr& entry);
  void BeginDelete(Deletion deletion);
  // Removes and returns deletions whose dataset is no longer in use or whose deadline has passed.
  std::vector<Deletion> TakeDueDeletions() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckStoredRuns(const EntryPtr& entry);
  // Returns OK or the reason why a use cannot begin. A run that resumes counts as a user all the
  // time.
  enum class User { kNew, kResumed };
  absl::Status CheckUsable(const Entry& entry, User user) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Calls `done` if the rows are in memory; otherwise makes the model a user and queues the
  // reading.
  void BeginUse(const EntryPtr& entry, const records::ModelInfo& model,
                const engine::Network& network, absl::string_view field, User user,
                Callback<session::RowsInUse> done);
  // Reads rows and ends deletions that wait for users, until the destructor is called.
  void Work();
  session::RowsInUse Hold(const EntryPtr& entry, std::shared_ptr<const engine::Dataset> rows,
                          const std::string& user) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  store::Store* archive() const { return environment_->archive; }

  session::Environment* const environment_;
  const std::string scratch_dir_;
  Stats stats_;
  std::atomic<bool> stop_{false};
  mutable base::Mutex mu_;
  base::CondVar changed_;
  std::map<std::string, EntryPtr, std::less<>> entries_ ABSL_GUARDED_BY(mu_);
  session::RegistryLedger<std::monostate> deletions_ ABSL_GUARDED_BY(mu_);
  std::deque<Reading> to_read_ ABSL_GUARDED_BY(mu_);
  std::vector<Deletion> deletions_in_wait_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::thread reader_;  // last, because it uses the other members
};

}  // namespace backprop::datasets

#endif  // BACKPROP_SERVER_DATASETS_DATASETS_H_
