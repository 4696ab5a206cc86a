// A terminal whose whole screen is redrawn.
#ifndef BACKPROP_CLIENT_CLI_FULL_SCREEN_H_
#define BACKPROP_CLIENT_CLI_FULL_SCREEN_H_

#include <termios.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "backprop/call_options.h"

namespace backprop::cli {

// Standard output on the alternate screen, without a cursor; keys of standard input without Enter,
// if that is a terminal as well. The destructor restores both. Use one at a time.
// Thread-compatible.
class FullScreen {
 public:
  FullScreen();
  ~FullScreen();
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;

  // Usable size in cells: the last column is not used, because some terminals wrap after it.
  // 79 × 24 if unknown.
  static size_t width();
  static size_t height();

  // Replaces what is shown, with one write and without clearing the screen first, so that it does
  // not flicker. There may be at most height() lines, none wider than width().
  void Show(const std::vector<std::string>& lines);

 private:
  std::optional<termios> before_;  // the settings to restore
};

// Waits for keys, for an interrupt, or for a time. Thread-compatible.
class KeyWaiter {
 public:
  // Keys are read from standard input if `keys`. Throws DataError if the system has no descriptors.
  KeyWaiter(const Cancellation& interrupt, bool keys);
  ~KeyWaiter();
  KeyWaiter(const KeyWaiter&) = delete;
  KeyWaiter& operator=(const KeyWaiter&) = delete;

  enum class Event { kTime, kQuit, kInterrupt };
  // kQuit: q was pressed. kInterrupt: `interrupt` was cancelled. kTime: it is `until`.
  Event WaitUntil(std::chrono::steady_clock::time_point until);

 private:
  Cancellation interrupt_;
  bool keys_;
  int wake_ = -1;  // an eventfd, which an interrupt makes readable
  int action_ = 0;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_FULL_SCREEN_H_
