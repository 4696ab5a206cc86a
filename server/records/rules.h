// Checks of the values in a stored record. Its checksum says that it is as it was written, not that
// this server wrote it: a backup can bring any record.
#ifndef BACKPROP_SERVER_RECORDS_RULES_H_
#define BACKPROP_SERVER_RECORDS_RULES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/limits.h"
#include "server/records/frame.h"

namespace backprop::records {

// A record has at most this many bytes, because protobuf reads no more.
inline constexpr int64_t kMostRecordBytes = (int64_t{1} << 31) - 1;
// Numbers in a row. With at most kMaxDatasetRows rows, no size of rows overflows.
inline constexpr int64_t kMostPerRow = int64_t{1} << 28;

// Keeps the first violation: "step: expected 0 to 9, got -1". NaN satisfies no rule.
// Thread-compatible.
class Rules {
 public:
  // `what`: what the record is of, such as models/{id}. Must outlive the object.
  explicit Rules(absl::string_view what) : what_(what) {}

  void Require(bool holds, absl::string_view field, absl::string_view expected,
               const absl::AlphaNum& got) {
    if (holds || !violation_.empty()) return;
    violation_ = absl::StrCat(field, ": expected ", expected, ", got ", got);
  }
  void Between(absl::string_view field, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return;
    Require(false, field, absl::StrCat(least, " to ", most), value);
  }
  // A count of steps or of what there is at most one of for each step.
  void Steps(absl::string_view field, int64_t value) { Between(field, value, 0, base::kMaxSteps); }
  void Equal(absl::string_view field, int64_t value, int64_t expected) {
    if (value != expected) Require(false, field, absl::StrCat(expected), value);
  }
  void NotNegative(absl::string_view field, double value) {
    Require(value >= 0, field, "a number from 0", value);
  }

  bool ok() const { return violation_.empty(); }
  // Returns OK, or DATA_LOSS (RECORD_DAMAGED) with the violation.
  absl::Status status() const { return ok() ? absl::OkStatus() : Damaged(what_, violation_); }

 private:
  const absl::string_view what_;
  std::string violation_;
};

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_RULES_H_
