// Helpers for text.
#ifndef BACKPROP_CLIENT_TEXT_H_
#define BACKPROP_CLIENT_TEXT_H_

#include <string>

namespace backprop {

// Returns the text without the white space at its ends.
inline std::string Trimmed(const std::string& text) {
  constexpr char kSpace[] = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace backprop

#endif  // BACKPROP_CLIENT_TEXT_H_
