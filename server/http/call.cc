#include "server/http/call.h"

#include <grpcpp/support/slice.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>
#include <vector>

namespace backprop::http {
namespace {

void Prepare(const CallOptions& options, grpc::ClientContext* context) {
  for (const auto& [key, value] : options.metadata) context->AddMetadata(key, value);
  if (options.timeout.has_value()) {
    context->set_deadline(absl::ToChronoTime(absl::Now() + *options.timeout));
  }
}

}  // namespace

grpc::ByteBuffer ToByteBuffer(std::string bytes) {
  auto* const kept = new std::string(std::move(bytes));
  const grpc::Slice slice(
      kept->data(), kept->size(), [](void* of) { delete static_cast<std::string*>(of); }, kept);
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::string bytes;
  std::vector<grpc::Slice> slices;
  if (!buffer.Valid() || !buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

std::shared_ptr<UnaryCall> UnaryCall::Start(grpc::GenericStub* stub, const CallOptions& options,
                                            grpc::ByteBuffer request, Executor executor,
                                            std::function<void(UnaryCall*)> done) {
  std::shared_ptr<UnaryCall> call(new UnaryCall(std::move(executor), std::move(done)));
  Prepare(options, &call->context_);
  call->request_.Swap(&request);
  call->self_ = call;
  stub->PrepareUnaryCall(&call->context_, options.path, grpc::StubOptions(), &call->request_,
                         &call->response_, call.get());
  call->StartCall();
  return call;
}

void UnaryCall::OnDone(const grpc::Status& status) {
  status_ = status;
  // Until post() has returned, this keeps alive what owns the executor.
  const auto self = std::move(self_);
  boost::asio::post(executor_, [self] { self->done_(self.get()); });
}

std::shared_ptr<StreamCall> StreamCall::Start(grpc::GenericStub* stub, const CallOptions& options,
                                              Executor executor,
                                              std::shared_ptr<Observer> observer) {
  std::shared_ptr<StreamCall> call(new StreamCall(std::move(executor), std::move(observer)));
  Prepare(options, &call->context_);
  call->self_ = call;
  stub->PrepareBidiStreamingCall(&call->context_, options.path, grpc::StubOptions(), call.get());
  call->AddHold();
  call->StartCall();
  return call;
}

void StreamCall::Read() {
  if (released_ || reading_) return;
  reading_ = true;
  StartRead(&read_);
}

void StreamCall::Write(grpc::ByteBuffer message, bool is_last) {
  if (released_) return;
  written_.Swap(&message);
  if (is_last) {
    StartWriteLast(&written_, grpc::WriteOptions());
  } else {
    StartWrite(&written_);
  }
}

void StreamCall::WritesDone() {
  if (!released_) StartWritesDone();
}

void StreamCall::Cancel() {
  context_.TryCancel();
  if (!reading_) Release();
}

void StreamCall::Release() {
  if (!std::exchange(released_, true)) RemoveHold();
}

void StreamCall::OnReadInitialMetadataDone(bool /*ok*/) {
  boost::asio::post(executor_, [self = self_] {
    self->has_headers_ = true;
    if (self->has_message_) self->Deliver();
  });
}

void StreamCall::OnReadDone(bool ok) {
  boost::asio::post(executor_, [self = self_, ok] {
    self->reading_ = false;
    if (!ok) return self->Release();
    self->has_message_ = true;
    if (self->has_headers_) self->Deliver();
  });
}

void StreamCall::Deliver() {
  has_message_ = false;
  grpc::ByteBuffer message;
  message.Swap(&read_);
  observer_->OnMessage(message);
}

void StreamCall::OnWriteDone(bool ok) {
  boost::asio::post(executor_, [self = self_, ok] {
    self->written_.Clear();
    self->observer_->OnSent(ok);
  });
}

void StreamCall::OnDone(const grpc::Status& status) {
  const auto self = std::move(self_);  // as in UnaryCall
  boost::asio::post(executor_, [self, status] { self->observer_->OnEnd(status); });
}

}  // namespace backprop::http
