// Keeps a server from being open to people by accident.
#ifndef BACKPROP_SERVER_OPS_EXPOSURE_H_
#define BACKPROP_SERVER_OPS_EXPOSURE_H_

#include <string>

#include "absl/status/status.h"
#include "server/ops/config.h"

namespace backprop::ops {

// Whether only processes of this machine can connect to an address: unix:PATH, localhost,
// 127.0.0.0/8 or ::1. Any other host name counts as reachable, whatever it resolves to.
bool IsLocal(const std::string& address);

// INVALID_ARGUMENT, with advice, if the server would listen on an address that is not local and
// - without --auth-file: everyone could read, change and delete everything, which --allow-anonymous
//   allows;
// - with --auth-file but without TLS: tokens would travel in clear text, which --allow-cleartext
//   allows;
// - and with --metrics-listen, which has no authentication, unless --allow-anonymous is given.
// Also if flags contradict each other.
absl::Status CheckExposure(const Config& config);

// The callers that are accepted, for the log: "anonymous callers are allowed on 0.0.0.0:50051: …".
std::string DescribeAccess(const Config& config);

// What hostile peers can do, for the log: a warning that names the addresses that are not local.
// Empty if there are none.
std::string DescribeHostilePeers(const Config& config);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_EXPOSURE_H_
