// The memory of a pass over a batch: results of the forward pass for the backward pass, and the
// gradients.
#ifndef BACKPROP_SERVER_ENGINE_WORKSPACE_H_
#define BACKPROP_SERVER_ENGINE_WORKSPACE_H_

#include <cstdint>
#include <vector>

#include "server/engine/buffer.h"
#include "server/engine/network.h"
#include "server/engine/path.h"

namespace backprop::engine {

enum class PassKind { kForward, kForwardBackward };

// The values of one layer for all rows: element (row, unit) in either layout.
template <class T>
struct UnitView {
  const T* at;
  int64_t row_stride;
  int64_t unit_stride;
  T operator()(int64_t row, int64_t unit) const {
    return at[row * row_stride + unit * unit_stride];
  }
};

// Grows to the largest network and batch that it is prepared for and then reuses its memory.
// Thread-compatible: one pass at a time, whose shards may run on several threads.
class Workspace {
 public:
  // Lays out the memory for up to `rows` rows. The contents are undefined afterwards.
  void Prepare(const Network& network, int64_t rows, PassKind kind);

  // Returns the bytes that Prepare() needs. Does not overflow for specs and row counts within the
  // server's limits.
  static int64_t BytesNeeded(const Network& network, int64_t rows, PassKind kind);

  // Number of rows per forward pass in evaluation and prediction, chosen for the size of the
  // caches: from 1 to 1024, a function of the network alone.
  static int64_t RowsAtOnce(const Network& network);

  // Frees the memory if it exceeds `bytes`.
  void Trim(int64_t bytes);

  Layout layout() const { return layout_; }
  // Feature-major: distance between features, at least the number of rows rounded up to whole
  // vectors.
  int64_t stride() const { return stride_; }
  Shards shards() const { return shards_; }

  // The following arrays hold every row of each unit, (n, units) or (units, stride).
  // z of a layer: x·W + b. The same memory as a unless the backward pass reads z.
  template <class T>
  T* z(size_t layer) {
    return at<T>(z_[layer]);
  }
  // a of a layer: activation(z).
  template <class T>
  T* a(size_t layer) {
    return at<T>(a_[layer]);
  }
  // The input of the first layer, unless that is the batch's inputs themselves: standardised or
  // transposed to feature-major.
  template <class T>
  T* x() {
    return at<T>(x_);
  }
  // The standardised inputs, row-major, for a feature-major network.
  template <class T>
  T* standardized() {
    return at<T>(standardized_);
  }
  // The dropout mask of a layer, 0 or 1/(1 − rate), and the product of mask and outputs. For layers
  // with dropout in a kForwardBackward pass.
  template <class T>
  T* mask(size_t layer) {
    return at<T>(mask_[layer]);
  }
  template <class T>
  T* dropped(size_t layer) {
    return at<T>(dropped_[layer]);
  }
  template <class T>
  UnitView<T> View(const T* values, size_t layer) const {
    if (layout_ == Layout::kFeatureMajor) return {values, 1, stride_};
    return {values, units_[layer], 1};
  }
  // Two buffers (n, widest); the backward pass alternates dz between them.
  template <class T>
  T* dz(int which) {
    return at<T>(dz_[which]);
  }
  // The scratch memory of MatMulTransposedB(), one per shard.
  template <class T>
  T* scratch(int64_t shard) {
    return at<T>(scratch_ + shard * scratch_size_);
  }
  // dL/dp (P), laid out like the parameters. Each shard has its own until they are added to the
  // first.
  template <class T>
  T* gradients(int64_t shard = 0) {
    return at<T>(gradients_ + shard * gradients_size_);
  }
  const std::byte* gradient_bytes() const {
    return arena_.bytes() + gradients_ * SizeOf(arena_.type());
  }
  // The scratch memory of GradientNorm().
  double* partial_sums() {
    return reinterpret_cast<double*>(arena_.bytes() + partial_sums_ * SizeOf(arena_.type()));
  }
  // The outputs (n, k), row-major, if the layout is feature-major.
  template <class T>
  T* outputs() {
    return at<T>(outputs_);
  }

 private:
  template <class T>
  T* at(int64_t offset) {
    return arena_.as<T>().data() + offset;
  }
  int64_t LayOut(const Network& network, int64_t rows, PassKind kind);

  Buffer arena_;
  Layout layout_ = Layout::kRowMajor;
  Shards shards_ = {1, 0};
  int64_t stride_ = 0;
  std::vector<int64_t> units_;
  std::vector<int64_t> z_;
  std::vector<int64_t> a_;
  std::vector<int64_t> mask_;
  std::vector<int64_t> dropped_;
  int64_t x_ = 0;
  int64_t standardized_ = 0;
  int64_t dz_[2] = {};
  int64_t scratch_ = 0;
  int64_t scratch_size_ = 0;
  int64_t gradients_ = 0;
  int64_t gradients_size_ = 0;
  int64_t partial_sums_ = 0;
  int64_t outputs_ = 0;
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_WORKSPACE_H_
