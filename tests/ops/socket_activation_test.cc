#include "server/ops/socket_activation.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace backprop::ops {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kFirst = 200;
constexpr const char* kVariables[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};

class SocketActivationTest : public testing::Test {
 protected:
  SocketActivationTest() {
    config.listen = {"127.0.0.1:50051"};
    config.unix_socket = "/run/x.sock";
    config.admin_listen = {"127.0.0.1:50052"};
  }
  ~SocketActivationTest() override {
    for (int i = 0; i < count; ++i) close(kFirst + i);
    for (const char* variable : kVariables) unsetenv(variable);
  }

  // Opens the next descriptor; returns the port of a socket that is bound.
  int Open(int type, bool listens) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    const int fd = socket(AF_INET, type, 0);
    EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), size), 0);
    if (listens) {
      EXPECT_EQ(listen(fd, 1), 0);
    }
    EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_EQ(dup2(fd, kFirst + count), kFirst + count);
    close(fd);
    ++count;
    return ntohs(address.sin_port);
  }
  absl::StatusOr<rpc::InheritedSockets> Take(const std::string& pid, const std::string& sockets,
                                             const char* names = nullptr) {
    setenv("LISTEN_PID", pid.c_str(), 1);
    setenv("LISTEN_FDS", sockets.c_str(), 1);
    if (names != nullptr) setenv("LISTEN_FDNAMES", names, 1);
    auto taken = TakeInheritedSockets(&config, kFirst);
    for (const char* variable : kVariables) EXPECT_EQ(std::getenv(variable), nullptr) << variable;
    return taken;
  }
  std::string ErrorOf(const std::string& sockets, const char* names = nullptr) {
    return std::string(Take(Pid(), sockets, names).status().message());
  }
  static std::string Pid() { return absl::StrCat(getpid()); }

  Config config;
  int count = 0;
};

TEST_F(SocketActivationTest, NamedSocketsReplaceTheFlagsOfTheirListener) {
  const int main = Open(SOCK_STREAM, true);
  const int admin = Open(SOCK_STREAM, true);
  auto taken = Take(Pid(), "2", "web:admin");
  ASSERT_TRUE(taken.ok()) << taken.status();
  ASSERT_EQ(taken->main.size(), 1);
  ASSERT_EQ(taken->admin.size(), 1);
  EXPECT_EQ(taken->main[0].address, absl::StrCat("127.0.0.1:", main));
  EXPECT_THAT(config.inherited_listen, ElementsAre(absl::StrCat("127.0.0.1:", main)));
  EXPECT_THAT(config.inherited_admin_listen, ElementsAre(absl::StrCat("127.0.0.1:", admin)));
  EXPECT_THAT(config.listen, IsEmpty());
  EXPECT_EQ(config.unix_socket, "");
  EXPECT_THAT(config.admin_listen, IsEmpty());
  const int fd = taken->main[0].sockets[0].get();
  EXPECT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  EXPECT_TRUE(fcntl(fd, F_GETFL) & O_NONBLOCK) << "the listener accepts until it would block";
}

TEST_F(SocketActivationTest, SocketsWithoutNamesAreForTheMainListener) {
  Open(SOCK_STREAM, true);
  const auto taken = Take(Pid(), "1");
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->main.size(), 1);
  EXPECT_THAT(config.admin_listen, ElementsAre("127.0.0.1:50052"));
}

TEST_F(SocketActivationTest, VariablesForAnotherProcessAreRemovedAndChangeNothing) {
  Open(SOCK_STREAM, true);
  const auto taken = Take("1", "1", "a");
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_THAT(taken->main, IsEmpty());
  EXPECT_THAT(config.listen, ElementsAre("127.0.0.1:50051"));
  EXPECT_EQ(config.unix_socket, "/run/x.sock");
  EXPECT_GE(fcntl(kFirst, F_GETFD), 0) << "the descriptor stays open";
  EXPECT_TRUE(Take(Pid(), "0").ok());
}

TEST_F(SocketActivationTest, WhatCannotBeServedIsNamed) {
  EXPECT_THAT(ErrorOf("1"), HasSubstr("descriptor 200 (unknown): expected a TCP or Unix stream "
                                      "socket that listens, got a descriptor that is not open"));
  Open(SOCK_DGRAM, false);
  EXPECT_THAT(ErrorOf("1", "web"), HasSubstr("descriptor 200 (web)"));
  count = 0;
  Open(SOCK_DGRAM, false);
  EXPECT_THAT(ErrorOf("1"), HasSubstr("got a datagram socket"));
  count = 0;
  Open(SOCK_STREAM, false);
  EXPECT_THAT(ErrorOf("1"), HasSubstr("got a socket that does not listen"));
  EXPECT_THAT(config.listen, ElementsAre("127.0.0.1:50051"));
}

TEST_F(SocketActivationTest, VariablesThatCannotBeParsedAreNamed) {
  EXPECT_THAT(ErrorOf("x"), HasSubstr("LISTEN_FDS: expected 0 to 64, got \"x\""));
  EXPECT_THAT(ErrorOf("-1"), HasSubstr("LISTEN_FDS"));
  EXPECT_THAT(ErrorOf("65"), HasSubstr("LISTEN_FDS"));
  EXPECT_THAT(ErrorOf("2", "a"), HasSubstr("LISTEN_FDNAMES: expected 2 names"));
  EXPECT_THAT(std::string(Take("self", "1").status().message()),
              HasSubstr("LISTEN_PID: expected a process id, got \"self\""));
}

}  // namespace
}  // namespace backprop::ops
