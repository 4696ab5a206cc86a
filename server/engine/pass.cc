#include "server/engine/pass.h"

#include <algorithm>
#include <array>
#include <span>

#include "server/engine/activation.h"
#include "server/engine/dropout.h"
#include "server/engine/feature_major.h"
#include "server/engine/matmul.h"
#include "server/engine/standardize.h"
#include "server/engine/vector.h"

namespace backprop::engine {
namespace {

// The pass over rows [first, first + count) of the batch. Different parts of a batch use different
// memory of the workspace.
template <class T>
class Part {
 public:
  Part(const Model<T>& model, const BatchView& batch, std::optional<int64_t> dropout_step,
       int64_t shard, int64_t first, int64_t count, Workspace* workspace, Parallel* parallel)
      : model_(model),
        batch_(batch),
        dropout_step_(dropout_step),
        shard_(shard),
        first_(first),
        n_(count),
        feature_major_(workspace->layout() == Layout::kFeatureMajor),
        stride_(workspace->stride()),
        workspace_(*workspace),
        parallel_(*parallel) {}

  void Forward() {
    const T* x = FirstInputs();
    for (size_t l = 0; l < layers().size(); ++l) {
      LayerForward(layers()[l], x, workspace_.z<T>(l), workspace_.a<T>(l));
      parallel_.Pause();
      x = workspace_.a<T>(l);
      if (!Drops(l)) continue;
      Drop(l);
      x = workspace_.dropped<T>(l);
    }
  }

  // If `dz` is null, no gradient is computed.
  LossResult Loss(double D, T* dz) {
    const int64_t k = model_.network.outputs();
    const T* z = workspace_.a<T>(layers().size() - 1);
    return ComputeLoss<T>(model_.network.spec().loss, LossInputOf(z + At(k)), D,
                          dz == nullptr ? nullptr : dz + At(k));
  }

  // Requires Forward(), whose inputs must still be in place. Overwrites the shard's gradients.
  LossResult Backward(double D) {
    int which = 0;  // index of the buffer that holds dz
    const LossResult loss = Loss(D, Gradient(which, model_.network.outputs()));
    for (size_t l = layers().size(); l-- > 0; which = 1 - which) {
      const LayerPlan& layer = layers()[l];
      T* dz = Gradient(which, layer.units);
      if (Drops(l)) Multiply(layer, dz, workspace_.mask<T>(l), dz);
      ForUnits(layer.units, [&](int64_t at, int64_t count) {
        ActivateBackward<T>(layer.spec, Span<const T>(workspace_.z<T>(l) + at, count),
                            Span<const T>(workspace_.a<T>(l) + at, count), Span(dz + at, count));
      });
      const T* x = l == 0         ? first_inputs_
                   : Drops(l - 1) ? workspace_.dropped<T>(l - 1)
                                  : workspace_.a<T>(l - 1);
      parallel_.Pause();
      LayerBackward(layer, x, dz, l == 0 ? nullptr : Gradient(1 - which, layer.inputs));
    }
    return loss;
  }

  LossInput<T> LossInputOf(const T* z) const {
    const int64_t k = model_.network.outputs();
    const auto* targets = reinterpret_cast<const T*>(batch_.targets);
    const auto* weights = reinterpret_cast<const T*>(batch_.sample_weights);
    return {n_,
            k,
            z,
            batch_.classes == nullptr ? nullptr : batch_.classes + first_,
            targets == nullptr ? nullptr : targets + first_ * k,
            weights == nullptr ? nullptr : weights + first_,
            feature_major_ ? stride_ : 0};
  }

 private:
  template <class U>
  static std::span<U> Span(U* data, int64_t count) {
    return {data, static_cast<size_t>(count)};
  }
  const std::vector<LayerPlan>& layers() const { return model_.network.layers(); }
  bool Drops(size_t l) const { return dropout_step_.has_value() && layers()[l].spec.dropout > 0; }
  // Offset of this part's first row in an array of `units` units.
  int64_t At(int64_t units) const { return feature_major_ ? first_ : first_ * units; }

  // Address of dz for a layer of `units` units, relative to row 0. In each buffer a part stays
  // within its own rows of the widest layer, whatever the number of units.
  T* Gradient(int which, int64_t units) const {
    return workspace_.dz<T>(which) +
           (feature_major_ ? 0 : first_ * (model_.network.widest() - units));
  }

  // Calls f(offset, count) for each contiguous piece of memory with this part's rows of `units`
  // units.
  template <class F>
  void ForUnits(int64_t units, const F& f) const {
    if (!feature_major_) return f(first_ * units, n_ * units);
    const int64_t whole = WholeVectors<T>(n_);
    if (whole == stride_) return f(0, units * stride_);
    for (int64_t j = 0; j < units; ++j) f(j * stride_ + first_, whole);
  }

  // Returns the input of the first layer: the batch's inputs, standardised and transposed if
  // needed.
  const T* FirstInputs() {
    const int64_t d = model_.network.inputs();
    const T* x = reinterpret_cast<const T*>(batch_.inputs) + first_ * d;
    if (model_.standardization != nullptr) {
      T* standardized = workspace_.standardized<T>() + first_ * d;
      ApplyStandardization(*model_.standardization, x, n_, standardized);
      x = standardized;
    }
    if (feature_major_) ToFeatureMajor(x, n_, d, stride_, workspace_.x<T>() + first_);
    // Relative to row 0, like the other arrays of a workspace.
    first_inputs_ = feature_major_ ? workspace_.x<T>() : x - first_ * d;
    return first_inputs_;
  }

  // z = x·W + b:  (n, inputs)·(inputs, units) + (units) → (n, units);  a = activation(z).
  void LayerForward(const LayerPlan& layer, const T* x, T* z, T* a) const {
    const T* W = model_.parameters + layer.weights_offset;
    const T* b = model_.parameters + layer.bias_offset;
    x += At(layer.inputs);
    if (feature_major_) {
      DenseForward(layer, model_.parameters, x, n_, stride_, z + first_);
    } else {
      MatMulBias(x, W, b, z + At(layer.units), n_, layer.inputs, layer.units, &parallel_);
    }
    ForUnits(layer.units, [&](int64_t at, int64_t count) {
      Activate<T>(layer.spec, Span<const T>(z + at, count), Span(a + at, count));
    });
  }

  // dW = xᵀ·dz:  (n, inputs)ᵀ·(n, units) → (inputs, units);  db = Σ_rows dz;
  // dx = dz·Wᵀ:  (n, units)·(units, inputs) → (n, inputs), unless dx is null.
  void LayerBackward(const LayerPlan& layer, const T* x, const T* dz, T* dx) const {
    T* gradients = workspace_.gradients<T>(shard_);
    const T* W = model_.parameters + layer.weights_offset;
    x += At(layer.inputs);
    dz += At(layer.units);
    if (dx != nullptr) dx += At(layer.inputs);
    if (feature_major_) {
      DenseGradients(layer, x, dz, n_, stride_, gradients);
      if (dx != nullptr) DenseBackward(layer, model_.parameters, dz, n_, stride_, dx);
      return;
    }
    MatMulTransposedA(x, dz, gradients + layer.weights_offset, layer.inputs, n_, layer.units,
                      &parallel_);
    parallel_.Pause();
    T* db = gradients + layer.bias_offset;
    std::fill_n(db, layer.units, T(0));
    for (int64_t i = 0; i < n_; ++i) {
      for (int64_t j = 0; j < layer.units; ++j) db[j] += dz[i * layer.units + j];
    }
    if (dx == nullptr) return;
    MatMulTransposedB(dz, W, dx, n_, layer.units, layer.inputs, workspace_.scratch<T>(shard_),
                      &parallel_);
  }

  void Drop(size_t l) const {
    const LayerPlan& layer = layers()[l];
    const RandomStream random(model_.network.spec().seed, RandomPurpose::kDropout,
                              static_cast<uint64_t>(*dropout_step_));
    T* mask = workspace_.mask<T>(l);
    DropoutMask(
        random, l, layer.spec.dropout,
        {first_, n_, layer.units, feature_major_ ? 1 : layer.units, feature_major_ ? stride_ : 1},
        mask + At(layer.units));
    Multiply(layer, workspace_.a<T>(l), mask, workspace_.dropped<T>(l));
  }

  // out = in ⊙ mask. In the backward pass the same product gives the gradient of `in` from that of
  // `out`.
  void Multiply(const LayerPlan& layer, const T* in, const T* mask, T* out) const {
    ForUnits(layer.units, [&](int64_t at, int64_t count) {
      for (int64_t i = at; i < at + count; ++i) out[i] = in[i] * mask[i];
    });
  }

  const Model<T>& model_;
  const BatchView& batch_;
  const std::optional<int64_t> dropout_step_;
  const int64_t shard_;
  const int64_t first_;
  const int64_t n_;
  const bool feature_major_;
  const int64_t stride_;
  Workspace& workspace_;
  Parallel& parallel_;
  const T* first_inputs_ = nullptr;
};

// Returns the Parallel whose Pause() a pass over `rows` rows calls. A pass of less than about 50 µs
// does not call it: reading the clock would cost more than the pause gains.
Parallel* PausesOf(const Network& network, int64_t rows, Parallel* parallel) {
  constexpr int64_t kLeastWork = 512 * 1024;  // multiplications in the forward pass
  return rows * network.parameter_count() < kLeastWork ? Serial::Get() : parallel;
}

template <class T>
Part<T> Whole(const Model<T>& model, const BatchView& batch, Workspace* workspace,
              Parallel* parallel = Serial::Get()) {
  return Part<T>(model, batch, std::nullopt, 0, 0, batch.rows, workspace, parallel);
}

// Adds the gradients of all shards to those of the first, each number in the order of the shards.
template <class T>
void AddShards(int64_t count, int64_t P, Workspace* workspace, Parallel* parallel) {
  constexpr int64_t kPiece = 16 * 1024;  // a piece of the sum stays in the first-level cache
  parallel->For((P + kPiece - 1) / kPiece, [&](int64_t piece) {
    const int64_t end = std::min(P, (piece + 1) * kPiece);
    T* sum = workspace->gradients<T>();
    for (int64_t s = 1; s < count; ++s) {
      const T* g = workspace->gradients<T>(s);
      for (int64_t i = piece * kPiece; i < end; ++i) sum[i] += g[i];
    }
  });
}

}  // namespace

template <class T>
const T* Outputs(const Network& network, int64_t rows, Workspace* workspace) {
  const T* z = workspace->a<T>(network.layers().size() - 1);
  if (workspace->layout() == Layout::kRowMajor) return z;
  ToRowMajor(z, rows, network.outputs(), workspace->stride(), workspace->outputs<T>());
  return workspace->outputs<T>();
}

template <class T>
void Forward(const Model<T>& model, const BatchView& batch, Workspace* workspace) {
  Whole(model, batch, workspace).Forward();
}

template <class T>
LossResult ForwardLoss(const Model<T>& model, const BatchView& batch, Workspace* workspace,
                       Parallel* parallel) {
  Part<T> all = Whole(model, batch, workspace, PausesOf(model.network, batch.rows, parallel));
  all.Forward();
  return all.Loss(1, nullptr);
}

template <class T>
LossResult ForwardBackward(const Model<T>& model, const BatchView& batch,
                           std::optional<int64_t> dropout_step, Workspace* workspace,
                           Parallel* parallel) {
  const LossResult weights =
      LossWeights(model.network.spec().loss, Whole(model, batch, workspace).LossInputOf(nullptr));
  const Shards shards = workspace->shards();
  std::array<LossResult, kMostShards> results;
  Parallel* const pauses = PausesOf(model.network, batch.rows, parallel);
  const auto compute = [&](int64_t s) {
    const int64_t first = s * shards.rows;
    const int64_t count = std::min(shards.rows, batch.rows - first);
    Part<T> part(model, batch, dropout_step, s, first, count, workspace, pauses);
    part.Forward();
    results[static_cast<size_t>(s)] = part.Backward(weights.weight);
  };
  if (shards.count == 1) {
    compute(0);
    return results[0];
  }
  parallel->For(shards.count, compute);
  AddShards<T>(shards.count, model.network.parameter_count(), workspace, parallel);
  LossResult total;
  for (int64_t s = 0; s < shards.count; ++s) total += results[static_cast<size_t>(s)];
  total.weight = weights.weight;
  total.rows = weights.rows;
  return total;
}

template const float* Outputs(const Network&, int64_t, Workspace*);
template const double* Outputs(const Network&, int64_t, Workspace*);
template void Forward(const Model<float>&, const BatchView&, Workspace*);
template void Forward(const Model<double>&, const BatchView&, Workspace*);
template LossResult ForwardLoss(const Model<float>&, const BatchView&, Workspace*, Parallel*);
template LossResult ForwardLoss(const Model<double>&, const BatchView&, Workspace*, Parallel*);
template LossResult ForwardBackward(const Model<float>&, const BatchView&, std::optional<int64_t>,
                                    Workspace*, Parallel*);
template LossResult ForwardBackward(const Model<double>&, const BatchView&, std::optional<int64_t>,
                                    Workspace*, Parallel*);

}  // namespace backprop::engine
