// GetServerStatus.
#include <gmock/gmock.h>

#include "backprop/v1/admin_service.grpc.pb.h"
#include "server/base/mutex.h"
#include "server/rpc/introspection.h"
#include "tests/notification.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ServerStatusTest : public ServiceTest {
 protected:
  ServerStatusTest() {
    introspection.version = "1.2.3";
    introspection.commit = "abc";
    introspection.instruction_set = "x86-64-v3";
    introspection.start_time = absl::FromUnixNanos(1'700'000'000'000'000'007);
    introspection.flags = {{"--data-dir", "/data", true}, {"--threads", "2", false}};
    introspection.health = [] {
      return std::vector<Health>{{"", true, ""}, {"writes", false, "the disk is full"}};
    };
    introspection.metrics = [this] {
      const base::MutexLock lock(&mu);
      return metrics;
    };
    introspection.log_lines = [] { return std::vector<std::string>{"first", "second"}; };
  }
  ~ServerStatusTest() override { server.reset(); }  // before the introspection

  grpc::Status Get(int view, v1::ServerStatus* status) {
    v1::GetServerStatusRequest request;
    request.set_view(static_cast<v1::ServerStatusView>(view));
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    v1::GetServerStatusResponse response;
    const grpc::Status ended =
        v1::AdminService::NewStub(server->channel)->GetServerStatus(&call, request, &response);
    *status = response.status();
    return ended;
  }

  // While the server runs.
  void SetMetrics(std::string text) {
    const base::MutexLock lock(&mu);
    metrics = std::move(text);
  }

  Introspection introspection;
  base::Mutex mu;
  std::string metrics = "# TYPE a gauge\na 1\n";  // threads of the server read it with the lock
};

TEST_F(ServerStatusTest, TheBasicViewHasNeitherFlagsNorLog) {
  server->context.introspection = &introspection;
  for (const int view : {0, 1}) {
    v1::ServerStatus status;
    ASSERT_TRUE(Get(view, &status).ok());
    EXPECT_EQ(status.version(), "1.2.3");
    EXPECT_EQ(status.commit(), "abc");
    EXPECT_EQ(status.instruction_set(), "x86-64-v3");
    EXPECT_EQ(status.start_time().seconds(), 1'700'000'000);
    EXPECT_EQ(status.start_time().nanos(), 7);
    EXPECT_GT(status.status_time().seconds(), 1'700'000'000);
    ASSERT_EQ(status.health_size(), 2);
    EXPECT_TRUE(status.health(0).serving());
    EXPECT_EQ(status.health(1).service(), "writes");
    EXPECT_FALSE(status.health(1).serving());
    EXPECT_EQ(status.health(1).reason(), "the disk is full");
    EXPECT_EQ(status.metrics(), metrics);
    EXPECT_EQ(status.flags_size(), 0);
    EXPECT_EQ(status.log_lines_size(), 0);
  }
}

TEST_F(ServerStatusTest, TheFullViewHasBoth) {
  server->context.introspection = &introspection;
  v1::ServerStatus status;
  ASSERT_TRUE(Get(2, &status).ok());
  ASSERT_EQ(status.flags_size(), 2);
  EXPECT_EQ(status.flags(0).name(), "--data-dir");
  EXPECT_EQ(status.flags(0).value(), "/data");
  EXPECT_TRUE(status.flags(0).given());
  EXPECT_FALSE(status.flags(1).given());
  EXPECT_THAT(status.log_lines(), ElementsAre("first", "second"));
  EXPECT_EQ(status.metrics(), metrics);
}

TEST_F(ServerStatusTest, AnUnknownViewNamesTheField) {
  server->context.introspection = &introspection;
  v1::ServerStatus status;
  const grpc::Status refused = Get(3, &status);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused.error_message(), "view: must be BASIC or FULL, got 3");
  ASSERT_EQ(Violations(refused).size(), 1U);
  EXPECT_EQ(Violations(refused)[0].field(), "view");
}

TEST_F(ServerStatusTest, AServerThatStartsIsUnavailable) {
  v1::ServerStatus status;
  EXPECT_EQ(Get(0, &status).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerStatusTest, AResponseAboveTheLimitIsAnError) {
  base::Limits limits;
  limits.max_message_bytes = 100'000;
  server = std::make_unique<TestServer>(limits);
  server->context.introspection = &introspection;
  v1::ServerStatus status;
  SetMetrics(std::string(90'000, '#'));
  EXPECT_TRUE(Get(0, &status).ok());
  SetMetrics(std::string(100'001, '#'));
  const grpc::Status refused = Get(0, &status);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("max_message_bytes"));
}

// An operator must be able to see why a server does not respond to others.
TEST_F(ServerStatusTest, RespondsWhileAllComputeThreadsAreBlocked) {
  server->context.introspection = &introspection;
  Notification release;
  for (int i = 0; i < server->pool->threads(); ++i) {
    server->pool->Post(exec::Priority::kInteractive, [&release] { release.WaitForNotification(); });
  }
  v1::ServerStatus status;
  EXPECT_TRUE(Get(2, &status).ok());
  release.Notify();
  server.reset();  // no task is left
}

}  // namespace
}  // namespace backprop::rpc
