#include "server/ops/signals.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "absl/time/clock.h"

namespace backprop::ops {
namespace {

bool EndsTheServer(int signal) {
  return signal == SIGTERM || signal == SIGINT || signal == SIGQUIT || signal == SIGXCPU;
}

// Returns the next signal of `signals`, or none at `end`.
std::optional<int> NextSignal(const sigset_t& signals, absl::Time end) {
  for (;;) {
    const absl::Duration left = std::max(end - absl::Now(), absl::ZeroDuration());
    const timespec timeout = absl::ToTimespec(std::min(left, absl::Hours(1)));
    const int signal = sigtimedwait(&signals, nullptr, &timeout);
    if (signal > 0) return signal;
    if (absl::Now() >= end) return std::nullopt;
  }
}

}  // namespace

sigset_t TakeSignals() {
  for (const int ignored : {SIGPIPE, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT,
                            SIGXFSZ}) {  // a write past `ulimit -f` fails instead
    signal(ignored, SIG_IGN);
  }
  for (int realtime = SIGRTMIN; realtime <= SIGRTMAX; ++realtime) signal(realtime, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int waited : {SIGTERM, SIGINT, SIGQUIT, SIGXCPU, SIGHUP, SIGUSR1, SIGUSR2}) {
    sigaddset(&signals, waited);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

std::optional<int> WaitForEnd(const sigset_t& signals, const Reload& reload, absl::Time end) {
  for (;;) {
    const std::optional<int> signal = NextSignal(signals, end);
    if (!signal.has_value() || EndsTheServer(*signal)) return signal;
    const bool reloads = *signal == SIGHUP && reload;
    spdlog::info("{}: {}", strsignal(*signal),
                 reloads             ? "reloading"
                 : *signal == SIGHUP ? "ignored; there is nothing to reload"
                                     : "ignored");
    if (reloads) reload();
  }
}

}  // namespace backprop::ops
