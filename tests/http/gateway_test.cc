// RPCs over HTTP against a real server, by raw sockets: what only a hostile or broken peer does,
// and what is measured. tests/integration/http_test.py has what clients do.
#include "server/http/gateway.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/http/envelope.h"
#include "server/http/gzip.h"
#include "server/rpc/call/forwarded_peer.h"
#include "tests/rpc/test_server.h"

namespace backprop::http {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

constexpr char kService[] = "/backprop.v1.TrainingService/";

class Peer {
 public:
  explicit Peer(const Gateway& gateway, int receive_buffer = 0) {
    const std::string& address = gateway.addresses().front();
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket_ = rpc::Descriptor(socket(AF_INET, SOCK_STREAM, 0));
    if (receive_buffer > 0) {
      setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    EXPECT_EQ(connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  }

  bool Send(const std::string& text) const {
    size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t now = send(socket_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (now <= 0) return false;  // the gateway has closed the connection
      sent += static_cast<size_t>(now);
    }
    return true;
  }
  // One read; empty at the end.
  std::string Receive() const {
    char part[65536];
    const ssize_t size = recv(socket_.get(), part, sizeof(part), 0);
    return size <= 0 ? "" : std::string(part, static_cast<size_t>(size));
  }
  std::string ReadAll() const {
    std::string all;
    for (std::string part; !(part = Receive()).empty();) all += part;
    return all;
  }
  // One response with a content-length.
  std::string ReadResponse() {
    for (;;) {
      const size_t head = received_.find("\r\n\r\n");
      if (head != std::string::npos) {
        size_t length = 0;
        const size_t at = received_.find("content-length: ");
        if (at < head) {
          length = static_cast<size_t>(std::atoi(received_.c_str() + at + 16));
        }
        if (received_.size() >= head + 4 + length) {
          const std::string response = received_.substr(0, head + 4 + length);
          received_.erase(0, response.size());
          return response;
        }
      }
      const std::string part = Receive();
      if (part.empty()) return std::exchange(received_, "");
      received_ += part;
    }
  }
  bool HearsWithin(std::chrono::milliseconds time) const {
    pollfd polled = {socket_.get(), POLLIN, 0};
    return poll(&polled, 1, static_cast<int>(time.count())) > 0;
  }
  void Close() { socket_.Close(); }

 private:
  rpc::Descriptor socket_;
  std::string received_;
};

std::string Post(const std::string& method, const std::string& body,
                 const std::string& type = "application/json", const std::string& headers = "") {
  return absl::StrCat("POST ", kService, method,
                      " HTTP/1.1\r\nHost: localhost\r\nContent-Type: ", type,
                      "\r\nContent-Length: ", body.size(), "\r\n", headers, "\r\n", body);
}

std::string Create(const std::string& id) {
  return Post("CreateModel",
              R"({"modelId":")" + id + R"(","spec":{"inputSize":2,"layers":[{"units":2}]}})");
}

constexpr char kEndlessRun[] =
    R"({"model":"models/m","data":{"inputs":{"values":[0,0,0,1,1,0,1,1]},)"
    R"("labels":{"values":[0,1,1,0]}},)"
    R"("config":{"iterations":"1000000000000","reportEvery":"1"}})";

bool Within(std::chrono::seconds time, const std::function<bool()>& holds) {
  const auto end = Clock::now() + time;
  while (!holds()) {
    if (Clock::now() > end) return false;
    usleep(10'000);
  }
  return true;
}

class GatewayTest : public testing::Test {
 protected:
  void Start(const std::function<void(GatewayOptions*)>& adjust = {}) {
    GatewayOptions options;
    auto listening = rpc::ListenOn("127.0.0.1:0", {});
    ASSERT_TRUE(listening.ok()) << listening.status();
    options.listening.push_back(*std::move(listening));
    options.services = {"backprop.v1.TrainingService", "grpc.health.v1.Health"};
    options.identity = [](const Connection::Peer& peer) {
      return Metadata{
          {rpc::kForwardedPeerKey, rpc::ForwardedPeerValue({peer.address, peer.certificate_uris})}};
    };
    if (adjust) adjust(&options);
    gateway = std::make_unique<Gateway>(std::move(options), server.server->InProcessChannel());
  }
  std::string Exchange(const std::string& request) const {
    Peer peer(*gateway);
    peer.Send(request);
    return peer.ReadResponse();
  }
  bool RunIsActive() {
    v1::GetModelRequest request;
    request.set_name("models/m");
    v1::GetModelResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(server.stub->GetModel(&context, request, &response).ok());
    return !response.model().active_run().empty();
  }

  rpc::TestServer server;
  std::unique_ptr<Gateway> gateway;
};

TEST_F(GatewayTest, OneConnectionServesManyCalls) {
  Start();
  Peer peer(*gateway);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(peer.Send(Create(absl::StrCat("m", i))));
    EXPECT_THAT(peer.ReadResponse(), StartsWith("HTTP/1.1 200 OK\r\n"));
  }
  EXPECT_EQ(gateway->open_connections(), 1);
  // Pipelined, and cut anywhere.
  const std::string two = Create("x") + Create("x");
  for (size_t cut = 0; cut < two.size(); cut += 37) {
    Peer other(*gateway);
    other.Send(two.substr(0, cut));
    usleep(1000);
    other.Send(two.substr(cut));
    const std::string first = other.ReadResponse();
    EXPECT_THAT(first, StartsWith(cut == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 409 "));
    EXPECT_THAT(other.ReadResponse(), HasSubstr("\"code\":\"already_exists\""));
  }
}

TEST_F(GatewayTest, ChunkedBodiesAndContinueAreUnderstood) {
  Start();
  const std::string head = absl::StrCat("POST ", kService, "ListModels HTTP/1.1\r\n",
                                        "Content-Type: application/json\r\n");
  EXPECT_THAT(
      Exchange(head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n"),
      StartsWith("HTTP/1.1 200 OK\r\n"));
  Peer peer(*gateway);
  peer.Send(head + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(peer.ReadResponse(), "HTTP/1.1 100 Continue\r\n\r\n");
  peer.Send("{}");
  EXPECT_THAT(peer.ReadResponse(), StartsWith("HTTP/1.1 200 OK\r\n"));
  // HTTP/1.0 closes, and keeps open on request.
  std::string old = Post("ListModels", "{}");
  old.replace(old.find("HTTP/1.1"), 8, "HTTP/1.0");
  Peer closing(*gateway);
  closing.Send(old);
  EXPECT_THAT(closing.ReadAll(), HasSubstr("connection: close\r\n"));
}

TEST_F(GatewayTest, WhatIsNotHttpHasACode) {
  Start();
  const std::string head =
      absl::StrCat("POST ", kService, "ListModels HTTP/1.1\r\nContent-Type: application/json\r\n");
  const struct {
    std::string request;
    const char* begins;
  } cases[] = {
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 "},
      {"\x16\x03\x01\x02\x01\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400 "},
      {head + "Content-Length: -1\r\n\r\n", "HTTP/1.1 400 "},
      {head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "HTTP/1.1 400 "},
      {head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "HTTP/1.1 400 "},
      {head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "HTTP/1.1 400 "},
      {head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "HTTP/1.1 400 "},
      {head + "Transfer-Encoding: chunked\r\n\r\n1;" + std::string(100'000, 'x'), "HTTP/1.1 400 "},
      {head + "x: " + std::string(100'000, 'x') + "\r\n\r\n", "HTTP/1.1 431 "},
      {"GET /" + std::string(100'000, 'x') + " HTTP/1.1\r\n\r\n", "HTTP/1.1 431 "},
      {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "},
  };
  for (const auto& one : cases) {
    Peer peer(*gateway);
    peer.Send(one.request);
    EXPECT_THAT(peer.ReadAll(), StartsWith(one.begins)) << one.request.substr(0, 200);
  }
}

// A peer that claims a large body gets no memory for it, and one that sends it is cut.
TEST_F(GatewayTest, BodiesAreBounded) {
  Start([](GatewayOptions* options) { options->max_message_bytes = 100'000; });
  const std::string claim = absl::StrCat("POST ", kService,
                                         "ListModels HTTP/1.1\r\nContent-Type: application/json\r\n"
                                         "Content-Length: 9000000000000\r\n\r\n");
  Peer claiming(*gateway);
  claiming.Send(claim);
  EXPECT_FALSE(claiming.HearsWithin(std::chrono::milliseconds(50)));
  claiming.Send(std::string(100'000, ' '));
  EXPECT_FALSE(claiming.HearsWithin(std::chrono::milliseconds(50)));
  claiming.Send(" ");
  EXPECT_THAT(claiming.ReadResponse(), HasSubstr("HTTP/1.1 429 "));
  // Compressed: the limit is that of what comes out.
  const std::string bomb = Compress(std::string(10'000'000, ' '));
  ASSERT_LT(bomb.size(), 100'000U);
  EXPECT_THAT(Exchange(Post("ListModels", bomb, "application/json", "Content-Encoding: gzip\r\n")),
              HasSubstr("HTTP/1.1 429 "));
  const std::string fits = Compress("{}" + std::string(99'998, ' '));
  EXPECT_THAT(Exchange(Post("ListModels", fits, "application/json", "Content-Encoding: gzip\r\n")),
              HasSubstr("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, TheMemoryOfAllBodiesIsBounded) {
  Start([](GatewayOptions* options) { options->max_in_flight_bytes = 1'000'000; });
  std::vector<Peer> peers;
  for (int i = 0; i < 3; ++i) {
    peers.emplace_back(*gateway);
    peers.back().Send(absl::StrCat("POST ", kService,
                                   "ListModels HTTP/1.1\r\nContent-Type: application/json\r\n"
                                   "Content-Length: 2000000\r\n\r\n"));
    peers.back().Send(std::string(400'000, ' '));
  }
  EXPECT_THAT(peers.back().ReadResponse(), HasSubstr("--max-in-flight-bytes"));
  EXPECT_FALSE(peers.front().HearsWithin(std::chrono::milliseconds(10)));
}

TEST_F(GatewayTest, SlowPeersAreDisconnected) {
  Start([](GatewayOptions* options) {
    options->times.head = absl::Milliseconds(300);
    options->times.idle = absl::Milliseconds(300);
    options->times.body = absl::Milliseconds(300);
  });
  const Peer silent(*gateway), half_head(*gateway), half_body(*gateway);
  Peer idle(*gateway);
  half_head.Send("POST / HT");
  const std::string request = Post("ListModels", "{}");
  half_body.Send(request.substr(0, request.size() - 1));
  idle.Send(request);
  EXPECT_THAT(idle.ReadResponse(), StartsWith("HTTP/1.1 200 "));
  const auto begin = Clock::now();
  // A byte now and then does not prolong the time.
  const Peer dripping(*gateway);
  while (!dripping.HearsWithin(std::chrono::milliseconds(20)) &&
         Clock::now() < begin + std::chrono::seconds(10)) {
    dripping.Send("G");
  }
  EXPECT_EQ(dripping.ReadAll(), "");
  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_EQ(half_head.ReadAll(), "");
  EXPECT_EQ(half_body.ReadAll(), "");
  EXPECT_EQ(idle.ReadResponse(), "");
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(8));
  EXPECT_TRUE(Within(std::chrono::seconds(5), [&] { return gateway->open_connections() == 0; }));
}

TEST_F(GatewayTest, ConnectionsAreLimited) {
  std::vector<std::string> warnings;
  Start([&](GatewayOptions* options) {
    options->connections.max_connections = 5;
    options->connections.max_connections_per_peer = 3;
    options->on_warning = [&](const std::string& line) { warnings.push_back(line); };
  });
  std::vector<Peer> peers;
  for (int i = 0; i < 3; ++i) {
    peers.emplace_back(*gateway);
    peers.back().Send(Create(absl::StrCat("m", i)));
    EXPECT_THAT(peers.back().ReadResponse(), StartsWith("HTTP/1.1 200 "));
  }
  EXPECT_EQ(Peer(*gateway).ReadAll(), "");
  peers.front().Close();
  EXPECT_TRUE(
      Within(std::chrono::seconds(5), [&] { return !Exchange(Post("ListModels", "{}")).empty(); }));
  gateway = nullptr;
  ASSERT_FALSE(warnings.empty());
  EXPECT_THAT(warnings.front(), HasSubstr("--max-connections-per-peer is reached by 127.0.0.1"));
}

TEST_F(GatewayTest, APeerThatGoesCancelsItsCall) {
  Start();
  ASSERT_THAT(Exchange(Create("m")), StartsWith("HTTP/1.1 200 "));
  Peer peer(*gateway, 4096);
  peer.Send(Post("Train", WriteEnvelope(0, kEndlessRun), "application/connect+json"));
  ASSERT_THAT(peer.Receive(), HasSubstr("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(RunIsActive());
  peer.Close();
  EXPECT_TRUE(Within(std::chrono::seconds(10), [&] { return !RunIsActive(); }));
  EXPECT_TRUE(Within(std::chrono::seconds(5), [&] { return gateway->open_connections() == 0; }));
}

// A run of which each step is reported fills the sockets, and then nothing.
TEST_F(GatewayTest, ASlowReaderOfAStreamCostsBoundedMemory) {
  Start([](GatewayOptions* options) { options->max_in_flight_bytes = 200'000; });
  ASSERT_THAT(Exchange(Create("m")), StartsWith("HTTP/1.1 200 "));
  Peer peer(*gateway, 4096);
  peer.Send(Post("Train", WriteEnvelope(0, kEndlessRun), "application/connect+json"));
  ASSERT_TRUE(peer.HearsWithin(std::chrono::seconds(10)));
  usleep(500'000);
  // It is still served, from where it was.
  size_t received = 0;
  while (received < 5'000'000) {
    const std::string part = peer.Receive();
    ASSERT_FALSE(part.empty());
    received += part.size();
  }
}

TEST_F(GatewayTest, OnlyLocalNamesAreAnsweredWithoutAuthentication) {
  Start([](GatewayOptions* options) {
    options->only_local_hosts = true;
    options->allowed_origins = {"https://app.example.org"};
  });
  const auto get = [&](const std::string& host) {
    return Exchange(absl::StrCat("GET ", kService,
                                 "ListModels?encoding=json&message={} HTTP/1.1\r\nHost: ", host,
                                 "\r\n\r\n"));
  };
  for (const char* local : {"localhost", "LOCALHOST:80", "a.localhost:1", "127.0.0.1:8080",
                            "[::1]:8080", "192.0.2.1", "app.example.org"}) {
    EXPECT_THAT(get(local), StartsWith("HTTP/1.1 200 ")) << local;
  }
  for (const char* foreign : {"example.org", "example.org:8080", "localhost.example.org",
                              "127.0.0.1.example.org", "evil-app.example.org"}) {
    EXPECT_THAT(get(foreign), StartsWith("HTTP/1.1 421 ")) << foreign;
  }
}

TEST_F(GatewayTest, PagesOfOtherOriginsNeedPermission) {
  Start([](GatewayOptions* options) { options->allowed_origins = {"https://a.example"}; });
  const auto preflight = [&](const char* origin) {
    return Exchange(absl::StrCat("OPTIONS ", kService, "Step HTTP/1.1\r\nOrigin: ", origin,
                                 "\r\nAccess-Control-Request-Method: POST\r\n"
                                 "Access-Control-Request-Headers: content-type,authorization\r\n"
                                 "\r\n"));
  };
  const std::string allowed = preflight("https://a.example");
  EXPECT_THAT(allowed, StartsWith("HTTP/1.1 204 "));
  EXPECT_THAT(allowed, HasSubstr("access-control-allow-origin: https://a.example\r\n"));
  EXPECT_THAT(allowed, HasSubstr("access-control-allow-headers: content-type,authorization\r\n"));
  const std::string refused = preflight("https://b.example");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(refused, Not(HasSubstr("access-control-allow-origin")));
  EXPECT_THAT(
      Exchange(Post("ListModels", "{}", "application/json", "Origin: https://a.example\r\n")),
      HasSubstr("access-control-allow-origin: https://a.example\r\n"));
  EXPECT_THAT(
      Exchange(Post("ListModels", "{}", "application/json", "Origin: https://b.example\r\n")),
      Not(HasSubstr("access-control-allow-origin")));
}

TEST_F(GatewayTest, ADrainedGatewayFinishesAndCloses) {
  Start();
  ASSERT_THAT(Exchange(Create("m")), StartsWith("HTTP/1.1 200 "));
  Peer idle(*gateway), running(*gateway);
  idle.Send(Post("ListModels", "{}"));
  EXPECT_THAT(idle.ReadResponse(), Not(HasSubstr("connection: close")));
  running.Send(Post("Train", WriteEnvelope(0, kEndlessRun), "application/connect+json"));
  ASSERT_TRUE(running.HearsWithin(std::chrono::seconds(10)));
  gateway->Drain();
  EXPECT_EQ(idle.ReadResponse(), "");
  std::string events;
  std::thread reader([&] { events = running.ReadAll(); });
  EXPECT_TRUE(server.server->Stop(absl::Seconds(10)));
  gateway->Stop(absl::Seconds(5));
  reader.join();
  EXPECT_THAT(events, HasSubstr("\"code\":\"unavailable\""));
}

TEST_F(GatewayTest, EndsWithConnectionsOpen) {
  Start();
  ASSERT_THAT(Exchange(Create("m")), StartsWith("HTTP/1.1 200 "));
  Peer idle(*gateway), half(*gateway), running(*gateway, 4096);
  half.Send("POST ");
  running.Send(Post("Train", WriteEnvelope(0, kEndlessRun), "application/connect+json"));
  ASSERT_TRUE(running.HearsWithin(std::chrono::seconds(10)));
  gateway = nullptr;
  EXPECT_EQ(idle.ReadAll(), "");
  EXPECT_TRUE(Within(std::chrono::seconds(10), [&] { return !RunIsActive(); }));
}

}  // namespace
}  // namespace backprop::http
