#include "server/records/row_records.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/base/limits.h"
#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/records.pb.h"
#include "server/records/rules.h"

namespace backprop::records {

int64_t BytesOf(const StepInput& work) {
  if (const auto* gradients = std::get_if<engine::Buffer>(&work)) {
    return static_cast<int64_t>(gradients->size_bytes());
  }
  const auto& batch = std::get<engine::Dataset>(work);
  return static_cast<int64_t>(batch.inputs.size_bytes() + batch.classes.size() +
                              batch.targets.size_bytes() + batch.sample_weights.size_bytes());
}

std::string EncodeLoggedStep(const StepInput& work) {
  v1::LoggedStep message;
  if (const auto* gradients = std::get_if<engine::Buffer>(&work)) {
    message.set_gradients(BytesOf(*gradients));
  } else {
    Encode(std::get<engine::Dataset>(work), message.mutable_batch());
  }
  message.set_instruction_set(engine::InstructionSet());
  return Seal(message);
}

absl::StatusOr<LoggedStep> DecodeLoggedStep(absl::string_view value, const engine::Network& network,
                                            absl::string_view model) {
  v1::LoggedStep message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  if (message.work_case() == v1::LoggedStep::kGradients) {
    const engine::DataType type = network.spec().data_type;
    Rules rules(model);
    rules.Equal("bytes of a logged step's gradients",
                static_cast<int64_t>(message.gradients().size()),
                network.parameter_count() * engine::SizeOf(type));
    if (!rules.ok()) return rules.status();
    engine::Buffer gradients = BufferOf(message.gradients(), type);
    rules.Require(AllFinite(gradients), "a logged step's gradients", "finite numbers",
                  "one that is not");
    if (!rules.ok()) return rules.status();
    return LoggedStep{std::move(gradients), message.instruction_set()};
  }
  auto rows = DecodeRowsFor(message.batch(), network, model);
  if (!rows.ok()) return rows.status();
  return LoggedStep{*std::move(rows), message.instruction_set()};
}

std::vector<Chunk> EncodeRows(const engine::Dataset& rows) {
  const int64_t row_bytes =
      (rows.inputs_per_row + rows.targets_per_row + 2) * engine::SizeOf(rows.inputs.type());
  const int64_t at_once = std::max<int64_t>(1, static_cast<int64_t>(kChunkBytes) / row_bytes);
  std::vector<Chunk> chunks;
  for (int64_t first = 0; first < rows.rows; first += at_once) {
    const int64_t count = std::min(at_once, rows.rows - first);
    const engine::BatchView view = rows.View(first, count);
    v1::Rows message;
    message.set_rows(count);
    message.set_inputs_per_row(rows.inputs_per_row);
    message.set_targets_per_row(rows.targets_per_row);
    const int64_t size = engine::SizeOf(rows.inputs.type());
    message.set_bytes_per_number(static_cast<uint32_t>(size));
    const auto bytes = [&](int64_t per_row) { return static_cast<size_t>(count * per_row * size); };
    message.set_inputs(view.inputs, bytes(rows.inputs_per_row));
    if (view.classes != nullptr) message.mutable_classes()->Add(view.classes, view.classes + count);
    if (view.targets != nullptr) message.set_targets(view.targets, bytes(rows.targets_per_row));
    if (view.sample_weights != nullptr) message.set_sample_weights(view.sample_weights, bytes(1));
    chunks.push_back({Seal(message), count});
  }
  return chunks;
}

absl::StatusOr<engine::Dataset> DecodeChunk(absl::string_view value, engine::DataType type,
                                            absl::string_view what) {
  v1::Rows message;
  const absl::Status opened = Open(value, what, &message);
  if (!opened.ok()) return opened;
  return DecodeRows(message, type, what);
}

absl::StatusOr<engine::Dataset> DecodeRows(const std::vector<std::string>& chunks,
                                           const engine::Network& network,
                                           absl::string_view model) {
  std::vector<engine::Dataset> parts;
  int64_t total = 0;
  for (const std::string& chunk : chunks) {
    v1::Rows message;
    const absl::Status opened = Open(chunk, model, &message);
    if (!opened.ok()) return opened;
    auto part = DecodeRowsFor(message, network, model);
    if (!part.ok()) return part.status();
    total += part->rows;
    parts.push_back(*std::move(part));
  }
  if (parts.empty()) return Damaged(model, "the rows of its run are missing");
  Rules rules(model);
  rules.Between("the rows of its run", total, 1, base::kMaxDatasetRows);
  if (!rules.ok()) return rules.status();
  engine::Dataset all = engine::EmptyLike(parts.front(), total);
  int64_t row = 0;
  const auto append = [&](const engine::Buffer& from, engine::Buffer* to, int64_t per_row) {
    if (from.count() == 0) return;
    std::memcpy(to->bytes() + row * per_row * engine::SizeOf(from.type()), from.bytes(),
                from.size_bytes());
  };
  for (const engine::Dataset& part : parts) {
    if (part.classes.empty() != all.classes.empty() ||
        (part.targets.count() == 0) != (all.targets.count() == 0) ||
        (part.sample_weights.count() == 0) != (all.sample_weights.count() == 0)) {
      return Damaged(model, "the chunks of the rows of its run do not match each other");
    }
    append(part.inputs, &all.inputs, all.inputs_per_row);
    append(part.targets, &all.targets, all.targets_per_row);
    append(part.sample_weights, &all.sample_weights, 1);
    std::copy(part.classes.begin(), part.classes.end(), all.classes.begin() + row);
    row += part.rows;
  }
  return all;
}

}  // namespace backprop::records
