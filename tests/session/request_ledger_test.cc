#include "server/session/request_ledger.h"

#include <gtest/gtest.h>

#include "server/base/status.h"

namespace backprop::session {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);

TEST(RequestLedgerTest, FindsWhatWasRecorded) {
  RequestLedger<int> ledger(2);
  ASSERT_EQ(*ledger.Find({"a", 1}, kStart), nullptr);
  ledger.Record({"a", 1}, kStart, 7);
  ASSERT_NE(*ledger.Find({"a", 1}, kStart), nullptr);
  EXPECT_EQ(**ledger.Find({"a", 1}, kStart), 7);
  ledger.Update("a", 8);
  EXPECT_EQ(**ledger.Find({"a", 1}, kStart), 8);
}

TEST(RequestLedgerTest, AnotherContentUnderTheSameIdIsRefused) {
  RequestLedger<int> ledger(2);
  ledger.Record({"a", 1}, kStart, 7);
  const auto found = ledger.Find({"a", 2}, kStart);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::FieldViolationsOf(found.status())[0].field, "request_id");
}

TEST(RequestLedgerTest, AnEmptyIdIsNeverRemembered) {
  RequestLedger<int> ledger(2);
  ledger.Record({"", 1}, kStart, 7);
  EXPECT_EQ(*ledger.Find({"", 1}, kStart), nullptr);
  EXPECT_EQ(ledger.size(), 0U);
}

TEST(RequestLedgerTest, ForgetsTheOldestBeyondItsCapacity) {
  RequestLedger<int> ledger(2);
  for (const char* id : {"a", "b", "c"}) ledger.Record({id, 1}, kStart, 7);
  EXPECT_EQ(*ledger.Find({"a", 1}, kStart), nullptr);
  EXPECT_NE(*ledger.Find({"b", 1}, kStart), nullptr);
  EXPECT_NE(*ledger.Find({"c", 1}, kStart), nullptr);
  EXPECT_EQ(ledger.size(), 2U);
}

TEST(RequestLedgerTest, ForgetsAtItsAge) {
  RequestLedger<int> ledger(2);
  ledger.Record({"a", 1}, kStart, 7);
  EXPECT_NE(*ledger.Find({"a", 1}, kStart + base::kRequestWindowAge - absl::Nanoseconds(1)),
            nullptr);
  EXPECT_EQ(*ledger.Find({"a", 1}, kStart + base::kRequestWindowAge), nullptr);
  EXPECT_EQ(ledger.size(), 0U);
}

}  // namespace
}  // namespace backprop::session
