#include "server/engine/workspace.h"

#include <algorithm>

namespace backprop::engine {

// Returns the number of elements and sets the offsets; each part starts at a multiple of 64 bytes.
int64_t Workspace::LayOut(const Network& network, int64_t rows, PassKind kind) {
  constexpr int64_t kRound = 16;
  int64_t end = 0;
  const auto take = [&](int64_t count) {
    const int64_t begin = end;
    end += (count + kRound - 1) / kRound * kRound;
    return begin;
  };
  z_.clear();
  a_.clear();
  mask_.clear();
  dropped_.clear();
  if (network.spec().standardize != Standardize::kNo) x_ = take(rows * network.inputs());
  for (const LayerPlan& layer : network.layers()) {
    const bool identity = layer.spec.activation == Activation::kIdentity;
    z_.push_back(take(rows * layer.units));
    a_.push_back(identity ? z_.back() : take(rows * layer.units));
    const bool drops = layer.spec.dropout > 0 && kind == PassKind::kForwardBackward;
    mask_.push_back(drops ? take(rows * layer.units) : 0);
    dropped_.push_back(drops ? take(rows * layer.units) : 0);
  }
  if (kind == PassKind::kForwardBackward) {
    dz_[0] = take(rows * network.widest());
    dz_[1] = take(rows * network.widest());
    transposed_ = take(network.largest_weights());
    gradients_ = take(network.parameter_count());
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
