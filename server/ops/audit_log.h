// A log of every call that changes something: its caller, its resource and its result.
#ifndef BACKPROP_SERVER_OPS_AUDIT_LOG_H_
#define BACKPROP_SERVER_OPS_AUDIT_LOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/counters.h"
#include "server/base/mutex.h"
#include "server/rpc/call/calls.h"

namespace backprop::ops {

// The line of a call: a JSON object with time (UTC), request_id, principal, project, method,
// resource, code and peer, and with traceparent if the caller sent one, without the end of the
// line. Whatever text the caller sent, it is one line of valid UTF-8: control characters are
// escaped.
std::string AuditLine(const rpc::CallRecord& call, absl::Time time);

// Appends a line for each call, whole and in the order of the calls of Write, before the caller
// gets its response. Lines are passed to the system and not synced. If a line cannot be written,
// for example because the disk is full, it is lost and counted, and the call is answered as usual:
// the server serves models also when its logs are full. `on_failure` gets a message for the log
// when writing begins to fail, and when it works again. Thread-safe.
class AuditLog {
 public:
  // Opens a file for appending, and creates it with mode 0600 if it does not exist; "stderr" is
  // standard error. UNAVAILABLE if it cannot be opened.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(
      const std::string& path, std::function<void(const std::string&)> on_failure);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  void Write(const rpc::CallRecord& call);

  // Opens the path again, so that a file that was renamed is left. If it cannot be opened, the old
  // file stays in use: UNAVAILABLE.
  absl::Status Reopen();

  int64_t written() const { return written_.value(); }
  int64_t lost() const { return lost_.value(); }

 private:
  AuditLog(std::string path, int fd, std::function<void(const std::string&)> on_failure)
      : path_(std::move(path)), on_failure_(std::move(on_failure)), fd_(fd) {}
  bool Append(const std::string& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string path_;
  const std::function<void(const std::string&)> on_failure_;
  base::Counter written_;
  base::Counter lost_;
  base::Mutex mu_;
  int fd_ ABSL_GUARDED_BY(mu_);
  bool torn_ ABSL_GUARDED_BY(mu_) = false;  // the file ends within a line
  bool failing_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_AUDIT_LOG_H_
