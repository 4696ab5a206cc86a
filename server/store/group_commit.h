// Many callers, one sync.
#ifndef BACKPROP_SERVER_STORE_GROUP_COMMIT_H_
#define BACKPROP_SERVER_STORE_GROUP_COMMIT_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "server/store/store.h"

namespace backprop::store {

// One thread takes whatever has been committed since its last write and writes it as one group; who
// commits meanwhile is in the next one, so nobody waits for a timer. A second thread calls `done`,
// so that answering callers and writing the next group overlap. Thread-safe.
class GroupCommit {
 public:
  // Writes batches as one; `sync` asks for the disk. Called by one thread at a time.
  using WriteGroup = std::function<absl::Status(const std::vector<const Batch*>&, bool sync)>;
  // Brings what was written without sync to disk; after a failure is called until it succeeds.
  using SyncAll = std::function<absl::Status()>;
  // Whether a batch may be written now. Called by the thread that writes.
  using Admit = std::function<absl::Status(const Batch&)>;

  GroupCommit(WriteGroup write, SyncAll sync, Admit admit = nullptr);
  // Writes and answers all that was committed.
  ~GroupCommit();

  void Commit(Batch batch, Durability durability, std::shared_ptr<Chain> chain, Store::Done done);

  // Something failed outside of a group: calls SyncAll until it succeeds.
  void Mend();

 private:
  struct Waiting {
    Batch batch;
    Durability durability;
    std::shared_ptr<Chain> chain;
    Store::Done done;
    absl::Status status;
  };

  std::chrono::milliseconds Interval() const;
  void Write();
  void WriteOne(std::vector<Waiting>* group);
  absl::Status WriteAdmitted(std::vector<Waiting>* group);
  void Answer();

  const WriteGroup write_;
  const SyncAll sync_;
  const Admit admit_;
  std::mutex mu_;
  std::condition_variable to_write_changed_;
  std::condition_variable to_answer_changed_;
  std::vector<Waiting> to_write_;   // under mu_
  std::vector<Waiting> to_answer_;  // under mu_
  bool stopping_ = false;           // under mu_
  bool mend_ = false;               // under mu_
  bool written_all_ = false;        // under mu_
  bool unsynced_ = false;           // of the writing thread, as is failing_
  bool failing_ = false;
  std::thread writer_;
  std::thread answerer_;
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_GROUP_COMMIT_H_
