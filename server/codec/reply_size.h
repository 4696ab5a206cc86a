// Computes the sizes of replies. A request whose reply would be too large for gRPC is rejected
// before the work for it begins.
#ifndef BACKPROP_SERVER_CODEC_REPLY_SIZE_H_
#define BACKPROP_SERVER_CODEC_REPLY_SIZE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "backprop/v1/tensor.pb.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/engine/buffer.h"

namespace backprop::codec {

// gRPC sends and receives messages of max_message_bytes plus this, for the fields around the
// tensors.
inline constexpr int64_t kEnvelopeBytes = 64 << 10;

// Size of a number as a varint.
inline int64_t VarintBytes(int64_t value) {
  int64_t bytes = 1;
  for (auto rest = static_cast<uint64_t>(value) >> 7; rest > 0; rest >>= 7) ++bytes;
  return bytes;
}

// Size of one entry of a repeated field, which is a string or a message of `size` bytes. The field
// number must be below 16.
inline int64_t FieldBytes(int64_t size) { return 1 + VarintBytes(size) + size; }

// Size of one element of a tensor.
inline int64_t ElementBytes(v1::TensorEncoding encoding, engine::DataType type) {
  return encoding == v1::TENSOR_ENCODING_RAW ? engine::SizeOf(type)
                                             : static_cast<int64_t>(sizeof(double));
}

// Size of the longest of `names` as an entry of a repeated field; 0 without names.
inline int64_t LongestFieldBytes(const std::vector<std::string>& names) {
  int64_t most = 0;
  for (const std::string& name : names) {
    most = std::max(most, FieldBytes(static_cast<int64_t>(name.size())));
  }
  return most;
}

// RESOURCE_EXHAUSTED about `field` if `bytes` is more than max_message_bytes. `advice` is appended
// to the message and tells the caller what to do.
inline absl::Status CheckReplyBytes(absl::string_view field, int64_t bytes,
                                    const base::Limits& limits, absl::string_view advice) {
  if (bytes <= limits.max_message_bytes) return absl::OkStatus();
  return base::LimitError(
      field, absl::StrCat("the response would have ", bytes, " bytes, more than the limit of ",
                          limits.max_message_bytes, " (max_message_bytes); ", advice));
}

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_REPLY_SIZE_H_
