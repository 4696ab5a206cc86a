// The memory of a pass over a batch: what forward leaves for backward, and the gradients.
#ifndef BACKPROP_SERVER_ENGINE_WORKSPACE_H_
#define BACKPROP_SERVER_ENGINE_WORKSPACE_H_

#include <cstdint>
#include <vector>

#include "server/engine/buffer.h"
#include "server/engine/network.h"
#include "server/engine/path.h"

namespace backprop::engine {

enum class PassKind { kForward, kForwardBackward };

// The numbers of one layer for every row: element (row, unit), whatever the layout.
template <class T>
struct UnitView {
  const T* at;
  int64_t row_stride;
  int64_t unit_stride;
  T operator()(int64_t row, int64_t unit) const {
    return at[row * row_stride + unit * unit_stride];
  }
};

// Grows to the largest network and batch it has been prepared for and is then reused without
// allocating. Belongs to one thread at a time; in a pass, to those that it is shared out to.
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

  Layout layout() const { return layout_; }
  // Feature-major: from one feature to the next, at least the rows rounded up to whole vectors.
  int64_t stride() const { return stride_; }
  Shards shards() const { return shards_; }

  // What follows has room for every row of each unit, (n, units) or (units, stride).
  // z of a layer: x·W + b. Where backward does not ask for it, the same memory as a.
  template <class T>
  T* z(size_t layer) {
    return at<T>(z_[layer]);
  }
  // a of a layer: activation(z).
  template <class T>
  T* a(size_t layer) {
    return at<T>(a_[layer]);
  }
  // What enters the first layer, if that is not the inputs themselves: standardised or turned
  // feature-major.
  template <class T>
  T* x() {
    return at<T>(x_);
  }
  // The inputs standardised but row-major, for a feature-major network that does that.
  template <class T>
  T* standardized() {
    return at<T>(standardized_);
  }
  // What dropout multiplies the outputs of a layer with: 0 or 1/(1 − rate); and the product. For
  // layers with dropout, in a kForwardBackward pass.
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
  // Two buffers (n, widest) between which dz travels backward.
  template <class T>
  T* dz(int which) {
    return at<T>(dz_[which]);
  }
  // What MatMulTransposedB asks for, of each shard.
  template <class T>
  T* scratch(int64_t shard) {
    return at<T>(scratch_ + shard * scratch_size_);
  }
  // dL/dp (P), laid out as the parameters; of each shard until they are added to the first's.
  template <class T>
  T* gradients(int64_t shard = 0) {
    return at<T>(gradients_ + shard * gradients_size_);
  }
  const std::byte* gradient_bytes() const {
    return arena_.bytes() + gradients_ * SizeOf(arena_.type());
  }
  // What GradientNorm asks for.
  double* partial_sums() {
    return reinterpret_cast<double*>(arena_.bytes() + partial_sums_ * SizeOf(arena_.type()));
  }
  // The outputs (n, k), row-major, where the layout is not.
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
