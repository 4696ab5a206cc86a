// Group commit: one sync for many callers.
#ifndef BACKPROP_SERVER_STORE_GROUP_COMMIT_H_
#define BACKPROP_SERVER_STORE_GROUP_COMMIT_H_

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "server/base/mutex.h"
#include "server/store/store.h"

namespace backprop::store {

// A writer thread takes all batches committed since its last write and writes them as one group;
// batches committed meanwhile form the next group, so that no caller waits for a timer. A second
// thread calls `done`, so that callbacks overlap with the next write. Thread-safe.
class GroupCommit {
 public:
  // Writes batches atomically and, if `sync`, syncs them to disk. Called by the writer thread only.
  using WriteGroup = std::function<absl::Status(const std::vector<const WriteBatch*>&, bool sync)>;
  // Syncs everything written without sync. After a failure it is called repeatedly until it
  // succeeds. Called by the writer thread only.
  using SyncAll = std::function<absl::Status()>;
  // Returns OK if the batch may be written now. Called by the writer thread only.
  using Admit = std::function<absl::Status(const WriteBatch&)>;

  // `stats` counts what is written; it must outlive the object. Null: nothing is counted.
  GroupCommit(WriteGroup write, SyncAll sync, Admit admit = nullptr, StoreStats* stats = nullptr);
  // Writes all committed batches and calls their `done`.
  ~GroupCommit();

  void Commit(WriteBatch batch, Durability durability, std::shared_ptr<Chain> chain,
              Store::Done done);

  // Reports a failure outside of a group: SyncAll is called until it succeeds.
  void Mend();

 private:
  struct Waiting {
    WriteBatch batch;
    Durability durability;
    std::shared_ptr<Chain> chain;
    Store::Done done;
    absl::Status status;
    std::chrono::steady_clock::time_point begin;
  };

  std::chrono::milliseconds Interval() const;
  void Write();
  void WriteOne(std::vector<Waiting>* group);
  absl::Status WriteAdmitted(std::vector<Waiting>* group);
  void Count(const std::vector<Waiting>& group);
  void Answer();

  const WriteGroup write_;
  const SyncAll sync_;
  const Admit admit_;
  StoreStats* const stats_;
  base::Mutex mu_;
  base::CondVar to_write_changed_;
  base::CondVar to_answer_changed_;
  std::vector<Waiting> to_write_ ABSL_GUARDED_BY(mu_);
  std::vector<Waiting> to_answer_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool mend_ ABSL_GUARDED_BY(mu_) = false;
  bool written_all_ ABSL_GUARDED_BY(mu_) = false;
  // Used by the writer thread only.
  bool unsynced_ = false;
  bool failing_ = false;
  std::thread writer_;
  std::thread answerer_;
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_GROUP_COMMIT_H_
