#include "server/http/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <climits>
#include <memory>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace backprop::http {
namespace {

constexpr int kGzip = 16;  // zlib's flag for the format, added to the bits of the window
constexpr int kWindowBits = 15 + kGzip;
constexpr size_t kPieceBytes = 64 << 10;

// zlib takes sizes as unsigned int.
void Feed(absl::string_view* rest, z_stream* stream) {
  const size_t size = std::min<size_t>(rest->size(), INT_MAX);
  stream->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest->data()));
  stream->avail_in = static_cast<uInt>(size);
  rest->remove_prefix(size);
}

}  // namespace

std::string Compress(absl::string_view bytes) {
  z_stream stream = {};
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kWindowBits, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  const std::unique_ptr<z_stream, decltype(&deflateEnd)> ends(&stream, deflateEnd);
  std::string compressed;
  std::array<char, kPieceBytes> piece;
  int state = Z_OK;
  while (state != Z_STREAM_END) {
    if (stream.avail_in == 0) Feed(&bytes, &stream);
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    state = deflate(&stream, bytes.empty() ? Z_FINISH : Z_NO_FLUSH);
    compressed.append(piece.data(), piece.size() - stream.avail_out);
  }
  return compressed;
}

absl::StatusOr<std::string> Decompress(absl::string_view compressed, size_t most_bytes) {
  z_stream stream = {};
  if (inflateInit2(&stream, kWindowBits) != Z_OK) throw std::bad_alloc();
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> ends(&stream, inflateEnd);
  std::string bytes;
  std::array<char, kPieceBytes> piece;
  for (;;) {
    if (stream.avail_in == 0) Feed(&compressed, &stream);
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    const int state = inflate(&stream, Z_NO_FLUSH);
    const size_t size = piece.size() - stream.avail_out;
    if (bytes.size() + size > most_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the decompressed message has more than ", most_bytes, " bytes"));
    }
    bytes.append(piece.data(), size);
    if (state == Z_STREAM_END) break;
    const bool more = stream.avail_in > 0 || !compressed.empty() || stream.avail_out == 0;
    if (state != Z_OK || !more) {
      return absl::InvalidArgumentError("the message is not compressed by gzip, or is cut");
    }
  }
  if (stream.avail_in > 0 || !compressed.empty()) {
    return absl::InvalidArgumentError("there are bytes behind the compressed message");
  }
  return bytes;
}

}  // namespace backprop::http
