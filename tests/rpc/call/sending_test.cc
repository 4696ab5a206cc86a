#include "server/rpc/call/sending.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

TEST(SendingTest, ClaimsAreCountedUntilTheyAreDestroyed) {
  Sending sending;
  sending.set_limit(100);
  auto first = sending.Ask(60, "the response");
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(sending.Ask(40, "the response").ok()) << "exactly the limit";
  EXPECT_EQ(sending.used(), 60);
  const auto refused = sending.Ask(41, "the download");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.status().message(),
            "the download: needs 41 bytes of memory until it is sent, but 60 of the 100 bytes of "
            "--max-in-flight-bytes are used by others that their callers have not received yet");
  EXPECT_EQ(base::ReasonOf(refused.status())->metadata.at("limit"), "max_in_flight_bytes");
  EXPECT_EQ(sending.used(), 60) << "what was refused is not counted";
  Sending::Claim moved = *std::move(first);
  EXPECT_EQ(sending.used(), 60);
  moved = nullptr;
  EXPECT_EQ(sending.used(), 0);
}

TEST(SendingTest, OneIsAlwaysAllowed) {
  Sending sending;
  sending.set_limit(100);
  const auto large = sending.Ask(1000, "the response");
  EXPECT_TRUE(large.ok());
  EXPECT_FALSE(sending.Ask(1, "the response").ok());
}

TEST(SendingTest, WithoutALimitAllIsCountedAndNothingRefused) {
  Sending sending;
  const auto one = sending.Ask(int64_t{1} << 40, "the response");
  EXPECT_TRUE(sending.Ask(int64_t{1} << 40, "the response").ok());
  EXPECT_EQ(sending.used(), int64_t{1} << 40);
}

class LargeResponseTest : public ServiceTest {
 protected:
  // 8 MB of parameters as typed values.
  static constexpr char kLargeModel[] =
      R"({"inputSize":1000,"layers":[{"units":1000},{"units":2}]})";

  LargeResponseTest() {
    CreateModel("large", kLargeModel);
    request_.set_model("models/large");
  }

  Sending& sending() { return server->context.sending; }
  bool Returns(int64_t used) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (sending().used() != used && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
    return sending().used() == used;
  }
  grpc::Status Read() { return Call(&Stub::GetParameters, request_, &response_); }

  v1::GetParametersRequest request_;
  v1::GetParametersResponse response_;
};

TEST_F(LargeResponseTest, IsCountedUntilItIsSent) {
  EXPECT_TRUE(Read().ok());
  EXPECT_GT(response_.ByteSizeLong(), 8'000'000);
  EXPECT_TRUE(Returns(0));
  sending().set_limit(20'000'000);
  const auto other = sending().Ask(10'000'000, "another response");
  const grpc::Status refused = Read();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  EXPECT_EQ(Info(refused).metadata().at("limit"), "max_in_flight_bytes");
  EXPECT_TRUE(Returns(10'000'000));
}

TEST_F(LargeResponseTest, SmallOnesAreNotRefused) {
  CreateModel("small", kXorSpec);
  sending().set_limit(1);
  const auto other = sending().Ask(1, "another response");
  request_.set_model("models/small");
  EXPECT_TRUE(Read().ok());
}

// The flow control of HTTP/2 stops a download whose caller does not read, if the caller's window
// does not grow to the size of the file.
TEST_F(LargeResponseTest, ADownloadIsCountedWhileItLasts) {
  v1::ExportModelRequest exported;
  exported.set_model("models/large");
  grpc::ClientContext call;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 16);
  const auto stub = v1::TrainingService::NewStub(
      grpc::CreateCustomChannel(server->address, grpc::InsecureChannelCredentials(), arguments));
  const auto stream = stub->ExportModel(&call, exported);
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (sending().used() == 0 && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_GE(sending().used(), (4 << 20) + 4 * 1'003'002) << "the chunks and the file";
  v1::ExportModelResponse chunk;
  while (stream->Read(&chunk)) {
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(Returns(0));
}

}  // namespace
}  // namespace backprop::rpc
