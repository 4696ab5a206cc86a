#include "server/transfer/onnx_expression.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"

namespace backprop::transfer {
namespace {

using Kind = Expression::Kind;

// Constants in float32 differ from those in float64 by less.
constexpr double kTolerance = 1e-6;
constexpr int kMaxFactors = 8;
constexpr size_t kMaxTextBytes = 200;

bool Near(double a, double b) { return std::abs(a - b) <= kTolerance * std::abs(b); }

bool IsArgument(const Expression& e) { return e.kind == Kind::kArgument; }
bool Applies(const Expression& e, const char* op, size_t inputs) {
  return e.kind == Kind::kApply && e.op == op && e.inputs.size() == inputs;
}
// The value of a constant whose numbers are all equal.
std::optional<double> ScalarOf(const Expression& e) {
  if (e.kind != Kind::kConstant) return std::nullopt;
  for (const double number : e.constant) {
    if (number != e.constant[0]) return std::nullopt;
  }
  return e.constant[0];
}

// coefficient · factors[0] · factors[1] · …, where no factor is a constant, a product or a quotient
// by a constant.
struct Product {
  double coefficient = 1;
  std::vector<const Expression*> factors;
};

// Returns false if there are too many factors.
bool AddFactors(const Expression& e, int depth, Product* product) {
  if (depth > kMaxFactors || product->factors.size() > kMaxFactors) return false;
  if (const auto scalar = ScalarOf(e)) {
    product->coefficient *= *scalar;
    return true;
  }
  if (Applies(e, "Mul", 2)) {
    return AddFactors(*e.inputs[0], depth + 1, product) &&
           AddFactors(*e.inputs[1], depth + 1, product);
  }
  if (Applies(e, "Neg", 1)) {
    product->coefficient = -product->coefficient;
    return AddFactors(*e.inputs[0], depth + 1, product);
  }
  if (Applies(e, "Div", 2)) {
    if (const auto divisor = ScalarOf(*e.inputs[1])) {
      product->coefficient /= *divisor;
      return AddFactors(*e.inputs[0], depth + 1, product);
    }
  }
  product->factors.push_back(&e);
  return true;
}

std::optional<Product> ProductOf(const Expression& e) {
  Product product;
  if (!AddFactors(e, 0, &product)) return std::nullopt;
  return product;
}

// The c of c·x, where x is the argument.
std::optional<double> MultipleOf(const Expression& e) {
  const auto product = ProductOf(e);
  if (!product.has_value() || product->factors.size() != 1 || !IsArgument(*product->factors[0])) {
    return std::nullopt;
  }
  return product->coefficient;
}
bool IsMultiple(const Expression& e, double of) {
  const auto multiple = MultipleOf(e);
  return multiple.has_value() && Near(*multiple, of);
}

// If `e` is op(x, y) and one of them is the scalar `scalar`, returns the other.
const Expression* OtherThan(const Expression& e, const char* op, double scalar) {
  if (!Applies(e, op, 2)) return nullptr;
  for (const size_t i : {size_t{0}, size_t{1}}) {
    const auto found = ScalarOf(*e.inputs[i]);
    if (found.has_value() && *found == scalar) return e.inputs[1 - i];
  }
  return nullptr;
}
// The u of u + 1 and u − (−1), or of u − 1 and u + (−1).
const Expression* OnePlus(const Expression& e) {
  if (const Expression* u = OtherThan(e, "Add", 1)) return u;
  if (!Applies(e, "Sub", 2) || ScalarOf(*e.inputs[1]) != -1.0) return nullptr;
  return e.inputs[0];
}
const Expression* MinusOne(const Expression& e) {
  if (const Expression* u = OtherThan(e, "Add", -1)) return u;
  if (!Applies(e, "Sub", 2) || ScalarOf(*e.inputs[1]) != 1.0) return nullptr;
  return e.inputs[0];
}

// max(x, 0)
bool IsRelu(const Expression& e) {
  if (Applies(e, "Relu", 1)) return IsArgument(*e.inputs[0]);
  const Expression* other = OtherThan(e, "Max", 0);
  return other != nullptr && IsArgument(*other);
}

// log(1 + exp(c·x)) with c = 1, or log(1 + exp(−|x|)).
bool IsLogOfOnePlusExp(const Expression& e, bool of_minus_size) {
  const Expression* more = Applies(e, "Log", 1) ? OnePlus(*e.inputs[0]) : nullptr;
  if (more == nullptr || !Applies(*more, "Exp", 1)) return false;
  const Expression& power = *more->inputs[0];
  if (!of_minus_size) return IsArgument(power);
  const auto product = ProductOf(power);
  return product.has_value() && product->coefficient == -1 && product->factors.size() == 1 &&
         Applies(*product->factors[0], "Abs", 1) && IsArgument(*product->factors[0]->inputs[0]);
}

// exp(min(x, 0)) − 1
bool IsExpm1OfNegative(const Expression& e) {
  const Expression* exp = MinusOne(e);
  if (exp == nullptr || !Applies(*exp, "Exp", 1)) return false;
  const Expression* negative = OtherThan(*exp->inputs[0], "Min", 0);
  return negative != nullptr && IsArgument(*negative);
}

// z·sigmoid(z), and 0.5·z·(1 + erf(z/√2)) or the same with erfc.
std::optional<RecognizedActivation> RecognizeProduct(const Expression& e) {
  const auto product = ProductOf(e);
  if (!product.has_value()) return std::nullopt;
  const auto& factors = product->factors;
  if (factors.size() == 1 && IsArgument(*factors[0]) && product->coefficient == 1) {
    return RecognizedActivation{v1::ACTIVATION_IDENTITY, {}, {}};
  }
  if (factors.size() != 2) return std::nullopt;
  const bool first = IsArgument(*factors[0]);
  if (!first && !IsArgument(*factors[1])) return std::nullopt;
  const Expression& other = *factors[first ? 1 : 0];
  if (Applies(other, "Sigmoid", 1) && product->coefficient == 1 && IsArgument(*other.inputs[0])) {
    return RecognizedActivation{v1::ACTIVATION_SILU, {}, {}};
  }
  // 0.5·z·erfc(−z/√2)
  if (Applies(other, "Erfc", 1) && Near(product->coefficient, 0.5) &&
      IsMultiple(*other.inputs[0], -std::numbers::sqrt2 / 2)) {
    return RecognizedActivation{v1::ACTIVATION_GELU, {}, {}};
  }
  const Expression* erf = OnePlus(other);
  if (erf != nullptr && Applies(*erf, "Erf", 1) && Near(product->coefficient, 0.5) &&
      IsMultiple(*erf->inputs[0], std::numbers::sqrt2 / 2)) {
    return RecognizedActivation{v1::ACTIVATION_GELU, {}, {}};
  }
  return std::nullopt;
}

// Where(z > c, z, softplus(z)) with c ≥ 20, PyTorch's softplus: the difference is at most 2.1e-9.
bool IsSoftplusWithThreshold(const Expression& e) {
  constexpr double kThreshold = 20;
  if (!Applies(e, "Where", 3) || !IsArgument(*e.inputs[1])) return false;
  const Expression& condition = *e.inputs[0];
  const Expression& softplus = *e.inputs[2];
  if (!Applies(condition, "Greater", 2) || !IsArgument(*condition.inputs[0])) return false;
  const auto threshold = ScalarOf(*condition.inputs[1]);
  return threshold.has_value() && *threshold >= kThreshold && Applies(softplus, "Softplus", 1) &&
         IsArgument(*softplus.inputs[0]);
}

// Sums and maxima.
std::optional<RecognizedActivation> RecognizeComposed(const Expression& e) {
  if (IsLogOfOnePlusExp(e, false) || IsSoftplusWithThreshold(e)) {
    return RecognizedActivation{v1::ACTIVATION_SOFTPLUS, {}, {}};
  }
  if (e.inputs.size() != 2) return std::nullopt;
  for (const size_t i : {size_t{0}, size_t{1}}) {
    const Expression& one = *e.inputs[i];
    const Expression& other = *e.inputs[1 - i];
    if (e.op == "Max" && IsArgument(one)) {  // max(z, slope·z)
      const auto slope = MultipleOf(other);
      if (slope.has_value() && *slope >= 0 && *slope < 1) {
        return RecognizedActivation{v1::ACTIVATION_LEAKY_RELU, *slope, {}};
      }
    }
    if (e.op != "Add" || !IsRelu(one)) continue;
    if (IsLogOfOnePlusExp(other, true))
      return RecognizedActivation{v1::ACTIVATION_SOFTPLUS, {}, {}};
    const auto product = ProductOf(other);
    if (product.has_value() && product->coefficient > 0 && product->factors.size() == 1 &&
        IsExpm1OfNegative(*product->factors[0])) {
      return RecognizedActivation{v1::ACTIVATION_ELU, {}, product->coefficient};
    }
  }
  return std::nullopt;
}

// (x − shift) · scale for each column; computed in float64.
struct Affine {
  std::vector<double> mean;
  std::vector<double> std;
};

bool MakeAffine(const Expression& e, size_t columns, int depth, Affine* out) {
  if (IsArgument(e)) {
    out->mean.assign(columns, 0);
    out->std.assign(columns, 1);
    return true;
  }
  if (e.kind != Kind::kApply || e.inputs.size() != 2 || depth > kMaxFactors) return false;
  const bool sum = e.op == "Add";
  const bool difference = e.op == "Sub";
  const bool product = e.op == "Mul";
  if (!sum && !difference && !product && e.op != "Div") return false;
  const bool second = e.inputs[1]->kind == Kind::kConstant;
  if (!second && !((sum || product) && e.inputs[0]->kind == Kind::kConstant)) return false;
  const std::vector<double>& c = e.inputs[second ? 1 : 0]->constant;
  if (c.size() != 1 && c.size() != columns) return false;
  if (!MakeAffine(*e.inputs[second ? 0 : 1], columns, depth + 1, out)) return false;
  for (size_t j = 0; j < columns; ++j) {
    const double number = c[c.size() == 1 ? 0 : j];
    if (sum) out->mean[j] -= number * out->std[j];
    if (difference) out->mean[j] += number * out->std[j];
    if (product) out->std[j] /= number;
    if (!sum && !difference && !product) out->std[j] *= number;
    if (!std::isfinite(out->mean[j]) || !std::isfinite(out->std[j]) || out->std[j] <= 0) {
      return false;
    }
  }
  return true;
}

void AppendText(const Expression& e, std::string* text) {
  if (text->size() > kMaxTextBytes) return;
  if (IsArgument(e)) {
    absl::StrAppend(text, "x");
  } else if (e.kind == Kind::kConstant) {
    const auto scalar = ScalarOf(e);
    absl::StrAppend(text, scalar.has_value() ? absl::StrCat(*scalar) : "a vector");
  } else {
    absl::StrAppend(text, e.op, "(");
    for (size_t i = 0; i < e.inputs.size(); ++i) {
      if (i > 0) absl::StrAppend(text, ", ");
      AppendText(*e.inputs[i], text);
    }
    absl::StrAppend(text, ")");
  }
}

}  // namespace

std::optional<RecognizedActivation> RecognizeActivation(const Expression& e) {
  if (IsArgument(e)) return RecognizedActivation{};
  if (e.kind != Kind::kApply) return std::nullopt;
  if (IsRelu(e)) return RecognizedActivation{v1::ACTIVATION_RELU, {}, {}};
  if (e.inputs.size() == 1 && IsArgument(*e.inputs[0])) {
    if (e.op == "Tanh") return RecognizedActivation{v1::ACTIVATION_TANH, {}, {}};
    if (e.op == "Sigmoid") return RecognizedActivation{v1::ACTIVATION_SIGMOID, {}, {}};
    if (e.op == "Softplus") return RecognizedActivation{v1::ACTIVATION_SOFTPLUS, {}, {}};
    if (e.op == "Gelu") return RecognizedActivation{v1::ACTIVATION_GELU, {}, {}};
    if (e.op == "Swish") return RecognizedActivation{v1::ACTIVATION_SILU, {}, {}};
    if (e.op == "LeakyRelu")
      return RecognizedActivation{v1::ACTIVATION_LEAKY_RELU, e.parameter, {}};
    if (e.op == "Elu") return RecognizedActivation{v1::ACTIVATION_ELU, {}, e.parameter};
  }
  const auto product = RecognizeProduct(e);
  return product.has_value() ? product : RecognizeComposed(e);
}

std::optional<RecognizedStandardization> RecognizeStandardization(const Expression& e,
                                                                  size_t columns) {
  if (IsArgument(e)) return RecognizedStandardization{};
  Affine affine;
  if (!MakeAffine(e, columns, 0, &affine)) return std::nullopt;
  return RecognizedStandardization{std::move(affine.mean), std::move(affine.std)};
}

std::string ToText(const Expression& e) {
  std::string text;
  AppendText(e, &text);
  if (text.size() > kMaxTextBytes) {
    text.resize(kMaxTextBytes);
    text += "…";
  }
  return text;
}

}  // namespace backprop::transfer
