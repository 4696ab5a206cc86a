// Converts between the messages about datasets and the values of records.
#ifndef BACKPROP_SERVER_CODEC_DATASET_CODEC_H_
#define BACKPROP_SERVER_CODEC_DATASET_CODEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backprop/v1/dataset.pb.h"
#include "server/base/limits.h"
#include "server/engine/data.h"
#include "server/engine/spec.h"
#include "server/records/dataset_info.h"

namespace backprop::codec {

// Fills in defaults. INVALID_ARGUMENT with every violation found, with field paths from "header.";
// labels are reported as "labels".
absl::StatusOr<records::NewDataset> DecodeHeader(const v1::DatasetHeader& message);

// What a chunk states about its rows, which only CheckChunk can verify.
struct ChunkClaims {
  std::vector<std::string> label_names;
  std::optional<uint32_t> crc32;
};
// The rows of a chunk. Rows with label_names have no classes yet: CheckChunk assigns them.
struct DecodedChunk {
  engine::Dataset rows;
  ChunkClaims claims;
};
// Decodes the rows in precision `type` without comparing them with earlier chunks.
// INVALID_ARGUMENT, with field paths from "chunk."; RESOURCE_EXHAUSTED for more than max_rows rows.
absl::StatusOr<DecodedChunk> DecodeChunk(const v1::DatasetChunk& message, engine::DataType type,
                                         const base::Limits& limits);

// Checks that a chunk's rows have the same form as the rows in `info`, and that the checksum
// matches. With label_names, assigns the classes of `rows` and appends new names to `class_names`,
// which holds the names so far. INVALID_ARGUMENT; `rows` and `class_names` are then unspecified.
absl::Status CheckChunk(const records::DatasetInfo& info, const ChunkClaims& claims,
                        engine::Dataset* rows, std::vector<std::string>* class_names);

void EncodeDataset(const records::DatasetInfo& info, v1::Dataset* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_DATASET_CODEC_H_
