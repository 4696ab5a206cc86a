// The losses, each next to its gradient.
#ifndef BACKPROP_SERVER_ENGINE_LOSS_H_
#define BACKPROP_SERVER_ENGINE_LOSS_H_

#include <cstdint>

#include "server/engine/spec.h"

namespace backprop::engine {

// What a loss is taken on: z (n, k), and either classes (n) or targets (n, k); sample weights (n),
// ≥ 0, or null for ones.
template <class T>
struct LossInput {
  int64_t n;
  int64_t k;
  const T* z;
  const int32_t* classes;
  const T* targets;
  const T* sample_weights = nullptr;
  // 0: z and dz are row-major. Else they are feature-major, column j from j·column_stride on, with
  // room for whole vectors of rows behind each; dz is 0 there.
  int64_t column_stride = 0;
};

// Sums over rows, so that batches add up. s_i is the weight of sample i.
struct LossResult {
  double sum = 0;     // Σ s_i·(loss of row i)
  double weight = 0;  // D: Σ s_i; for softmax cross-entropy with class indices Σ s_i·(class weight)
  double correct = 0;  // Σ s_i over rows predicted right; 0 for a regression
  double rows = 0;     // Σ s_i

  // The loss: sum / D, or 0 where D is 0, which is a batch that weighs nothing.
  double mean() const { return weight > 0 ? sum / weight : 0; }
  double accuracy() const { return rows > 0 ? correct / rows : 0; }
  LossResult& operator+=(const LossResult& other) {
    sum += other.sum;
    weight += other.weight;
    correct += other.correct;
    rows += other.rows;
    return *this;
  }
};

// The weights alone: `weight` and `rows`.
template <class T>
LossResult LossWeights(const LossSpec& loss, const LossInput<T>& in);

// The sums and, where `dz` is not null, dz (n, k), laid out as z: the gradient of sum / D, where D
// is the `weight` of all rows that the mean is taken over, of which these may be a part. One pass
// over the rows, a vector of them at a time; row losses are summed in float64.
template <class T>
LossResult ComputeLoss(const LossSpec& loss, const LossInput<T>& in, double D, T* dz);

// The same where the rows are all.
template <class T>
LossResult ComputeLoss(const LossSpec& loss, const LossInput<T>& in, T* dz) {
  return ComputeLoss<T>(loss, in, LossWeights(loss, in).weight, dz);
}

// Probabilities p (n, k) from logits z: softmax, or sigmoid for binary cross-entropy. Not for a
// regression. p may be z.
template <class T>
void Probabilities(Loss loss, const T* z, T* p, int64_t n, int64_t k);

// The class of one row of logits z (k): the first largest; for one binary output z > 0.
template <class T>
int32_t PredictedClass(Loss loss, const T* z, int64_t k);

// Whether the model tells classes apart; else it is a regression.
constexpr bool Classifies(Loss loss) {
  return loss == Loss::kSoftmaxCrossEntropy || loss == Loss::kBinaryCrossEntropy;
}

// Number of classes that indices and names of classes can mean; 0 if a model with that many outputs
// takes targets alone.
constexpr int64_t ClassesOf(Loss loss, int64_t outputs) {
  if (loss == Loss::kSoftmaxCrossEntropy) return outputs;
  return loss == Loss::kBinaryCrossEntropy && outputs == 1 ? 2 : 0;
}

// Whether the loss has a kink where z = y.
constexpr bool HasKink(Loss loss) { return loss == Loss::kMeanAbsoluteError; }

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_LOSS_H_
