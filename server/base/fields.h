// Collects the violations of a request, field by field.
#ifndef BACKPROP_SERVER_BASE_FIELDS_H_
#define BACKPROP_SERVER_BASE_FIELDS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace backprop::base {

// Thread-compatible.
class Fields {
 public:
  // Adds a violation: "spec.layers[0].units", "must be at least 1, got 0". The first 16 are kept;
  // the others are only counted.
  void Add(absl::string_view field, absl::string_view description) {
    if (violations_.size() < kMost) {
      violations_.push_back({std::string(field), std::string(description)});
    } else {
      ++left_out_;
    }
  }
  bool ok() const { return violations_.empty(); }
  // Returns OK, or INVALID_ARGUMENT with the violations that were added.
  absl::Status status() const {
    return ok() ? absl::OkStatus() : FieldErrors(violations_, left_out_);
  }

 private:
  static constexpr size_t kMost = 16;
  std::vector<FieldViolation> violations_;
  size_t left_out_ = 0;
};

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_FIELDS_H_
