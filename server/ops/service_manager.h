// Tells systemd about the state of this process, for units with Type=notify: sd_notify(3).
#ifndef BACKPROP_SERVER_OPS_SERVICE_MANAGER_H_
#define BACKPROP_SERVER_OPS_SERVICE_MANAGER_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace backprop::ops {

// States of sd_notify(3).
inline constexpr absl::string_view kReady = "READY=1";
inline constexpr absl::string_view kStopping = "STOPPING=1";

// Sends `state` to the Unix socket that the environment variable NOTIFY_SOCKET names. Does nothing
// if the variable is not set or empty, as for a process that systemd has not started. Never blocks.
// Errors: INVALID_ARGUMENT if the variable is neither an absolute path nor an abstract address ("@"
// and a name), or is too long; UNAVAILABLE if the socket does not take the message.
absl::Status NotifyServiceManager(absl::string_view state);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_SERVICE_MANAGER_H_
