#include "server/http/http_listener.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "tests/temporary_directory.h"

namespace backprop::http {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

constexpr size_t kLargePage = 32 << 20;  // more than the buffers of sockets hold

// A raw connection. Whatever fails closes it.
class Peer {
 public:
  explicit Peer(const HttpListener& listener, int receive_buffer = 0) {
    const std::string& address = listener.address();
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

  void Send(const std::string& text) const {
    size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t now = send(socket_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (now <= 0) return;  // the listener has closed the connection
      sent += static_cast<size_t>(now);
    }
  }
  // Everything that arrives until the listener closes the connection.
  std::string ReadAll() const {
    std::string all;
    char part[65536];
    for (;;) {
      const ssize_t size = recv(socket_.get(), part, sizeof(part), 0);
      if (size <= 0) return all;
      all.append(part, static_cast<size_t>(size));
    }
  }
  // Whether the listener closes the connection, or sends something, within a time.
  bool HearsWithin(std::chrono::milliseconds time) const {
    pollfd polled = {socket_.get(), POLLIN, 0};
    return poll(&polled, 1, static_cast<int>(time.count())) > 0;
  }
  int fd() const { return socket_.get(); }

 private:
  rpc::Descriptor socket_;
};

Page PageOf(absl::string_view path) {
  if (path == "/hello") return {.body = "hello\n"};
  if (path == "/large") return {.body = std::string(kLargePage, 'x')};
  if (path == "/throws") throw std::runtime_error("no memory");
  return {.status = 404, .body = "nothing here\n"};
}

class HttpListenerTest : public testing::Test {
 protected:
  void Start(const HttpLimits& limits = {}, const std::string& address = "127.0.0.1:0") {
    auto listening = rpc::ListenOn(address, {});
    ASSERT_TRUE(listening.ok()) << listening.status();
    listener = std::make_unique<HttpListener>(*std::move(listening), PageOf, limits);
  }
  std::string Exchange(const std::string& request) const {
    const Peer peer(*listener);
    peer.Send(request);
    return peer.ReadAll();
  }

  std::unique_ptr<HttpListener> listener;
};

TEST_F(HttpListenerTest, ServesAPageAndClosesTheConnection) {
  Start();
  EXPECT_EQ(Exchange("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n");
  EXPECT_THAT(Exchange("GET /hello?name[]=x HTTP/1.0\r\n\r\n"), HasSubstr("\r\n\r\nhello\n"));
}

TEST_F(HttpListenerTest, ALargePageArrivesWhole) {
  Start();
  const std::string response = Exchange("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(response.size() - response.find("\r\n\r\n") - 4, kLargePage);
}

TEST_F(HttpListenerTest, EverythingElseHasACode) {
  Start();
  const struct {
    std::string request;
    const char* begins;
  } cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "},
      {"GET /hello/ HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "},
      {"GET /throws HTTP/1.1\r\n\r\n", "HTTP/1.1 500 "},
      {"POST /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 "},
      {"HEAD /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 "},
      {"\x16\x03\x01\x02\x01\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400 "},
      {"GET /hello\r\n\r\n", "HTTP/1.1 400 "},
      {"GET /hello HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 "},
      {"GET /hello HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 "},
      {"GET /hello HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
       "HTTP/1.1 400 "},
  };
  for (const auto& one : cases) {
    EXPECT_THAT(Exchange(one.request), StartsWith(one.begins)) << one.request;
  }
  EXPECT_THAT(Exchange("POST /hello HTTP/1.1\r\n\r\n"), HasSubstr("Allow: GET\r\n"));
}

// The listener answers before it has read all that a peer sends, and the answer still arrives.
TEST_F(HttpListenerTest, TheHeadIsBounded) {
  constexpr size_t kLimit = 1000;
  Start({.head_bytes = kLimit});
  const auto with_headers = [](size_t bytes) {
    return "GET /hello HTTP/1.1\r\nx: " + std::string(bytes - 7, 'x') + "\r\n\r\n";
  };
  EXPECT_THAT(Exchange(with_headers(kLimit)), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Exchange(with_headers(kLimit + 1)), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(Exchange(with_headers(1'000'000)), StartsWith("HTTP/1.1 431 "));
  std::string many = "GET /hello HTTP/1.1\r\n";
  for (int i = 0; i < 1000; ++i) many += "a: b\r\n";
  EXPECT_THAT(Exchange(many + "\r\n"), StartsWith("HTTP/1.1 431 "));
  const auto with_line = [](size_t bytes) {
    return "GET /" + std::string(bytes - 16, 'x') + " HTTP/1.1\r\n\r\n";
  };
  EXPECT_THAT(Exchange(with_line(kLimit - 2)), StartsWith("HTTP/1.1 404 "));  // with its empty line
  EXPECT_THAT(Exchange(with_line(kLimit + 1)), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(Exchange(with_line(1'000'000)), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpListenerTest, APeerThatSendsNoRequestIsDisconnected) {
  Start({.request = absl::Milliseconds(200)});
  const Peer silent(*listener);
  const Peer slow(*listener);
  const auto begin = Clock::now();
  // A byte now and then does not prolong the time.
  while (!slow.HearsWithin(std::chrono::milliseconds(20)) &&
         Clock::now() < begin + std::chrono::seconds(10)) {
    slow.Send("G");
  }
  EXPECT_EQ(slow.ReadAll(), "");
  EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(150));
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_THAT(Exchange("GET /hello HTTP/1.1\r\n\r\n"), HasSubstr("hello\n"));
}

TEST_F(HttpListenerTest, APeerThatDoesNotReadIsDisconnected) {
  Start({.connections = 1, .response = absl::Milliseconds(200)});
  const Peer reader(*listener, 4096);
  reader.Send("GET /large HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(reader.HearsWithin(std::chrono::seconds(10)));
  const auto begin = Clock::now();
  // The place of its connection becomes free.
  while (Exchange("GET /hello HTTP/1.1\r\n\r\n").empty()) {
    ASSERT_LT(Clock::now() - begin, std::chrono::seconds(10));
    usleep(10'000);
  }
  EXPECT_LT(reader.ReadAll().size(), kLargePage);
}

TEST_F(HttpListenerTest, AnswersWhileOtherConnectionsAreIdle) {
  Start({.connections = 4});
  std::vector<Peer> idle;
  for (int i = 0; i < 3; ++i) idle.emplace_back(*listener).Send("GET /he");
  EXPECT_THAT(Exchange("GET /hello HTTP/1.1\r\n\r\n"), HasSubstr("hello\n"));
}

TEST_F(HttpListenerTest, ConnectionsBeyondTheLimitAreClosedAtOnce) {
  Start({.connections = 3, .request = absl::Seconds(60)});
  std::vector<Peer> peers;
  for (int i = 0; i < 3; ++i) peers.emplace_back(*listener).Send("GET ");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Exchange("GET /hello HTTP/1.1\r\n\r\n"), "");
  for (const Peer& peer : peers) {
    EXPECT_FALSE(peer.HearsWithin(std::chrono::milliseconds(1)));
    peer.Send("/hello HTTP/1.1\r\n\r\n");
    EXPECT_THAT(peer.ReadAll(), HasSubstr("hello\n"));
  }
}

TEST_F(HttpListenerTest, ServesOnAUnixSocketAndDeletesItsFile) {
  const TemporaryDirectory folder;
  const std::string path = folder.path() + "/http";
  Start({}, "unix:" + path);
  EXPECT_EQ(listener->address(), "unix:" + path);
  const rpc::Descriptor peer(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  path.copy(to.sun_path, sizeof(to.sun_path) - 1);
  ASSERT_EQ(connect(peer.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  const std::string request = "GET /hello HTTP/1.1\r\n\r\n";
  ASSERT_EQ(send(peer.get(), request.data(), request.size(), 0),
            static_cast<ssize_t>(request.size()));
  char response[1000];
  const ssize_t size = recv(peer.get(), response, sizeof(response), MSG_WAITALL);
  ASSERT_GT(size, 0);
  EXPECT_THAT(std::string(response, static_cast<size_t>(size)), HasSubstr("hello\n"));
  listener = nullptr;
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(HttpListenerTest, EndsWithConnectionsOpen) {
  Start();
  const Peer idle(*listener), reader(*listener, 4096);
  idle.Send("GET ");
  reader.Send("GET /large HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(reader.HearsWithin(std::chrono::seconds(10)));
  listener = nullptr;
  EXPECT_EQ(idle.ReadAll(), "");
  EXPECT_LT(reader.ReadAll().size(), kLargePage);
}

}  // namespace
}  // namespace backprop::http
