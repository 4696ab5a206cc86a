#include "server/session/run_log.h"

#include <algorithm>
#include <utility>

#include "server/base/mutex.h"

namespace backprop::session {

std::vector<std::shared_ptr<RunListener>> RunLog::Listeners() {
  std::vector<std::shared_ptr<RunListener>> told;
  std::erase_if(listeners_, [&](const std::weak_ptr<RunListener>& weak) {
    auto listener = weak.lock();
    if (listener == nullptr) return true;
    told.push_back(std::move(listener));
    return false;
  });
  return told;
}

void RunLog::Append(records::RunEventBody body) {
  std::vector<std::shared_ptr<RunListener>> told;
  {
    const base::MutexLock lock(&mu_);
    ++count_;
    if (first_.size() < kKeptFirst) {
      first_.push_back(std::move(body));
    } else {
      if (newest_.size() == capacity_) newest_.pop_front();
      newest_.push_back(std::move(body));
    }
    told = Listeners();
  }
  for (const auto& listener : told) listener->OnRunEvent();
}

void RunLog::TellListeners() {
  std::vector<std::shared_ptr<RunListener>> told;
  {
    const base::MutexLock lock(&mu_);
    told = Listeners();
  }
  for (const auto& listener : told) listener->OnRunEvent();
}

std::optional<records::RunEvent> RunLog::Read(int64_t* next) const {
  const base::MutexLock lock(&mu_);
  const int64_t wanted = std::max<int64_t>(*next, 1);
  const auto first_count = static_cast<int64_t>(first_.size());
  const int64_t oldest_newest = count_ - static_cast<int64_t>(newest_.size()) + 1;
  if (wanted > count_) return std::nullopt;
  records::RunEvent event;
  if (wanted <= first_count) {
    event.sequence = wanted;
    event.body = first_[static_cast<size_t>(wanted - 1)];
  } else {
    event.sequence = std::max(wanted, oldest_newest);
    event.body = newest_[static_cast<size_t>(event.sequence - oldest_newest)];
  }
  event.dropped = event.sequence - wanted;
  *next = event.sequence + 1;
  return event;
}

void RunLog::Listen(std::weak_ptr<RunListener> listener) {
  const base::MutexLock lock(&mu_);
  listeners_.push_back(std::move(listener));
}

}  // namespace backprop::session
