// Loss functions and their gradients.
#ifndef BACKPROP_SERVER_ENGINE_LOSS_H_
#define BACKPROP_SERVER_ENGINE_LOSS_H_

#include <cstdint>

#include "server/engine/spec.h"

namespace backprop::engine {

// The inputs of a loss: z (n, k); either classes (n) or targets (n, k); and sample weights (n), ≥
// 0, or null for all 1.
template <class T>
struct LossInput {
  int64_t n;
  int64_t k;
  const T* z;
  const int32_t* classes;
  const T* targets;
  const T* sample_weights = nullptr;
  // 0: z and dz are row-major. Otherwise they are feature-major: column j starts at j·column_stride
  // and has padding to whole vectors after its n rows. Padding of dz is set to 0.
  int64_t column_stride = 0;
};

// Weighted sums over rows; results of several batches can be added. s_i is the weight of row i.
struct LossResult {
  double sum = 0;     // Σ s_i·(loss of row i)
  double weight = 0;  // D: Σ s_i; for softmax cross-entropy with class indices Σ s_i·(class weight)
  double correct = 0;  // Σ s_i over correctly predicted rows; 0 for a regression
  double rows = 0;     // Σ s_i

  // The mean loss, sum / D, or 0 if D is 0, as for a batch whose weights are all 0.
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

// Computes only `weight` and `rows` of the result.
template <class T>
LossResult LossWeights(const LossSpec& loss, const LossInput<T>& in);

// Computes the sums and, unless `dz` is null, dz (n, k) in the layout of z: the gradient of sum /
// D. D is the `weight` of all rows of the mean; these rows may be a part of them. Makes one pass
// over the rows, a vector of rows at a time, and sums row losses in float64.
template <class T>
LossResult ComputeLoss(const LossSpec& loss, const LossInput<T>& in, double D, T* dz);

// The same for a mean over exactly these rows.
template <class T>
LossResult ComputeLoss(const LossSpec& loss, const LossInput<T>& in, T* dz) {
  return ComputeLoss<T>(loss, in, LossWeights(loss, in).weight, dz);
}

// Sets the probabilities p (n, k) from logits z: softmax, or sigmoid for binary cross-entropy. Not
// for regression losses. p may be z.
template <class T>
void Probabilities(Loss loss, const T* z, T* p, int64_t n, int64_t k);

// Returns the predicted class of one row of logits z (k): the first largest; with one binary output
// 1 if z > 0, else 0.
template <class T>
int32_t PredictedClass(Loss loss, const T* z, int64_t k);

// Whether a model with this loss is a classifier; otherwise it is a regression.
constexpr bool Classifies(Loss loss) {
  return loss == Loss::kSoftmaxCrossEntropy || loss == Loss::kBinaryCrossEntropy;
}

// Number of classes that class indices and class names refer to; 0 if a model with this loss and
// number of outputs accepts only numeric targets.
constexpr int64_t ClassesOf(Loss loss, int64_t outputs) {
  if (loss == Loss::kSoftmaxCrossEntropy) return outputs;
  return loss == Loss::kBinaryCrossEntropy && outputs == 1 ? 2 : 0;
}

// Whether the loss has a kink at z = y.
constexpr bool HasKink(Loss loss) { return loss == Loss::kMeanAbsoluteError; }

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_LOSS_H_
