// What peers send over HTTP. The first byte says what the rest is:
//
//   0  the bytes of a connection to a gateway before a real server; further ones until it closes
//   1  a query, and the head of a request as lines of name and value
//   2  a body of envelopes, in pieces; bit 7 of the second byte: in base64
//   3  gzip
//   4  JSON of a request
//
// The gateway answers or closes, and serves the next connection; what the decoders return is within
// their limits, and JSON that was converted is the same after it was converted back.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/http/envelope.h"
#include "server/http/gateway.h"
#include "server/http/gzip.h"
#include "server/http/json.h"
#include "server/http/protocol.h"
#include "server/rpc/sockets.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"
#include "tests/rpc/test_server.h"

namespace backprop::fuzz {
namespace {

constexpr size_t kMostBytes = 10'000;
constexpr int kPatienceMs = 20'000;
constexpr char kHealthz[] = "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n";

const http::Methods& Methods() {
  static const http::Methods methods({"backprop.v1.TrainingService", "grpc.health.v1.Health"});
  return methods;
}

struct Gateway {
  Gateway() {
    http::GatewayOptions options;
    auto listening = rpc::ListenOn("127.0.0.1:0", {});
    BP_HOLDS(listening.ok(), listening.status().ToString());
    options.listening.push_back(*std::move(listening));
    options.services = {"backprop.v1.TrainingService", "grpc.health.v1.Health"};
    options.max_message_bytes = kMostBytes;
    options.max_head_bytes = 4096;
    options.pages["/healthz"] = {
        "/grpc.health.v1.Health/Check", "",
        [](const grpc::Status&, const std::string&) { return http::Page{.body = "well\n"}; }};
    gateway =
        std::make_unique<http::Gateway>(std::move(options), server.server->InProcessChannel());
  }

  rpc::TestServer server;
  std::unique_ptr<http::Gateway> gateway;
};

// Everything that the gateway sends after `bytes` and the end of the peer's output.
std::string Exchange(const http::Gateway& gateway, absl::string_view bytes, bool ends) {
  const std::string& address = gateway.addresses().front();
  int port = 0;
  BP_HOLDS(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port), address);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const rpc::Descriptor peer(socket(AF_INET, SOCK_STREAM, 0));
  BP_HOLDS(connect(peer.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0);
  while (!bytes.empty()) {
    const ssize_t sent = send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) break;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  if (ends) shutdown(peer.get(), SHUT_WR);
  std::string received;
  for (;;) {
    pollfd polled = {peer.get(), POLLIN, 0};
    BP_HOLDS(poll(&polled, 1, kPatienceMs) > 0, "the gateway neither answers nor closes");
    char part[4096];
    const ssize_t size = recv(peer.get(), part, sizeof(part), 0);
    if (size <= 0) return received;
    received.append(part, static_cast<size_t>(size));
  }
}

void RunConnection(absl::string_view bytes) {
  static Gateway* const gateway = new Gateway;
  const std::string received = Exchange(*gateway->gateway, bytes, /*ends=*/true);
  BP_HOLDS(received.empty() || absl::StartsWith(received, "HTTP/1.1 "), received.substr(0, 100));
  const std::string health = Exchange(*gateway->gateway, kHealthz, /*ends=*/false);
  BP_HOLDS(absl::StrContains(health, "well\n"), health);
}

void RunHead(absl::string_view text) {
  std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('\n', 1));
  http::RequestHead head;
  head.query = std::string(parts.first);
  for (const absl::string_view line : absl::StrSplit(parts.second, '\n')) {
    std::pair<std::string, std::string> header = absl::StrSplit(line, absl::MaxSplits(':', 1));
    head.headers.push_back(std::move(header));
  }
  for (const char* method : {"GET", "POST"}) {
    for (const char* name : {"Predict", "Train"}) {
      head.method = method;
      head.path = absl::StrCat("/backprop.v1.TrainingService/", name);
      const auto read = http::ReadCallHead(head, Methods().Find(head.path));
      if (const auto* refusal = std::get_if<http::Refusal>(&read)) {
        BP_HOLDS(!refusal->status.ok() && refusal->http_status >= 400);
        BP_HOLDS(!refusal->status.error_message().empty());
        continue;
      }
      for (const auto& [key, value] : std::get<http::CallHead>(read).metadata) {
        BP_HOLDS(!absl::StartsWith(key, "bp-") && !absl::StartsWith(key, "grpc-"), key);
        if (absl::EndsWith(key, "-bin")) continue;
        for (const char c : value) BP_HOLDS(c >= 0x20 && c < 0x7f, key);
      }
    }
  }
}

void RunEnvelopes(absl::string_view body) {
  if (body.empty()) return;
  const auto kind = static_cast<unsigned char>(body[0]);
  body.remove_prefix(1);
  const size_t piece = 1 + (kind & 0x7f);
  http::EnvelopeReader reader(kMostBytes, (kind & 0x80) != 0);
  for (; !body.empty(); body.remove_prefix(std::min(piece, body.size()))) {
    if (!reader.Add(body.substr(0, piece)).ok()) return;
    for (;;) {
      const auto taken = reader.Take();
      if (!taken.ok()) return;
      if (!taken->has_value()) break;
      BP_HOLDS((*taken)->message.size() <= kMostBytes);
    }
    BP_HOLDS(reader.held_bytes() <= kMostBytes + http::kEnvelopeBytes + piece + 4);
  }
}

void RunGzip(absl::string_view bytes) {
  const auto decompressed = http::Decompress(bytes, kMostBytes);
  BP_HOLDS(IsVerdict(decompressed.status()), decompressed.status().ToString());
  if (!decompressed.ok()) return;
  BP_HOLDS(decompressed->size() <= kMostBytes);
  const auto again = http::Decompress(http::Compress(*decompressed), decompressed->size());
  BP_HOLDS(again.ok() && *again == *decompressed);
}

void RunJson(absl::string_view json) {
  for (const char* name : {"CreateModelRequest", "TrainRequest", "PredictRequest"}) {
    const std::string type = http::TypeUrl(absl::StrCat("backprop.v1.", name));
    const auto binary = http::BinaryFromJson(type, json);
    BP_HOLDS(IsVerdict(binary.status()), binary.status().ToString());
    if (!binary.ok()) continue;
    const auto back = http::JsonFromBinary(type, *binary);
    BP_HOLDS(back.ok(), back.status().ToString());
    const auto again = http::BinaryFromJson(type, *back);
    BP_HOLDS(again.ok(), again.status().ToString());
    BP_HOLDS(*http::JsonFromBinary(type, *again) == *back);
  }
}

}  // namespace

void RunHttp(absl::string_view input) {
  if (input.empty()) return;
  const int kind = input[0] % 5;
  input.remove_prefix(1);
  switch (kind) {
    case 0:
      return RunConnection(input);
    case 1:
      return RunHead(input);
    case 2:
      return RunEnvelopes(input);
    case 3:
      return RunGzip(input);
    default:
      return RunJson(input);
  }
}

Seeds HttpSeeds() {
  Seeds seeds;
  const auto add = [&](char kind, const std::string& bytes) { seeds.push_back(kind + bytes); };
  const auto post = [](const char* method, const std::string& headers, const std::string& body) {
    return absl::StrCat("POST /backprop.v1.TrainingService/", method, " HTTP/1.1\r\n", headers,
                        "Content-Length: ", body.size(), "\r\n\r\n", body);
  };
  const std::string spec = R"({"inputSize":2,"layers":[{"units":2}]})";
  add(0, post("ListModels", "Content-Type: application/json\r\n", "{}"));
  add(0, post("CreateModel", "Content-Type: application/json\r\nAuthorization: Bearer x\r\n",
              absl::StrCat(R"({"modelId":"m","spec":)", spec, "}")));
  add(0, post("GetModel", "Content-Type: application/grpc-web-text\r\n", "AAAAAAoKCG1vZGVscy9t"));
  add(0, post("WatchTraining", "Content-Type: application/connect+json\r\n",
              http::WriteEnvelope(0, R"({"model":"models/m"})")));
  add(0, post("StepStream", "Content-Type: application/connect+proto\r\n",
              http::WriteEnvelope(0, "") + http::WriteEnvelope(0, "")));
  add(0, post("ListModels", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
              http::Compress("{}")));
  add(0,
      "POST /backprop.v1.TrainingService/ListModels HTTP/1.1\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\na: b\r\n\r\nGET /healthz "
      "HTTP/1.0\r\n\r\n");
  add(0, "GET /backprop.v1.TrainingService/GetModel?encoding=json&message=%7B%7D HTTP/1.1\r\n\r\n");
  add(0, "OPTIONS /x HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n");
  add(1, "encoding=proto&base64=1&message=AAAA&connect=v1&compression=gzip\nconnect-timeout-ms:5");
  add(1, "\ncontent-type:application/json\nconnect-timeout-ms:5\na-bin:AAAA,AA\nx:y\nbp-x:z");
  add(1, "\ncontent-type:application/grpc-web+json\ngrpc-timeout:5S\ngrpc-encoding:gzip");
  add(2, "\x03" + http::WriteEnvelope(0, "one") + http::WriteEnvelope(1, ""));
  add(2,
      "\x83"
      "AAAAAANvbmU=AAAAAAA=");
  add(3, http::Compress("hello hello hello"));
  add(3, http::Compress(std::string(kMostBytes + 1, 'x')));
  add(4, absl::StrCat(R"({"modelId":"m","spec":)", spec, R"(,"requestId":"r"})"));
  add(4, R"({"model":"models/m","inputs":{"shape":["2","2"],"values":[0,1e3,-0.5,"NaN"]}})");
  add(4, R"({"model":"models/m","data":{"inputs":{"raw":"AAAA"}},"config":{"iterations":"5"}})");
  return seeds;
}

}  // namespace backprop::fuzz
