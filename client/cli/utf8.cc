#include "client/cli/utf8.h"

namespace backprop::cli {

size_t Utf8CharacterBytes(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto follows = [&](size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  if (byte(0) < 0x80) return 1;
  if (byte(0) >= 0xC2 && byte(0) < 0xE0) return follows(1) ? 2 : 0;
  if (byte(0) >= 0xE0 && byte(0) < 0xF0) {
    const bool whole = follows(1) && follows(2);
    const bool overlong = whole && byte(0) == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = whole && byte(0) == 0xED && byte(1) >= 0xA0;
    return whole && !overlong && !surrogate ? 3 : 0;
  }
  if (byte(0) >= 0xF0 && byte(0) < 0xF5) {
    const bool whole = follows(1) && follows(2) && follows(3);
    const bool overlong = whole && byte(0) == 0xF0 && byte(1) < 0x90;
    const bool too_large = whole && byte(0) == 0xF4 && byte(1) >= 0x90;
    return whole && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t size = Utf8CharacterBytes(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

std::string Printable(std::string_view text) {
  std::string printable;
  while (!text.empty()) {
    const size_t size = Utf8CharacterBytes(text);
    const auto first = static_cast<unsigned char>(text[0]);
    const bool control = (first < 0x20 && first != '\n') || first == 0x7F;
    printable += size == 0 || control ? std::string_view("\xEF\xBF\xBD") : text.substr(0, size);
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return printable;
}

}  // namespace backprop::cli
