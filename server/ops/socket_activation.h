// Sockets that another process has opened for the server: the protocol of sd_listen_fds(3).
#ifndef BACKPROP_SERVER_OPS_SOCKET_ACTIVATION_H_
#define BACKPROP_SERVER_OPS_SOCKET_ACTIVATION_H_

#include "absl/status/statusor.h"
#include "server/ops/config.h"
#include "server/rpc/server.h"

namespace backprop::ops {

// Takes the sockets of LISTEN_FDS if LISTEN_PID is this process: descriptors from
// `first_descriptor` up, those named `admin` in LISTEN_FDNAMES for --admin-listen, all others for
// --listen. The process that opened them keeps them open, so that clients can connect while the
// server restarts. Sockets replace the flags: with one for --listen, `config` has no `listen` and
// no `unix_socket`, and with one for --admin-listen no `admin_listen`; a warning is logged if flags
// were given. Removes the variables from the environment, so that no child process sees them. Call
// before other threads exist, and once.
//
// INVALID_ARGUMENT if a variable cannot be parsed or a descriptor is not a listening stream socket.
absl::StatusOr<rpc::InheritedSockets> TakeInheritedSockets(Config* config,
                                                           int first_descriptor = 3);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_SOCKET_ACTIVATION_H_
