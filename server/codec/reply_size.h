// How large replies become, so that one that gRPC would not send is refused before the work for it.
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

// What gRPC sends and receives beyond max_message_bytes: what surrounds the tensors of a message.
inline constexpr int64_t kEnvelopeBytes = 64 << 10;

// A number as protobuf writes it.
inline int64_t VarintBytes(int64_t value) {
  int64_t bytes = 1;
  for (auto rest = static_cast<uint64_t>(value) >> 7; rest > 0; rest >>= 7) ++bytes;
  return bytes;
}

// A string, or a message of that size, among others of its field.
inline int64_t FieldBytes(int64_t size) { return 1 + VarintBytes(size) + size; }

// An element of a tensor.
inline int64_t ElementBytes(v1::TensorEncoding encoding, engine::DataType type) {
  return encoding == v1::TENSOR_ENCODING_RAW ? engine::SizeOf(type)
                                             : static_cast<int64_t>(sizeof(double));
}

// The longest of some names, as a field.
inline int64_t LongestFieldBytes(const std::vector<std::string>& names) {
  int64_t most = 0;
  for (const std::string& name : names) {
    most = std::max(most, FieldBytes(static_cast<int64_t>(name.size())));
  }
  return most;
}

// RESOURCE_EXHAUSTED about `field` if a reply of so many bytes is too large; `advice` says what to
// do.
inline absl::Status CheckReplyBytes(absl::string_view field, int64_t bytes,
                                    const base::Limits& limits, absl::string_view advice) {
  if (bytes <= limits.max_message_bytes) return absl::OkStatus();
  return base::LimitError(
      field, absl::StrCat("the reply would have ", bytes, " bytes, more than the limit of ",
                          limits.max_message_bytes, " (max_message_bytes); ", advice));
}

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_REPLY_SIZE_H_
