// The losses, each next to its gradient.
#ifndef BACKPROP_SERVER_ENGINE_LOSS_H_
#define BACKPROP_SERVER_ENGINE_LOSS_H_

#include <cstdint>

#include "server/engine/spec.h"

namespace backprop::engine {

// What a loss is taken on: z (n, k), and either classes (n) or targets (n, k).
template <class T>
struct LossInput {
  int64_t n;
  int64_t k;
  const T* z;
  const int32_t* classes;
  const T* targets;
};

struct LossResult {
  double sum = 0;       // of the row losses; the loss is sum / n
  int64_t correct = 0;  // rows predicted right; 0 for mean squared error
};

// The loss's sum over rows and, where `dz` is not null, dz (n, k) = d(sum / n) / dz.
// Row losses are summed in double precision, in the order of the rows.
template <class T>
LossResult ComputeLoss(Loss loss, const LossInput<T>& in, T* dz);

// Probabilities p (n, k) from logits z: softmax, or sigmoid for binary cross-entropy. Not for mean
// squared error. p may be z.
template <class T>
void Probabilities(Loss loss, const T* z, T* p, int64_t n, int64_t k);

// The class of one row of logits z (k): the first largest; for one binary output z > 0.
template <class T>
int32_t PredictedClass(Loss loss, const T* z, int64_t k);

// Whether a loss counts correct rows.
constexpr bool HasAccuracy(Loss loss) { return loss != Loss::kMeanSquaredError; }

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_LOSS_H_
