// Remembers the responses to recent requests, so that a retry gets the first response again.
#ifndef BACKPROP_SERVER_SESSION_REQUEST_LEDGER_H_
#define BACKPROP_SERVER_SESSION_REQUEST_LEDGER_H_

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <type_traits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/records/request_key.h"

namespace backprop::session {

// A ledger numbers the requests that it records. Their responses can also be stored, in a ring of
// `kCapacity` places: the record with number `sequence` goes to PlaceOf(sequence), where it
// replaces the record that is `kCapacity` older. Record() forgets the same one. A ledger therefore
// never remembers a response that the ring has lost, and remembers the same responses after a
// restart, when Restore() was called for each record of the ring.
//
//   lock
//   Find(key, now)                  a response: return it again
//   Record(key, now, response)      store it at PlaceOf() of the result, with the change it is for
//   unlock
//   Drop(key)                       if the store rejects the change
//
// If the lock is released between Find() and Record(), Find() must be called again: the same id may
// have been recorded by another call.
//
// A response is remembered until `kCapacity` later requests were recorded, until it is
// kRequestWindowAge old, or until Drop() or Clear(). These are asserted:
// - at most kCapacity responses are remembered, with the last kCapacity numbers;
// - a request that is remembered is not recorded again, with the same fingerprint or another;
// - numbers only grow, also over a restart (numbers from the store are checked, not asserted).
//
// Thread-compatible. Each method except Clear() takes amortised O(log kCapacity) time.
template <class Response, size_t kCapacity>
class RequestLedger {
 public:
  static_assert(kCapacity >= 1 && kCapacity <= size_t{1} << 16);
  using Place = std::conditional_t<(kCapacity <= size_t{1} << 8), uint8_t, uint16_t>;

  struct Entry {
    records::RequestKey key;
    absl::Time time;  // of Record()
    uint64_t sequence = 0;
    Response response;
    int64_t bytes = 0;  // memory that the response refers to, in addition to sizeof(Entry)
  };

  RequestLedger() = default;
  // Not copyable, because the index refers to the entries.
  RequestLedger(const RequestLedger&) = delete;
  RequestLedger& operator=(const RequestLedger&) = delete;

  // The place of a record in the ring.
  static constexpr Place PlaceOf(uint64_t sequence) {
    return static_cast<Place>(sequence % kCapacity);
  }

  // Returns the remembered response with its key, time and number; nullptr if the request is new or
  // has no id; or INVALID_ARGUMENT if its id was used for another request. The pointer is valid
  // until the next call of a method that is not const.
  absl::StatusOr<const Entry*> Find(const records::RequestKey& key, absl::Time now) {
    while (!entries_.empty() && Expired(entries_.begin()->second, now)) Erase(entries_.begin());
    if (key.id.empty()) return nullptr;
    const auto found = index_.find(key.id);
    if (found == index_.end()) return nullptr;
    const Entry& entry = found->second->second;
    if (Expired(entry, now)) {  // although an earlier one has not: the clock was set back
      Erase(found->second);
      return nullptr;
    }
    if (entry.key.fingerprint != key.fingerprint) {
      return base::FieldError("request_id", "was already used for a different request");
    }
    return &entry;
  }

  // Remembers the response of a request and returns its number. Preconditions: the request has an
  // id, and Find() has just returned nullptr for it.
  uint64_t Record(const records::RequestKey& key, absl::Time now, Response response,
                  int64_t bytes = 0) {
    assert(!key.id.empty());
    assert(!index_.contains(key.id));
    const uint64_t sequence = next_sequence_;
    Insert({key, now, sequence, std::move(response), bytes});
    return sequence;
  }

  // Remembers a response from the store. Responses must be restored in the order of their numbers,
  // into a new or cleared ledger. One without an id, or whose number is not greater than all
  // earlier ones or leaves too few for later ones, is ignored, because the contents of a store are
  // not trusted; then returns false.
  bool Restore(Entry entry) {
    if (entry.key.id.empty() || entry.sequence < next_sequence_ || entry.sequence > kMostSequence) {
      return false;
    }
    Insert(std::move(entry));
    return true;
  }

  // Replaces the response of a request. Does nothing if it is no longer remembered.
  void Update(const records::RequestKey& key, Response response) {
    const auto found = index_.find(key.id);
    if (found == index_.end() || found->second->second.key.fingerprint != key.fingerprint) return;
    found->second->second.response = std::move(response);
  }

  // Forgets a request whose change was not stored: a retry is a new request. Its number is not used
  // again.
  void Drop(const records::RequestKey& key) {
    const auto found = index_.find(key.id);
    if (found == index_.end() || found->second->second.key.fingerprint != key.fingerprint) return;
    Erase(found->second);
  }

  // Forgets everything, and numbers from 0 again.
  void Clear() {
    index_.clear();
    entries_.clear();
    bytes_ = 0;
    next_sequence_ = 0;
  }

  size_t size() const { return entries_.size(); }
  // Number of the next request.
  uint64_t next_sequence() const { return next_sequence_; }
  // Upper bound of the places of the ring that hold records: these are 0 … places() - 1.
  size_t places() const {
    return static_cast<size_t>(std::min<uint64_t>(next_sequence_, kCapacity));
  }
  // Approximate memory use in bytes.
  int64_t MemoryBytes() const {
    return static_cast<int64_t>(entries_.size()) * kEntryBytes + bytes_;
  }

 private:
  using Entries = std::map<uint64_t, Entry>;  // by number, so the oldest is the first

  static constexpr uint64_t kMostSequence = uint64_t{1} << 62;  // of a response from the store

  // An entry, its node, its slot in the index with the spare ones, and a long id.
  static constexpr int64_t kEntryBytes = int64_t{sizeof(Entry)} + 256;

  static bool Expired(const Entry& entry, absl::Time now) {
    return entry.time + base::kRequestWindowAge <= now;
  }

  // An entry from the store may have an id that was used again after it had expired.
  void Insert(Entry entry) {
    assert(entry.sequence >= next_sequence_);
    if (const auto same = index_.find(entry.key.id); same != index_.end()) Erase(same->second);
    next_sequence_ = entry.sequence + 1;
    while (!entries_.empty() && next_sequence_ - entries_.begin()->first > kCapacity) {
      Erase(entries_.begin());
    }
    bytes_ += entry.bytes;
    const auto inserted = entries_.emplace_hint(entries_.end(), entry.sequence, std::move(entry));
    index_.emplace(inserted->second.key.id, inserted);
    assert(entries_.size() <= kCapacity && index_.size() == entries_.size());
    assert(std::prev(entries_.end())->first + 1 == next_sequence_);
  }

  void Erase(typename Entries::iterator entry) {
    bytes_ -= entry->second.bytes;
    index_.erase(entry->second.key.id);
    entries_.erase(entry);
    assert(index_.size() == entries_.size() && bytes_ >= 0);
  }

  uint64_t next_sequence_ = 0;
  int64_t bytes_ = 0;
  Entries entries_;
  absl::flat_hash_map<absl::string_view, typename Entries::iterator> index_;  // by id
};

// A ledger of requests that create or delete whole resources, such as models.
template <class Response>
using RegistryLedger = RequestLedger<Response, base::kRegistryRequestWindow>;

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_REQUEST_LEDGER_H_
