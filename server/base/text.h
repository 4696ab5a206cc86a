// Text that may be a caller's, made fit to be shown: in errors, their details and the log.
#ifndef BACKPROP_SERVER_BASE_TEXT_H_
#define BACKPROP_SERVER_BASE_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace backprop::base {

// What an error or a line of the log shows of a caller's text at most.
inline constexpr size_t kMaxQuotedBytes = 80;
inline constexpr size_t kMaxLoggedBytes = 128;

// The longest beginning of `text` that has at most `bytes` bytes and does not end inside a
// character. Every text of a caller's that is shortened is shortened by this or by what follows.
absl::string_view Cut(absl::string_view text, size_t bytes);

// Valid UTF-8: every byte that belongs to no character is replaced by U+FFFD.
std::string ValidUtf8(absl::string_view text);

// The bytes of `text` in an HTTP/2 header, where all that is not printable ASCII takes three times
// its size.
size_t HeaderBytes(absl::string_view text);

// Valid UTF-8 of at most `header_bytes`, cut with "…" if `text` is longer.
std::string FitHeader(absl::string_view text, size_t header_bytes);

// `text` on one line, at most `bytes` bytes of that and "…" if it is longer: control characters
// (also those that change the direction of text), quotes, backslashes and what is not UTF-8 are
// escaped.
std::string Escape(absl::string_view text, size_t bytes);
// The same, without a limit, for text whose parts may be escaped already: backslashes stay.
std::string EscapeControls(absl::string_view text);

// What came, for an error: escaped, at most kMaxQuotedBytes of it, in quotes.
std::string Quote(absl::string_view text);

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_TEXT_H_
