#include "server/session/request_window.h"

#include <gtest/gtest.h>

#include "server/base/status.h"

namespace backprop::session {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);

TEST(RequestWindowTest, FindsWhatWasRecorded) {
  RequestWindow<int> window(2);
  ASSERT_EQ(*window.Find({"a", 1}, kStart), nullptr);
  window.Record({"a", 1}, kStart, 7);
  ASSERT_NE(*window.Find({"a", 1}, kStart), nullptr);
  EXPECT_EQ(**window.Find({"a", 1}, kStart), 7);
  window.Update("a", 8);
  EXPECT_EQ(**window.Find({"a", 1}, kStart), 8);
}

TEST(RequestWindowTest, AnotherContentUnderTheSameIdIsRefused) {
  RequestWindow<int> window(2);
  window.Record({"a", 1}, kStart, 7);
  const auto found = window.Find({"a", 2}, kStart);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::FieldViolationsOf(found.status())[0].field, "request_id");
}

TEST(RequestWindowTest, AnEmptyIdIsNeverRemembered) {
  RequestWindow<int> window(2);
  window.Record({"", 1}, kStart, 7);
  EXPECT_EQ(*window.Find({"", 1}, kStart), nullptr);
  EXPECT_EQ(window.size(), 0U);
}

TEST(RequestWindowTest, ForgetsTheOldestBeyondItsCapacity) {
  RequestWindow<int> window(2);
  for (const char* id : {"a", "b", "c"}) window.Record({id, 1}, kStart, 7);
  EXPECT_EQ(*window.Find({"a", 1}, kStart), nullptr);
  EXPECT_NE(*window.Find({"b", 1}, kStart), nullptr);
  EXPECT_NE(*window.Find({"c", 1}, kStart), nullptr);
  EXPECT_EQ(window.size(), 2U);
}

TEST(RequestWindowTest, ForgetsAtItsAge) {
  RequestWindow<int> window(2);
  window.Record({"a", 1}, kStart, 7);
  EXPECT_NE(*window.Find({"a", 1}, kStart + base::kRequestWindowAge - absl::Nanoseconds(1)),
            nullptr);
  EXPECT_EQ(*window.Find({"a", 1}, kStart + base::kRequestWindowAge), nullptr);
  EXPECT_EQ(window.size(), 0U);
}

}  // namespace
}  // namespace backprop::session
