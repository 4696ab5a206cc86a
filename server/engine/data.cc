#include "server/engine/data.h"

#include <cstring>

namespace backprop::engine {
namespace {

Buffer Convert(const Buffer& from, DataType type) {
  Buffer to(type, from.count());
  for (int64_t i = 0; i < from.count(); ++i) to.Set(i, from.Get(i));
  return to;
}

int64_t RowBytes(const Buffer& buffer, int64_t per_row) { return per_row * SizeOf(buffer.type()); }

}  // namespace

BatchView Dataset::View(int64_t first, int64_t count) const {
  BatchView view;
  view.rows = count;
  view.inputs = inputs.bytes() + first * RowBytes(inputs, inputs_per_row);
  if (!classes.empty()) view.classes = classes.data() + first;
  if (targets.count() > 0)
    view.targets = targets.bytes() + first * RowBytes(targets, targets_per_row);
  if (sample_weights.count() > 0) {
    view.sample_weights = sample_weights.bytes() + first * RowBytes(sample_weights, 1);
  }
  return view;
}

Dataset Dataset::ConvertTo(DataType type) const {
  Dataset other;
  other.rows = rows;
  other.inputs_per_row = inputs_per_row;
  other.targets_per_row = targets_per_row;
  other.inputs = Convert(inputs, type);
  other.classes = classes;
  other.targets = Convert(targets, type);
  other.sample_weights = Convert(sample_weights, type);
  return other;
}

Dataset EmptyLike(const Dataset& source, int64_t rows) {
  Dataset out;
  out.rows = rows;
  out.inputs_per_row = source.inputs_per_row;
  out.targets_per_row = source.targets_per_row;
  out.inputs = Buffer(source.inputs.type(), rows * source.inputs_per_row);
  if (!source.classes.empty()) out.classes.resize(static_cast<size_t>(rows));
  if (source.targets.count() > 0) {
    out.targets = Buffer(source.targets.type(), rows * source.targets_per_row);
  }
  if (source.sample_weights.count() > 0) {
    out.sample_weights = Buffer(source.sample_weights.type(), rows);
  }
  return out;
}

void Gather(const Dataset& source, std::span<const int32_t> order, Dataset* out) {
  const auto copy_rows = [&](const Buffer& from, int64_t per_row, Buffer* to) {
    if (from.count() == 0) return;
    const int64_t bytes = RowBytes(from, per_row);
    for (size_t i = 0; i < order.size(); ++i) {
      std::memcpy(to->bytes() + static_cast<int64_t>(i) * bytes, from.bytes() + order[i] * bytes,
                  static_cast<size_t>(bytes));
    }
  };
  copy_rows(source.inputs, source.inputs_per_row, &out->inputs);
  copy_rows(source.targets, source.targets_per_row, &out->targets);
  copy_rows(source.sample_weights, 1, &out->sample_weights);
  if (!source.classes.empty()) {
    for (size_t i = 0; i < order.size(); ++i) {
      out->classes[i] = source.classes[static_cast<size_t>(order[i])];
    }
  }
}

void RowSet::Resolve(std::span<int32_t> rows) const {
  if (rows_ == nullptr) return;
  for (int32_t& row : rows) row = (*rows_)[static_cast<size_t>(row)];
}

BatchView RowSet::View(int64_t first, int64_t count, Dataset* gathered) const {
  if (rows_ == nullptr) return data_->View(first, count);
  if (gathered->rows < count) *gathered = EmptyLike(*data_, count);
  Gather(*data_, std::span(*rows_).subspan(static_cast<size_t>(first), static_cast<size_t>(count)),
         gathered);
  return gathered->View(0, count);
}

}  // namespace backprop::engine
