#include "server/session/request_ledger.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "server/base/status.h"

namespace backprop::session {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);
const absl::Time kEnd = kStart + base::kRequestWindowAge;

using Ledger = RequestLedger<int, 2>;

// The remembered response of the request, or nothing.
template <class AnyLedger>
std::optional<int> Remembered(AnyLedger* ledger, const records::RequestKey& key,
                              absl::Time now = kStart) {
  const auto found = ledger->Find(key, now);
  if (!found.ok() || *found == nullptr) return std::nullopt;
  return (*found)->response;
}

TEST(RequestLedgerTest, FindsWhatWasRecorded) {
  Ledger ledger;
  ASSERT_EQ(*ledger.Find({"a", 1}, kStart), nullptr);
  EXPECT_EQ(ledger.Record({"a", 1}, kStart, 7), 0U);
  const auto found = ledger.Find({"a", 1}, kStart + absl::Seconds(1));
  ASSERT_NE(*found, nullptr);
  EXPECT_EQ((*found)->key.id, "a");
  EXPECT_EQ((*found)->time, kStart);
  EXPECT_EQ((*found)->sequence, 0U);
  EXPECT_EQ((*found)->response, 7);
}

TEST(RequestLedgerTest, AnUpdateReplacesTheResponseOfTheSameRequestOnly) {
  Ledger ledger;
  ledger.Record({"a", 1}, kStart, 7);
  ledger.Update({"a", 1}, 8);
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), 8);
  ledger.Update({"a", 2}, 9);
  ledger.Update({"b", 1}, 9);
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), 8);
  EXPECT_EQ(ledger.size(), 1U);
}

TEST(RequestLedgerTest, AnotherContentUnderTheSameIdIsRefused) {
  Ledger ledger;
  ledger.Record({"a", 1}, kStart, 7);
  const auto found = ledger.Find({"a", 2}, kStart);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::FieldViolationsOf(found.status())[0].field, "request_id");
}

TEST(RequestLedgerTest, ARequestWithoutAnIdIsNew) {
  Ledger ledger;
  EXPECT_EQ(*ledger.Find({"", 1}, kStart), nullptr);
  EXPECT_DEBUG_DEATH(ledger.Record({"", 1}, kStart, 7), "empty");
}

TEST(RequestLedgerTest, ARememberedRequestIsNotRecordedAgain) {
  Ledger ledger;
  ledger.Record({"a", 1}, kStart, 7);
  EXPECT_DEBUG_DEATH(ledger.Record({"a", 2}, kStart, 8), "contains");
  EXPECT_EQ(ledger.size(), 1U);
}

TEST(RequestLedgerTest, ForgetsTheOldestAfterItsCapacity) {
  Ledger ledger;
  for (const char* id : {"a", "b", "c"}) ledger.Record({id, 1}, kStart, 7);
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), std::nullopt);
  EXPECT_EQ(Remembered(&ledger, {"b", 1}), 7);
  EXPECT_EQ(Remembered(&ledger, {"c", 1}), 7);
  EXPECT_EQ(ledger.size(), 2U);
}

TEST(RequestLedgerTest, ForgetsAtItsAge) {
  Ledger ledger;
  ledger.Record({"a", 1}, kStart, 7);
  EXPECT_EQ(Remembered(&ledger, {"a", 1}, kEnd - absl::Nanoseconds(1)), 7);
  EXPECT_EQ(Remembered(&ledger, {"a", 1}, kEnd), std::nullopt);
  EXPECT_EQ(ledger.size(), 0U);
}

TEST(RequestLedgerTest, ForgetsAtItsAgeAlsoAfterTheClockWasSetBack) {
  Ledger ledger;
  ledger.Record({"later", 1}, kStart + absl::Seconds(1), 7);
  ledger.Record({"earlier", 1}, kStart, 8);
  EXPECT_EQ(Remembered(&ledger, {"earlier", 1}, kEnd), std::nullopt);
  EXPECT_EQ(Remembered(&ledger, {"later", 1}, kEnd), 7);
}

TEST(RequestLedgerTest, ADroppedRequestIsNewAndItsNumberIsNotUsedAgain) {
  Ledger ledger;
  EXPECT_EQ(ledger.Record({"a", 1}, kStart, 7), 0U);
  ledger.Drop({"a", 2});
  EXPECT_EQ(ledger.size(), 1U) << "another request with that id";
  ledger.Drop({"a", 1});
  EXPECT_EQ(*ledger.Find({"a", 2}, kStart), nullptr);
  EXPECT_EQ(ledger.Record({"a", 2}, kStart, 8), 1U);
  EXPECT_EQ(Remembered(&ledger, {"a", 2}), 8);
}

// The ring has one record in each place, so the ledger has too, also after one was dropped.
TEST(RequestLedgerTest, NeverRemembersWhatTheRingHasLost) {
  Ledger ledger;
  const uint64_t a = ledger.Record({"a", 1}, kStart, 7);
  ledger.Record({"b", 1}, kStart, 7);
  ledger.Drop({"b", 1});
  const uint64_t c = ledger.Record({"c", 1}, kStart, 8);
  EXPECT_EQ(Ledger::PlaceOf(a), Ledger::PlaceOf(c));
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), std::nullopt);
  EXPECT_EQ(Remembered(&ledger, {"c", 1}), 8);
}

TEST(RequestLedgerTest, PlacesAreBelowTheCapacity) {
  static_assert(std::is_same_v<RequestLedger<int, 256>::Place, uint8_t>);
  static_assert(std::is_same_v<RequestLedger<int, 257>::Place, uint16_t>);
  EXPECT_EQ((RequestLedger<int, 256>::PlaceOf(511)), 255);
  EXPECT_EQ((RequestLedger<int, 256>::PlaceOf(512)), 0);
  EXPECT_EQ((RequestLedger<int, 1024>::PlaceOf(2047)), 1023);
  EXPECT_EQ((RequestLedger<int, 1024>::PlaceOf(2048)), 0);
  Ledger ledger;
  for (const size_t places : {0, 1, 2, 2}) {
    EXPECT_EQ(ledger.places(), places);
    ledger.Record({std::to_string(ledger.next_sequence()), 1}, kStart, 7);
  }
}

TEST(RequestLedgerTest, ContinuesAfterTheLastRestoredNumber) {
  Ledger ledger;
  EXPECT_TRUE(ledger.Restore({{"a", 1}, kStart, 40, 7}));
  EXPECT_TRUE(ledger.Restore({{"b", 1}, kStart, 41, 8}));
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), 7);
  EXPECT_EQ(ledger.places(), 2U);
  EXPECT_EQ(ledger.Record({"c", 1}, kStart, 9), 42U);
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), std::nullopt);
  EXPECT_EQ(Remembered(&ledger, {"b", 1}), 8);
}

TEST(RequestLedgerTest, IgnoresStoredRecordsThatCannotBeItsOwn) {
  Ledger ledger;
  EXPECT_TRUE(ledger.Restore({{"a", 1}, kStart, 40, 7}));
  EXPECT_FALSE(ledger.Restore({{"b", 1}, kStart, 40, 8})) << "the number of another one";
  EXPECT_FALSE(ledger.Restore({{"b", 1}, kStart, 39, 8})) << "not in order";
  EXPECT_FALSE(ledger.Restore({{"", 1}, kStart, 41, 8})) << "no id";
  constexpr uint64_t kMost = uint64_t{1} << 62;
  EXPECT_FALSE(ledger.Restore({{"b", 1}, kStart, std::numeric_limits<uint64_t>::max() - 1, 8}));
  EXPECT_FALSE(ledger.Restore({{"b", 1}, kStart, kMost + 1, 8})) << "numbers could run out";
  EXPECT_EQ(ledger.size(), 1U);
  EXPECT_EQ(ledger.next_sequence(), 41U);
  EXPECT_TRUE(ledger.Restore({{"b", 1}, kStart, kMost, 8}));
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), std::nullopt) << "older than the last two";
  EXPECT_EQ(Remembered(&ledger, {"b", 1}), 8);
}

// An id may be used again when it was forgotten. The ring still holds the first record then.
TEST(RequestLedgerTest, OfTwoRestoredRecordsWithOneIdTheLaterCounts) {
  Ledger ledger;
  ledger.Restore({{"a", 1}, kStart, 0, 7, 100});
  ledger.Restore({{"a", 2}, kEnd, 1, 8, 10});
  EXPECT_EQ(Remembered(&ledger, {"a", 2}, kEnd), 8);
  EXPECT_EQ(ledger.size(), 1U);
  const int64_t one = ledger.MemoryBytes();
  ledger.Record({"b", 1}, kEnd, 9, 10);
  EXPECT_EQ(ledger.MemoryBytes(), 2 * one);
}

TEST(RequestLedgerTest, AClearedLedgerIsNew) {
  Ledger ledger;
  ledger.Record({"a", 1}, kStart, 7, 100);
  ledger.Clear();
  EXPECT_EQ(Remembered(&ledger, {"a", 1}), std::nullopt);
  EXPECT_EQ(ledger.MemoryBytes(), 0);
  EXPECT_EQ(ledger.Record({"a", 1}, kStart, 8), 0U);
}

// The plainest ledger: all requests ever recorded, in order, without those that were dropped; and
// beside it the ring, as a store holds it.
struct Naive {
  struct Request {
    records::RequestKey key;
    absl::Time time;
    uint64_t sequence;
    int response;
    int64_t bytes;
  };

  // The newest request with that id, if it is remembered.
  Request* Find(const std::string& id, absl::Time now) {
    for (auto it = requests.rbegin(); it != requests.rend(); ++it) {
      if (it->key.id == id) return IsRemembered(*it, now) ? &*it : nullptr;
    }
    return nullptr;
  }
  bool IsRemembered(const Request& request, absl::Time now) const {
    return next - request.sequence <= capacity && now < request.time + base::kRequestWindowAge;
  }
  void RemoveExpired(absl::Time now) {
    std::erase_if(requests,
                  [&](const Request& r) { return r.time + base::kRequestWindowAge <= now; });
  }
  void Record(const records::RequestKey& key, absl::Time now, int response, int64_t bytes,
              bool is_stored) {
    requests.push_back({key, now, next, response, bytes});
    if (is_stored) ring.insert_or_assign(next % capacity, requests.back());
    ++next;
    if (!is_stored) requests.pop_back();
  }
  // What a restart finds: the ring.
  void Restart() {
    requests.clear();
    std::map<uint64_t, Request> in_order;
    for (const auto& [place, request] : ring) in_order.emplace(request.sequence, request);
    for (const auto& [sequence, request] : in_order) {
      std::erase_if(requests, [&](const Request& r) { return r.key.id == request.key.id; });
      requests.push_back(request);
    }
    next = requests.empty() ? 0 : requests.back().sequence + 1;
  }

  uint64_t capacity;
  std::vector<Request> requests;
  std::map<uint64_t, Request> ring;
  uint64_t next = 0;
};

// A ledger and the plain one, which receive the same calls.
template <size_t kCapacity>
class Pair {
 public:
  void Check() {
    naive_.RemoveExpired(now_);
    size_t remembered = 0;
    int64_t bytes = 0;
    for (int i = 0; i < kIds; ++i) {
      const std::string id = std::to_string(i);
      const Naive::Request* expected = naive_.Find(id, now_);
      const auto found =
          ledger_->Find({id, expected == nullptr ? 0 : expected->key.fingerprint}, now_);
      RC_ASSERT(found.ok());
      RC_ASSERT((*found == nullptr) == (expected == nullptr));
      if (expected == nullptr) continue;
      RC_ASSERT((*found)->response == expected->response);
      RC_ASSERT((*found)->sequence == expected->sequence);
      RC_ASSERT((*found)->time == expected->time);
      RC_ASSERT(!ledger_->Find({id, expected->key.fingerprint + 1}, now_).ok());
      ++remembered;
      bytes += expected->bytes;
    }
    // The calls of Find() above have removed all that expired.
    RC_ASSERT(ledger_->size() == remembered);
    RC_ASSERT(ledger_->size() <= kCapacity);
    RC_ASSERT(ledger_->next_sequence() == naive_.next);
    RC_ASSERT(ledger_->places() == std::min<uint64_t>(naive_.next, kCapacity));
    RC_ASSERT(ledger_->MemoryBytes() == static_cast<int64_t>(remembered) * bytes_of_one_ + bytes);
    for (const auto& [place, request] : naive_.ring) {
      RC_ASSERT(Ledger::PlaceOf(request.sequence) == place);
    }
  }

  void Record(bool is_stored) {
    const records::RequestKey key = AnyKey();
    if (naive_.Find(key.id, now_) != nullptr) return;
    const auto response = *rc::gen::arbitrary<int>();
    const auto bytes = *rc::gen::inRange<int64_t>(0, 1000);
    RC_ASSERT(ledger_->Record(key, now_, response, bytes) == naive_.next);
    naive_.Record(key, now_, response, bytes, is_stored);
    if (!is_stored) ledger_->Drop(key);
  }

  void Update() {
    const records::RequestKey key = AnyKey();
    const auto response = *rc::gen::arbitrary<int>();
    ledger_->Find(key, now_).status().IgnoreError();  // removes it if it has expired
    ledger_->Update(key, response);
    Naive::Request* request = naive_.Find(key.id, now_);
    if (request == nullptr || request->key.fingerprint != key.fingerprint) return;
    request->response = response;
    naive_.ring.at(request->sequence % kCapacity).response = response;
  }

  // The clock may also be set back.
  void Wait() { now_ += base::kRequestWindowAge * *rc::gen::inRange(-2, 8) / 8; }

  void Restart() {
    std::vector<std::string> before;
    for (int i = 0; i < kIds; ++i) {
      if (naive_.Find(std::to_string(i), now_) != nullptr) before.push_back(std::to_string(i));
    }
    naive_.Restart();
    ledger_.emplace();
    for (const Naive::Request& request : naive_.requests) {
      RC_ASSERT(ledger_->Restore(
          {request.key, request.time, request.sequence, request.response, request.bytes}));
    }
    for (const std::string& id : before) RC_ASSERT(naive_.Find(id, now_) != nullptr);
  }

 private:
  using Ledger = RequestLedger<int, kCapacity>;
  static constexpr int kIds = 12;

  static records::RequestKey AnyKey() {
    return {std::to_string(*rc::gen::inRange(0, kIds)), *rc::gen::inRange<uint64_t>(1, 3)};
  }
  static int64_t BytesOfOne() {
    Ledger ledger;
    ledger.Record({"a", 1}, kStart, 7);
    return ledger.MemoryBytes();
  }

  const int64_t bytes_of_one_ = BytesOfOne();
  absl::Time now_ = kStart;
  std::optional<Ledger> ledger_{std::in_place};
  Naive naive_{kCapacity, {}, {}};
};

template <size_t kCapacity>
void CheckAgainstANaiveLedger() {
  Pair<kCapacity> pair;
  const auto calls = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 16));
  for (const int call : calls) {
    if (call < 9) {
      pair.Record(/*is_stored=*/true);
    } else if (call < 11) {
      pair.Record(/*is_stored=*/false);
    } else if (call < 13) {
      pair.Update();
    } else if (call < 15) {
      pair.Wait();
    } else {
      pair.Restart();
    }
    pair.Check();
  }
}

RC_GTEST_PROP(RequestLedgerProperty, OneResponse, ()) { CheckAgainstANaiveLedger<1>(); }
RC_GTEST_PROP(RequestLedgerProperty, FewResponses, ()) { CheckAgainstANaiveLedger<3>(); }
RC_GTEST_PROP(RequestLedgerProperty, MoreResponses, ()) { CheckAgainstANaiveLedger<8>(); }
RC_GTEST_PROP(RequestLedgerProperty, MoreResponsesThanIds, ()) { CheckAgainstANaiveLedger<256>(); }

}  // namespace
}  // namespace backprop::session
