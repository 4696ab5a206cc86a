// The status of a server.
#ifndef BACKPROP_CLIENT_SERVER_STATUS_H_
#define BACKPROP_CLIENT_SERVER_STATUS_H_

#include <chrono>
#include <string>
#include <vector>

namespace backprop {

// What the health service reports of one service, and why.
struct ServiceHealth {
  std::string service{};  // empty: the server as a whole
  bool serving = false;
  std::string reason{};  // why it is not serving; empty if it is
};

struct ServerFlag {
  std::string name{};   // "--data-dir"
  std::string value{};  // in use; never a secret
  bool given = false;   // otherwise the value is the default
};

struct ServerStatus {
  std::string version{};
  std::string commit{};
  std::string instruction_set{};
  std::chrono::system_clock::time_point start_time{};   // by the server's clock
  std::chrono::system_clock::time_point status_time{};  // by the same clock
  std::vector<ServiceHealth> health{};
  std::string metrics{};  // Prometheus' text format
  // Only in the full view. Flags are sorted by name, log lines are the latest, the oldest first.
  std::vector<ServerFlag> flags{};
  std::vector<std::string> log_lines{};
};

// How much of a status to return.
enum class StatusView {
  kBasic,  // all but flags and log lines
  kFull,
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_SERVER_STATUS_H_
