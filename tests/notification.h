// An event that happens once and that other threads wait for.
#ifndef BACKPROP_TESTS_NOTIFICATION_H_
#define BACKPROP_TESTS_NOTIFICATION_H_

#include "server/base/mutex.h"

namespace backprop {

class Notification {
 public:
  void Notify() {
    const base::MutexLock lock(&mu_);
    happened_ = true;
    cv_.NotifyAll();  // under the lock, because a waiter may destroy this at once
  }
  void WaitForNotification() {
    const base::MutexLock lock(&mu_);
    cv_.Wait(&mu_, [this] { return happened_; });
  }
  bool HasBeenNotified() const {
    const base::MutexLock lock(&mu_);
    return happened_;
  }

 private:
  mutable base::Mutex mu_;
  base::CondVar cv_;
  bool happened_ = false;
};

}  // namespace backprop

#endif  // BACKPROP_TESTS_NOTIFICATION_H_
