#include "server/base/text.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"

namespace backprop::base {
namespace {

constexpr absl::string_view kEllipsis = "…";
constexpr absl::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// The first UTF-8 character of a text, or its first byte if that starts none.
struct Character {
  size_t bytes = 1;
  uint32_t code = 0;
  bool valid = false;
};

Character First(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, lead, true};
  const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
  uint32_t code = lead & (0x7fU >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code < kLeast[bytes] || code > 0x10ffff || surrogate) return {};
  return {bytes, code, true};
}

// Characters that move the cursor or change how other characters are shown.
bool IsControl(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

std::string EscapedControl(uint32_t code) {
  if (code == '\n') return "\\n";
  if (code == '\r') return "\\r";
  if (code == '\t') return "\\t";
  if (code < 0x80) return absl::StrCat("\\x", absl::Hex(code, absl::kZeroPad2));
  return absl::StrCat("\\u", absl::Hex(code, absl::kZeroPad4));
}

std::string Escaped(absl::string_view text, size_t bytes, bool backslashes) {
  std::string out;
  while (!text.empty()) {
    const Character first = First(text);
    const absl::string_view as_it_is = text.substr(0, first.bytes);
    std::string piece;
    if (!first.valid) {
      piece = absl::StrCat("\\x", absl::Hex(static_cast<unsigned char>(text[0]), absl::kZeroPad2));
    } else if (IsControl(first.code)) {
      piece = EscapedControl(first.code);
    } else if (backslashes && (first.code == '\\' || first.code == '"')) {
      piece = {'\\', text[0]};
    } else {
      piece = std::string(as_it_is);
    }
    if (piece.size() > bytes - out.size()) return out.append(kEllipsis.data(), kEllipsis.size());
    out += piece;
    text.remove_prefix(first.bytes);
  }
  return out;
}

}  // namespace

absl::string_view Cut(absl::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  size_t end = bytes;
  // A character has at most three bytes after its first.
  while (end > 0 && bytes - end < 4 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
    --end;
  }
  return text.substr(0, end);
}

std::string ValidUtf8(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Character first = First(text);
    const absl::string_view piece = first.valid ? text.substr(0, first.bytes) : kReplacement;
    out.append(piece.data(), piece.size());
    text.remove_prefix(first.bytes);
  }
  return out;
}

size_t HeaderBytes(absl::string_view text) {
  size_t bytes = 0;
  for (const char c : text) bytes += c >= 0x20 && c <= 0x7e && c != '%' ? 1 : 3;
  return bytes;
}

std::string FitHeader(absl::string_view text, size_t header_bytes) {
  // The rest cannot fit.
  std::string valid = ValidUtf8(Cut(text, header_bytes + 1));
  if (HeaderBytes(valid) <= header_bytes) return valid;
  const size_t room = header_bytes - HeaderBytes(kEllipsis);
  size_t used = 0;
  size_t end = 0;
  for (;;) {
    const size_t bytes = First(absl::string_view(valid).substr(end)).bytes;
    used += HeaderBytes(absl::string_view(valid).substr(end, bytes));
    if (used > room) break;
    end += bytes;
  }
  return absl::StrCat(valid.substr(0, end), kEllipsis);
}

std::string Escape(absl::string_view text, size_t bytes) { return Escaped(text, bytes, true); }

std::string EscapeControls(absl::string_view text) {
  return Escaped(text, std::numeric_limits<size_t>::max(), false);
}

std::string Quote(absl::string_view text) {
  return absl::StrCat("\"", Escape(text, kMaxQuotedBytes), "\"");
}

}  // namespace backprop::base
