#include "client/cli/full_screen.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "client/cli/live_line.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

constexpr char kEnter[] = "\x1b[?1049h\x1b[?25l";  // alternate screen, no cursor
constexpr char kLeave[] = "\x1b[?25h\x1b[?1049l";

void Write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

FullScreen::FullScreen() {
  termios settings = {};
  if (tcgetattr(STDIN_FILENO, &settings) == 0) {
    before_ = settings;
    settings.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &settings);
  }
  Write(kEnter);
}

FullScreen::~FullScreen() {
  Write(kLeave);
  if (before_.has_value()) tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
}

size_t FullScreen::width() { return std::max<size_t>(TerminalWidth(stdout), 2) - 1; }

size_t FullScreen::height() {
  constexpr size_t kUsual = 24;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return kUsual;
  return size.ws_row;
}

void FullScreen::Show(const std::vector<std::string>& lines) {
  std::string frame = "\x1b[H";  // to the first cell
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) frame += "\r\n";
    frame += lines[i] + "\x1b[K";  // clears what the last frame had in the rest of the line
  }
  Write(frame + "\x1b[J");  // and below
}

KeyWaiter::KeyWaiter(const Cancellation& interrupt, bool keys)
    : interrupt_(interrupt), keys_(keys), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (wake_ < 0) throw DataError{std::string("cannot wait: ") + std::strerror(errno)};
  action_ = interrupt_.Add([fd = wake_] {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
  });
}

KeyWaiter::~KeyWaiter() {
  interrupt_.Remove(action_);
  close(wake_);
}

KeyWaiter::Event KeyWaiter::WaitUntil(std::chrono::steady_clock::time_point until) {
  for (;;) {
    if (interrupt_.cancelled()) return Event::kInterrupt;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Event::kTime;
    pollfd waited[] = {{wake_, POLLIN, 0}, {keys_ ? STDIN_FILENO : -1, POLLIN, 0}};
    constexpr int64_t kMost = 1'000'000;  // fits into an int
    if (poll(waited, 2, static_cast<int>(std::min<int64_t>(left.count(), kMost))) < 0) continue;
    if (waited[1].revents == 0) continue;
    char key = 0;
    if (read(STDIN_FILENO, &key, 1) != 1) keys_ = false;  // the terminal is gone
    if (key == 'q' || key == 'Q') return Event::kQuit;
  }
}

}  // namespace backprop::cli
