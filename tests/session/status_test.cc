#include "server/session/status.h"

#include <gtest/gtest.h>

namespace backprop::session {
namespace {

TEST(StatusTest, FieldsSurviveWhateverTheyHold) {
  const std::string odd("3:x,\x1f\0 ü", 10);
  const absl::Status status = FieldErrors({{"a.b", "expected 2, got 3"}, {odd, odd}, {"c", ""}});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const auto violations = FieldViolationsOf(status);
  ASSERT_EQ(violations.size(), 3U);
  EXPECT_EQ(violations[0].field, "a.b");
  EXPECT_EQ(violations[0].description, "expected 2, got 3");
  EXPECT_EQ(violations[1].field, odd);
  EXPECT_EQ(violations[1].description, odd);
  EXPECT_EQ(violations[2].description, "");
  EXPECT_EQ(FieldError("a.b", "bad").message(), "a.b: bad");
  EXPECT_FALSE(ReasonOf(status).has_value());
}

TEST(StatusTest, ReasonsCarryTheirMetadata) {
  const auto reason = ReasonOf(RunUnderWay("models/m/runs/3"));
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "RUN_UNDER_WAY");
  EXPECT_EQ(reason->metadata.at("run"), "models/m/runs/3");
  EXPECT_TRUE(FieldViolationsOf(ShuttingDown()).empty());
  EXPECT_EQ(ReasonOf(ShuttingDown())->reason, "SERVER_SHUTDOWN");
}

}  // namespace
}  // namespace backprop::session
