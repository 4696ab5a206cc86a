#include "client/cli/command.h"

#include <cstdio>

#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// Advice for the user about an error.
std::string Hint(const Status& status, const std::string& server) {
  if (status.code == StatusCode::kUnavailable && status.reason.empty()) {
    return "Is a server running at " + server + "? Set it with --server or BACKPROP_SERVER.";
  }
  return "";
}

}  // namespace

Client Globals::Connect(int attempts, Replies replies) const {
  ClientOptions options;
  options.retry.max_attempts = attempts;
  if (json && replies == Replies::kDocument) {
    options.on_reply = [document = document_](const google::protobuf::Message& reply) {
      document->Take(reply);
    };
  } else if (json && replies == Replies::kLines) {
    options.on_reply = [](const google::protobuf::Message& reply) {
      std::printf("%s\n", JsonLine(reply).c_str());
      std::fflush(stdout);
    };
  }
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

void Globals::PrintDocument() const {
  const std::string text = own_document_->empty() ? document_->ToString() : *own_document_;
  if (json && !text.empty()) std::printf("%s\n", text.c_str());
}

int Globals::Fail(const Status& status, const std::string& more) const {
  document_->Clear();  // replies before an error are not a result
  const std::string hint = more.empty() ? Hint(status, server) : more;
  if (json) {
    std::fprintf(stderr, "%s\n", JsonError(status, hint).c_str());
  } else {
    std::fprintf(stderr, "%s%s%s\n", status.ToString().c_str(), hint.empty() ? "" : "\n",
                 hint.c_str());
  }
  return interrupt.cancelled() ? kInterrupted : kFailed;
}

int Globals::FailHere(int exit_status, const std::string& reason,
                      const std::string& message) const {
  if (json) {
    Status status;
    status.code =
        exit_status == kInterrupted ? StatusCode::kCancelled : StatusCode::kInvalidArgument;
    status.message = message;
    status.reason = reason;
    std::fprintf(stderr, "%s\n", JsonError(status, "").c_str());
  } else {
    std::fprintf(stderr, "%s\n", Printable(message).c_str());
  }
  return exit_status;
}

}  // namespace backprop::cli
