// How the methods of a service are registered with gRPC: one way for each kind of call.
#ifndef BACKPROP_SERVER_RPC_SERVICE_H_
#define BACKPROP_SERVER_RPC_SERVICE_H_

#include <google/protobuf/descriptor.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/context.h"
#include "server/rpc/hand_over.h"
#include "server/rpc/incoming.h"
#include "server/rpc/unary_call.h"

namespace backprop::rpc {

// A service whose requests are parsed by us (incoming.h) and whose methods do not block.
// `Generated` is the generated class, such as v1::TrainingService; every method of it has to be
// registered.
template <class Generated>
class ServiceBase : public Generated::Service {
 protected:
  // `context` must outlive the service.
  explicit ServiceBase(Context* context) : context_(context) {}

  // `model` is the field by which the log names the call.
  template <class Request, class Response>
  void Unary(const char* method, void (*handler)(Context*, UnaryCall*, const Request&, Response*),
             const std::string& (Request::*model)() const) {
    const auto start = [context = context_, method, handler, model](
                           grpc::CallbackServerContext* calling, const Incoming<Request>* incoming,
                           Response* response) {
      TakeOver(Registration());
      auto memory = MemoryOfRequest(context, incoming->size_bytes());
      const absl::Status parsed = memory.ok() ? incoming->Parse() : memory.status();
      const Request& request = incoming->message();
      auto* call = new UnaryCall(context, calling, method, (request.*model)());
      grpc::ServerUnaryReactor* const reactor = call->reactor();  // the call may end right here
      if (parsed.ok()) {
        call->Hold(*std::move(memory));
        handler(context, call, request, response);
      } else {
        call->Done(parsed);
      }
      return reactor;
    };
    this->MarkMethodCallback(
        IndexOf(method),
        new grpc::internal::CallbackUnaryHandler<Incoming<Request>, Response>(start));
    HandOver(Registration());
  }

  // `start` makes the reactor. Where `parsed` is not OK the request is empty, and the call ends so.
  template <class Request, class Response>
  void ServerStreaming(const char* method,
                       grpc::ServerWriteReactor<Response>* (*start)(Context*, const Request&,
                                                                    const absl::Status& parsed)) {
    this->MarkMethodCallback(
        IndexOf(method),
        new grpc::internal::CallbackServerStreamingHandler<Incoming<Request>, Response>(
            [context = context_, start](grpc::CallbackServerContext*,
                                        const Incoming<Request>* incoming) {
              TakeOver(Registration());
              const absl::Status parsed = incoming->Parse();
              return start(context, parsed.ok() ? incoming->message() : Request::default_instance(),
                           parsed);
            }));
    HandOver(Registration());
  }

  template <class Request, class Response>
  void ClientStreaming(const char* method,
                       grpc::ServerReadReactor<Incoming<Request>>* (*start)(Context*, Response*)) {
    this->MarkMethodCallback(
        IndexOf(method),
        new grpc::internal::CallbackClientStreamingHandler<Incoming<Request>, Response>(
            [context = context_, start](grpc::CallbackServerContext*, Response* response) {
              TakeOver(Registration());
              return start(context, response);
            }));
    HandOver(Registration());
  }

  template <class Request, class Response>
  void BidiStreaming(const char* method,
                     grpc::ServerBidiReactor<Incoming<Request>, Response>* (*start)(Context*)) {
    this->MarkMethodCallback(IndexOf(method),
                             new grpc::internal::CallbackBidiHandler<Incoming<Request>, Response>(
                                 [context = context_, start](grpc::CallbackServerContext*) {
                                   TakeOver(Registration());
                                   return start(context);
                                 }));
    HandOver(Registration());
  }

 private:
  // The generated class numbers its methods in the order of the contract.
  static int IndexOf(const char* method) {
    const auto* found = google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(
        absl::StrCat(Generated::service_full_name(), ".", method));
    GPR_ASSERT(found != nullptr);
    return found->index();
  }

  // What gRPC orders after: a method is registered before it is called.
  static void* Registration() {
    static char registration;
    return &registration;
  }

  Context* const context_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SERVICE_H_
