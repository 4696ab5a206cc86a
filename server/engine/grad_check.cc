#include "server/engine/grad_check.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "server/engine/activation.h"
#include "server/engine/pass.h"
#include "server/engine/random.h"

namespace backprop::engine {
namespace {

Network InFloat64(const Network& network) {
  NetworkSpec spec = network.spec();
  spec.data_type = DataType::kFloat64;
  return Network(spec);
}

// For every activation with a kink, whether z > 0: unit by unit, row by row.
template <class T>
void Sides(const Network& network, int64_t rows, Workspace* workspace, std::vector<bool>* sides) {
  sides->clear();
  for (size_t l = 0; l < network.layers().size(); ++l) {
    if (!HasKink(network.layers()[l].activation)) continue;
    const T* z = workspace->z<T>(l);
    for (int64_t i = 0; i < rows * network.layers()[l].units; ++i) sides->push_back(z[i] > 0);
  }
}

template <class T>
std::vector<double> Gradients(const Network& network, const T* parameters, const BatchView& batch,
                              Workspace* workspace) {
  workspace->Prepare(network, batch.rows, PassKind::kForwardBackward);
  ForwardBackward<T>(network, parameters, batch, workspace);
  const T* g = workspace->gradients<T>();
  return {g, g + network.parameter_count()};
}

template <class T>
std::vector<bool> SidesOf(const Network& network, const T* parameters, const BatchView& batch,
                          Workspace* workspace) {
  workspace->Prepare(network, batch.rows, PassKind::kForward);
  Forward<T>(network, parameters, batch, workspace);
  std::vector<bool> sides;
  Sides<T>(network, batch.rows, workspace, &sides);
  return sides;
}

// Rows for which both precisions put every activation on the same side of its kink.
std::vector<int32_t> AgreeingRows(const Network& network, int64_t rows, const std::vector<bool>& a,
                                  const std::vector<bool>& b) {
  std::vector<int32_t> agreeing;
  for (int64_t row = 0; row < rows; ++row) {
    bool same = true;
    int64_t base = 0;
    for (const LayerPlan& layer : network.layers()) {
      if (!HasKink(layer.activation)) continue;
      for (int64_t j = 0; j < layer.units; ++j) {
        const auto at = static_cast<size_t>(base + row * layer.units + j);
        same = same && a[at] == b[at];
      }
      base += rows * layer.units;
    }
    if (same) agreeing.push_back(static_cast<int32_t>(row));
  }
  return agreeing;
}

}  // namespace

GradChecker::GradChecker(const Network& network, const State& state, const Dataset& batch,
                         const GradCheckOptions& options)
    : options_(options), network_(InFloat64(network)), batch_(batch.ConvertTo(DataType::kFloat64)) {
  for (int64_t i = 0; i < network.parameter_count(); ++i) {
    parameters_.push_back(state.values.Get(i));
  }
  for (const TensorInfo& tensor : network_.tensors()) {
    report_.tensors.emplace_back();
    report_.tensors.back().tensor = tensor;
  }
  CompareKernels(network, state, batch);
  ComputeAnalytic();
  ChooseEntries();
}

void GradChecker::ComputeAnalytic() {
  analytic_ = Gradients<double>(network_, parameters_.data(), batch_.All(), &workspace_);
  const LossResult loss =
      ForwardLoss<double>(network_, parameters_.data(), batch_.All(), &workspace_);
  report_.loss = loss.sum / static_cast<double>(batch_.rows);
  report_.floor = 1e-4 * std::max(1.0, std::abs(report_.loss));
}

// The gradient of the kernels that train the model against the float64 one, on the rows where
// rounding moved no activation across its kink.
void GradChecker::CompareKernels(const Network& network, const State& state, const Dataset& batch) {
  const bool is_float = network.spec().data_type == DataType::kFloat32;
  const auto own_sides =
      is_float ? SidesOf(network, state.values.as<float>().data(), batch.All(), &workspace_)
               : SidesOf(network, state.values.as<double>().data(), batch.All(), &workspace_);
  const auto sides = SidesOf(network_, parameters_.data(), batch_.All(), &workspace_);
  const std::vector<int32_t> rows = AgreeingRows(network, batch.rows, own_sides, sides);
  report_.kernel_rows_set_aside = batch.rows - static_cast<int64_t>(rows.size());
  if (rows.empty()) return;

  Dataset own_rows = EmptyLike(batch, static_cast<int64_t>(rows.size()));
  Gather(batch, rows, &own_rows);
  const Dataset exact_rows = own_rows.ConvertTo(DataType::kFloat64);
  const auto own =
      is_float ? Gradients(network, state.values.as<float>().data(), own_rows.All(), &workspace_)
               : Gradients(network, state.values.as<double>().data(), own_rows.All(), &workspace_);
  const auto exact = Gradients<double>(network_, parameters_.data(), exact_rows.All(), &workspace_);
  const double loss =
      ForwardLoss<double>(network_, parameters_.data(), exact_rows.All(), &workspace_).sum /
      static_cast<double>(rows.size());
  // float32 rounds a gradient that almost cancels to about 1e-7 of the terms it is a sum of; these
  // are about as large as the loss, hence the same floor as for the differences.
  const double floor = 1e-4 * std::max(1.0, std::abs(loss));
  for (TensorGradCheck& check : report_.tensors) {
    double largest = floor;
    double difference = 0;
    for (int64_t i = 0; i < check.tensor.size(); ++i) {
      const auto at = static_cast<size_t>(check.tensor.offset + i);
      largest = std::max(largest, std::abs(exact[at]));
      // Written so that NaN is kept.
      if (!(std::abs(own[at] - exact[at]) <= difference))
        difference = std::abs(own[at] - exact[at]);
    }
    check.kernel_max_relative_error = difference / largest;
  }
}

void GradChecker::ChooseEntries() {
  for (size_t t = 0; t < report_.tensors.size(); ++t) {
    TensorGradCheck& check = report_.tensors[t];
    const int64_t size = check.tensor.size();
    const int64_t count = std::min(size, options_.max_entries_per_tensor);
    std::vector<int64_t> chosen(static_cast<size_t>(size));
    std::iota(chosen.begin(), chosen.end(), 0);
    if (count < size) {
      // The first `count` places of a Fisher–Yates shuffle, then in ascending order.
      const RandomStream random(options_.seed, RandomPurpose::kGradCheckSample, t);
      for (int64_t i = 0; i < count; ++i) {
        const auto skip = random.Below(static_cast<uint64_t>(size - i), static_cast<uint64_t>(i));
        std::swap(chosen[static_cast<size_t>(i)],
                  chosen[static_cast<size_t>(i) + static_cast<size_t>(skip)]);
      }
      chosen.resize(static_cast<size_t>(count));
      std::sort(chosen.begin(), chosen.end());
      check.not_sampled = size - count;
      report_.sampled = true;
    }
    entries_.push_back(std::move(chosen));
  }
}

double GradChecker::LossAt(int64_t parameter, double value, std::vector<bool>* sides) {
  double& p = parameters_[static_cast<size_t>(parameter)];
  const double saved = p;
  p = value;
  const LossResult loss =
      ForwardLoss<double>(network_, parameters_.data(), batch_.All(), &workspace_);
  Sides<double>(network_, batch_.rows, &workspace_, sides);
  p = saved;
  return loss.sum / static_cast<double>(batch_.rows);
}

void GradChecker::CheckEntry(TensorGradCheck* check, int64_t index) {
  const int64_t parameter = check->tensor.offset + index;
  const double p = parameters_[static_cast<size_t>(parameter)];
  const double h = options_.epsilon * std::max(1.0, std::abs(p));
  const double plus = LossAt(parameter, p + h, &sides_plus_);
  const double minus = LossAt(parameter, p - h, &sides_minus_);
  if (sides_plus_ != sides_minus_) {
    ++check->set_aside;
    return;
  }
  ++check->checked;
  const double numeric = (plus - minus) / ((p + h) - (p - h));  // the step as it was rounded
  const double analytic = analytic_[static_cast<size_t>(parameter)];
  const double absolute = std::abs(analytic - numeric);
  const double relative =
      absolute / std::max({std::abs(analytic), std::abs(numeric), report_.floor});
  // Written so that NaN counts as the worst.
  if (!(absolute <= check->max_absolute_error)) check->max_absolute_error = absolute;
  if (check->worst < 0 || !(relative <= check->max_relative_error)) {
    check->max_relative_error = relative;
    check->worst = index;
    check->worst_analytic = analytic;
    check->worst_numeric = numeric;
  }
}

bool GradChecker::Advance(int64_t entries) {
  workspace_.Prepare(network_, batch_.rows, PassKind::kForward);
  while (tensor_ < entries_.size()) {
    if (entry_ == entries_[tensor_].size()) {
      ++tensor_;
      entry_ = 0;
      continue;
    }
    if (entries-- == 0) return true;
    CheckEntry(&report_.tensors[tensor_], entries_[tensor_][entry_++]);
  }
  Conclude();
  return false;
}

void GradChecker::Conclude() {
  report_.passed = true;
  report_.max_relative_error = 0;
  for (TensorGradCheck& check : report_.tensors) {
    check.passed = check.max_relative_error <= options_.tolerance &&
                   check.kernel_max_relative_error <= options_.kernel_tolerance;
    report_.passed = report_.passed && check.passed;
    if (!(check.max_relative_error <= report_.max_relative_error)) {
      report_.max_relative_error = check.max_relative_error;
    }
  }
}

}  // namespace backprop::engine
