#include "server/engine/feature_major.h"

#include <algorithm>
#include <utility>

#include "server/engine/vector.h"

namespace backprop::engine {
namespace {

// Numbers of outputs and of vectors of rows in a tile, which is kept in registers.
constexpr int kTileOutputs = 4;
constexpr int kTileVectors = kVectorBytes == 64 ? 4 : 2;

// Computes out_o = bias_o + Σ_p w(p, o)·in_p for a tile of outputs o and vectors of rows.
template <class T>
struct Weights {
  const T* at;
  int64_t p_stride;
  int64_t o_stride;
  const T* bias;  // null: all 0
};

template <class T, int kOutputs, int kVectors>
[[gnu::always_inline]] inline void ProductTile(const Weights<T>& w, int64_t o, int64_t depth,
                                               const T* in, int64_t stride, T* out) {
  Vec<T> sum[kOutputs][kVectors];
  for (int i = 0; i < kOutputs; ++i) {
    const Vec<T> bias = w.bias == nullptr ? Vec<T>{} : Splat<T>(w.bias[o + i]);
    for (int v = 0; v < kVectors; ++v) sum[i][v] = bias;
  }
  const T* weight = w.at + o * w.o_stride;
  for (int64_t p = 0; p < depth; ++p, weight += w.p_stride, in += stride) {
    Vec<T> x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = Load<T>(in + v * kLanes<T>);
    for (int i = 0; i < kOutputs; ++i) {
      for (int v = 0; v < kVectors; ++v) sum[i][v] += weight[i * w.o_stride] * x[v];
    }
  }
  for (int i = 0; i < kOutputs; ++i) {
    for (int v = 0; v < kVectors; ++v) Store<T>(out + (o + i) * stride + v * kLanes<T>, sum[i][v]);
  }
}

template <class T, int kVectors>
void ProductBand(const Weights<T>& w, int64_t outputs, int64_t depth, const T* in, int64_t stride,
                 T* out) {
  int64_t o = 0;
  for (; o + kTileOutputs <= outputs; o += kTileOutputs) {
    ProductTile<T, kTileOutputs, kVectors>(w, o, depth, in, stride, out);
  }
  if (o + 2 <= outputs) {
    ProductTile<T, 2, kVectors>(w, o, depth, in, stride, out);
    o += 2;
  }
  if (o < outputs) ProductTile<T, 1, kVectors>(w, o, depth, in, stride, out);
}

template <class T>
void Product(const Weights<T>& w, int64_t outputs, int64_t depth, const T* in, int64_t n,
             int64_t stride, T* out) {
  int64_t row = 0;
  for (; row + (kTileVectors - 1) * kLanes<T> < n; row += kTileVectors * kLanes<T>) {
    ProductBand<T, kTileVectors>(w, outputs, depth, in + row, stride, out + row);
  }
  for (; row < n; row += kLanes<T>) {
    ProductBand<T, 1>(w, outputs, depth, in + row, stride, out + row);
  }
}

// Sums of neighbouring lanes of a, then of b.
template <class T, size_t... kLane>
[[gnu::always_inline]] inline Vec<T> AddPairs(Vec<T> a, Vec<T> b, std::index_sequence<kLane...>) {
  return __builtin_shufflevector(a, b, (2 * kLane)...) +
         __builtin_shufflevector(a, b, (2 * kLane + 1)...);
}

// Lane l of the result is the sum of the lanes of v[l], for kLanes vectors. Each sum is a tree over
// neighbouring lanes.
template <class T, int64_t kCount = kLanes<T>>
[[gnu::always_inline]] inline Vec<T> SumsOfLanes(const Vec<T>* v) {
  if constexpr (kCount == 1) {
    return v[0];
  } else {
    constexpr auto kAll = std::make_index_sequence<static_cast<size_t>(kLanes<T>)>();
    return AddPairs<T>(SumsOfLanes<T, kCount / 2>(v), SumsOfLanes<T, kCount / 2>(v + kCount / 2),
                       kAll);
  }
}

// Sets out[i] to the sum of the lanes of v[i]. The number of vectors is known at compile time.
template <class T, int kCount>
[[gnu::always_inline]] inline void StoreLaneSums(const Vec<T>* v, T* out) {
  constexpr int kWhole = static_cast<int>(WholeVectors<T>(kCount));
  Vec<T> group[kLanes<T>];
  for (int first = 0; first < kWhole; first += static_cast<int>(kLanes<T>)) {
    for (int i = 0; i < kLanes<T>; ++i) group[i] = first + i < kCount ? v[first + i] : Vec<T>{};
    Store<T>(out + first, SumsOfLanes<T>(group));
  }
}

// Computes dW for a tile of inputs i and units u and, with kBias, db of the units.
template <class T, int kInputs, int kUnits, bool kBias>
[[gnu::always_inline]] inline void GradientTile(const T* X, const T* dZ, int64_t n, int64_t stride,
                                                int64_t units, T* dW, T* db) {
  constexpr int kSums = (kInputs + kBias) * kUnits;
  Vec<T> sum[kSums] = {};
  const auto add = [&](int64_t row, auto load) __attribute__((always_inline)) {
    Vec<T> dz[kUnits];
    for (int u = 0; u < kUnits; ++u) dz[u] = load(dZ + u * stride + row);
    for (int i = 0; i < kInputs; ++i) {
      const Vec<T> x = load(X + i * stride + row);
      for (int u = 0; u < kUnits; ++u) sum[i * kUnits + u] += x * dz[u];
    }
    if constexpr (kBias) {
      for (int u = 0; u < kUnits; ++u) sum[kInputs * kUnits + u] += dz[u];
    }
  };
  int64_t row = 0;
  for (; row + kLanes<T> <= n; row += kLanes<T>) add(row, Load<T>);
  if (row < n) {  // padding after the rows counts as 0
    const IntVec<T> is_row = FirstLanes<T>(n - row);
    add(row, [&](const T* from) { return is_row ? Load<T>(from) : Vec<T>{}; });
  }
  T sums[WholeVectors<T>(kSums)];
  StoreLaneSums<T, kSums>(sum, sums);
  for (int i = 0; i < kInputs; ++i) {
    for (int u = 0; u < kUnits; ++u) dW[i * units + u] = sums[i * kUnits + u];
  }
  if constexpr (kBias) {
    for (int u = 0; u < kUnits; ++u) db[u] = sums[kInputs * kUnits + u];
  }
}

template <class T, int kUnits>
void GradientBand(const LayerPlan& layer, const T* X, const T* dZ, int64_t n, int64_t stride,
                  int64_t u, T* gradients) {
  const int64_t units = layer.units;
  T* dW = gradients + layer.weights_offset + u;
  T* db = gradients + layer.bias_offset + u;
  const T* dz = dZ + u * stride;
  // With the bias, the sums of three inputs fill the registers; without it, those of four.
  int64_t i = std::min<int64_t>(layer.inputs, 3);
  switch (i) {
    case 1:
      GradientTile<T, 1, kUnits, true>(X, dz, n, stride, units, dW, db);
      break;
    case 2:
      GradientTile<T, 2, kUnits, true>(X, dz, n, stride, units, dW, db);
      break;
    default:
      GradientTile<T, 3, kUnits, true>(X, dz, n, stride, units, dW, db);
  }
  const auto at = [&](auto tile) { tile(X + i * stride, dW + i * units); };
  for (; i + 4 <= layer.inputs; i += 4) {
    at([&](const T* x, T* to) {
      GradientTile<T, 4, kUnits, false>(x, dz, n, stride, units, to, nullptr);
    });
  }
  if (i + 2 <= layer.inputs) {
    at([&](const T* x, T* to) {
      GradientTile<T, 2, kUnits, false>(x, dz, n, stride, units, to, nullptr);
    });
    i += 2;
  }
  if (i < layer.inputs) {
    at([&](const T* x, T* to) {
      GradientTile<T, 1, kUnits, false>(x, dz, n, stride, units, to, nullptr);
    });
  }
}

// d is known at compile time, so that whole vectors are transposed.
template <class T, int kColumns>
void TurnNarrow(const T* x, int64_t n, int64_t stride, T* X) {
  for (int64_t i = 0; i < n; ++i) {
    for (int j = 0; j < kColumns; ++j) X[j * stride + i] = x[i * kColumns + j];
  }
}

}  // namespace

template <class T>
void ToFeatureMajor(const T* x, int64_t n, int64_t d, int64_t stride, T* X) {
  if (d == 1) {
    std::copy_n(x, n, X);
  } else if (d == 2) {
    TurnNarrow<T, 2>(x, n, stride, X);
  } else if (d == 3) {
    TurnNarrow<T, 3>(x, n, stride, X);
  } else if (d == 4) {
    TurnNarrow<T, 4>(x, n, stride, X);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < d; ++j) X[j * stride + i] = x[i * d + j];
    }
  }
  const int64_t room = WholeVectors<T>(n);
  for (int64_t j = 0; j < d; ++j) std::fill(X + j * stride + n, X + j * stride + room, T(0));
}

template <class T>
void ToRowMajor(const T* Z, int64_t n, int64_t k, int64_t stride, T* z) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) z[i * k + j] = Z[j * stride + i];
  }
}

template <class T>
void DenseForward(const LayerPlan& layer, const T* parameters, const T* X, int64_t n,
                  int64_t stride, T* Z) {
  Product<T>({parameters + layer.weights_offset, layer.units, 1, parameters + layer.bias_offset},
             layer.units, layer.inputs, X, n, stride, Z);
}

template <class T>
void DenseBackward(const LayerPlan& layer, const T* parameters, const T* dZ, int64_t n,
                   int64_t stride, T* dX) {
  Product<T>({parameters + layer.weights_offset, 1, layer.units, nullptr}, layer.inputs,
             layer.units, dZ, n, stride, dX);
}

template <class T>
void DenseGradients(const LayerPlan& layer, const T* X, const T* dZ, int64_t n, int64_t stride,
                    T* gradients) {
  int64_t u = 0;
  for (; u + 4 <= layer.units; u += 4) {
    GradientBand<T, 4>(layer, X, dZ, n, stride, u, gradients);
  }
  if (u + 2 <= layer.units) {
    GradientBand<T, 2>(layer, X, dZ, n, stride, u, gradients);
    u += 2;
  }
  if (u < layer.units) GradientBand<T, 1>(layer, X, dZ, n, stride, u, gradients);
}

template void ToFeatureMajor(const float*, int64_t, int64_t, int64_t, float*);
template void ToFeatureMajor(const double*, int64_t, int64_t, int64_t, double*);
template void ToRowMajor(const float*, int64_t, int64_t, int64_t, float*);
template void ToRowMajor(const double*, int64_t, int64_t, int64_t, double*);
template void DenseForward(const LayerPlan&, const float*, const float*, int64_t, int64_t, float*);
template void DenseForward(const LayerPlan&, const double*, const double*, int64_t, int64_t,
                           double*);
template void DenseBackward(const LayerPlan&, const float*, const float*, int64_t, int64_t, float*);
template void DenseBackward(const LayerPlan&, const double*, const double*, int64_t, int64_t,
                            double*);
template void DenseGradients(const LayerPlan&, const float*, const float*, int64_t, int64_t,
                             float*);
template void DenseGradients(const LayerPlan&, const double*, const double*, int64_t, int64_t,
                             double*);

}  // namespace backprop::engine
