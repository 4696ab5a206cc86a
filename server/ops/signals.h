// The signals that end the server or make it read its files again.
#ifndef BACKPROP_SERVER_OPS_SIGNALS_H_
#define BACKPROP_SERVER_OPS_SIGNALS_H_

#include <signal.h>

#include <functional>
#include <optional>

#include "absl/time/time.h"

namespace backprop::ops {

// Ignores signals that would end the process although their senders do not intend that, and blocks
// those that WaitForEnd() waits for, which it returns. Call before any thread exists.
sigset_t TakeSignals();

// Called at SIGHUP; empty: there is nothing to read again.
using Reload = std::function<void()>;

// Waits for a signal of `signals` that ends the server; returns none if there is none before `end`.
// Logs the others.
std::optional<int> WaitForEnd(const sigset_t& signals, const Reload& reload,
                              absl::Time end = absl::InfiniteFuture());

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_SIGNALS_H_
