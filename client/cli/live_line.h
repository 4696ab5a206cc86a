// A line of a terminal that is rewritten in place.
#ifndef BACKPROP_CLIENT_CLI_LIVE_LINE_H_
#define BACKPROP_CLIENT_CLI_LIVE_LINE_H_

#include <cstdio>
#include <string>
#include <vector>

namespace backprop::cli {

// Whether `stream` is a terminal that can rewrite a line; not if TERM is "dumb".
bool IsTerminal(std::FILE* stream);
// Whether colours may be used on it; not if NO_COLOR is set (https://no-color.org).
bool UsesColor(std::FILE* stream);
// Current width of the terminal in cells; 80 if unknown.
size_t TerminalWidth(std::FILE* stream);

// A part of a line. If the parts do not fit together, those with the highest rank are dropped.
struct LinePart {
  std::string text;
  int rank = 0;
};

// Returns the parts in order, separated by two spaces, in at most `width` cells. If the part of the
// lowest rank alone does not fit, it is truncated.
std::string FitLine(const std::vector<LinePart>& parts, size_t width);

// Thread-compatible. The destructor clears the line.
class LiveLine {
 public:
  // If not `shown`, does nothing.
  LiveLine(std::FILE* stream, bool shown) : stream_(stream), shown_(shown) {}
  ~LiveLine() { Clear(); }
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  // Rewrites the line, fitted to the terminal's width; it never wraps.
  void Show(const std::vector<LinePart>& parts);
  // Clears the line and moves the cursor to its start.
  void Clear();

 private:
  std::FILE* const stream_;
  const bool shown_;
  bool drawn_ = false;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_LIVE_LINE_H_
