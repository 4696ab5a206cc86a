#include "client/cli/text_table.h"

#include <algorithm>

namespace backprop::cli {
namespace {

bool BeginsCharacter(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

}  // namespace

size_t TextWidth(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), BeginsCharacter));
}

std::string TextStart(const std::string& text, size_t width) {
  size_t characters = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (BeginsCharacter(text[i]) && ++characters > width) return text.substr(0, i);
  }
  return text;
}

std::string TextTable::ToString() const {
  if (rows_.empty()) return "";
  std::vector<std::vector<std::string>> lines;
  lines.emplace_back();
  for (const Column& column : columns_) lines[0].push_back(column.title);
  lines.insert(lines.end(), rows_.begin(), rows_.end());
  std::vector<size_t> widths(columns_.size(), 0);
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], TextWidth(line[i]));
  }
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (size_t i = 0; i < line.size(); ++i) {
      const std::string blanks(widths[i] - TextWidth(line[i]), ' ');
      if (i > 0) row += "  ";
      row += columns_[i].right ? blanks + line[i] : line[i] + blanks;
    }
    text += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string Age(std::chrono::system_clock::time_point time) {
  using std::chrono::seconds;
  if (time == std::chrono::system_clock::time_point()) return "-";
  const auto age = std::chrono::duration_cast<seconds>(std::chrono::system_clock::now() - time);
  const int64_t s = std::max<int64_t>(age.count(), 0);  // clocks may differ
  if (s < 120) return std::to_string(s) + "s";
  if (s < 120 * 60) return std::to_string(s / 60) + "m";
  if (s < 48 * 3600) return std::to_string(s / 3600) + "h";
  return std::to_string(s / 86400) + "d";
}

std::string IdOfName(const std::string& name) { return name.substr(name.rfind('/') + 1); }

}  // namespace backprop::cli
