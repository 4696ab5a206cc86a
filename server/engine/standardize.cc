#include "server/engine/standardize.h"

#include <cmath>
#include <limits>

namespace backprop::engine {
namespace {

double WeightOf(const Dataset& data, int64_t row) {
  return data.sample_weights.count() == 0 ? 1 : data.sample_weights.Get(row);
}

}  // namespace

std::shared_ptr<const Standardization> FitStandardization(const RowSet& rows) {
  const Dataset& data = rows.data();
  const auto d = static_cast<size_t>(data.inputs_per_row);
  auto fitted = std::make_shared<Standardization>();
  fitted->mean.assign(d, 0);
  fitted->std.assign(d, 0);
  double weight = 0;
  for (int64_t i = 0; i < rows.rows(); ++i) {
    const int64_t row = rows.At(i);
    const double s = WeightOf(data, row);
    weight += s;
    for (size_t j = 0; j < d; ++j) {
      fitted->mean[j] += s * data.inputs.Get(row * data.inputs_per_row + static_cast<int64_t>(j));
    }
  }
  for (double& mean : fitted->mean) mean /= weight;
  for (int64_t i = 0; i < rows.rows(); ++i) {
    const int64_t row = rows.At(i);
    const double s = WeightOf(data, row);
    for (size_t j = 0; j < d; ++j) {
      const double x = data.inputs.Get(row * data.inputs_per_row + static_cast<int64_t>(j));
      fitted->std[j] += s * (x - fitted->mean[j]) * (x - fitted->mean[j]);
    }
  }
  // The largest variance of n equal numbers that rounding can cause (scikit-learn's bound).
  const double n_epsilon =
      static_cast<double>(rows.rows()) * std::numeric_limits<double>::epsilon();
  for (size_t j = 0; j < d; ++j) {
    const double variance = fitted->std[j] / weight;
    if (!std::isfinite(fitted->mean[j]) || !std::isfinite(variance)) return nullptr;
    const double rounding = n_epsilon * fitted->mean[j];
    const bool constant = variance <= n_epsilon * variance + rounding * rounding;
    fitted->std[j] = constant ? 1 : std::sqrt(variance);
  }
  return fitted;
}

template <class T>
void ApplyStandardization(const Standardization& standardization, const T* x, int64_t n, T* out) {
  const size_t d = standardization.mean.size();
  const double* mean = standardization.mean.data();
  const double* std = standardization.std.data();
  for (int64_t i = 0; i < n; ++i, x += d, out += d) {
    for (size_t j = 0; j < d; ++j) {
      out[j] = static_cast<T>((static_cast<double>(x[j]) - mean[j]) / std[j]);
    }
  }
}

template void ApplyStandardization(const Standardization&, const float*, int64_t, float*);
template void ApplyStandardization(const Standardization&, const double*, int64_t, double*);

}  // namespace backprop::engine
