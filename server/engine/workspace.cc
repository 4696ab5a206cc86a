#include "server/engine/workspace.h"

#include <algorithm>

#include "server/engine/activation.h"
#include "server/engine/matmul.h"
#include "server/engine/optimizer.h"

namespace backprop::engine {

namespace {

// Elements in 64 bytes of float32. Every array starts at a multiple of it; it is a whole number of
// vectors in either precision.
constexpr int64_t kRound = 16;

int64_t Rounded(int64_t count) { return (count + kRound - 1) / kRound * kRound; }

// Distance between features. Not a multiple of a page, because then all features would compete for
// the same cache lines.
int64_t StrideFor(int64_t rows) {
  constexpr int64_t kPage = 4096 / 8;
  const int64_t stride = Rounded(rows);
  return stride % kPage == 0 ? stride + kRound : stride;
}

}  // namespace

// Sets the offsets and returns the total number of elements.
int64_t Workspace::LayOut(const Network& network, int64_t rows, PassKind kind) {
  int64_t end = 0;
  const auto take = [&](int64_t count) {
    const int64_t begin = end;
    end += Rounded(count);
    return begin;
  };
  layout_ = LayoutOf(network);
  stride_ = StrideFor(rows);
  const bool feature_major = layout_ == Layout::kFeatureMajor;
  const int64_t room = feature_major ? stride_ : rows;
  const bool standardizes = network.spec().standardize != Standardize::kNo;
  units_.clear();
  z_.clear();
  a_.clear();
  mask_.clear();
  dropped_.clear();
  x_ = feature_major || standardizes ? take(room * network.inputs()) : 0;
  standardized_ = feature_major && standardizes ? take(rows * network.inputs()) : x_;
  for (const LayerPlan& layer : network.layers()) {
    const int64_t size = room * layer.units;
    units_.push_back(layer.units);
    z_.push_back(take(size));
    a_.push_back(NeedsZ(layer.spec) ? take(size) : z_.back());
    const bool drops = layer.spec.dropout > 0 && kind == PassKind::kForwardBackward;
    mask_.push_back(drops ? take(size) : 0);
    dropped_.push_back(drops ? take(size) : 0);
  }
  outputs_ = feature_major ? take(rows * network.outputs()) : a_.back();
  shards_ = ShardsOf(network, rows);
  if (kind == PassKind::kForwardBackward) {
    dz_[0] = take(room * network.widest());
    dz_[1] = take(room * network.widest());
    scratch_size_ = 0;
    if (!feature_major) {
      for (const LayerPlan& layer : network.layers()) {
        scratch_size_ =
            std::max(scratch_size_, Rounded(TransposeScratch(layer.units, layer.inputs)));
      }
    }
    scratch_ = take(shards_.count * scratch_size_);
    gradients_size_ = Rounded(network.parameter_count());
    gradients_ = take(shards_.count * gradients_size_);
    partial_sums_ = take(2 * NormPartialSums(network.parameter_count()));  // always float64
  }
  return end;
}

void Workspace::Prepare(const Network& network, int64_t rows, PassKind kind) {
  const int64_t needed = LayOut(network, rows, kind);
  const DataType type = network.spec().data_type;
  if (arena_.type() != type || arena_.count() < needed) {
    arena_ = Buffer();  // free before allocating: the peak is one arena
    arena_ = Buffer(type, needed);
  }
}

int64_t Workspace::BytesNeeded(const Network& network, int64_t rows, PassKind kind) {
  Workspace plan;
  return plan.LayOut(network, rows, kind) * SizeOf(network.spec().data_type);
}

int64_t Workspace::RowsAtOnce(const Network& network) {
  constexpr int64_t kMostRows = 1024;
  constexpr int64_t kMostBytes = int64_t{16} << 20;
  return std::clamp<int64_t>(kMostBytes / BytesNeeded(network, 1, PassKind::kForward), 1,
                             kMostRows);
}

void Workspace::Trim(int64_t bytes) {
  if (static_cast<int64_t>(arena_.size_bytes()) > bytes) arena_ = Buffer();
}

}  // namespace backprop::engine
