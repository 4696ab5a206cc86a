// gzip (RFC 1952) in memory.
#ifndef BACKPROP_SERVER_HTTP_GZIP_H_
#define BACKPROP_SERVER_HTTP_GZIP_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace backprop::http {

// Fast rather than small.
std::string Compress(absl::string_view bytes);

// INVALID_ARGUMENT if `compressed` is not one gzip member; RESOURCE_EXHAUSTED if it has more than
// `most_bytes`. Memory grows with the decompressed bytes, never with a size that the data claims,
// to at most twice `most_bytes`.
absl::StatusOr<std::string> Decompress(absl::string_view compressed, size_t most_bytes);

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_GZIP_H_
