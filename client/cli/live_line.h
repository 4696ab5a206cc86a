// One line of a terminal that is rewritten.
#ifndef BACKPROP_CLIENT_CLI_LIVE_LINE_H_
#define BACKPROP_CLIENT_CLI_LIVE_LINE_H_

#include <cstdio>
#include <string>
#include <vector>

namespace backprop::cli {

// Whether `stream` is a terminal that can rewrite a line: TERM is not "dumb".
bool IsTerminal(std::FILE* stream);
// Whether colours may be used on it: neither is NO_COLOR set (https://no-color.org).
bool UsesColor(std::FILE* stream);
// Cells of a line of the terminal, as it is now; 80 where nobody knows.
size_t TerminalWidth(std::FILE* stream);

// A part of a line. Of parts that do not fit together the ones with the lowest rank stay.
struct LinePart {
  std::string text;
  int rank = 0;
};

// The parts in their order with two spaces between, in at most `width` cells. The part of the
// lowest rank is cut off if it does not fit alone.
std::string FitLine(const std::vector<LinePart>& parts, size_t width);

// Not thread-safe. Clears its line when it ends.
class LiveLine {
 public:
  // With `shown` false it does nothing.
  LiveLine(std::FILE* stream, bool shown) : stream_(stream), shown_(shown) {}
  ~LiveLine() { Clear(); }
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  // Rewrites the line, fitted to the terminal: it never wraps.
  void Show(const std::vector<LinePart>& parts);
  // Leaves the cursor at the begin of an empty line.
  void Clear();

 private:
  std::FILE* const stream_;
  const bool shown_;
  bool drawn_ = false;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_LIVE_LINE_H_
