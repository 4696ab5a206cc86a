// Errors that contain much of the caller's text stay readable and fit in their trailers.
#include <gtest/gtest.h>

#include "server/base/text.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

std::string Repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

class ErrorsTest : public ServiceTest {
 protected:
  // The client's limit on trailers is 8 KiB; a larger error arrives as RESOURCE_EXHAUSTED.
  static void ExpectWhole(const grpc::Status& status, const std::string& begins) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(status.error_message().substr(0, begins.size()), begins);
    google::rpc::Status details;
    ASSERT_TRUE(details.ParseFromString(status.error_details()));
    EXPECT_EQ(details.message(), status.error_message());
    EXPECT_EQ(base::ValidUtf8(details.message()), details.message());
    EXPECT_LE(base::HeaderBytes(status.error_message()) + status.error_details().size() * 4 / 3,
              7700U);
    EXPECT_FALSE(Violations(status).empty());
  }
};

TEST_F(ErrorsTest, SixtyFourLabelsOfLongKeysAndValuesFitIntoTheTrailers) {
  for (const std::string& text : {Repeat("K", 2000), Repeat("é", 1000), Repeat("%", 2000)}) {
    for (const bool long_key : {true, false}) {
      v1::CreateModelRequest request;
      for (int i = 0; i < 64; ++i) {
        const std::string key = "k" + std::to_string(i) + (long_key ? text : "");
        (*request.mutable_labels())[key] = text;
      }
      v1::CreateModelResponse response;
      const grpc::Status status = Call(&Stub::CreateModel, request, &response);
      ExpectWhole(status, "labels");
      EXPECT_NE(status.error_message().find("more violations are omitted"), std::string::npos);
      EXPECT_NE(Violations(status).back().description().find("more violations are omitted"),
                std::string::npos);
    }
  }
}

TEST_F(ErrorsTest, ANameIsCutBetweenCharacters) {
  CreateModel(
      "m",
      R"({"inputSize":1,"layers":[{"units":2}],"classNames":["a","b"],"optimizer":{"sgd":{}}})");
  auto step = Json<v1::StepRequest>(
      R"({"model":"models/m","batch":{"inputs":{"values":[1]},"labelNames":[""]}})");
  step.mutable_batch()->set_label_names(0, "a" + Repeat("é", 60));
  const std::string message =
      "batch.label_names[0]: expected one of a, b, got \"a" + Repeat("é", 39) + "…\"";
  v1::StepResponse response;
  const grpc::Status status = Call(&Stub::Step, step, &response);
  ExpectWhole(status, message);
  EXPECT_EQ(Violations(status)[0].field(), "batch.label_names[0]");

  grpc::ClientContext call;
  const auto stream = server->stub->StepStream(&call);
  v1::StepStreamRequest request;
  *request.mutable_step() = step;
  ASSERT_TRUE(stream->Write(request));
  stream->WritesDone();
  v1::StepStreamResponse answer;
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.error().message(), message);
  EXPECT_TRUE(stream->Finish().ok());
}

// Every place where an error contains text of the request.
TEST_F(ErrorsTest, WhateverIsSentComesBackReadable) {
  CreateModel("m", kXorSpec);
  for (const std::string& text :
       {"a" + Repeat("é", 3000), Repeat("x", 100'000), std::string("a\nb\x1b[31m\0c", 10)}) {
    const auto expect = [&](const grpc::Status& status) {
      ExpectWhole(status, "");
      EXPECT_EQ(status.error_message(), base::EscapeControls(status.error_message()))
          << "nothing that moves a cursor";
    };
    v1::GetModelRequest get;
    get.set_name(text);
    v1::GetModelResponse got;
    expect(Call(&Stub::GetModel, get, &got));
    v1::CreateModelRequest create;
    create.set_model_id(text);
    (*create.mutable_labels())[text] = text;
    v1::CreateModelResponse created;
    expect(Call(&Stub::CreateModel, create, &created));
    v1::WatchTrainingRequest watch;
    watch.set_model("models/m");
    watch.set_run(text);
    grpc::ClientContext call;
    v1::WatchTrainingResponse watched;
    const auto reader = server->stub->WatchTraining(&call, watch);
    EXPECT_FALSE(reader->Read(&watched));
    expect(reader->Finish());
    v1::CreateCheckpointRequest checkpoint;
    checkpoint.set_model("models/m");
    checkpoint.set_checkpoint_id(text);
    v1::CreateCheckpointResponse kept;
    expect(Call(&Stub::CreateCheckpoint, checkpoint, &kept));
    v1::SetParametersRequest set;
    set.set_model("models/m");
    set.mutable_parameters()->add_tensors()->set_name(text);
    v1::SetParametersResponse changed;
    expect(Call(&Stub::SetParameters, set, &changed));
    grpc::ClientContext upload_call;
    v1::UploadDatasetResponse uploaded;
    const auto writer = server->stub->UploadDataset(&upload_call, &uploaded);
    v1::UploadDatasetRequest upload;
    upload.mutable_header()->set_dataset_id(text);
    writer->Write(upload);
    writer->WritesDone();
    expect(writer->Finish());
  }
}

}  // namespace
}  // namespace backprop::rpc
