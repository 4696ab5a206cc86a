#include "server/ops/audit_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/text.h"

namespace backprop::ops {
namespace {

constexpr char kStandardError[] = "stderr";
constexpr size_t kMostFieldBytes = 512;  // of a caller's text

absl::StatusOr<int> OpenPath(const std::string& path) {
  if (path == kStandardError) return STDERR_FILENO;
  const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
  if (fd >= 0) return fd;
  return absl::UnavailableError(absl::StrCat("--audit-log ", path, ": ", std::strerror(errno)));
}

void AddField(const char* name, absl::string_view text, std::string* line) {
  absl::StrAppend(line, line->size() > 1 ? "," : "", "\"", name, "\":\"");
  for (const char c : base::EscapeControls(base::Cut(text, kMostFieldBytes))) {
    if (c == '"' || c == '\\') line->push_back('\\');
    line->push_back(c);
  }
  line->push_back('"');
}

}  // namespace

std::string AuditLine(const rpc::CallRecord& call, absl::Time time) {
  std::string line = "{";
  AddField("time", absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone()), &line);
  AddField("request_id", call.identity.request_id, &line);
  if (!call.identity.traceparent.empty()) {
    AddField("traceparent", call.identity.traceparent, &line);
  }
  AddField("principal", call.caller.principal, &line);
  AddField("project", call.caller.project, &line);
  AddField("method", call.method, &line);
  AddField("resource", call.resource, &line);
  AddField("code", absl::StatusCodeToString(call.code), &line);
  AddField("peer", call.peer, &line);
  line.push_back('}');
  return line;
}

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(
    const std::string& path, std::function<void(const std::string&)> on_failure) {
  const auto fd = OpenPath(path);
  if (!fd.ok()) return fd.status();
  return std::unique_ptr<AuditLog>(new AuditLog(path, *fd, std::move(on_failure)));
}

AuditLog::~AuditLog() {
  const base::MutexLock lock(&mu_);
  if (path_ != kStandardError) close(fd_);
}

// Returns whether the whole line was written. After a part of a line the next one begins with a new
// line, so that only one is lost.
bool AuditLog::Append(const std::string& line) {
  const std::string text = absl::StrCat(torn_ ? "\n" : "", line, "\n");
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t now = write(fd_, text.data() + done, text.size() - done);
    if (now < 0 && errno == EINTR) continue;
    if (now <= 0) break;
    done += static_cast<size_t>(now);
  }
  if (done > 0) torn_ = done < text.size();
  return done == text.size();
}

void AuditLog::Write(const rpc::CallRecord& call) {
  std::string changed;  // the message, if writing begins to fail or to work
  {
    const base::MutexLock lock(&mu_);
    const bool ok = Append(AuditLine(call, absl::Now()));  // with the lock: the times are in order
    const int error = errno;
    (ok ? written_ : lost_).Add();
    if (ok == failing_) {
      failing_ = !ok;
      changed = ok ? absl::StrCat("--audit-log ", path_, ": lines are written again; ",
                                  lost_.value(), " were lost since the start")
                   : absl::StrCat("--audit-log ", path_, ": ", std::strerror(error),
                                  "; lines are lost until it can be written");
    }
  }
  if (!changed.empty() && on_failure_) on_failure_(changed);
}

absl::Status AuditLog::Reopen() {
  const auto fd = OpenPath(path_);
  if (!fd.ok()) return fd.status();
  const base::MutexLock lock(&mu_);
  if (path_ != kStandardError) close(std::exchange(fd_, *fd));
  torn_ = false;
  return absl::OkStatus();
}

}  // namespace backprop::ops
