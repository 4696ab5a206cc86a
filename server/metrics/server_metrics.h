// The metrics of a server. docs/metrics.md lists them.
#ifndef BACKPROP_SERVER_METRICS_SERVER_METRICS_H_
#define BACKPROP_SERVER_METRICS_SERVER_METRICS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "server/rpc/context.h"
#include "server/rpc/listener.h"

namespace backprop::metrics {

// What the metrics are read from. The objects must be thread-safe and outlive the calls.
struct Sources {
  std::string version;
  std::string commit;
  std::string instruction_set;
  rpc::Context* context = nullptr;    // whose calls are counted: Calls::stats() is not null
  rpc::Listener* listener = nullptr;  // null: metrics of connections are left out
  std::function<bool()> serving;      // must be set
  std::function<bool()> auth_file_in_use = {};        // whether the latest auth file is; empty: yes
  std::function<std::string()> auth_file_error = {};  // why it is not; empty if it is
  // Lines of the audit log; empty: there is none.
  std::function<int64_t()> audit_written = {};
  std::function<int64_t()> audit_lost = {};
};

// The metrics as text. Takes milliseconds: reads the sizes of the files of the store, and looks at
// every dataset. Thread-safe.
std::string Render(const Sources& sources);

}  // namespace backprop::metrics

#endif  // BACKPROP_SERVER_METRICS_SERVER_METRICS_H_
