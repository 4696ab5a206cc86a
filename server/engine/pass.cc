#include "server/engine/pass.h"

#include <algorithm>
#include <span>

#include "server/engine/activation.h"
#include "server/engine/matmul.h"

namespace backprop::engine {
namespace {

template <class T>
LossInput<T> LossInputOf(const Network& network, const BatchView& batch, Workspace* workspace) {
  return {batch.rows, network.outputs(), Outputs<T>(network, workspace), batch.classes,
          reinterpret_cast<const T*>(batch.targets)};
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
  Activate<T>(layer.activation, Span<const T>(z, n * layer.units), Span(a, n * layer.units));
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

}  // namespace

template <class T>
void Forward(const Network& network, const T* parameters, const BatchView& batch,
             Workspace* workspace) {
  const T* x = reinterpret_cast<const T*>(batch.inputs);
  for (size_t l = 0; l < network.layers().size(); ++l) {
    LayerForward(network.layers()[l], parameters, x, batch.rows, workspace->z<T>(l),
                 workspace->a<T>(l));
    x = workspace->a<T>(l);
  }
}

template <class T>
LossResult ForwardLoss(const Network& network, const T* parameters, const BatchView& batch,
                       Workspace* workspace) {
  Forward(network, parameters, batch, workspace);
  return ComputeLoss<T>(network.spec().loss, LossInputOf<T>(network, batch, workspace), nullptr);
}

template <class T>
LossResult ForwardBackward(const Network& network, const T* parameters, const BatchView& batch,
                           Workspace* workspace) {
  Forward(network, parameters, batch, workspace);
  T* dz = workspace->dz<T>(0);
  T* dx = workspace->dz<T>(1);
  const LossResult loss =
      ComputeLoss<T>(network.spec().loss, LossInputOf<T>(network, batch, workspace), dz);
  for (size_t l = network.layers().size(); l-- > 0;) {
    const LayerPlan& layer = network.layers()[l];
    const int64_t count = batch.rows * layer.units;
    ActivateBackward<T>(layer.activation, Span<const T>(workspace->z<T>(l), count),
                        Span<const T>(workspace->a<T>(l), count), Span(dz, count));
    const T* x = l == 0 ? reinterpret_cast<const T*>(batch.inputs) : workspace->a<T>(l - 1);
    LayerBackward<T>(layer, parameters, x, batch.rows, dz, workspace->transposed_weights<T>(),
                     workspace->gradients<T>(), l == 0 ? nullptr : dx);
    std::swap(dz, dx);
  }
  return loss;
}

template void Forward(const Network&, const float*, const BatchView&, Workspace*);
template void Forward(const Network&, const double*, const BatchView&, Workspace*);
template LossResult ForwardLoss(const Network&, const float*, const BatchView&, Workspace*);
template LossResult ForwardLoss(const Network&, const double*, const BatchView&, Workspace*);
template LossResult ForwardBackward(const Network&, const float*, const BatchView&, Workspace*);
template LossResult ForwardBackward(const Network&, const double*, const BatchView&, Workspace*);

}  // namespace backprop::engine
