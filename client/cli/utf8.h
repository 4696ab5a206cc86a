// UTF-8, which the text of every message has to be.
#ifndef BACKPROP_CLIENT_CLI_UTF8_H_
#define BACKPROP_CLIENT_CLI_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace backprop::cli {

// Returns the length in bytes of the UTF-8 character at the start of `text`; 0 if there is none.
size_t Utf8CharacterBytes(std::string_view text);

bool IsUtf8(std::string_view text);

// Returns `text` for a terminal: bytes that are not UTF-8, and control characters except newlines,
// become U+FFFD. Notes and errors quote files, which may hold anything.
std::string Printable(std::string_view text);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_UTF8_H_
