#include "server/engine/loss.h"

#include <algorithm>
#include <cmath>

#include "server/engine/path.h"
#include "server/engine/vector_math.h"

namespace backprop::engine {
namespace {

// Element j of an optional list of weights.
template <class T>
T WeightAt(const std::vector<double>& weights, int64_t j) {
  return weights.empty() ? T(1) : static_cast<T>(weights[static_cast<size_t>(j)]);
}

// A vector of rows of a matrix, accessed by column. Lanes from `count` on have no row: they read as
// 0 from a row-major matrix and as the padding from a feature-major one.
template <class T, Layout kLayout>
struct Rows {
  T* at;
  int64_t stride;  // from row to row, or from column to column of a feature-major matrix
  int64_t count;

  using Element = std::remove_const_t<T>;

  [[gnu::always_inline]] Vec<Element> Load(int64_t j) const {
    if constexpr (kLayout == Layout::kFeatureMajor) return engine::Load<Element>(at + j * stride);
    Vec<Element> v = {};
    for (int64_t l = 0; l < count; ++l) v[l] = at[l * stride + j];
    return v;
  }
  [[gnu::always_inline]] void Store(int64_t j, Vec<Element> v) const {
    if constexpr (kLayout == Layout::kFeatureMajor) {
      engine::Store<T>(at + j * stride, v);
    } else {
      for (int64_t l = 0; l < count; ++l) at[l * stride + j] = v[l];
    }
  }
};

// The inputs of a loss for one vector of rows.
template <class T, Layout kLayout>
struct Block {
  const LossSpec& loss;
  int64_t k;
  Rows<const T, kLayout> z;
  bool indexed;  // targets are in `label`, otherwise in `targets`
  IntVec<T> label;
  Rows<const T, Layout::kRowMajor> targets;
  Vec<T> share;         // s_i / D, the factor of dz; 0 for rows of weight 0
  Rows<T, kLayout> dz;  // null: not computed
};

// Row losses without sample weights, and which rows were predicted correctly.
template <class T>
struct RowLosses {
  Vec<T> loss = {};
  IntVec<T> right = {};
};

// The index of the first largest of k columns.
template <class T>
struct Best {
  Vec<T> value;
  IntVec<T> column;
};
template <class T, Layout kLayout>
[[gnu::always_inline]] inline Best<T> BestOf(const Rows<const T, kLayout>& z, int64_t k) {
  Best<T> best = {z.Load(0), {}};
  for (int64_t j = 1; j < k; ++j) {
    const Vec<T> v = z.Load(j);
    best.column = v > best.value ? IntVec<T>{} + static_cast<IntOf<T>>(j) : best.column;
    best.value = v > best.value ? v : best.value;
  }
  return best;
}

// The targets of a row are smoothed and weighted by class, q_j = w_j·((1 − ε)·y_j + ε/k); their sum
// is Q:
//   loss = −Σ_j q_j·log softmax(z)_j = Q·log Σ_j e^(z_j − m) − Σ_j q_j·(z_j − m),  m = max z
//   dz   = share·(Q·softmax(z) − q)
// The loss is a sum of terms q_j·(log Σ − (z_j − m)) ≥ 0, so that nothing cancels.
template <class T, Layout kLayout>
[[gnu::always_inline]] inline RowLosses<T> SoftmaxCrossEntropy(const Block<T, kLayout>& b) {
  using V = Vec<T>;
  const Best<T> best = BestOf(b.z, b.k);
  const bool differentiate = b.dz.at != nullptr;
  V sum_exp = {};
  for (int64_t j = 0; j < b.k; ++j) {
    const V e = ExpNonPositive<T>(b.z.Load(j) - best.value);
    sum_exp += e;
    if (differentiate) b.dz.Store(j, e);
  }
  const V log_sum = Log<T>(sum_exp);
  RowLosses<T> rows;
  rows.right = best.column == (b.indexed ? b.label : BestOf(b.targets, b.k).column);
  const auto is_label = [&](int64_t j) { return b.label == static_cast<IntOf<T>>(j); };
  // Without smoothing, only the term of the label is not 0.
  if (b.indexed && b.loss.label_smoothing == 0) {
    V z_label = {}, q_label = {};
    for (int64_t j = 0; j < b.k; ++j) {
      z_label = is_label(j) ? b.z.Load(j) : z_label;
      q_label = is_label(j) ? Splat<T>(WeightAt<T>(b.loss.class_weights, j)) : q_label;
    }
    rows.loss = q_label * (log_sum - (z_label - best.value));
    if (!differentiate) return rows;
    const V wanted = q_label * b.share;
    const V scale = wanted / sum_exp;
    for (int64_t j = 0; j < b.k; ++j) {
      b.dz.Store(j, b.dz.Load(j) * scale - (is_label(j) ? wanted : V{}));
    }
    return rows;
  }
  const T smooth = static_cast<T>(b.loss.label_smoothing);
  const auto q = [&](int64_t j) {
    const V y = b.indexed ? (is_label(j) ? Splat<T>(1) : V{}) : b.targets.Load(j);
    return WeightAt<T>(b.loss.class_weights, j) * ((1 - smooth) * y + smooth / static_cast<T>(b.k));
  };
  V Q = {};
  for (int64_t j = 0; j < b.k; ++j) {
    Q += q(j);
    rows.loss += q(j) * (log_sum - (b.z.Load(j) - best.value));
  }
  if (!differentiate) return rows;
  const V scale = Q / sum_exp;
  for (int64_t j = 0; j < b.k; ++j) {
    b.dz.Store(j, (b.dz.Load(j) * scale - q(j)) * b.share);
  }
  return rows;
}

// For each element, with p its pos_weight and w its class weight:
//   loss = w·((1 − y)·z + (1 + (p − 1)·y)·log(1 + e^−z));  dz = share/k·w·((1 + (p − 1)·y)·σ(z) −
//   p·y)
// where log(1 + e^−z) = max(−z, 0) + log(1 + e^−|z|).
template <class T, Layout kLayout>
[[gnu::always_inline]] inline RowLosses<T> BinaryCrossEntropy(const Block<T, kLayout>& b) {
  using V = Vec<T>;
  const T k = static_cast<T>(b.k);
  RowLosses<T> rows;
  rows.right = ~IntVec<T>{};
  for (int64_t j = 0; j < b.k; ++j) {
    const V z = b.z.Load(j);
    const V y = b.indexed ? (b.label > 0 ? Splat<T>(1) : V{}) : b.targets.Load(j);
    const T p = WeightAt<T>(b.loss.pos_weight, j);
    const T w = WeightAt<T>(b.loss.class_weights, j);
    const V both = 1 + (p - 1) * y;
    const V log_term = Log1pOfUnit<T>(ExpNonPositive<T>(-Abs<T>(z)));
    // A sum of terms ≥ 0 for either sign of z.
    rows.loss += z > 0 ? w * ((1 - y) * z + both * log_term) : w * (both * log_term - p * y * z);
    rows.right &= ((z > 0) ^ ~(y > T(0.5)));
    if (b.dz.at != nullptr) b.dz.Store(j, w * (both * Sigmoid<T>(z) - p * y) / k * b.share);
  }
  rows.loss /= k;
  return rows;
}

// d = z − y.  squared: d², 2·d;  absolute: |d|, sign d (0 at 0);
// Huber: d²/2, d where |d| ≤ δ, else δ·(|d| − δ/2), δ·sign d.
template <class T, Layout kLayout>
[[gnu::always_inline]] inline RowLosses<T> Regression(const Block<T, kLayout>& b) {
  using V = Vec<T>;
  const T k = static_cast<T>(b.k);
  const T delta = static_cast<T>(b.loss.delta);
  RowLosses<T> rows;
  for (int64_t j = 0; j < b.k; ++j) {
    const V d = b.z.Load(j) - b.targets.Load(j);
    const V size = Abs<T>(d);
    const V sign = d > 0 ? Splat<T>(1) : d < 0 ? Splat<T>(-1) : V{};
    V slope;
    if (b.loss.kind == Loss::kMeanSquaredError) {
      rows.loss += d * d;
      slope = 2 * d;
    } else if (b.loss.kind == Loss::kMeanAbsoluteError) {
      rows.loss += size;
      slope = sign;
    } else {
      const auto near = size <= delta;
      rows.loss += near ? T(0.5) * d * d : delta * (size - T(0.5) * delta);
      slope = near ? d : delta * sign;
    }
    if (b.dz.at != nullptr) b.dz.Store(j, slope / k * b.share);
  }
  rows.loss /= k;
  return rows;
}

template <class T, Layout kLayout>
[[gnu::always_inline]] inline RowLosses<T> LossOf(const Block<T, kLayout>& block) {
  switch (block.loss.kind) {
    case Loss::kSoftmaxCrossEntropy:
      return SoftmaxCrossEntropy(block);
    case Loss::kBinaryCrossEntropy:
      return BinaryCrossEntropy(block);
    default:
      return Regression(block);
  }
}

// Rows [first, first + count) of a row-major matrix (n, k); null if the matrix is null.
template <class T>
Rows<T, Layout::kRowMajor> RowsAt(T* matrix, int64_t k, int64_t first, int64_t count) {
  return {matrix == nullptr ? nullptr : matrix + first * k, k, count};
}

template <class T>
IntVec<T> Labels(const int32_t* classes, int64_t count) {
  typename VectorOf<int32_t, 4 * kLanes<T>>::type label = {};
  if (count == kLanes<T>) {
    std::memcpy(&label, classes, sizeof label);
  } else {
    for (int64_t l = 0; l < count; ++l) label[l] = classes[l];
  }
  return __builtin_convertvector(label, IntVec<T>);
}

// s / D, divided in float64; 0 if D is 0.
template <class T>
T Share(T s, double D) {
  return D > 0 ? static_cast<T>(static_cast<double>(s) / D) : T(0);
}
template <class T>
Vec<T> Shares(Vec<T> s, double D) {
  Vec<T> share;
  for (int64_t l = 0; l < kLanes<T>; ++l) share[l] = Share<T>(s[l], D);
  return share;
}

}  // namespace

// Σ s_i; for softmax cross-entropy with class indices Σ s_i·w_{y_i}, as in PyTorch.
template <class T>
LossResult LossWeights(const LossSpec& loss, const LossInput<T>& in) {
  LossResult result;
  const bool by_class = loss.kind == Loss::kSoftmaxCrossEntropy && in.classes != nullptr &&
                        !loss.class_weights.empty();
  if (in.sample_weights == nullptr && !by_class) {
    result.rows = result.weight = static_cast<double>(in.n);
    return result;
  }
  for (int64_t i = 0; i < in.n; ++i) {
    const double s = in.sample_weights == nullptr ? 1 : static_cast<double>(in.sample_weights[i]);
    result.rows += s;
    result.weight += by_class ? s * WeightAt<double>(loss.class_weights, in.classes[i]) : s;
  }
  return result;
}

namespace {

template <class T, Layout kLayout>
LossResult Sums(const LossSpec& loss, const LossInput<T>& in, double D, T* dz) {
  LossResult result = LossWeights(loss, in);
  WideSum<T> sum, correct;
  const bool weighted = in.sample_weights != nullptr;
  const Vec<T> equal_share = Splat<T>(Share<T>(1, D));
  const auto rows_at = [&](auto* matrix, int64_t i, int64_t count) {
    using Element = std::remove_pointer_t<decltype(matrix)>;
    const bool feature_major = kLayout == Layout::kFeatureMajor;
    return Rows<Element, kLayout>{
        matrix == nullptr ? nullptr : matrix + (feature_major ? i : i * in.k),
        feature_major ? in.column_stride : in.k, count};
  };
  for (int64_t i = 0; i < in.n; i += kLanes<T>) {
    const int64_t count = std::min(kLanes<T>, in.n - i);
    // s_i; 0 in lanes without a row.
    const Vec<T> s = weighted             ? LoadPart<T>(in.sample_weights + i, count)
                     : count == kLanes<T> ? Splat<T>(1)
                                          : (FirstLanes<T>(count) ? Splat<T>(1) : Vec<T>{});
    const Block<T, kLayout> block = {
        loss,
        in.k,
        rows_at(in.z, i, count),
        in.classes != nullptr,
        in.classes != nullptr ? Labels<T>(in.classes + i, count) : IntVec<T>{},
        RowsAt(in.targets, in.k, i, count),
        weighted ? Shares<T>(s, D) : equal_share,
        rows_at(dz, i, count)};
    const RowLosses<T> rows = LossOf(block);
    correct.Add(rows.right ? s : Vec<T>{});
    if (!weighted && count == kLanes<T>) {
      sum.Add(rows.loss);
      continue;
    }
    // Rows of weight 0 and lanes without a row contribute nothing, whatever their loss.
    sum.Add(s == 0 ? Vec<T>{} : s * rows.loss);
    if (dz == nullptr) continue;
    for (int64_t j = 0; j < in.k; ++j) {
      block.dz.Store(j, s == 0 ? Vec<T>{} : block.dz.Load(j));
    }
  }
  result.sum = sum.Total();
  result.correct = correct.Total();
  return result;
}

}  // namespace

template <class T>
LossResult ComputeLoss(const LossSpec& loss, const LossInput<T>& in, double D, T* dz) {
  return in.column_stride > 0 ? Sums<T, Layout::kFeatureMajor>(loss, in, D, dz)
                              : Sums<T, Layout::kRowMajor>(loss, in, D, dz);
}

template <class T>
void Probabilities(Loss loss, const T* z, T* p, int64_t n, int64_t k) {
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    const int64_t count = std::min(kLanes<T>, n - i);
    const auto from = RowsAt(z, k, i, count);
    const auto to = RowsAt(p, k, i, count);
    if (loss == Loss::kBinaryCrossEntropy) {
      for (int64_t j = 0; j < k; ++j) to.Store(j, Sigmoid<T>(from.Load(j)));
      continue;
    }
    const Vec<T> m = BestOf(from, k).value;
    Vec<T> sum_exp = {};
    for (int64_t j = 0; j < k; ++j) {
      const Vec<T> e = ExpNonPositive<T>(from.Load(j) - m);
      sum_exp += e;
      to.Store(j, e);
    }
    for (int64_t j = 0; j < k; ++j) to.Store(j, to.Load(j) / sum_exp);
  }
}

template <class T>
int32_t PredictedClass(Loss loss, const T* z, int64_t k) {
  if (loss == Loss::kBinaryCrossEntropy) return z[0] > 0 ? 1 : 0;
  return static_cast<int32_t>(std::max_element(z, z + k) - z);
}

template LossResult LossWeights(const LossSpec&, const LossInput<float>&);
template LossResult LossWeights(const LossSpec&, const LossInput<double>&);
template LossResult ComputeLoss(const LossSpec&, const LossInput<float>&, double, float*);
template LossResult ComputeLoss(const LossSpec&, const LossInput<double>&, double, double*);
template void Probabilities(Loss, const float*, float*, int64_t, int64_t);
template void Probabilities(Loss, const double*, double*, int64_t, int64_t);
template int32_t PredictedClass(Loss, const float*, int64_t);
template int32_t PredictedClass(Loss, const double*, int64_t);

}  // namespace backprop::engine
