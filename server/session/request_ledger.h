// Remembers responses for retries.
#ifndef BACKPROP_SERVER_SESSION_REQUEST_LEDGER_H_
#define BACKPROP_SERVER_SESSION_REQUEST_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/session/request_key.h"

namespace backprop::session {

// Remembers the responses of the last `capacity` requests, for at most kRequestWindowAge.
// Thread-compatible.
template <class Answer>
class RequestLedger {
 public:
  explicit RequestLedger(size_t capacity) : capacity_(capacity) {}

  // Returns the response of the request, nullptr if the request is new, or INVALID_ARGUMENT if its
  // id was used for another request. The pointer is valid until the next call of a method that is
  // not const.
  absl::StatusOr<const Answer*> Find(const RequestKey& key, absl::Time now) {
    if (key.id.empty()) return nullptr;
    Forget(now);
    const auto it = entries_.find(key.id);
    if (it == entries_.end()) return nullptr;
    if (it->second.fingerprint != key.fingerprint) {
      return base::FieldError("request_id", "was used for another request");
    }
    return &it->second.answer;
  }

  // Remembers the response of a request for which Find() returned nullptr. `bytes`: memory that the
  // response refers to, in addition to sizeof(Answer).
  void Record(const RequestKey& key, absl::Time now, Answer answer, int64_t bytes = 0) {
    if (key.id.empty()) return;
    if (order_.size() == capacity_) DropOldest();
    order_.push_back({key.id, now});
    entries_.insert_or_assign(key.id, Entry{key.fingerprint, bytes, std::move(answer)});
    bytes_ += bytes;
  }

  // Replaces a remembered response. Does nothing if it was forgotten.
  void Update(const std::string& id, Answer answer) {
    const auto it = entries_.find(id);
    if (it != entries_.end()) it->second.answer = std::move(answer);
  }

  // Forgets the request.
  void Drop(const std::string& id) {
    Erase(id);
    std::erase_if(order_, [&](const auto& entry) { return entry.first == id; });
  }

  size_t size() const { return entries_.size(); }
  // Approximate memory use in bytes.
  int64_t MemoryBytes() const {
    return static_cast<int64_t>(entries_.size()) * kEntryBytes + bytes_;
  }

 private:
  struct Entry {
    uint64_t fingerprint;
    int64_t bytes;
    Answer answer;
  };

  // An entry, its id in two places, and spare capacity of the containers.
  static constexpr int64_t kEntryBytes = 2 * int64_t{sizeof(Entry)} + 224;

  void Erase(const std::string& id) {
    const auto it = entries_.find(id);
    if (it == entries_.end()) return;
    bytes_ -= it->second.bytes;
    entries_.erase(it);
  }
  void DropOldest() {
    Erase(order_.front().first);
    order_.pop_front();
  }
  void Forget(absl::Time now) {
    while (!order_.empty() && order_.front().second + base::kRequestWindowAge <= now) DropOldest();
  }

  const size_t capacity_;
  int64_t bytes_ = 0;
  absl::flat_hash_map<std::string, Entry> entries_;
  std::deque<std::pair<std::string, absl::Time>> order_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_REQUEST_LEDGER_H_
