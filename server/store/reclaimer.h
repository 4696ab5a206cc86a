// Reclaims the disk space of deleted records on a separate thread.
#ifndef BACKPROP_SERVER_STORE_RECLAIMER_H_
#define BACKPROP_SERVER_STORE_RECLAIMER_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "server/store/store.h"

namespace backprop::store {

// A queue of prefixes to reclaim and the thread that works on it. The destructor cancels running
// work. Thread-safe.
class Reclaimer {
 public:
  // Reclaims the space of deleted records under `prefix` of a table, or, if `table` is null, of all
  // tables. May take long; must return soon after
  // `cancelled` becomes true.
  using Work = std::function<void(const Table* table, const std::string& prefix,
                                  std::atomic<bool>* cancelled)>;

  explicit Reclaimer(Work work) : work_(std::move(work)), thread_([this] { Run(); }) {}
  ~Reclaimer() {
    {
      const std::lock_guard lock(mu_);
      stop_ = true;
      cancelled_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // Queues a prefix. Does nothing if it is already queued.
  void Add(const Table* table, std::string prefix) {
    const std::lock_guard lock(mu_);
    const size_t begun = working_ ? 1 : 0;
    for (size_t i = begun; i < queue_.size(); ++i) {
      if (queue_[i].first == table && queue_[i].second == prefix) return;
    }
    queue_.emplace_back(table, std::move(prefix));
    changed_.notify_all();
  }

  // While a Pause exists, no work is done. Interrupted work starts again afterwards. The
  // constructor blocks until running work has returned.
  class Pause {
   public:
    explicit Pause(Reclaimer* reclaimer) : reclaimer_(reclaimer) {
      std::unique_lock lock(reclaimer_->mu_);
      ++reclaimer_->pauses_;
      reclaimer_->cancelled_ = true;
      reclaimer_->changed_.wait(lock, [this] { return !reclaimer_->working_; });
    }
    ~Pause() {
      const std::lock_guard lock(reclaimer_->mu_);
      --reclaimer_->pauses_;
      reclaimer_->cancelled_ = reclaimer_->stop_;
      reclaimer_->changed_.notify_all();
    }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Reclaimer* const reclaimer_;
  };

 private:
  void Run() {
    std::unique_lock lock(mu_);
    for (;;) {
      changed_.wait(lock, [this] { return stop_ || (!queue_.empty() && pauses_ == 0); });
      if (stop_) return;
      working_ = true;
      const auto [table, prefix] = queue_.front();
      lock.unlock();
      work_(table, prefix, &cancelled_);
      lock.lock();
      working_ = false;
      if (!cancelled_) queue_.pop_front();
      changed_.notify_all();
    }
  }

  const Work work_;
  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::pair<const Table*, std::string>>
      queue_;  // this and the following members are guarded by mu_
  int pauses_ = 0;
  bool working_ = false;
  bool stop_ = false;
  std::atomic<bool> cancelled_{false};
  std::thread thread_;  // last: it uses the other members
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_RECLAIMER_H_
