// Applies changes of the auth file while the server runs.
#ifndef BACKPROP_SERVER_OPS_AUTH_FILE_WATCH_H_
#define BACKPROP_SERVER_OPS_AUTH_FILE_WATCH_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "server/auth/auth_file.h"
#include "server/auth/auth_file_reader.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/rpc/call/authenticator.h"

namespace backprop::ops {

// Owns the authenticator of a server. A file that becomes missing or wrong changes nothing: the
// callers of the last good file stay, an error is logged, and the health says so. Thread-safe.
class AuthFileWatch {
 public:
  // Reads the file. Errors of AuthFileReader::Read. `clock` must outlive the result.
  static absl::StatusOr<std::unique_ptr<AuthFileWatch>> Open(const std::string& path,
                                                             const base::Clock* clock);

  rpc::Authenticator* authenticator() { return &authenticator_; }

  // `health` is called now and at every change with whether the latest file is in use; empty: no
  // longer.
  void SetHealth(std::function<void(bool in_use)> health);

  // `projects` is called now and at every change with the projects of the latest good file; empty:
  // no longer.
  using Projects = std::function<void(const std::vector<auth::Project>&)>;
  void SetProjects(Projects projects);

  // Whether the latest file is in use.
  bool in_use() {
    const base::MutexLock lock(&mu_);
    return in_use_;
  }
  // Why the latest file is not in use, as in the log, without tokens; empty if it is.
  std::string error() {
    const base::MutexLock lock(&mu_);
    return error_;
  }

  // Applies the file if it has changed. Call about once a second.
  void Check();
  // Reads the file whether it has changed or not, and logs the result in both cases.
  void Reload();

 private:
  AuthFileWatch(auth::AuthFileReader reader, auth::AuthFile file, const base::Clock* clock);

  void Apply(auth::AuthFileReader::Result file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  rpc::Authenticator authenticator_;
  base::Mutex mu_;
  auth::AuthFileReader reader_ ABSL_GUARDED_BY(mu_);
  bool in_use_ ABSL_GUARDED_BY(mu_) = true;
  std::string error_ ABSL_GUARDED_BY(mu_);  // empty if in_use_
  std::function<void(bool in_use)> health_ ABSL_GUARDED_BY(mu_);
  Projects projects_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_AUTH_FILE_WATCH_H_
