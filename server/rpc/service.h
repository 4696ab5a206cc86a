// Registers the methods of a service with gRPC: one function for each kind of RPC.
#ifndef BACKPROP_SERVER_RPC_SERVICE_H_
#define BACKPROP_SERVER_RPC_SERVICE_H_

#include <google/protobuf/descriptor.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/call/caller.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/incoming.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"

namespace backprop::rpc {

// The messages of a unary call. They live until gRPC has sent the response, and so does its claim.
template <class Request, class Response>
class CountedMessages final : public grpc::MessageHolder<Incoming<Request>, Response> {
 public:
  CountedMessages() {
    this->set_request(&request_);
    this->set_response(&response_);
  }
  void Release() override { delete this; }

  Sending::Claim sent;

 private:
  Incoming<Request> request_;
  Response response_;
};

template <class Request, class Response>
class CountedMessagesAllocator final : public grpc::MessageAllocator<Incoming<Request>, Response> {
 public:
  grpc::MessageHolder<Incoming<Request>, Response>* AllocateMessages() override {
    return new CountedMessages<Request, Response>;
  }
};

// A service that parses its requests itself (incoming.h) and whose methods must not block.
// `Generated` is the generated class, such as v1::TrainingService. The constructor of the derived
// class must register every method. `method` must be a literal with the name of a method.
template <class Generated>
class ServiceBase : public Generated::Service {
 protected:
  // `context` must outlive the service.
  explicit ServiceBase(Context* context) : context_(context) {}

  // `model` returns the field of the request that the log shows with the call.
  template <class Request, class Response>
  void Unary(const char* method, void (*handler)(Context*, UnaryCall*, const Request&, Response*),
             const std::string& (Request::*model)() const) {
    UnaryWith<Request, Response>(method, handler, model);
  }
  // The same for a handler of any type.
  template <class Request, class Response, class Handler>
  void UnaryWith(const char* method, Handler handler,
                 const std::string& (Request::*model)() const) {
    const auto start = [context = context_, method, handler, model](
                           grpc::CallbackServerContext* calling, const Incoming<Request>* incoming,
                           Response* response) {
      TakeOver(Registration());
      auto memory = context->MemoryOfRequest(incoming->size_bytes());
      const absl::Status parsed = memory.ok() ? incoming->Parse() : memory.status();
      const Request& request = incoming->message();
      auto* call = new UnaryCall(InfoOf(context, method, calling), (request.*model)());
      grpc::ServerUnaryReactor* const reactor = call->reactor();  // `call` may be deleted below
      if (parsed.ok()) {
        call->Hold(*std::move(memory));
        auto* const messages =
            static_cast<CountedMessages<Request, Response>*>(calling->GetRpcAllocatorState());
        call->CountResponse(response, &context->sending, &messages->sent);
        handler(context, call, request, response);
      } else {
        call->Done(parsed);
      }
      return reactor;
    };
    static CountedMessagesAllocator<Request, Response> allocator;  // has no state
    auto* const registered =
        new grpc::internal::CallbackUnaryHandler<Incoming<Request>, Response>(start);
    registered->SetMessageAllocator(&allocator);
    this->MarkMethodCallback(IndexOf(method), registered);
    HandOver(Registration());
  }

  // `start` creates the reactor. If `parsed` is not OK, the request is empty and the reactor must
  // end the call with `parsed`. The request may be freed as soon as `start` returns.
  template <class Request, class Response>
  void ServerStreaming(const char* method,
                       grpc::ServerWriteReactor<Response>* (*start)(Context*, const CallInfo&,
                                                                    const Request&,
                                                                    const absl::Status& parsed)) {
    this->MarkMethodCallback(
        IndexOf(method),
        new grpc::internal::CallbackServerStreamingHandler<Incoming<Request>, Response>(
            [context = context_, method, start](grpc::CallbackServerContext* calling,
                                                const Incoming<Request>* incoming) {
              TakeOver(Registration());
              const absl::Status parsed = incoming->Parse();
              return start(context, InfoOf(context, method, calling),
                           parsed.ok() ? incoming->message() : Request::default_instance(), parsed);
            }));
    HandOver(Registration());
  }

  template <class Request, class Response>
  void ClientStreaming(const char* method, grpc::ServerReadReactor<Incoming<Request>>* (*start)(
                                               Context*, const CallInfo&, Response*)) {
    this->MarkMethodCallback(
        IndexOf(method),
        new grpc::internal::CallbackClientStreamingHandler<Incoming<Request>, Response>(
            [context = context_, method, start](grpc::CallbackServerContext* calling,
                                                Response* response) {
              TakeOver(Registration());
              return start(context, InfoOf(context, method, calling), response);
            }));
    HandOver(Registration());
  }

  template <class Request, class Response>
  void BidiStreaming(const char* method, grpc::ServerBidiReactor<Incoming<Request>, Response>* (
                                             *start)(Context*, const CallInfo&)) {
    this->MarkMethodCallback(
        IndexOf(method),
        new grpc::internal::CallbackBidiHandler<Incoming<Request>, Response>(
            [context = context_, method, start](grpc::CallbackServerContext* calling) {
              TakeOver(Registration());
              return start(context, InfoOf(context, method, calling));
            }));
    HandOver(Registration());
  }

 private:
  static CallInfo InfoOf(Context* context, const char* method,
                         grpc::CallbackServerContext* calling) {
    return {&context->calls, method, calling, Anonymous()};
  }

  // The generated class numbers its methods in the order of the .proto file.
  static int IndexOf(const char* method) {
    const auto* found = google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(
        absl::StrCat(Generated::service_full_name(), ".", method));
    GPR_ASSERT(found != nullptr);
    return found->index();
  }

  // The address that HandOver and TakeOver use: a method is registered before it is called.
  static void* Registration() {
    static char registration;
    return &registration;
  }

  Context* const context_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SERVICE_H_
