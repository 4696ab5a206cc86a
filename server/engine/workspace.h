// The memory of a pass over a batch: what forward leaves for backward, and the gradients.
#ifndef BACKPROP_SERVER_ENGINE_WORKSPACE_H_
#define BACKPROP_SERVER_ENGINE_WORKSPACE_H_

#include <cstdint>
#include <vector>

#include "server/engine/buffer.h"
#include "server/engine/network.h"

namespace backprop::engine {

enum class PassKind { kForward, kForwardBackward };

// Grows to the largest network and batch it has been prepared for and is then reused without
// allocating. Belongs to one thread at a time.
class Workspace {
 public:
  // Lays out the memory for up to `rows` rows. Contents are undefined afterwards.
  void Prepare(const Network& network, int64_t rows, PassKind kind);

  // Bytes that Prepare would need; no overflow for specs and row counts within the limits.
  static int64_t BytesNeeded(const Network& network, int64_t rows, PassKind kind);

  // Rows of a forward pass that fit the caches' scale: what evaluation and prediction take at a
  // time. At least 1, at most 1024, a function of the network alone.
  static int64_t RowsAtOnce(const Network& network);

  // Gives memory back if more than `bytes` are held.
  void Trim(int64_t bytes);

  // z (n, units) of a layer: x·W + b.
  template <class T>
  T* z(size_t layer) {
    return at<T>(z_[layer]);
  }
  // a (n, units) of a layer: activation(z). The same memory as z for the identity.
  template <class T>
  T* a(size_t layer) {
    return at<T>(a_[layer]);
  }
  // x (n, d): the standardised inputs, for a network that standardises.
  template <class T>
  T* x() {
    return at<T>(x_);
  }
  // What dropout multiplies the outputs of a layer with (n, units): 0 or 1/(1 − rate); and the
  // product. For layers with dropout, in a kForwardBackward pass.
  template <class T>
  T* mask(size_t layer) {
    return at<T>(mask_[layer]);
  }
  template <class T>
  T* dropped(size_t layer) {
    return at<T>(dropped_[layer]);
  }
  // Two buffers (n, widest) between which dz travels backward.
  template <class T>
  T* dz(int which) {
    return at<T>(dz_[which]);
  }
  // Wᵀ (units, inputs) of the layer at hand.
  template <class T>
  T* transposed_weights() {
    return at<T>(transposed_);
  }
  // dL/dp (P), laid out as the parameters.
  template <class T>
  T* gradients() {
    return at<T>(gradients_);
  }
  const std::byte* gradient_bytes() const {
    return arena_.bytes() + gradients_ * SizeOf(arena_.type());
  }

 private:
  template <class T>
  T* at(int64_t offset) {
    return arena_.as<T>().data() + offset;
  }
  int64_t LayOut(const Network& network, int64_t rows, PassKind kind);

  Buffer arena_;
  std::vector<int64_t> z_;
  std::vector<int64_t> a_;
  std::vector<int64_t> mask_;
  std::vector<int64_t> dropped_;
  int64_t x_ = 0;
  int64_t dz_[2] = {};
  int64_t transposed_ = 0;
  int64_t gradients_ = 0;
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_WORKSPACE_H_
