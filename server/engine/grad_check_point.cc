#include "server/engine/grad_check_point.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "server/engine/pass.h"
#include "server/engine/workspace.h"

namespace backprop::engine {
namespace {

// Computes the gradient of a network at `values`, which the backward pass must not change.
template <class T>
std::vector<double> Gradients(const Network& network, std::vector<T> values,
                              const Standardization* standardization, const BatchView& batch,
                              bool* values_changed) {
  const std::vector<T> before = values;
  const Model<T> model = {network, values.data(), standardization};
  Workspace workspace;
  workspace.Prepare(network, batch.rows, PassKind::kForwardBackward);
  ForwardBackward(model, batch, std::nullopt, &workspace);
  *values_changed = *values_changed || values != before;
  const T* g = workspace.gradients<T>();
  return {g, g + network.parameter_count()};
}

std::string Number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return text;
}

std::string Place(const TensorInfo& tensor, int64_t index) {
  const std::string unit = std::to_string(index % tensor.cols);
  return tensor.name + (tensor.is_bias
                            ? "[" + unit + "]"
                            : "[" + std::to_string(index / tensor.cols) + ", " + unit + "]");
}

// The largest power of two that is at most x.
double PowerOfTwo(double x) { return std::ldexp(1, std::ilogb(x)); }

// Whether a finite difference shows that g is correct within the tolerance.
bool Proves(double g, const Difference& numeric, double tolerance) {
  const double size = std::max(std::abs(g), std::abs(numeric.value));
  return std::abs(g - numeric.value) + numeric.error <= tolerance * size;
}

// The comparison of a tensor's entries with their finite differences.
struct Compared {
  bool failed = false;  // an entry is wrong
  double largest = 0;   // largest |numeric| of a proved entry
  double hidden = 0;    // largest bound of an unresolved entry
};

// Sets verdict and explanation. Requires that all other members of `check` are set.
void Conclude(const Compared& compared, double kernel_tolerance, TensorGradCheck* check) {
  const std::string& name = check->tensor.name;
  if (compared.failed) {
    check->verdict = Verdict::kFailed;
    check->explanation = Place(check->tensor, check->worst) + ": the gradient is " +
                         Number(check->worst_analytic) + ", the finite difference " +
                         Number(check->worst_numeric) + "; rounding explains at most " +
                         Number(check->worst_error_bound);
  } else if (!(check->kernel_max_relative_error <= kernel_tolerance)) {
    check->verdict = Verdict::kFailed;
    check->explanation = name +
                         ": the training kernels' gradient differs from the float64 one by " +
                         Number(check->kernel_max_bound_ratio) + " times what rounding explains";
  } else if (check->checked == 0) {
    check->verdict = Verdict::kInconclusive;
    check->explanation =
        name +
        ": every entry lies on a kink (an activation at z = 0, or an output of mean absolute error "
        "at its target), where there is no derivative; use other parameters (another initializer, "
        "or a step of training) or other rows";
  } else if (check->unresolved > 0) {
    check->verdict = Verdict::kInconclusive;
    check->explanation =
        name + ": the gradient of " + std::to_string(check->unresolved) + " of " +
        std::to_string(check->checked) + " entries is lost in rounding, which explains up to " +
        Number(compared.hidden) + " where the largest that is proved is " +
        Number(compared.largest) +
        ": the loss is at its minimum for these rows, or units are saturated; use other rows, "
        "smaller inputs, or the parameters of an earlier step";
  }
}

}  // namespace

Difference Differentiate(ExactPass* pass, const TensorInfo& tensor, size_t layer, int64_t index,
                         double tolerance) {
  constexpr double kReach = 1e-9;      // target for |Δz| of curved units
  constexpr double kFactor = 0x1p-10;  // ratio of successive steps
  constexpr int kTries = 16;
  Difference best;
  const double input = pass->LargestInput(tensor, layer, index);
  if (input == 0) return best;  // no row's loss depends on it
  best.error = std::numeric_limits<double>::infinity();
  best.set_aside = true;
  constexpr double kLargestStep = 0x1p+1000;
  double delta = PowerOfTwo(std::min(kReach / input, kLargestStep));
  for (int i = 0; i < kTries && std::isnormal(delta * input); ++i) {
    const Response half = pass->Move(tensor, layer, index, delta);
    // The wider difference (2δ) must not cross a kink either.
    if (!(half.room > 4)) {
      if (!(half.room > 0)) break;
      delta = PowerOfTwo(delta * half.room / 8);
      continue;
    }
    if (half.reach > 100 * kReach) {
      delta = PowerOfTwo(delta * kReach / half.reach);
      continue;
    }
    const Response whole = pass->Move(tensor, layer, index, 2 * delta);
    const double value = half.rise / (2 * delta);
    // The error is of order δ², so that the two differences differ by three times the error of the
    // finer one. If a second derivative jumps, it is of order δ and they differ by that error.
    // Loss of digits near the smallest number is less than kUnderflow, after any later
    // multiplication.
    constexpr double kUnderflow = 1e-200;
    const double error = 2 * std::abs(value - whole.rise / (4 * delta)) + half.noise / (2 * delta) +
                         (half.underflows || input < kUnderflow ? kUnderflow : 0);
    if (!(error < best.error)) break;
    best = {value, error, false};
    if (error <= 1e-3 * tolerance * std::abs(value)) break;
    delta *= kFactor;
  }
  return best;
}

GradCheckPoint::GradCheckPoint(const Network& own, const Network& exact, const Buffer& values,
                               std::shared_ptr<const Standardization> standardization,
                               const Dataset& own_batch, const Dataset& batch,
                               const GradCheckOptions& options,
                               const std::vector<std::vector<int64_t>>& entries)
    : options_(options), standardization_(std::move(standardization)), tensors_(exact.tensors()) {
  const int64_t P = exact.parameter_count();
  for (int64_t i = 0; i < P; ++i) parameters_.push_back(values.Get(i));
  const Standardization* scaler = standardization_.get();
  analytic_ = Gradients(exact, parameters_, scaler, batch.All(), &parameters_changed_);
  own_ = analytic_;
  const bool is_float = own.spec().data_type == DataType::kFloat32;
  if (is_float) {
    const float* numbers = values.as<float>().data();
    own_ = Gradients(own, std::vector<float>(numbers, numbers + P), scaler, own_batch.All(),
                     &parameters_changed_);
  }
  pass_ = std::make_unique<ExactPass>(exact, parameters_.data(), scaler, batch);
  bound_.emplace(exact, parameters_.data(), scaler, *pass_, DataType::kFloat64);
  if (is_float) {
    own_bound_.emplace(exact, parameters_.data(), scaler, *pass_, DataType::kFloat32);
  }
  for (const std::vector<int64_t>& chosen : entries) {
    entries_.emplace_back();
    for (const int64_t index : chosen) entries_.back().push_back({index, {}});
  }
}

int64_t GradCheckPoint::BytesNeeded(const Network& exact, int64_t rows) {
  return Workspace::BytesNeeded(exact, rows, PassKind::kForwardBackward) +
         ExactPass::BytesNeeded(exact, rows) +
         8 * 6 * exact.parameter_count();  // parameters, gradients and bounds
}

// Computes the exact pass for up to `rows` rows, then the bounds.
bool GradCheckPoint::Prepare(int64_t rows) {
  if (pass_->Advance(rows)) return true;
  for (; rows > 0 && bounded_ < pass_->rows(); --rows, ++bounded_) {
    bound_->AddRow(bounded_);
    if (own_bound_.has_value()) own_bound_->AddRow(bounded_);
  }
  return bounded_ < pass_->rows();
}

bool GradCheckPoint::Advance(int64_t entries) {
  if (!prepared_) {
    // A difference costs four passes over all rows.
    prepared_ = !Prepare(std::max<int64_t>(1, entries * 4));
    return true;
  }
  while (tensor_ < entries_.size()) {
    if (entry_ == entries_[tensor_].size()) {
      ++tensor_;
      entry_ = 0;
      continue;
    }
    if (entries-- == 0) return true;
    Entry& entry = entries_[tensor_][entry_++];
    // Each layer has two tensors.
    entry.numeric =
        Differentiate(pass_.get(), tensors_[tensor_], tensor_ / 2, entry.index, options_.tolerance);
  }
  return false;
}

// Compares the gradient of the training kernels with the float64 gradient.
void GradCheckPoint::CompareKernels(const std::vector<double>& analytic,
                                    const std::vector<double>& own, TensorGradCheck* check) const {
  const RoundingBound& own_bound = own_bound_.has_value() ? *own_bound_ : *bound_;
  for (int64_t i = 0; i < check->tensor.size(); ++i) {
    const auto at = static_cast<size_t>(check->tensor.offset + i);
    const double difference = std::abs(own[at] - analytic[at]);
    if (difference == 0) continue;
    const double bound = own_bound.gradient()[at] + bound_->gradient()[at];
    const double size = std::max(std::abs(own[at]), std::abs(analytic[at]));
    const double excess = difference <= bound ? 0 : (difference - bound) / size;
    // This form of the comparison keeps NaN.
    if (!(excess <= check->kernel_max_relative_error)) check->kernel_max_relative_error = excess;
    if (!(difference / bound <= check->kernel_max_bound_ratio)) {
      check->kernel_max_bound_ratio = difference / bound;
    }
  }
}

// The largest |numeric| of the entries of a tensor whose gradient is proved; 0: there is none.
double GradCheckPoint::LargestProved(size_t t, const std::vector<double>& analytic) const {
  double largest = 0;
  for (const auto& [index, numeric] : entries_[t]) {
    if (numeric.set_aside || std::abs(numeric.value) <= largest) continue;
    const double g = analytic[static_cast<size_t>(tensors_[t].offset + index)];
    if (Proves(g, numeric, options_.tolerance)) largest = std::abs(numeric.value);
  }
  return largest;
}

// Compares the gradient with the finite differences. Requires that the kernels were compared.
void GradCheckPoint::CompareDifferences(size_t t, const std::vector<double>& analytic,
                                        TensorGradCheck* check) const {
  const double tolerance = options_.tolerance;
  Compared compared;
  compared.largest = LargestProved(t, analytic);
  for (const auto& [index, numeric] : entries_[t]) {
    if (numeric.set_aside) {
      ++check->set_aside;
      continue;
    }
    ++check->checked;
    const auto at = static_cast<size_t>(check->tensor.offset + index);
    const double g = analytic[at];
    const double rounding = bound_->gradient()[at];
    const double bound = rounding + numeric.error;
    const double absolute = std::abs(g - numeric.value);
    const double size = std::max(std::abs(g), std::abs(numeric.value));
    const double relative = absolute == 0 ? 0 : absolute / size;
    // With this form of the comparison, NaN is wrong and is the worst entry.
    const bool wrong = !(absolute <= tolerance * size + bound);
    const bool proved = Proves(g, numeric, tolerance);
    const bool zero = g == 0 && absolute <= numeric.error;
    const bool negligible = absolute + numeric.error <= tolerance * compared.largest;
    if (!wrong && !proved && !zero && !negligible) {
      ++check->unresolved;
      compared.hidden = std::max(compared.hidden, bound);
    }
    if (!(absolute <= check->max_absolute_error)) check->max_absolute_error = absolute;
    const bool counts = wrong || (proved && !compared.failed);
    if (check->worst < 0 || (wrong && !compared.failed) ||
        (counts && !(relative <= check->max_relative_error))) {
      check->worst = index;
      check->worst_analytic = g;
      check->worst_numeric = numeric.value;
      check->worst_error_bound = bound;
      if (counts) check->max_relative_error = relative;
    }
    compared.failed = compared.failed || wrong;
  }
  Conclude(compared, options_.kernel_tolerance, check);
}

TensorGradCheck GradCheckPoint::Judge(size_t t, const Tamper& tamper) const {
  std::vector<double> analytic = analytic_;
  std::vector<double> own = own_;
  if (tamper != nullptr) {
    tamper(&analytic);
    tamper(&own);
  }
  TensorGradCheck check;
  check.tensor = tensors_[t];
  check.not_sampled = check.tensor.size() - static_cast<int64_t>(entries_[t].size());
  CompareKernels(analytic, own, &check);
  CompareDifferences(t, analytic, &check);
  const bool overflows = bound_->overflows() || (own_bound_.has_value() && own_bound_->overflows());
  if (!overflows) return check;
  check.verdict = Verdict::kInconclusive;
  check.explanation = check.tensor.name +
                      ": numbers of this pass come near the end of the range of " +
                      (bound_->overflows() ? "float64" : "float32") +
                      "; scale the inputs, the targets or the parameters down";
  return check;
}

}  // namespace backprop::engine
