#include "client/cli/command.h"

#include <sys/stat.h>

#include <cstdio>

#include "client/cli/note.h"
#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

void WarnAboutReaders(const std::string& token_file) {
  struct stat about {};
  if (stat(token_file.c_str(), &about) == 0 && (about.st_mode & S_IROTH) != 0) {
    PrintNote(token_file + ": every user of this machine can read the token; chmod 600 it");
  }
}

// Advice about a connection that could not be made. The texts are gRPC's and OpenSSL's.
std::string ConnectionHint(const std::string& message, const Connection& used) {
  const auto says = [&](const char* text) { return message.find(text) != std::string::npos; };
  const bool closed = says("Socket closed") || says("Connection reset");
  if (!used.tls.has_value()) {
    if (closed) return "The server closed the connection. If it expects TLS, use --tls or --ca.";
  } else if (says("wrong version number")) {
    return "The server does not use TLS: omit --tls and --ca.";
  } else if (says("certificate verify failed")) {
    return "The server's certificate has expired, or is signed by an authority that is not "
           "trusted: name the authority with --ca.";
  } else if (says("is not in peer certificate")) {
    return "The server's certificate is for another name: use --tls-server-name.";
  } else if (closed && used.tls->certificate_file.empty()) {
    return "The server closed the connection. If it requires a certificate of yours, use --cert "
           "and --key.";
  } else if (closed) {
    return "The server closed the connection. It may not know the authority of your certificate.";
  }
  return "Is a server running at " + used.server + "? Set it with --server or BACKPROP_SERVER.";
}

// Advice for the user about an error.
std::string Hint(const Status& status, const std::optional<Connection>& used) {
  if (!used.has_value()) return "";
  const bool answered = !status.reason.empty();
  if (status.code == StatusCode::kUnavailable && !answered) {
    return ConnectionHint(status.message, *used);
  }
  const bool has_token = !used->token.token.empty() || !used->token.file.empty();
  if (status.code == StatusCode::kUnauthenticated && !has_token) {
    return "Give a token with --token-file or BACKPROP_TOKEN.";
  }
  return "";
}

}  // namespace

Client Globals::Connect(int attempts, Replies replies) const {
  if (!resolved_->has_value()) {
    *resolved_ = ResolveConnection(connection);
    WarnAboutReaders((*resolved_)->token.file);
  }
  ClientOptions options;
  options.tls = (*resolved_)->tls;
  options.token = (*resolved_)->token;
  options.retry.max_attempts = attempts;
  options.unary_timeout.reset();  // --timeout is the only limit
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
  return Client((*resolved_)->server, options);
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
  const std::string hint = more.empty() ? Hint(status, *resolved_) : more;
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
