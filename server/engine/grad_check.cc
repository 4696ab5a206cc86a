#include "server/engine/grad_check.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "server/engine/activation.h"
#include "server/engine/random.h"

namespace backprop::engine {
namespace {

Network InFloat64(const Network& network) {
  NetworkSpec spec = network.spec();
  spec.data_type = DataType::kFloat64;
  return Network(spec);
}

// For every kink of the pass that `workspace` holds, row by row, on which side of it the row is:
// z > 0 of a unit, or an output above its target.
template <class T>
void Sides(const Network& network, const BatchView& batch, Workspace* workspace,
           std::vector<bool>* sides) {
  sides->clear();
  for (int64_t row = 0; row < batch.rows; ++row) {
    for (size_t l = 0; l < network.layers().size(); ++l) {
      const LayerPlan& layer = network.layers()[l];
      if (!HasKink(layer.spec)) continue;
      // a has the sign of z where it has taken its place.
      const UnitView<T> z = workspace->View<T>(workspace->z<T>(l), l);
      for (int64_t j = 0; j < layer.units; ++j) sides->push_back(z(row, j) > 0);
    }
    if (!HasKink(network.spec().loss.kind)) continue;
    const int64_t k = network.outputs();
    const size_t last = network.layers().size() - 1;
    const UnitView<T> z = workspace->View<T>(workspace->a<T>(last), last);
    const T* y = reinterpret_cast<const T*>(batch.targets) + row * k;
    for (int64_t j = 0; j < k; ++j) sides->push_back(z(row, j) > y[j]);
  }
}

template <class T>
std::vector<double> Gradients(const Model<T>& model, const BatchView& batch, Workspace* workspace) {
  workspace->Prepare(model.network, batch.rows, PassKind::kForwardBackward);
  ForwardBackward(model, batch, std::nullopt, workspace);
  const T* g = workspace->gradients<T>();
  return {g, g + model.network.parameter_count()};
}

template <class T>
std::vector<bool> SidesOf(const Model<T>& model, const BatchView& batch, Workspace* workspace) {
  workspace->Prepare(model.network, batch.rows, PassKind::kForward);
  Forward(model, batch, workspace);
  std::vector<bool> sides;
  Sides<T>(model.network, batch, workspace, &sides);
  return sides;
}

// Rows for which both precisions are on the same side of every kink.
std::vector<int32_t> AgreeingRows(int64_t rows, const std::vector<bool>& a,
                                  const std::vector<bool>& b) {
  std::vector<int32_t> agreeing;
  const auto per_row = static_cast<int64_t>(a.size()) / rows;
  for (int64_t row = 0; row < rows; ++row) {
    const auto first = row * per_row;
    if (std::equal(a.begin() + first, a.begin() + first + per_row, b.begin() + first)) {
      agreeing.push_back(static_cast<int32_t>(row));
    }
  }
  return agreeing;
}

}  // namespace

GradChecker::GradChecker(const Network& network, const State& state, const Dataset& batch,
                         const GradCheckOptions& options)
    : options_(options),
      network_(InFloat64(network)),
      standardization_(state.standardization),
      batch_(batch.ConvertTo(DataType::kFloat64)) {
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
  analytic_ = Gradients(Exact(), batch_.All(), &workspace_);
  report_.loss = ForwardLoss(Exact(), batch_.All(), &workspace_).mean();
  report_.floor = 1e-4 * std::max(1.0, std::abs(report_.loss));
}

// The gradient of the kernels that train the model against the float64 one, on the rows where
// rounding moved no activation across its kink.
void GradChecker::CompareKernels(const Network& network, const State& state, const Dataset& batch) {
  const bool is_float = network.spec().data_type == DataType::kFloat32;
  const auto own_sides = is_float
                             ? SidesOf(ModelOf<float>(network, state), batch.All(), &workspace_)
                             : SidesOf(ModelOf<double>(network, state), batch.All(), &workspace_);
  const auto sides = SidesOf(Exact(), batch_.All(), &workspace_);
  const std::vector<int32_t> rows = AgreeingRows(batch.rows, own_sides, sides);
  report_.kernel_rows_set_aside = batch.rows - static_cast<int64_t>(rows.size());
  if (rows.empty()) return;

  Dataset own_rows = EmptyLike(batch, static_cast<int64_t>(rows.size()));
  Gather(batch, rows, &own_rows);
  const Dataset exact_rows = own_rows.ConvertTo(DataType::kFloat64);
  const auto own = is_float
                       ? Gradients(ModelOf<float>(network, state), own_rows.All(), &workspace_)
                       : Gradients(ModelOf<double>(network, state), own_rows.All(), &workspace_);
  const auto exact = Gradients(Exact(), exact_rows.All(), &workspace_);
  const double loss = ForwardLoss(Exact(), exact_rows.All(), &workspace_).mean();
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
  const double loss = ForwardLoss(Exact(), batch_.All(), &workspace_).mean();
  Sides<double>(network_, batch_.All(), &workspace_, sides);
  p = saved;
  return loss;
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
