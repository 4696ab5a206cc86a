// Records of rows: the input of a logged step, and rows of runs and datasets in chunks.
#ifndef BACKPROP_SERVER_RECORDS_ROW_RECORDS_H_
#define BACKPROP_SERVER_RECORDS_ROW_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/buffer.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/engine/spec.h"

namespace backprop::records {

// The input of a step: a batch, or gradients (P numbers).
using StepInput = std::variant<engine::Dataset, engine::Buffer>;
// Approximate size of the work.
int64_t BytesOf(const StepInput& work);
std::string EncodeLoggedStep(const StepInput& work);
struct LoggedStep {
  StepInput work;
  std::string instruction_set;
};
absl::StatusOr<LoggedStep> DecodeLoggedStep(absl::string_view value, const engine::Network& network,
                                            absl::string_view model);

// Rows are stored in chunks of about kChunkBytes, each a record of its own.
inline constexpr size_t kChunkBytes = size_t{1} << 20;
struct Chunk {
  std::string record;
  int64_t rows = 0;
};
std::vector<Chunk> EncodeRows(const engine::Dataset& rows);
// Decodes one chunk, whose numbers must be of `type`.
absl::StatusOr<engine::Dataset> DecodeChunk(absl::string_view value, engine::DataType type,
                                            absl::string_view what);
absl::StatusOr<engine::Dataset> DecodeRows(const std::vector<std::string>& chunks,
                                           const engine::Network& network, absl::string_view model);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_ROW_RECORDS_H_
