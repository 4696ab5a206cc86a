// Inverted dropout (Srivastava et al. 2014) as in PyTorch: retained outputs are multiplied by 1/(1
// − rate).
#ifndef BACKPROP_SERVER_ENGINE_DROPOUT_H_
#define BACKPROP_SERVER_ENGINE_DROPOUT_H_

#include <cstdint>

#include "server/engine/random.h"

namespace backprop::engine {

// Rows [first_row, first_row + rows) of a layer's outputs (n, units), and their strides in
// elements.
struct MaskPart {
  int64_t first_row;
  int64_t rows;
  int64_t units;
  int64_t row_stride;
  int64_t unit_stride;
};

// Writes the mask, 0 or 1/(1 − rate), for a part of a layer's outputs; `mask` points to the part's
// first row. Element e = row·units + unit is retained if word e mod 4 of the block at position
// layer·2^48 + ⌊e/4⌋ of `random` is at least ⌊rate·2^32⌋. `random` must be RandomStream(seed,
// kDropout, s), where s is the model's step count before the step.
template <class T>
void DropoutMask(const RandomStream& random, size_t layer, double rate, const MaskPart& part,
                 T* mask);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_DROPOUT_H_
