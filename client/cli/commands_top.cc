// top: what a server does, refreshed each second.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "client/cli/command.h"
#include "client/cli/full_screen.h"
#include "client/cli/live_line.h"
#include "client/cli/server_figures.h"
#include "client/cli/table.h"
#include "client/cli/top_view.h"

namespace backprop::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Event = KeyWaiter::Event;

// A server that does not respond within this time is reported, unless --timeout is given.
constexpr std::chrono::seconds kLongestResponse{10};
// Lines that are not drawn on a terminal are not cut.
constexpr size_t kUnlimited = 100'000;

struct TopOptions {
  double interval_seconds = 1;
  bool once = false;
};

class Top {
 public:
  Top(const Globals& globals, const TopOptions& options)
      : globals_(globals),
        options_(options),
        client_(globals.Connect(Globals::kSoon, Globals::Replies::kHidden)),
        on_screen_(!globals.json && !options.once && IsTerminal(stdout)),
        waiter_(globals.interrupt, on_screen_ && IsTerminal(stdin)) {}

  // Returns the exit status.
  int Run() {
    const Status first = Take();
    if (!first.ok()) return Failed(first);
    std::optional<FullScreen> screen;
    if (on_screen_) Draw(&screen.emplace(), "");
    Status status;
    const Event event = Refresh(screen.has_value() ? &*screen : nullptr, &status);
    screen.reset();  // errors are printed on the usual screen
    if (!status.ok()) return Failed(status);
    return event == Event::kInterrupt ? kInterrupted : kOk;
  }

 private:
  // Takes a sample.
  Status Take() {
    CallOptions call = globals_.Call();
    if (!call.timeout.has_value()) call.timeout = kLongestResponse;
    auto status = client_.GetServerStatus(StatusView::kBasic, call);
    if (!status.ok()) return status.status();
    before_ = std::exchange(after_, SampleOf(*std::move(status), Clock::now()));
    return {};
  }

  // Shows the server at each interval until the user ends it, once, or until an error. `screen` is
  // null if lines are printed.
  Event Refresh(FullScreen* screen, Status* status) {
    const auto interval = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(options_.interval_seconds));
    Clock::time_point next = Clock::now();
    for (;;) {
      next = std::max(next + interval, Clock::now());  // a slow response delays the next sample
      const Event event = waiter_.WaitUntil(next);
      if (event != Event::kTime) return event;
      *status = Take();
      if (globals_.interrupt.cancelled()) return Event::kInterrupt;
      if (!status->ok() && (screen == nullptr || !MayReturn(*status))) return Event::kQuit;
      if (screen != nullptr) {
        const std::string code = StatusCodeName(status->code);
        Draw(screen, status->ok() ? "" : "no response: " + code + "; last values:");
      } else {
        Print();
      }
      if (options_.once) return Event::kQuit;
    }
  }

  // Whether the server may respond again later: it restarts, or the network fails.
  static bool MayReturn(const Status& status) {
    return status.code == StatusCode::kUnavailable || status.code == StatusCode::kDeadlineExceeded;
  }

  void Draw(FullScreen* screen, const std::string& note) const {
    screen->Show(TopLines({before_, *after_}, note, FullScreen::width(), FullScreen::height()));
  }

  void Print() {
    const ServerFigures figures(before_, *after_);
    if (globals_.json) {
      std::printf("%s\n", TopJson(figures).c_str());
    } else {
      if (std::exchange(printed_, true)) std::printf("\n");
      for (const std::string& line : TopLines(figures, "", kUnlimited, kUnlimited)) {
        std::printf("%s\n", line.c_str());
      }
    }
    if (std::fflush(stdout) != 0) {
      throw DataError{std::string("standard output: cannot write: ") + std::strerror(errno)};
    }
  }

  int Failed(const Status& status) const {
    return globals_.interrupt.cancelled() ? kInterrupted : globals_.Fail(status);
  }

  const Globals& globals_;
  const TopOptions options_;
  Client client_;
  const bool on_screen_;
  KeyWaiter waiter_;
  std::optional<Sample> before_;
  std::optional<Sample> after_;
  bool printed_ = false;
};

}  // namespace

void AddTopCommand(CLI::App* app, Globals* globals, Command* chosen) {
  auto* top = app->add_subcommand(
      "top", "Show what the server does, refreshed each second; q or Ctrl-C ends it");
  auto options = std::make_shared<TopOptions>();
  top->add_option("--interval", options->interval_seconds, "Time between two refreshes")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  top->add_flag("--once", options->once, "Print the figures of one interval, and exit");
  top->callback([=] { *chosen = [=] { return Top(*globals, *options).Run(); }; });
}

}  // namespace backprop::cli
