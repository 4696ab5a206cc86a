// Range checks for numbers in a spec. A number must also be valid after it is rounded to the
// model's precision.
#ifndef BACKPROP_SERVER_CODEC_NUMBER_RULES_H_
#define BACKPROP_SERVER_CODEC_NUMBER_RULES_H_

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/repeated_field.h"
#include "server/base/fields.h"
#include "server/engine/spec.h"

namespace backprop::codec {

// Each method adds a violation about `field` if `value` does not satisfy its rule. NaN satisfies no
// rule.
class NumberRules {
 public:
  NumberRules(engine::DataType type, base::Fields* fields) : type_(type), fields_(fields) {}

  void Positive(absl::string_view field, double value) const {
    const double rounded = Round(value);
    if (rounded > 0 && std::isfinite(rounded)) return;
    fields_->Add(field,
                 absl::StrCat("must be positive and finite in the model's precision, got ", value));
  }
  void NotNegative(absl::string_view field, double value) const {
    if (value >= 0 && std::isfinite(Round(value))) return;
    fields_->Add(
        field, absl::StrCat("must be at least 0 and finite in the model's precision, got ", value));
  }
  // In [0, 1).
  void Fraction(absl::string_view field, double value) const {
    if (value >= 0 && Round(value) < 1) return;
    fields_->Add(field, absl::StrCat("must be in [0, 1), got ", value));
  }
  // In (0, 1].
  void Factor(absl::string_view field, double value) const {
    if (Round(value) > 0 && value <= 1) return;
    fields_->Add(field, absl::StrCat("must be in (0, 1], got ", value));
  }
  // In (0, 1).
  void Inside(absl::string_view field, double value) const {
    if (Round(value) > 0 && Round(value) < 1) return;
    fields_->Add(field, absl::StrCat("must be in (0, 1), got ", value));
  }
  void Finite(absl::string_view field, double value) const {
    if (std::isfinite(Round(value))) return;
    fields_->Add(field, absl::StrCat("must be finite in the model's precision, got ", value));
  }
  void AtLeast(absl::string_view field, int64_t value, int64_t least) const {
    if (value >= least) return;
    fields_->Add(field, absl::StrCat("must be at least ", least, ", got ", value));
  }

 private:
  double Round(double value) const {
    return type_ == engine::DataType::kFloat32 ? static_cast<double>(static_cast<float>(value))
                                               : value;
  }

  engine::DataType type_;
  base::Fields* fields_;
};

// Decodes a list of `count` numbers, or an empty one, and calls `rule` for each number with its
// field path. Another length adds a violation and returns an empty list. `of` names what each
// number belongs to, such as "feature".
template <class Rule>
std::vector<double> DecodeList(const google::protobuf::RepeatedField<double>& values,
                               const std::string& field, int64_t count, const char* of,
                               base::Fields* fields, const Rule& rule) {
  if (!values.empty() && values.size() != count) {
    fields->Add(field, absl::StrCat("expected ", count, " numbers, one per ", of, ", or none, got ",
                                    values.size()));
    return {};
  }
  for (int i = 0; i < values.size(); ++i) rule(absl::StrCat(field, "[", i, "]"), values[i]);
  return {values.begin(), values.end()};
}

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_NUMBER_RULES_H_
