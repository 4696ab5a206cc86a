#include "client/cli/command.h"

#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <cstdio>

namespace backprop::cli {
namespace {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

Client Globals::Connect(int attempts) const {
  ClientOptions options;
  if (json) {
    options.on_reply = [](const google::protobuf::Message& message) {
      std::printf("%s\n", JsonLine(message).c_str());
      std::fflush(stdout);
    };
  }
  options.retry.max_attempts = attempts;
  options.use_proxy = !no_proxy;
  if (keepalive_time_seconds > 0) {
    options.keepalive = KeepaliveOptions{Milliseconds(keepalive_time_seconds),
                                         Milliseconds(keepalive_timeout_seconds)};
  } else {
    options.keepalive.reset();
  }
  return Client(server, options);
}

CallOptions Globals::Call() const {
  CallOptions call;
  if (timeout_seconds.has_value()) {
    call.timeout = Milliseconds(*timeout_seconds);
  }
  call.cancellation = interrupt;
  return call;
}

int Globals::Fail(const Status& status) const {
  std::string hint;
  if (status.code == StatusCode::kUnavailable && status.reason.empty()) {
    hint = "\nIs a server running at " + server + "? Set it with --server or BACKPROP_SERVER.";
  }
  std::fprintf(stderr, "%s%s\n", status.ToString().c_str(), hint.c_str());
  return interrupt.cancelled() ? kInterrupted : kFailed;
}

std::string JsonLine(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = false;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  return status.ok() ? json : "{}";
}

bool IsTerminal() { return isatty(STDOUT_FILENO) == 1; }

}  // namespace backprop::cli
