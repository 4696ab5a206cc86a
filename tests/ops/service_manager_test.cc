#include "server/ops/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/temporary_directory.h"

namespace backprop::ops {
namespace {

using testing::HasSubstr;

// A service manager's socket. `name` as in NOTIFY_SOCKET.
class Manager {
 public:
  explicit Manager(const std::string& name) : descriptor_(socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(descriptor_, reinterpret_cast<const sockaddr*>(&address), length), 0)
        << std::strerror(errno);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~Manager() {
    unsetenv("NOTIFY_SOCKET");
    close(descriptor_);
  }
  // The next message, or nothing if there is none.
  std::string Next() {
    char buffer[64];
    const ssize_t size = recv(descriptor_, buffer, sizeof(buffer), MSG_DONTWAIT);
    return size < 0 ? "" : std::string(buffer, static_cast<size_t>(size));
  }

 private:
  const int descriptor_;
};

TEST(ServiceManagerTest, IsToldOnAPath) {
  const TemporaryDirectory directory;
  Manager manager(directory.path() + "/notify");
  EXPECT_TRUE(NotifyServiceManager(kReady).ok());
  EXPECT_TRUE(NotifyServiceManager(kStopping).ok());
  EXPECT_EQ(manager.Next(), "READY=1");
  EXPECT_EQ(manager.Next(), "STOPPING=1");
  EXPECT_EQ(manager.Next(), "");
}

TEST(ServiceManagerTest, IsToldOnAnAbstractAddress) {
  Manager manager("@backprop-test-" + std::to_string(getpid()));
  EXPECT_TRUE(NotifyServiceManager(kReady).ok());
  EXPECT_EQ(manager.Next(), "READY=1");
}

TEST(ServiceManagerTest, NobodyIsToldWithoutAnAddress) {
  unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(NotifyServiceManager(kReady).ok());
  setenv("NOTIFY_SOCKET", "", 1);
  EXPECT_TRUE(NotifyServiceManager(kReady).ok());
  unsetenv("NOTIFY_SOCKET");
}

TEST(ServiceManagerTest, WrongAddressesAreErrorsThatNameTheVariable) {
  for (const std::string& wrong :
       {std::string("notify"), std::string("/"), std::string("@"), "/" + std::string(107, 'x')}) {
    setenv("NOTIFY_SOCKET", wrong.c_str(), 1);
    const absl::Status status = NotifyServiceManager(kReady);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << wrong;
    EXPECT_THAT(std::string(status.message()), HasSubstr("NOTIFY_SOCKET: must be"));
  }
  setenv("NOTIFY_SOCKET", ("/" + std::string(106, 'x')).c_str(), 1);  // the longest one
  EXPECT_EQ(NotifyServiceManager(kReady).code(), absl::StatusCode::kUnavailable);
  unsetenv("NOTIFY_SOCKET");
}

TEST(ServiceManagerTest, NobodyListens) {
  const TemporaryDirectory directory;
  setenv("NOTIFY_SOCKET", (directory.path() + "/absent").c_str(), 1);
  const absl::Status status = NotifyServiceManager(kReady);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("No such file"));
  unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace backprop::ops
