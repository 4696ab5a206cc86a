// The server of Connect's conformance suite: its service on a gRPC server, which our gateway calls.
// The suite starts one process for each configuration and says on standard input what to serve
// (docs/testing_servers.md of connectrpc.com/conformance).
#include <google/protobuf/any.pb.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "connectrpc/conformance/v1/server_compat.pb.h"
#include "connectrpc/conformance/v1/service.grpc.pb.h"
#include "google/rpc/status.pb.h"
#include "server/http/gateway.h"
#include "server/rpc/sockets.h"
#include "server/rpc/tls.h"
#include "tests/temporary_directory.h"

namespace backprop {
namespace {

namespace suite = connectrpc::conformance::v1;
using Any = google::protobuf::Any;
using Payload = suite::ConformancePayload;

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "connect_conformance_server: %s\n", why.c_str());
  std::exit(1);
}

Any Packed(const google::protobuf::Message& message) {
  Any any;
  any.PackFrom(message);
  return any;
}

// Values of "-bin" are base64 in the suite and bytes in gRPC.
std::string FromSuite(const std::string& name, const std::string& value) {
  std::string bytes;
  return absl::EndsWith(name, "-bin") && absl::Base64Unescape(value, &bytes) ? bytes : value;
}
std::string ToSuite(const std::string& name, const std::string& value) {
  return absl::EndsWith(name, "-bin") ? absl::Base64Escape(value) : value;
}

template <class Definition>
void AddHeaders(const Definition& definition, grpc::ServerContext* context) {
  for (const suite::Header& header : definition.response_headers()) {
    for (const std::string& value : header.value()) {
      context->AddInitialMetadata(header.name(), FromSuite(header.name(), value));
    }
  }
  for (const suite::Header& header : definition.response_trailers()) {
    for (const std::string& value : header.value()) {
      context->AddTrailingMetadata(header.name(), FromSuite(header.name(), value));
    }
  }
}

Payload::RequestInfo InfoOf(const grpc::ServerContext& context, const std::vector<Any>& requests) {
  Payload::RequestInfo info;
  suite::Header* header = nullptr;  // values of one name are adjacent
  for (const auto& [name, value] : context.client_metadata()) {
    if (header == nullptr || header->name() != absl::string_view(name.data(), name.size())) {
      header = info.add_request_headers();
      header->set_name(name.data(), name.size());
    }
    header->add_value(ToSuite(header->name(), std::string(value.data(), value.size())));
  }
  const auto left = context.deadline() - std::chrono::system_clock::now();
  if (left < std::chrono::hours(24 * 365)) {
    info.set_timeout_ms(std::chrono::duration_cast<std::chrono::milliseconds>(left).count());
  }
  for (const Any& request : requests) *info.add_requests() = request;
  return info;
}

grpc::Status ErrorOf(const suite::Error& error, const Payload::RequestInfo* info) {
  google::rpc::Status details;
  details.set_code(static_cast<int>(error.code()));
  details.set_message(error.message());
  for (const Any& detail : error.details()) *details.add_details() = detail;
  if (info != nullptr) *details.add_details() = Packed(*info);
  return grpc::Status(static_cast<grpc::StatusCode>(error.code()), error.message(),
                      details.details().empty() ? "" : details.SerializeAsString());
}

void Sleep(uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

class Service final : public suite::ConformanceService::Service {
 public:
  grpc::Status Unary(grpc::ServerContext* context, const suite::UnaryRequest* request,
                     suite::UnaryResponse* response) override {
    return Respond(context, request->has_response_definition(), request->response_definition(),
                   {Packed(*request)}, response->mutable_payload());
  }

  grpc::Status IdempotentUnary(grpc::ServerContext* context,
                               const suite::IdempotentUnaryRequest* request,
                               suite::IdempotentUnaryResponse* response) override {
    return Respond(context, request->has_response_definition(), request->response_definition(),
                   {Packed(*request)}, response->mutable_payload());
  }

  grpc::Status ClientStream(grpc::ServerContext* context,
                            grpc::ServerReader<suite::ClientStreamRequest>* reader,
                            suite::ClientStreamResponse* response) override {
    std::vector<Any> requests;
    suite::ClientStreamRequest request;
    suite::UnaryResponseDefinition definition;
    bool defined = false;
    while (reader->Read(&request)) {
      if (requests.empty()) {
        defined = request.has_response_definition();
        definition = request.response_definition();
      }
      requests.push_back(Packed(request));
    }
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    return Respond(context, defined, definition, requests, response->mutable_payload());
  }

  grpc::Status ServerStream(grpc::ServerContext* context, const suite::ServerStreamRequest* request,
                            grpc::ServerWriter<suite::ServerStreamResponse>* writer) override {
    const std::vector<Any> requests = {Packed(*request)};
    if (!request->has_response_definition()) return grpc::Status::OK;
    const suite::StreamResponseDefinition& definition = request->response_definition();
    AddHeaders(definition, context);
    bool first = true;
    for (const std::string& data : definition.response_data()) {
      suite::ServerStreamResponse response;
      response.mutable_payload()->set_data(data);
      if (first) *response.mutable_payload()->mutable_request_info() = InfoOf(*context, requests);
      first = false;
      Sleep(definition.response_delay_ms());
      if (!writer->Write(response)) return grpc::Status::CANCELLED;
    }
    if (!definition.has_error()) return grpc::Status::OK;
    const Payload::RequestInfo info = InfoOf(*context, requests);
    return ErrorOf(definition.error(), first ? &info : nullptr);
  }

  grpc::Status BidiStream(grpc::ServerContext* context,
                          grpc::ServerReaderWriter<suite::BidiStreamResponse,
                                                   suite::BidiStreamRequest>* stream) override {
    std::vector<Any> requests;
    suite::BidiStreamRequest request;
    suite::StreamResponseDefinition definition;
    bool defined = false;
    bool full_duplex = false;
    bool first_request = true;
    int sent = 0;
    const auto send = [&](bool with_requests) {
      suite::BidiStreamResponse response;
      response.mutable_payload()->set_data(definition.response_data(sent));
      if (sent == 0) {
        *response.mutable_payload()->mutable_request_info() = InfoOf(*context, requests);
      } else if (with_requests) {
        for (const Any& one : requests) {
          *response.mutable_payload()->mutable_request_info()->add_requests() = one;
        }
      }
      Sleep(definition.response_delay_ms());
      ++sent;
      return stream->Write(response);
    };
    while (stream->Read(&request)) {
      requests.push_back(Packed(request));
      if (first_request) {
        first_request = false;
        defined = request.has_response_definition();
        definition = request.response_definition();
        full_duplex = request.full_duplex();
        if (defined) AddHeaders(definition, context);
      }
      if (!full_duplex) continue;
      if (sent >= definition.response_data_size()) break;
      if (!send(/*with_requests=*/true)) return grpc::Status::CANCELLED;
      requests.clear();
    }
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    if (!defined) return grpc::Status::OK;
    while (sent < definition.response_data_size()) {
      if (!send(/*with_requests=*/false)) return grpc::Status::CANCELLED;
    }
    if (!definition.has_error()) return grpc::Status::OK;
    const Payload::RequestInfo info = InfoOf(*context, requests);
    return ErrorOf(definition.error(), sent == 0 ? &info : nullptr);
  }

 private:
  static grpc::Status Respond(grpc::ServerContext* context, bool defined,
                              const suite::UnaryResponseDefinition& definition,
                              const std::vector<Any>& requests, Payload* payload) {
    const Payload::RequestInfo info = InfoOf(*context, requests);
    if (defined) {
      AddHeaders(definition, context);
      Sleep(definition.response_delay_ms());
      if (definition.has_error()) return ErrorOf(definition.error(), &info);
      payload->set_data(definition.response_data());
    }
    *payload->mutable_request_info() = info;
    return grpc::Status::OK;
  }
};

// Messages on standard input and output have their size before them, in four bytes of big endian.
suite::ServerCompatRequest ReadRequest() {
  unsigned char size[4];
  if (std::fread(size, 1, 4, stdin) != 4) Die("there is no request on standard input");
  const uint32_t bytes = uint32_t{size[0]} << 24 | uint32_t{size[1]} << 16 |
                         uint32_t{size[2]} << 8 | uint32_t{size[3]};
  std::string text(bytes, '\0');
  suite::ServerCompatRequest request;
  if (std::fread(text.data(), 1, bytes, stdin) != bytes || !request.ParseFromString(text)) {
    Die("the request on standard input cannot be read");
  }
  return request;
}

void WriteResponse(const suite::ServerCompatResponse& response) {
  const std::string text = response.SerializeAsString();
  const auto bytes = static_cast<uint32_t>(text.size());
  for (int shift = 24; shift >= 0; shift -= 8)
    std::fputc(static_cast<int>(bytes >> shift & 255), stdout);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
  return path;
}

void Serve(const suite::ServerCompatRequest& request) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const TemporaryDirectory folder;
  suite::ServerCompatResponse response;
  std::unique_ptr<rpc::Tls> tls;
  if (request.use_tls()) {
    rpc::TlsFiles files;
    files.certificate = WriteFile(folder.path() + "/cert", request.server_creds().cert());
    files.key = WriteFile(folder.path() + "/key", request.server_creds().key());
    if (!request.client_tls_cert().empty()) {
      files.client_ca = WriteFile(folder.path() + "/ca", request.client_tls_cert());
      files.client_auth = rpc::ClientAuth::kRequire;
    }
    auto opened = rpc::Tls::Open(files);
    if (!opened.ok()) Die(std::string(opened.status().message()));
    tls = *std::move(opened);
    response.set_pem_cert(request.server_creds().cert());
  }
  Service service;
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  builder.SetMaxReceiveMessageSize(-1);
  const auto server = builder.BuildAndStart();
  auto listening = rpc::ListenOn("127.0.0.1:0", {});
  if (server == nullptr || !listening.ok()) Die("the server does not start");
  http::GatewayOptions options;
  options.listening.push_back(*std::move(listening));
  options.tls = tls.get();
  if (request.message_receive_limit() > 0) {
    options.max_message_bytes = request.message_receive_limit();
  }
  options.services = {suite::ConformanceService::service_full_name()};
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  http::Gateway gateway(std::move(options), server->InProcessChannel(arguments));
  const std::string& address = gateway.addresses().front();
  uint32_t port = 0;
  if (!absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) Die(address);
  response.set_host("127.0.0.1");
  response.set_port(port);
  WriteResponse(response);
  int signal = 0;
  sigwait(&signals, &signal);
  gateway.Stop(absl::Seconds(1));
  server->Shutdown(std::chrono::system_clock::now());
}

}  // namespace
}  // namespace backprop

int main() { backprop::Serve(backprop::ReadRequest()); }
