// All datasets of a server, by name: their uploads, who uses them, and their rows in memory.
#ifndef BACKPROP_SERVER_SESSION_DATASETS_H_
#define BACKPROP_SERVER_SESSION_DATASETS_H_

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
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/engine/spec.h"
#include "server/session/dataset_info.h"
#include "server/session/environment.h"
#include "server/session/model_info.h"
#include "server/session/request_window.h"
#include "server/session/rows_in_use.h"
#include "server/store/store.h"

namespace backprop::session {

// Knows what every dataset is; rows are in the store, and in memory, or in a file that is mapped,
// while somebody uses them. A thread of its own reads them. Thread-safe.
class Datasets {
 public:
  template <class T>
  using Callback = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  // `scratch_dir`: where large ones are mapped from; empty: all are read into memory.
  Datasets(Environment* environment, std::string scratch_dir);
  ~Datasets();

  // Finds out what the store holds. Called once, before everything else. Returns how many.
  absl::StatusOr<int64_t> Open();

  // Begins an upload, goes on with it, or finds it complete. ALREADY_EXISTS (DATASET_EXISTS) if the
  // name is taken, RESOURCE_EXHAUSTED.
  struct UploadArgs {
    std::string id;
    std::string request_id;
    engine::DataType data_type = engine::DataType::kFloat32;
    std::map<std::string, std::string> labels;
    std::vector<std::string> feature_names = {};
  };
  absl::StatusOr<DatasetInfo> BeginUpload(UploadArgs args);
  // Adds rows, which are number `first_row` and on; what has come already is skipped. `check` is
  // called first, in the upload's order, and may change the rows' classes and the class names.
  // Errors: those of `check`; FAILED_PRECONDITION (ROWS_MISSING); NOT_STORED. After an
  // INVALID_ARGUMENT nothing is left of the upload.
  struct AppendArgs {
    Uid uid = 0;
    int64_t first_row = 0;
    engine::Dataset rows;
    absl::AnyInvocable<absl::Status(const DatasetInfo&, engine::Dataset*,
                                    std::vector<std::string>* class_names)>
        check;
  };
  void Append(AppendArgs args, Callback<DatasetInfo> done);
  // Makes it READY if it has that many rows.
  void Complete(Uid uid, int64_t rows, Callback<DatasetInfo> done);

  bool empty() const {
    const base::MutexLock lock(&mu_);
    return entries_.empty();
  }
  absl::StatusOr<DatasetInfo> Get(absl::string_view id);
  // Those that are damaged are left out.
  std::vector<DatasetInfo> List(const std::string& after, size_t count);
  // Errors: NOT_FOUND; FAILED_PRECONDITION (DATASET_IN_USE) when the dataset is still in use after
  // kReleasePatience, which a run takes to end after its call was cancelled. While a deletion looks
  // for stored runs that use the dataset, new users get UNAVAILABLE.
  void Delete(absl::string_view id, const RequestKey& key,
              absl::AnyInvocable<void(absl::Status)> done);

  // Reads the rows, as a model takes them, for `user` (a model's name). `field` is named in errors.
  void Use(absl::string_view id, const ModelInfo& model, const engine::Network& network,
           const std::string& field, Callback<RowsInUse> done);
  // The same for a run that goes on.
  void UseAgain(Uid uid, const ModelInfo& model, const engine::Network& network,
                Callback<RowsInUse> done);

  // Deletes uploads that nobody has gone on with. Returns how many.
  int64_t ExpireUploads();

  // Ends reading: who waits for rows, now or later, gets UNAVAILABLE. Returns when all have got it.
  void Stop();

 private:
  // How rows were read: the precision, and what classes became.
  using Form = std::pair<engine::DataType, std::vector<int32_t>>;
  struct Entry {
    DatasetInfo info;
    absl::Time last_append;
    bool busy = false;      // a change is on its way to the store
    bool doubtful = false;  // the store refused a change, which it may hold after all
    bool deleting = false;  // whether it can be is being found out: nobody begins to use it
    bool removed = false;   // it is not in entries_ any more
    std::deque<absl::AnyInvocable<void()>> waiting;  // changes, until it is not busy
    std::multiset<std::string> users;
    std::map<Form, std::weak_ptr<const engine::Dataset>> read;
  };
  using EntryPtr = std::shared_ptr<Entry>;
  // Is refused when the dataset is in use at `deadline`.
  struct Deletion {
    EntryPtr entry;
    RequestKey key;
    std::chrono::steady_clock::time_point deadline;
    absl::AnyInvocable<void(absl::Status)> done;
  };
  class InUse;
  struct Reading {
    EntryPtr entry;
    DatasetInfo info;
    Form form;
    std::string user;
    Callback<RowsInUse> done;
  };

  EntryPtr Find(absl::string_view id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  EntryPtr FindByUid(Uid uid) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Runs `change` when no other change of the entry is under way; it ends with Finish.
  void Begin(const EntryPtr& entry, absl::AnyInvocable<void()> change);
  void Finish(const EntryPtr& entry);
  absl::Status Refresh(const EntryPtr& entry);
  void DoAppend(const EntryPtr& entry, AppendArgs args, Callback<DatasetInfo> done);
  void DoComplete(const EntryPtr& entry, int64_t rows, Callback<DatasetInfo> done);
  void Store(const EntryPtr& entry, DatasetInfo next, store::Batch batch,
             store::Durability durability, Callback<DatasetInfo> done);
  void DoDelete(const EntryPtr& entry, const RequestKey& key,
                absl::AnyInvocable<void(absl::Status)> done);
  void Remove(const EntryPtr& entry, store::Batch batch,
              absl::AnyInvocable<void(absl::Status)> done);
  absl::Status CheckUsers(const EntryPtr& entry);
  void BeginDelete(Deletion deletion);
  // Deletions whose dataset is not in use any more, or whose deadline has passed.
  std::vector<Deletion> TakeDueDeletions() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckStoredRuns(const EntryPtr& entry);
  // Why a use cannot begin. A run that goes on has not ceased to use it.
  enum class User { kNew, kGoesOn };
  absl::Status CheckUsable(const Entry& entry, User user) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Read(const EntryPtr& entry, const ModelInfo& model, const engine::Network& network,
            absl::string_view field, User user, Callback<RowsInUse> done);
  void ReadLoop();
  RowsInUse Hold(const EntryPtr& entry, std::shared_ptr<const engine::Dataset> rows,
                 const std::string& user) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  store::Store* archive() const { return environment_->archive; }

  Environment* const environment_;
  const std::string scratch_dir_;
  std::atomic<bool> stop_{false};
  mutable base::Mutex mu_;
  base::CondVar changed_;
  std::map<std::string, EntryPtr, std::less<>> entries_ ABSL_GUARDED_BY(mu_);
  RequestWindow<Uid> deletions_ ABSL_GUARDED_BY(mu_){base::kRegistryRequestWindow};
  uint64_t deletion_count_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<Reading> to_read_ ABSL_GUARDED_BY(mu_);
  std::vector<Deletion> deletions_in_wait_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::thread reader_;  // last
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_DATASETS_H_
