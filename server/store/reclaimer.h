// Reclaims the disk space of deleted records on a separate thread.
#ifndef BACKPROP_SERVER_STORE_RECLAIMER_H_
#define BACKPROP_SERVER_STORE_RECLAIMER_H_

#include <atomic>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "server/base/mutex.h"
#include "server/store/store.h"

namespace backprop::store {

// A queue of prefixes to reclaim and the thread that works on it. The destructor cancels running
// work. Thread-safe.
class Reclaimer {
 public:
  // Reclaims the space of deleted records under `prefix` of a table, or, if `table` is null, of all
  // tables. May take long; must return soon after `cancelled` becomes true.
  using Work = std::function<void(const Table* table, const std::string& prefix,
                                  std::atomic<bool>* cancelled)>;

  explicit Reclaimer(Work work) : work_(std::move(work)), thread_([this] { Run(); }) {}
  ~Reclaimer() {
    {
      const base::MutexLock lock(&mu_);
      stop_ = true;
      cancelled_ = true;
    }
    changed_.NotifyAll();
    thread_.join();
  }

  // Queues a prefix. Does nothing if it is already queued.
  void Add(const Table* table, std::string prefix) {
    const base::MutexLock lock(&mu_);
    const size_t begun = working_ ? 1 : 0;
    for (size_t i = begun; i < queue_.size(); ++i) {
      if (queue_[i].first == table && queue_[i].second == prefix) return;
    }
    queue_.emplace_back(table, std::move(prefix));
    changed_.NotifyAll();
  }

  // While a Pause exists, no work is done. Interrupted work starts again afterwards. The
  // constructor blocks until running work has returned.
  class Pause {
   public:
    explicit Pause(Reclaimer* reclaimer) : reclaimer_(reclaimer) {
      const base::MutexLock lock(&reclaimer_->mu_);
      ++reclaimer_->pauses_;
      reclaimer_->cancelled_ = true;
      reclaimer_->changed_.Wait(&reclaimer_->mu_,
                                [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reclaimer_->mu_) {
                                  return !reclaimer_->working_;
                                });
    }
    ~Pause() {
      const base::MutexLock lock(&reclaimer_->mu_);
      --reclaimer_->pauses_;
      reclaimer_->cancelled_ = reclaimer_->stop_;
      reclaimer_->changed_.NotifyAll();
    }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Reclaimer* const reclaimer_;
  };

 private:
  void Run() {
    for (;;) {
      std::pair<const Table*, std::string> next;
      {
        const base::MutexLock lock(&mu_);
        changed_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
          return stop_ || (!queue_.empty() && pauses_ == 0);
        });
        if (stop_) return;
        working_ = true;
        next = queue_.front();
      }
      work_(next.first, next.second, &cancelled_);
      const base::MutexLock lock(&mu_);
      working_ = false;
      if (!cancelled_) queue_.pop_front();
      changed_.NotifyAll();
    }
  }

  const Work work_;
  base::Mutex mu_;
  base::CondVar changed_;
  std::deque<std::pair<const Table*, std::string>> queue_ ABSL_GUARDED_BY(mu_);
  int pauses_ ABSL_GUARDED_BY(mu_) = 0;
  bool working_ ABSL_GUARDED_BY(mu_) = false;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::atomic<bool> cancelled_{false};
  std::thread thread_;  // last: it uses the other members
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_RECLAIMER_H_
