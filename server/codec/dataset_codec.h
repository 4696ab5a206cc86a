// Between the messages about datasets and what the session holds.
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
#include "server/session/dataset_info.h"
#include "server/session/datasets.h"

namespace backprop::codec {

absl::StatusOr<session::Datasets::UploadArgs> DecodeHeader(const v1::DatasetHeader& message);

// What a chunk says of its rows.
struct ChunkClaims {
  std::vector<std::string> label_names;
  std::optional<uint32_t> crc32;
};
// Rows as they came. With label_names they have no classes yet.
struct DecodedChunk {
  engine::Dataset rows;
  ChunkClaims claims;
};
absl::StatusOr<DecodedChunk> DecodeChunk(const v1::DatasetChunk& message, engine::DataType type,
                                         const base::Limits& limits);

// Whether a chunk's rows fit those before them, and its checksum. Gives rows their classes, and new
// names theirs.
absl::Status CheckChunk(const session::DatasetInfo& info, const ChunkClaims& claims,
                        engine::Dataset* rows, std::vector<std::string>* class_names);

void EncodeDataset(const session::DatasetInfo& info, v1::Dataset* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_DATASET_CODEC_H_
