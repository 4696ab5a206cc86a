// Periodic work of the server.
#ifndef BACKPROP_SERVER_JANITOR_H_
#define BACKPROP_SERVER_JANITOR_H_

#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/datasets/datasets.h"
#include "server/ops/auth_file_watch.h"
#include "server/ops/config.h"
#include "server/ops/process_memory.h"
#include "server/registry/registry.h"
#include "server/rpc/context.h"
#include "server/rpc/tls.h"

namespace backprop {

void LogNotices(const std::vector<rpc::TlsNotice>& notices);

// Does periodic work until it is destroyed. Once a second: deletes expired models and uploads,
// evicts models, resumes parked runs, ends idle streams, applies changes of the auth file and of
// certificates. More often: returns memory to the system.
class Janitor {
 public:
  // `auth_file` and `tls` may be null. All arguments must outlive the object.
  Janitor(rpc::Context* context, ops::AuthFileWatch* auth_file, rpc::Tls* tls,
          const ops::Config& config);
  ~Janitor();
  Janitor(const Janitor&) = delete;
  Janitor& operator=(const Janitor&) = delete;

 private:
  void Work();
  void WorkOfASecond();

  rpc::Context* const context_;
  const absl::Duration idle_timeout_;
  registry::Registry* const registry_;
  datasets::Datasets* const datasets_;
  ops::AuthFileWatch* const auth_file_;
  rpc::Tls* const tls_;
  ops::Trimmer trimmer_;  // used by thread_ only
  base::Mutex mu_;
  base::CondVar stops_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace backprop

#endif  // BACKPROP_SERVER_JANITOR_H_
