// The reactor of calls that stream a file to the caller.
#ifndef BACKPROP_SERVER_RPC_CALL_DOWNLOAD_STREAM_H_
#define BACKPROP_SERVER_RPC_CALL_DOWNLOAD_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/exec/compute_pool.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/status.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"
#include "server/session/errors.h"

namespace backprop::rpc {

// Produces the bytes of the file. Called by one thread at a time.
class PieceSource {
 public:
  virtual ~PieceSource() = default;
  // Returns the next 1 byte to 1 MiB; nothing at the end of the file. An error ends the call.
  virtual absl::StatusOr<std::optional<std::string>> Next() = 0;
};

// Fetches a piece on the compute pool, writes it, and fetches the next piece when gRPC has taken
// this one. Keeps itself alive until OnDone.
template <class Response>
class DownloadStream final : public grpc::ServerWriteReactor<Response>,
                             public OpenCall,
                             public std::enable_shared_from_this<DownloadStream<Response>> {
 public:
  // `method` must be a literal. If `source` is an error, the call ends with it.
  static std::shared_ptr<DownloadStream> Start(
      Context* context, const char* method, const std::string& model,
      absl::StatusOr<std::unique_ptr<PieceSource>> source) {
    auto stream = std::make_shared<DownloadStream>(context, method, model);
    stream->self_ = stream;
    context->open_calls.Add(stream);
    HandOver(stream.get());
    if (source.ok()) {
      stream->source_ = *std::move(source);
      stream->Fetch();
    } else {
      stream->End(source.status());
    }
    return stream;
  }
  DownloadStream(Context* context, const char* method, std::string model)
      : context_(context), method_(method), model_(std::move(model)) {
    context_->calls.Enter();
  }

  // gRPC has taken the piece. No other operation is pending, so no other thread starts one.
  void OnWriteDone(bool ok) override {
    TakeOver(this);
    const auto self = this->shared_from_this();
    if (!ok) return End(base::CallerGone());
    Fetch();
  }
  void OnCancel() override {
    TakeOver(this);
    const base::MutexLock lock(&mu_);
    interrupted_ = base::CallerGone();
  }
  void OnServerStop() override {
    const base::MutexLock lock(&mu_);
    if (interrupted_.ok()) interrupted_ = session::ShuttingDown();
  }
  void OnDone() override {
    TakeOver(this);
    context_->calls.Leave();
    self_.reset();
  }

 private:
  absl::Status interrupted() const {
    const base::MutexLock lock(&mu_);
    return interrupted_;
  }

  void Fetch() {
    context_->environment->pool->Post(exec::Priority::kInteractive,
                                      [self = this->shared_from_this()] { self->WriteNext(); });
  }

  void WriteNext() {
    const absl::Status stopped = interrupted();
    if (!stopped.ok()) return End(stopped);
    auto piece = source_->Next();
    if (!piece.ok()) return End(piece.status());
    if (!piece->has_value()) return End(absl::OkStatus());
    response_.set_data(**std::move(piece));
    HandOver(this);
    this->StartWrite(&response_);
  }

  void End(const absl::Status& status) {
    if (context_->observer) {
      context_->observer({method_, model_, status.code(), status.message(), absl::Now() - begin_});
    }
    HandOver(this);
    this->Finish(ToGrpc(status));
  }

  Context* const context_;
  const char* const method_;
  const std::string model_;
  const absl::Time begin_ = absl::Now();
  std::shared_ptr<DownloadStream> self_;
  std::unique_ptr<PieceSource> source_;
  Response response_;
  mutable base::Mutex mu_;
  absl::Status interrupted_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_DOWNLOAD_STREAM_H_
