#include "client/cli/live_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "client/cli/text_table.h"

namespace backprop::cli {

bool IsTerminal(std::FILE* stream) {
  const char* term = std::getenv("TERM");
  return isatty(fileno(stream)) == 1 && (term == nullptr || std::strcmp(term, "dumb") != 0);
}

bool UsesColor(std::FILE* stream) {
  const char* no_color = std::getenv("NO_COLOR");
  return IsTerminal(stream) && (no_color == nullptr || *no_color == '\0');
}

size_t TerminalWidth(std::FILE* stream) {
  constexpr size_t kUsual = 80;
  winsize size{};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsual;
  return size.ws_col;
}

std::string FitLine(const std::vector<LinePart>& parts, size_t width) {
  std::vector<size_t> order;  // sorted by rank
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].text.empty()) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return parts[a].rank < parts[b].rank; });
  std::vector<bool> stays(parts.size(), false);
  size_t used = 0;
  for (size_t i : order) {
    const size_t more = TextWidth(parts[i].text) + (used == 0 ? 0 : 2);
    if (used > 0 && used + more > width) break;
    used += more;
    stays[i] = true;
  }
  std::string line;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (stays[i]) line += (line.empty() ? "" : "  ") + parts[i].text;
  }
  return TextStart(line, width);
}

void LiveLine::Show(const std::vector<LinePart>& parts) {
  if (!shown_) return;
  // The last cell is not used, because some terminals wrap after it.
  const size_t width = std::max<size_t>(TerminalWidth(stream_), 2) - 1;
  std::fprintf(stream_, "\r\033[K%s", FitLine(parts, width).c_str());
  std::fflush(stream_);
  drawn_ = true;
}

void LiveLine::Clear() {
  if (!drawn_) return;
  std::fprintf(stream_, "\r\033[K");
  std::fflush(stream_);
  drawn_ = false;
}

}  // namespace backprop::cli
