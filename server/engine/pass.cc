#include "server/engine/pass.h"

#include <algorithm>
#include <span>

#include "server/engine/activation.h"
#include "server/engine/dropout.h"
#include "server/engine/matmul.h"
#include "server/engine/standardize.h"

namespace backprop::engine {
namespace {

template <class T>
LossInput<T> LossInputOf(const Network& network, const BatchView& batch, Workspace* workspace) {
  return {batch.rows,
          network.outputs(),
          Outputs<T>(network, workspace),
          batch.classes,
          reinterpret_cast<const T*>(batch.targets),
          reinterpret_cast<const T*>(batch.sample_weights)};
}

template <class T>
std::span<T> Span(T* data, int64_t count) {
  return {data, static_cast<size_t>(count)};
}

// z = x·W + b:  (n, inputs)·(inputs, units) + (units) → (n, units);  a = activation(z).
template <class T>
void LayerForward(const LayerPlan& layer, const T* parameters, const T* x, int64_t n, T* z, T* a) {
  const T* W = parameters + layer.weights_offset;
  const T* b = parameters + layer.bias_offset;
  MatMul(x, W, z, n, layer.inputs, layer.units);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < layer.units; ++j) z[i * layer.units + j] += b[j];
  }
  Activate<T>(layer.spec, Span<const T>(z, n * layer.units), Span(a, n * layer.units));
}

// dW = xᵀ·dz:  (n, inputs)ᵀ·(n, units) → (inputs, units);  db = Σ_rows dz;
// dx = dz·Wᵀ:  (n, units)·(units, inputs) → (n, inputs), unless dx is null.
template <class T>
void LayerBackward(const LayerPlan& layer, const T* parameters, const T* x, int64_t n, const T* dz,
                   T* transposed, T* gradients, T* dx) {
  T* dW = gradients + layer.weights_offset;
  T* db = gradients + layer.bias_offset;
  MatMulTransposedA(x, dz, dW, layer.inputs, n, layer.units);
  std::fill_n(db, layer.units, T(0));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < layer.units; ++j) db[j] += dz[i * layer.units + j];
  }
  if (dx == nullptr) return;
  Transpose(parameters + layer.weights_offset, transposed, layer.inputs, layer.units);
  MatMul(dz, transposed, dx, n, layer.units, layer.inputs);
}

// What enters the first layer: the inputs (n, d), standardised if the model does that.
template <class T>
const T* FirstInputs(const Model<T>& model, const BatchView& batch, Workspace* workspace) {
  const T* x = reinterpret_cast<const T*>(batch.inputs);
  if (model.standardization == nullptr) return x;
  ApplyStandardization(*model.standardization, x, batch.rows, workspace->x<T>());
  return workspace->x<T>();
}

// out = in ⊙ mask. In backward the same product turns the gradient of `out` into that of `in`.
template <class T>
void Multiply(const T* in, const T* mask, int64_t count, T* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = in[i] * mask[i];
}

template <class T>
void ForwardFrom(const T* x, const Model<T>& model, int64_t n, std::optional<int64_t> dropout_step,
                 Workspace* workspace) {
  const Network& network = model.network;
  for (size_t l = 0; l < network.layers().size(); ++l) {
    const LayerPlan& layer = network.layers()[l];
    LayerForward(layer, model.parameters, x, n, workspace->z<T>(l), workspace->a<T>(l));
    x = workspace->a<T>(l);
    if (!dropout_step.has_value() || layer.spec.dropout == 0) continue;
    const RandomStream random(network.spec().seed, RandomPurpose::kDropout,
                              static_cast<uint64_t>(*dropout_step));
    DropoutMask(random, l, layer.spec.dropout, n * layer.units, workspace->mask<T>(l));
    Multiply(x, workspace->mask<T>(l), n * layer.units, workspace->dropped<T>(l));
    x = workspace->dropped<T>(l);
  }
}

}  // namespace

template <class T>
void Forward(const Model<T>& model, const BatchView& batch, Workspace* workspace) {
  ForwardFrom<T>(FirstInputs(model, batch, workspace), model, batch.rows, std::nullopt, workspace);
}

template <class T>
LossResult ForwardLoss(const Model<T>& model, const BatchView& batch, Workspace* workspace) {
  Forward(model, batch, workspace);
  return ComputeLoss<T>(model.network.spec().loss, LossInputOf<T>(model.network, batch, workspace),
                        nullptr);
}

template <class T>
LossResult ForwardBackward(const Model<T>& model, const BatchView& batch,
                           std::optional<int64_t> dropout_step, Workspace* workspace) {
  const Network& network = model.network;
  const int64_t n = batch.rows;
  const T* inputs = FirstInputs(model, batch, workspace);
  ForwardFrom<T>(inputs, model, n, dropout_step, workspace);
  T* dz = workspace->dz<T>(0);
  T* dx = workspace->dz<T>(1);
  const LossResult loss =
      ComputeLoss<T>(network.spec().loss, LossInputOf<T>(network, batch, workspace), dz);
  const auto drops = [&](size_t l) {
    return dropout_step.has_value() && network.layers()[l].spec.dropout > 0;
  };
  for (size_t l = network.layers().size(); l-- > 0;) {
    const LayerPlan& layer = network.layers()[l];
    const int64_t count = n * layer.units;
    if (drops(l)) Multiply(dz, workspace->mask<T>(l), count, dz);
    ActivateBackward<T>(layer.spec, Span<const T>(workspace->z<T>(l), count),
                        Span<const T>(workspace->a<T>(l), count), Span(dz, count));
    const T* x = l == 0         ? inputs
                 : drops(l - 1) ? workspace->dropped<T>(l - 1)
                                : workspace->a<T>(l - 1);
    LayerBackward<T>(layer, model.parameters, x, n, dz, workspace->transposed_weights<T>(),
                     workspace->gradients<T>(), l == 0 ? nullptr : dx);
    std::swap(dz, dx);
  }
  return loss;
}

template void Forward(const Model<float>&, const BatchView&, Workspace*);
template void Forward(const Model<double>&, const BatchView&, Workspace*);
template LossResult ForwardLoss(const Model<float>&, const BatchView&, Workspace*);
template LossResult ForwardLoss(const Model<double>&, const BatchView&, Workspace*);
template LossResult ForwardBackward(const Model<float>&, const BatchView&, std::optional<int64_t>,
                                    Workspace*);
template LossResult ForwardBackward(const Model<double>&, const BatchView&, std::optional<int64_t>,
                                    Workspace*);

}  // namespace backprop::engine
