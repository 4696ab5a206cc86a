// Malformed requests: bytes that protobuf cannot parse.
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "backprop/v1/admin_service.pb.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

// A call with raw bytes, one blocking operation at a time.
class RawCall {
 public:
  RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method)
      : stub_(channel) {
    call_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    stream_ = stub_.PrepareCall(&call_, method, &queue_);
    stream_->StartCall(this);
    Wait();
  }
  bool Write(const std::string& bytes) {
    const grpc::Slice slice(bytes);
    stream_->Write(grpc::ByteBuffer(&slice, 1), this);
    return Wait();
  }
  void WritesDone() {
    stream_->WritesDone(this);
    Wait();
  }
  bool Read(google::protobuf::Message* message) {
    grpc::ByteBuffer buffer;
    stream_->Read(&buffer, this);
    if (!Wait()) return false;
    grpc::Slice slice;
    EXPECT_TRUE(buffer.DumpToSingleSlice(&slice).ok());
    return message->ParseFromArray(slice.begin(), static_cast<int>(slice.size()));
  }
  grpc::Status Finish() {
    grpc::Status status;
    stream_->Finish(&status, this);
    Wait();
    return status;
  }

 private:
  bool Wait() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::ClientContext call_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

constexpr char kGarbage[] = "\xff\xff\xff";

class MalformedTest : public ServiceTest {
 protected:
  // The status of a call of `method` with exactly these messages.
  grpc::Status Send(const std::string& method, const std::vector<std::string>& messages) {
    RawCall call(server->channel, method);
    for (const std::string& message : messages) call.Write(message);
    call.WritesDone();
    v1::StepStreamResponse none;
    EXPECT_FALSE(call.Read(&none)) << method;
    return call.Finish();
  }
  static std::vector<const google::protobuf::MethodDescriptor*> Methods() {
    const auto* pool = google::protobuf::DescriptorPool::generated_pool();
    std::vector<const google::protobuf::MethodDescriptor*> methods;
    for (const char* service : {"backprop.v1.TrainingService", "backprop.v1.AdminService"}) {
      const auto* found = pool->FindServiceByName(service);
      for (int i = 0; i < found->method_count(); ++i) methods.push_back(found->method(i));
    }
    return methods;
  }
  static std::string PathOf(const google::protobuf::MethodDescriptor& method) {
    return "/" + method.service()->full_name() + "/" + method.name();
  }
  static std::string StepBytes() {
    auto step = Json<v1::StepStreamRequest>(R"({"step":{"model":"models/m","batch":)" +
                                            std::string(kXorBatch) + "}}");
    return step.SerializeAsString();
  }
};

TEST_F(MalformedTest, EveryMethodSaysThatTheMessageCouldNotBeParsed) {
  CreateModel("m", kXorSpec);
  const auto methods = Methods();
  ASSERT_GT(methods.size(), 25U);
  for (const auto* method : methods) {
    const grpc::Status status = Send(PathOf(*method), {kGarbage});
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method->full_name();
    EXPECT_EQ(status.error_message(),
              std::string(method->client_streaming() ? "message 1 of the stream: " : "") +
                  "the message could not be parsed as " + method->input_type()->full_name() +
                  ": its 3 bytes are not a valid protobuf encoding");
    EXPECT_EQ(Info(status).reason(), "MALFORMED_REQUEST");
  }
  EXPECT_EQ(GetModel("m").step(), 0) << "and the server goes on";
}

TEST_F(MalformedTest, ACallWithoutItsMessageSaysSo) {
  for (const auto* method : Methods()) {
    if (method->client_streaming()) continue;
    const grpc::Status status = Send(PathOf(*method), {});
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method->full_name();
    EXPECT_EQ(status.error_message(), "the message could not be parsed as " +
                                          method->input_type()->full_name() +
                                          ": the call contains no message");
  }
}

TEST_F(MalformedTest, AStringThatIsNotUtf8IsNamed) {
  v1::GetModelRequest get;
  get.set_name("models/m?");
  std::string bytes = get.SerializeAsString();
  bytes.back() = '\xc3';  // the first half of a character
  testing::internal::CaptureStderr();
  const grpc::Status status = Send("/backprop.v1.TrainingService/GetModel", {bytes});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "protobuf writes nothing by itself";
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(),
            "the message could not be parsed as backprop.v1.GetModelRequest: "
            "backprop.v1.GetModelRequest.name is not valid UTF-8");
}

TEST_F(MalformedTest, AStepStreamAnswersWhatCameBeforeAndEndsWithAnError) {
  CreateModel("m", kXorSpec);
  RawCall call(server->channel, "/backprop.v1.TrainingService/StepStream");
  for (const std::string& message :
       {StepBytes(), std::string(kGarbage), StepBytes(), StepBytes()}) {
    call.Write(message);  // fails once the stream has ended
  }
  v1::StepStreamResponse response;
  ASSERT_TRUE(call.Read(&response));
  EXPECT_EQ(response.step().step(), 1);
  EXPECT_FALSE(call.Read(&response));
  const grpc::Status status = call.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(),
            "message 2 of the stream: the message could not be parsed as "
            "backprop.v1.StepStreamRequest: its 3 bytes are not a valid protobuf encoding");
  EXPECT_EQ(Info(status).reason(), "MALFORMED_REQUEST");
  EXPECT_EQ(GetModel("m").step(), 1);
}

TEST_F(MalformedTest, AnUploadEndsWithAnErrorAndKeepsWhatItHad) {
  const auto header =
      Json<v1::UploadDatasetRequest>(R"({"header":{"datasetId":"d","requestId":"r"}})");
  const std::string path = "/backprop.v1.TrainingService/UploadDataset";
  const grpc::Status status = Send(path, {header.SerializeAsString(), kGarbage, kGarbage});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(status.error_message().find("message 2 of the stream: "), std::string::npos);
  v1::GetDatasetRequest get;
  get.set_name("datasets/d");
  v1::GetDatasetResponse response;
  ASSERT_TRUE(Call(&Stub::GetDataset, get, &response).ok());
  EXPECT_EQ(response.dataset().state(), v1::DATASET_STATE_UPLOADING) << "it can go on";
}

}  // namespace
}  // namespace backprop::rpc
