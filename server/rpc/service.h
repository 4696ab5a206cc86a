// Registers the methods of a service with gRPC: one function for each kind of RPC.
#ifndef BACKPROP_SERVER_RPC_SERVICE_H_
#define BACKPROP_SERVER_RPC_SERVICE_H_

#include <google/protobuf/descriptor.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/auth/role.h"
#include "server/rpc/call/call_stats.h"
#include "server/rpc/call/caller.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/incoming.h"
#include "server/rpc/call/overload_control.h"
#include "server/rpc/call/received_context.h"
#include "server/rpc/call/refused_stream.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"
#include "server/rpc/permissions.h"
#include "server/session/projects.h"

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
// class must register every method. `method` must be a literal with the name of a method, which
// must have a row in permissions.cc. A call whose caller is not known, or whose role is too low,
// ends before its request is parsed and never reaches a handler. So does a unary call of a reader
// or a writer that exceeds the limits of an overload; administrators and operators get through.
template <class Generated>
class ServiceBase : public Generated::Service {
 protected:
  // `context` must outlive the service. `is_public`: everyone may call all methods.
  explicit ServiceBase(Context* context, bool is_public = false)
      : context_(context), is_public_(is_public) {}

  // `model` returns the field of the request that the log shows with the call.
  template <class Request, class Response>
  void Unary(const char* method, void (*handler)(Context*, UnaryCall*, const Request&, Response*),
             const std::string& (Request::*model)() const) {
    UnaryWith<Request, Response>(method, handler, model);
  }
  // The same for a request without such a field.
  template <class Request, class Response>
  void Unary(const char* method, void (*handler)(Context*, UnaryCall*, const Request&, Response*)) {
    UnaryWith<Request, Response>(method, handler,
                                 [](const Request&) { return absl::string_view(); });
  }
  // The same for a handler of any type.
  template <class Request, class Response, class Handler, class Model>
  void UnaryWith(const char* method, Handler handler, Model model) {
    const auto start = [context = context_, method = Known(method), handler, model](
                           grpc::CallbackServerContext* calling, const Incoming<Request>* incoming,
                           Response* response) {
      TakeOver(Registration());
      const Admission admission = Admit(context, method, calling);
      RequestClaims claims;
      absl::Status parsed = admission.status;
      if (parsed.ok()) {
        parsed = Begin(context, method, admission.info, *incoming, &claims.permit);
      }
      if (parsed.ok()) parsed = Take(context, admission.info.project, *incoming, &claims);
      const Request& request = incoming->message();
      auto* call = new UnaryCall(admission.info, std::invoke(model, request));
      grpc::ServerUnaryReactor* const reactor = call->reactor();  // `call` may be deleted below
      if (parsed.ok()) {
        call->Hold(std::move(claims));
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
            [context = context_, method = Known(method), start](
                grpc::CallbackServerContext* calling, const Incoming<Request>* incoming) {
              TakeOver(Registration());
              const Admission admission = Admit(context, method, calling);
              session::Project::Claim in_flight;  // until the request is decoded
              absl::Status parsed = admission.status;
              if (parsed.ok()) parsed = Take(admission.info.project, *incoming, &in_flight);
              return start(context, admission.info,
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
            [context = context_, method = Known(method), start](
                grpc::CallbackServerContext* calling,
                Response* response) -> grpc::ServerReadReactor<Incoming<Request>>* {
              TakeOver(Registration());
              const Admission admission = Admit(context, method, calling);
              if (admission.status.ok()) return start(context, admission.info, response);
              return RefusedStream<Request, NoStream>::Start(admission.info, admission.status);
            }));
    HandOver(Registration());
  }

  template <class Request, class Response>
  void BidiStreaming(const char* method, grpc::ServerBidiReactor<Incoming<Request>, Response>* (
                                             *start)(Context*, const CallInfo&)) {
    this->MarkMethodCallback(IndexOf(method),
                             new grpc::internal::CallbackBidiHandler<Incoming<Request>, Response>(
                                 [context = context_, method = Known(method),
                                  start](grpc::CallbackServerContext* calling)
                                     -> grpc::ServerBidiReactor<Incoming<Request>, Response>* {
                                   TakeOver(Registration());
                                   const Admission admission = Admit(context, method, calling);
                                   if (admission.status.ok()) return start(context, admission.info);
                                   return RefusedStream<Request, Response>::Start(admission.info,
                                                                                  admission.status);
                                 }));
    HandOver(Registration());
  }

 private:
  // What is known of a method before it is called.
  struct Method {
    const char* name;
    const Permission* permission;  // null: everyone may call it
    CallStats::Method* counted;    // null: its calls are not counted
    bool changes;
    bool is_bounded;  // by the limits of an overload
  };
  Method Known(const char* name) const {
    const Permission* const permission = FindPermission(Generated::service_full_name(), name);
    GPR_ASSERT(permission != nullptr);
    CallStats* const stats = context_->calls.stats();
    return {name, is_public_ ? nullptr : permission, stats == nullptr ? nullptr : stats->Add(name),
            IsChange(*permission), permission->role <= auth::Role::kWriter};
  }

  // The caller of a call, and whether it may make the call. If not, `status` is the error with
  // which the call must end.
  struct Admission {
    CallInfo info;
    absl::Status status;
  };
  static Admission Admit(Context* context, const Method& method,
                         grpc::CallbackServerContext* calling) {
    CallInfo info{&context->calls, method.name,    calling,
                  Anonymous(),     method.counted, method.changes};
    if (context->authenticator == nullptr || method.permission == nullptr) return {info, {}};
    auto caller = context->authenticator->Authenticate(*calling, method.name);
    if (!caller.ok()) return {info, caller.status()};
    info.caller = *std::move(caller);
    absl::Status allowed = CheckRole(*method.permission, *info.caller);
    info.project = context->environment->projects.Of(info.caller->project);
    if (allowed.ok()) allowed = context->Charge(info.project, session::Rate::kRequests, 1);
    return {info, std::move(allowed)};
  }

  // Begins a unary call that may be made, unless the server is overloaded.
  template <class Request>
  static absl::Status Begin(Context* context, const Method& method, const CallInfo& info,
                            const Incoming<Request>& incoming, OverloadControl::Permit* permit) {
    if (!method.is_bounded) return absl::OkStatus();
    return context->overload.Begin(info.caller->counted_project, incoming.size_bytes(),
                                   ReceivedAt(*info.grpc), info.begin, permit);
  }

  // Counts the bytes of a request and its memory, and parses it.
  template <class Request>
  static absl::Status Take(const Context* context, session::Project* project,
                           const Incoming<Request>& incoming, RequestClaims* claims) {
    absl::Status counted = CountInFlight(project, incoming.size_bytes(), &claims->in_flight);
    if (!counted.ok()) return counted;
    auto claimed = context->MemoryOfRequest(incoming.size_bytes());
    if (!claimed.ok()) return claimed.status();
    claims->memory = *std::move(claimed);
    return incoming.Parse();
  }
  // The same for a request that is decoded before the call is created; its memory is counted then.
  template <class Request>
  static absl::Status Take(session::Project* project, const Incoming<Request>& incoming,
                           session::Project::Claim* in_flight) {
    absl::Status counted = CountInFlight(project, incoming.size_bytes(), in_flight);
    return counted.ok() ? incoming.Parse() : counted;
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
  const bool is_public_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SERVICE_H_
