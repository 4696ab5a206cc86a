// Makes text that may come from a caller safe to show: in errors, in their details and in the log.
#ifndef BACKPROP_SERVER_BASE_TEXT_H_
#define BACKPROP_SERVER_BASE_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace backprop::base {

// Maximum length of a caller's text in an error and in a line of the log.
inline constexpr size_t kMaxQuotedBytes = 80;
inline constexpr size_t kMaxLoggedBytes = 128;

// Returns the longest prefix of `text` of at most `bytes` bytes that does not end inside a UTF-8
// character. Callers' text is shortened only by this function and the ones below.
absl::string_view Cut(absl::string_view text, size_t bytes);

// Returns valid UTF-8: each byte that is not part of a character is replaced by U+FFFD.
std::string ValidUtf8(absl::string_view text);

// Size of `text` in an HTTP/2 header in bytes; a byte that is not printable ASCII takes three.
size_t HeaderBytes(absl::string_view text);

// Returns `text` as valid UTF-8 of at most `header_bytes` in a header; a longer one is cut and ends
// with "…".
std::string FitHeader(absl::string_view text, size_t header_bytes);

// Returns `text` on one line: control characters (including those that change the direction of
// text), quotes, backslashes and bytes that are not UTF-8 are escaped. A result longer than `bytes`
// bytes is cut and ends with "…".
std::string Escape(absl::string_view text, size_t bytes);
// The same without a limit and without escaping backslashes, for text that may be escaped already.
std::string EscapeControls(absl::string_view text);

// Returns at most kMaxQuotedBytes of `text`, escaped and in quotes, for an error message.
std::string Quote(absl::string_view text);

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_TEXT_H_
