// What the server tells operators about itself. server/rpc returns it, and does not know where it
// is from: metrics, log and flags belong to folders above it.
#ifndef BACKPROP_SERVER_RPC_INTROSPECTION_H_
#define BACKPROP_SERVER_RPC_INTROSPECTION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace backprop::rpc {

// What the health service reports of a service, and why.
struct Health {
  std::string service;  // as in grpc.health.v1.Health; empty: the server as a whole
  bool serving = false;
  std::string reason;  // why it is not serving; empty if it is
};

struct ShownFlag {
  std::string name;    // "--data-dir"
  std::string value;   // never a secret
  bool given = false;  // otherwise the value is the default
};

// All functions must be set and thread-safe. All text must be valid UTF-8.
struct Introspection {
  std::string version;
  std::string commit;
  std::string instruction_set;
  absl::Time start_time;
  std::vector<ShownFlag> flags;
  std::function<std::vector<Health>()> health;
  std::function<std::string()> metrics;                 // Prometheus' text format
  std::function<std::vector<std::string>()> log_lines;  // the oldest first; bounded
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_INTROSPECTION_H_
