// Calls on a channel whose messages are bytes.
#ifndef BACKPROP_SERVER_HTTP_CALL_H_
#define BACKPROP_SERVER_HTTP_CALL_H_

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/status.h>

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "server/http/errors.h"

namespace backprop::http {

// Bytes without a copy.
grpc::ByteBuffer ToByteBuffer(std::string bytes);
std::string ToString(const grpc::ByteBuffer& buffer);

// What a call is besides its messages.
struct CallOptions {
  std::string path;
  std::optional<absl::Duration> timeout;
  Metadata metadata;  // every name and value must be legal in gRPC
};

// One request and one response. Results are set before `done` runs, which it does on the executor.
// The call keeps itself, and what `done` refers to, alive until then. `done` must own what owns the
// executor.
class UnaryCall final : public grpc::ClientUnaryReactor {
 public:
  using Executor = boost::asio::any_io_executor;

  static std::shared_ptr<UnaryCall> Start(grpc::GenericStub* stub, const CallOptions& options,
                                          grpc::ByteBuffer request, Executor executor,
                                          std::function<void(UnaryCall*)> done);
  // Thread-safe. `done` still runs.
  void Cancel() { context_.TryCancel(); }

  const grpc::Status& status() const { return status_; }
  const grpc::ByteBuffer& response() const { return response_; }
  const grpc::ClientContext& context() const { return context_; }

 private:
  UnaryCall(Executor executor, std::function<void(UnaryCall*)> done)
      : executor_(std::move(executor)), done_(std::move(done)) {}

  void OnDone(const grpc::Status& status) override;

  const Executor executor_;
  const std::function<void(UnaryCall*)> done_;
  grpc::ClientContext context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  grpc::Status status_;
  std::shared_ptr<UnaryCall> self_;
};

// Any number of messages in both directions. Its methods must be called by one thread at a time,
// and the observer is called on the executor, which must run one function at a time.
class StreamCall final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  using Executor = boost::asio::any_io_executor;

  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void OnMessage(const grpc::ByteBuffer& message) = 0;  // after Read
    virtual void OnSent(bool ok) = 0;                             // after Write
    // The last one. The context has the trailers.
    virtual void OnEnd(const grpc::Status& status) = 0;
  };

  // The call keeps the observer alive until OnEnd has returned; it must own what owns the executor.
  static std::shared_ptr<StreamCall> Start(grpc::GenericStub* stub, const CallOptions& options,
                                           Executor executor, std::shared_ptr<Observer> observer);

  // One read at a time. After the last message the call ends.
  void Read();
  // One write at a time, none after `is_last`.
  void Write(grpc::ByteBuffer message, bool is_last);
  void WritesDone();
  // OnEnd follows.
  void Cancel();

  const grpc::ClientContext& context() const { return context_; }

 private:
  StreamCall(Executor executor, std::shared_ptr<Observer> observer)
      : executor_(std::move(executor)), observer_(std::move(observer)) {}

  void OnReadInitialMetadataDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  void Deliver();
  // From now on no operation is started, so that gRPC can end the call.
  void Release();

  const Executor executor_;
  const std::shared_ptr<Observer> observer_;
  grpc::ClientContext context_;
  grpc::ByteBuffer written_;
  grpc::ByteBuffer read_;
  bool reading_ = false;
  bool has_headers_ = false;  // the initial metadata of the context can be read
  bool has_message_ = false;  // read_ waits for them
  bool released_ = false;
  std::shared_ptr<StreamCall> self_;
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_CALL_H_
