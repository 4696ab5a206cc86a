#include "server/engine/grad_check.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "server/engine/exact_move.h"
#include "server/engine/random.h"

namespace backprop::engine {
namespace {

Network InFloat64(const Network& network) {
  NetworkSpec spec = network.spec();
  spec.data_type = DataType::kFloat64;
  return Network(spec);
}

// Returns a copy of the parameters with each layer scaled by a power of two, so that the root mean
// square of its z over all rows and units is below 1 and at most half of its previous value. W and
// b of a layer are scaled by the same factor.
Buffer ScaledDown(const Network& network, const Buffer& values,
                  const Standardization* standardization, const Dataset& batch) {
  Buffer scaled = values.Clone();
  std::vector<double> parameters;
  for (int64_t i = 0; i < values.count(); ++i) parameters.push_back(values.Get(i));
  const auto rows = static_cast<size_t>(batch.rows);
  std::vector<double> x;
  for (int64_t i = 0; i < batch.rows * network.inputs(); ++i) {
    const auto feature = static_cast<size_t>(i % network.inputs());
    const double raw = batch.inputs.Get(i);
    x.push_back(standardization == nullptr
                    ? raw
                    : (raw - standardization->mean[feature]) / standardization->std[feature]);
  }
  for (const LayerPlan& layer : network.layers()) {
    const auto inputs = static_cast<size_t>(layer.inputs);
    const auto units = static_cast<size_t>(layer.units);
    std::vector<double> z(rows * units);
    double sum = 0;
    for (size_t row = 0; row < rows; ++row) {
      double* out = z.data() + row * units;
      std::copy_n(parameters.data() + layer.bias_offset, layer.units, out);
      for (size_t i = 0; i < inputs; ++i) {
        const double* W = parameters.data() + layer.weights_offset + i * units;
        const double in = x[row * inputs + i];
        for (size_t j = 0; j < units; ++j) out[j] += in * W[j];
      }
      for (size_t j = 0; j < units; ++j) sum += out[j] * out[j];
    }
    const double rms = std::sqrt(sum / static_cast<double>(z.size()));
    const double scale = std::isfinite(rms) && rms > 1 ? std::ldexp(0.5, -std::ilogb(rms)) : 0.5;
    // W and b of a layer are adjacent.
    for (int64_t i = 0; i < (layer.inputs + 1) * layer.units; ++i) {
      const int64_t at = layer.weights_offset + i;
      scaled.Set(at, scale * parameters[static_cast<size_t>(at)]);
    }
    x.assign(z.size(), 0);
    for (size_t i = 0; i < z.size(); ++i) {
      x[i] = static_cast<double>(ExactActivation(layer.spec, Quad(scale * z[i])));
    }
  }
  return scaled;
}

// Returns the rows with each weight multiplied by its own factor in [1/2, 3/2), so that gradients
// that cancelled between rows no longer cancel.
Dataset Reweighted(const Dataset& batch, DataType type) {
  constexpr double kGoldenRatio = 0.6180339887498949;
  Dataset rows = batch.ConvertTo(type);
  Buffer weights(type, rows.rows);
  for (int64_t i = 0; i < rows.rows; ++i) {
    const double weight = rows.sample_weights.count() == 0 ? 1 : rows.sample_weights.Get(i);
    const double place = kGoldenRatio * static_cast<double>(i);
    weights.Set(i, weight * (0.5 + place - std::floor(place)));
  }
  rows.sample_weights = std::move(weights);
  return rows;
}

}  // namespace

GradChecker::GradChecker(const Network& network, const State& state, const Dataset& batch,
                         const GradCheckOptions& options)
    : options_(options),
      own_(network),
      exact_(InFloat64(network)),
      standardization_(state.standardization),
      values_(network.spec().data_type, network.parameter_count()),
      own_batch_(batch.ConvertTo(network.spec().data_type)),
      batch_(batch.ConvertTo(DataType::kFloat64)),
      again_(network.tensors().size()) {
  for (int64_t i = 0; i < values_.count(); ++i) values_.Set(i, state.values.Get(i));
  ChooseEntries();
  point_ = std::make_unique<GradCheckPoint>(own_, exact_, values_, standardization_, own_batch_,
                                            batch_, options_, entries_);
}

int64_t GradChecker::BytesNeeded(const Network& network, int64_t rows) {
  return 2 * GradCheckPoint::BytesNeeded(InFloat64(network), rows);
}

void GradChecker::ChooseEntries() {
  const std::vector<TensorInfo> tensors = exact_.tensors();
  for (size_t t = 0; t < tensors.size(); ++t) {
    const int64_t size = tensors[t].size();
    const int64_t count = std::min(size, options_.max_entries_per_tensor);
    std::vector<int64_t> chosen(static_cast<size_t>(size));
    std::iota(chosen.begin(), chosen.end(), 0);
    if (count < size) {
      // The first `count` positions of a Fisher–Yates shuffle, then sorted.
      const RandomStream random(options_.seed, RandomPurpose::kGradCheckSample, t);
      for (int64_t i = 0; i < count; ++i) {
        const auto skip = random.Below(static_cast<uint64_t>(size - i), static_cast<uint64_t>(i));
        std::swap(chosen[static_cast<size_t>(i)],
                  chosen[static_cast<size_t>(i) + static_cast<size_t>(skip)]);
      }
      chosen.resize(static_cast<size_t>(count));
      std::sort(chosen.begin(), chosen.end());
    }
    entries_.push_back(std::move(chosen));
  }
}

bool GradChecker::Advance(int64_t entries) {
  if (point_done_) return scaled_ != nullptr && scaled_->Advance(entries);
  if (point_->Advance(entries)) return true;
  point_done_ = true;
  return BeginScaled();
}

bool GradChecker::BeginScaled() {
  std::vector<std::vector<int64_t>> entries = entries_;
  bool needed = false;
  for (size_t t = 0; t < entries.size(); ++t) {
    const TensorGradCheck check = point_->Judge(t, nullptr);
    again_[t] = check.verdict == Verdict::kInconclusive && check.unresolved > 0;
    needed = needed || again_[t];
    if (!again_[t]) entries[t].clear();
  }
  if (!needed) return false;
  const Buffer scaled = ScaledDown(exact_, values_, standardization_.get(), batch_);
  own_batch_ = Reweighted(own_batch_, own_.spec().data_type);
  // Converted from the model's precision, so that both copies hold the same numbers.
  reweighted_ = own_batch_.ConvertTo(DataType::kFloat64);
  scaled_ = std::make_unique<GradCheckPoint>(own_, exact_, scaled, standardization_, own_batch_,
                                             reweighted_, options_, entries);
  return true;
}

GradCheckReport GradChecker::Judge(const Tamper& tamper) const {
  GradCheckReport report;
  report.loss = point_->loss();
  for (size_t t = 0; t < entries_.size(); ++t) {
    TensorGradCheck check = point_->Judge(t, tamper);
    if (again_[t] && check.verdict == Verdict::kInconclusive) {
      const TensorGradCheck scaled = scaled_->Judge(t, tamper);
      if (scaled.verdict != Verdict::kInconclusive) {
        check.verdict = scaled.verdict;
        check.explanation = scaled.verdict == Verdict::kPassed
                                ? ""
                                : "with the layers scaled down, " + scaled.explanation;
      }
    }
    report.sampled = report.sampled || check.not_sampled > 0;
    if (!(check.max_relative_error <= report.max_relative_error)) {
      report.max_relative_error = check.max_relative_error;
    }
    // The first failed tensor, otherwise the first that was not proved.
    if (check.verdict != Verdict::kPassed && report.verdict != Verdict::kFailed &&
        (report.verdict == Verdict::kPassed || check.verdict == Verdict::kFailed)) {
      report.verdict = check.verdict;
      report.explanation = check.explanation;
    }
    report.tensors.push_back(std::move(check));
  }
  if (point_->parameters_changed()) {
    report.verdict = Verdict::kFailed;
    report.explanation = "the backward pass changed the parameters that it reads";
  }
  return report;
}

}  // namespace backprop::engine
