#include "server/base/status.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/base/text.h"

namespace backprop::base {
namespace {

TEST(StatusTest, FieldViolationsKeepAnyBytes) {
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

// The maximum size of an error's trailers: the message, and in base64 message and violations.
size_t TrailerBytes(const absl::Status& status) {
  size_t details = status.message().size() + 100;
  for (const auto& violation : FieldViolationsOf(status)) {
    details += violation.field.size() + violation.description.size() + 12;
  }
  return HeaderBytes(status.message()) + details * 4 / 3;
}

TEST(StatusTest, ManyLongViolationsFitIntoTrailers) {
  std::string accents;
  for (int i = 0; i < 1000; ++i) accents += "é";
  for (const std::string& text : {std::string(2000, 'x'), accents, std::string(300, '%')}) {
    for (const size_t count : {1, 2, 16}) {
      const absl::Status status =
          FieldErrors(std::vector<FieldViolation>(count, {text, text}), /*left_out=*/100);
      EXPECT_LE(TrailerBytes(status), 7500U);
      EXPECT_EQ(ValidUtf8(status.message()), status.message());
      const auto violations = FieldViolationsOf(status);
      ASSERT_EQ(violations.size(), 2U) << "the first violation, and the number of the others";
      EXPECT_EQ(violations[1].field, "");
      EXPECT_EQ(violations[1].description,
                absl::StrCat(count - 1 + 100, " more violations are omitted"));
    }
    const absl::Status reason = ReasonError(absl::StatusCode::kAborted, text, {"R", {{"k", text}}});
    EXPECT_LE(HeaderBytes(reason.message()), kMaxErrorBytes);
    EXPECT_LE(HeaderBytes(ReasonOf(reason)->metadata.at("k")), kMaxMetadataBytes);
  }
  const absl::Status short_ones = FieldErrors(std::vector<FieldViolation>(16, {"a.b", "is bad"}));
  EXPECT_EQ(FieldViolationsOf(short_ones).size(), 16U);
  EXPECT_EQ(FieldErrors({{"a", "is bad"}}, 1).message(), "a: is bad; 1 more violation is omitted");
}

TEST(StatusTest, ReasonsCarryTheirMetadata) {
  const auto reason = ReasonOf(ReasonError(absl::StatusCode::kAborted, "m",
                                           {"RUN_UNDER_WAY", {{"run", "models/m/runs/3"}}}));
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "RUN_UNDER_WAY");
  EXPECT_EQ(reason->metadata.at("run"), "models/m/runs/3");
  const absl::Status bare = ReasonError(absl::StatusCode::kUnavailable, "m", {"R", {}});
  EXPECT_TRUE(FieldViolationsOf(bare).empty());
  EXPECT_EQ(ReasonOf(bare)->reason, "R");
}

}  // namespace
}  // namespace backprop::base
