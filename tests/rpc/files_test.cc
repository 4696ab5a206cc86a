// Models as files: exact, and no damaged file becomes a model.
#include "server/base/limits.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

class FilesTest : public ServiceTest {
 protected:
  FilesTest() {
    CreateModel("m", R"({"inputSize":2,"layers":[{"units":8},{"units":2}],"classNames":["a","b"],
                        "optimizer":{"adam":{},"schedule":{"reduceOnPlateau":{}}},
                        "inputStandardization":{}})");
    std::vector<v1::TrainingEvent> events;
    EXPECT_TRUE(
        Train(Json<v1::TrainRequest>(R"({"model":"models/m","config":{"epochs":7},"data":)" +
                                     std::string(kXorBatch) + "}"),
              &events)
            .ok());
  }

  std::string Export(const std::string& id,
                     v1::ModelFileFormat format = v1::MODEL_FILE_FORMAT_UNSPECIFIED) {
    grpc::ClientContext call;
    v1::ExportModelRequest request;
    request.set_model("models/" + id);
    request.set_format(format);
    const auto reader = server->stub->ExportModel(&call, request);
    std::string file;
    v1::ExportModelResponse piece;
    while (reader->Read(&piece)) {
      EXPECT_LE(piece.data().size(), size_t{1} << 20);
      file += piece.data();
    }
    const auto status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return file;
  }

  // In chunks of `at_once` bytes.
  grpc::Status Import(const std::string& id, const std::string& file,
                      v1::ImportModelResponse* response, size_t at_once = 100,
                      const std::string& request_id = "", v1::ImportModelRequest request = {}) {
    grpc::ClientContext call;
    const auto writer = server->stub->ImportModel(&call, response);
    request.set_model_id(id);
    request.set_request_id(request_id);
    for (size_t at = 0; at < file.size(); at += at_once) {
      request.set_data(file.substr(at, at_once));
      if (!writer->Write(request)) break;
      request.Clear();
    }
    writer->WritesDone();
    return writer->Finish();
  }
};

TEST_F(FilesTest, ARoundTripIsExact) {
  const std::string file = Export("m");
  v1::ImportModelResponse imported;
  for (const size_t at_once : {size_t{1}, size_t{100}, file.size()}) {
    const std::string id = "copy" + std::to_string(at_once);
    const auto status = Import(id, file, &imported, at_once);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(ParametersOf(id), ParametersOf("m"));
    EXPECT_EQ(imported.model().step(), 7);
    EXPECT_EQ(imported.model().spec().SerializeAsString(),
              GetModel("m").spec().SerializeAsString());
  }
}

TEST_F(FilesTest, AnImportsRetryIsAnsweredOnce) {
  const std::string file = Export("m");
  v1::ImportModelResponse first, second;
  ASSERT_TRUE(Import("", file, &first, 1000, "k").ok());
  ASSERT_TRUE(Import("", file, &second, 77, "k").ok());
  EXPECT_EQ(first.model().name(), second.model().name());
  EXPECT_EQ(Import("other", file, &second, 1000, "k").error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Import("m", file, &second).error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

// Every byte changed and every truncated length: none becomes a model.
TEST_F(FilesTest, WhatIsDamagedIsRefused) {
  const std::string file = Export("m");
  v1::ImportModelResponse response;
  for (size_t at = 0; at < file.size(); at += 7) {
    SCOPED_TRACE(at);
    std::string flipped = file;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    const auto status = Import("bad", flipped, &response, 1000);
    ASSERT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    ASSERT_EQ(Violations(status)[0].field(), "data");
    const auto cut = Import("bad", file.substr(0, at), &response, 1000);
    ASSERT_EQ(cut.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << cut.error_message();
  }
  const auto longer = Import("bad", file + "x", &response, 1000);
  EXPECT_NE(longer.error_message().find("unexpected data after the end"), std::string::npos);
  v1::GetModelRequest get;
  get.set_name("models/bad");
  v1::GetModelResponse got;
  EXPECT_EQ(Call(&Stub::GetModel, get, &got).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(FilesTest, OnlyTheFirstMessageSaysHowToCallIt) {
  grpc::ClientContext call;
  v1::ImportModelResponse response;
  const auto writer = server->stub->ImportModel(&call, &response);
  v1::ImportModelRequest request;
  request.set_model_id("a");
  writer->Write(request);
  writer->Write(request);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(FilesTest, OnnxIsDetectedOrNamed) {
  const std::string file = Export("m", v1::MODEL_FILE_FORMAT_ONNX);
  v1::ImportModelRequest first;
  v1::ImportModelResponse imported;
  for (const auto format : {v1::MODEL_FILE_FORMAT_UNSPECIFIED, v1::MODEL_FILE_FORMAT_ONNX}) {
    first.set_format(format);
    const std::string id = "onnx" + std::to_string(format);
    const auto status = Import(id, file, &imported, 1, "", first);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(imported.model().step(), 0);
    EXPECT_EQ(imported.model().spec().SerializeAsString(),
              GetModel("m").spec().SerializeAsString());
    v1::Parameters before;
    v1::Parameters after;
    before.ParseFromString(ParametersOf("m"));
    after.ParseFromString(ParametersOf(id));
    ASSERT_EQ(after.tensors_size(), before.tensors_size());
    for (int i = 0; i < before.tensors_size(); ++i) {
      EXPECT_EQ(after.tensors(i).SerializeAsString(), before.tensors(i).SerializeAsString());
    }
    EXPECT_EQ(after.input_standardization().SerializeAsString(),
              before.input_standardization().SerializeAsString());
  }
  // A file in one format that is said to be in the other.
  first.set_format(v1::MODEL_FILE_FORMAT_BACKPROP);
  EXPECT_EQ(Import("bad", file, &imported, 1000, "", first).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  first.set_format(v1::MODEL_FILE_FORMAT_ONNX);
  const auto own = Import("bad", Export("m"), &imported, 1000, "", first);
  ASSERT_EQ(own.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Violations(own)[0].field(), "data");
  first.set_format(static_cast<v1::ModelFileFormat>(3));
  const auto unknown = Import("bad", file, &imported, 1000, "", first);
  ASSERT_EQ(unknown.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Violations(unknown)[0].field(), "format");
}

TEST_F(FilesTest, AnImportOfOnnxTakesALossAndAnOptimizer) {
  CreateModel("r", R"({"inputSize":2,"layers":[{"units":3}],"loss":{"huber":{}}})");
  const std::string file = Export("r", v1::MODEL_FILE_FORMAT_ONNX);
  v1::ImportModelRequest first;
  first.mutable_loss()->mutable_softmax_cross_entropy()->add_class_weights(1);
  v1::ImportModelResponse imported;
  // Their errors are about the fields of this request.
  const auto weights = Import("bad", file, &imported, 1000, "", first);
  ASSERT_EQ(weights.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Violations(weights)[0].field(), "loss.softmax_cross_entropy.class_weights");
  first.mutable_loss()->mutable_mean_squared_error();
  first.mutable_optimizer()->mutable_adam()->set_learning_rate(-1);
  const auto rate = Import("bad", file, &imported, 1000, "", first);
  ASSERT_EQ(rate.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Violations(rate)[0].field(), "optimizer.adam.learning_rate");
  first.mutable_optimizer()->mutable_adam()->set_learning_rate(0.5);
  ASSERT_TRUE(Import("s", file, &imported, 1000, "", first).ok());
  EXPECT_TRUE(imported.model().spec().loss().has_mean_squared_error());
  EXPECT_EQ(imported.model().spec().optimizer().adam().learning_rate(), 0.5);
  for (const char* field : {"loss", "optimizer"}) {
    v1::ImportModelRequest other;
    if (field == std::string("loss")) other.mutable_loss()->mutable_huber();
    if (field == std::string("optimizer")) other.mutable_optimizer()->mutable_sgd();
    const auto own = Import("bad", Export("r"), &imported, 1000, "", other);
    ASSERT_EQ(own.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(Violations(own)[0].field(), field);
  }
}

TEST_F(FilesTest, OnnxNeedsAFittedStandardization) {
  CreateModel("unfitted", R"({"inputSize":2,"layers":[{"units":2}],"inputStandardization":{}})");
  for (const auto& [format, code] :
       {std::pair(v1::MODEL_FILE_FORMAT_ONNX, grpc::StatusCode::FAILED_PRECONDITION),
        std::pair(static_cast<v1::ModelFileFormat>(3), grpc::StatusCode::INVALID_ARGUMENT)}) {
    grpc::ClientContext call;
    v1::ExportModelRequest request;
    request.set_model("models/unfitted");
    request.set_format(format);
    const auto reader = server->stub->ExportModel(&call, request);
    v1::ExportModelResponse piece;
    EXPECT_FALSE(reader->Read(&piece));
    EXPECT_EQ(reader->Finish().error_code(), code);
  }
}

TEST_F(FilesTest, AModelThatIsNotThereHasNoFile) {
  grpc::ClientContext call;
  v1::ExportModelRequest request;
  request.set_model("models/none");
  const auto reader = server->stub->ExportModel(&call, request);
  v1::ExportModelResponse piece;
  EXPECT_FALSE(reader->Read(&piece));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(FilesTest, AFileLargerThanAModelCanBeIsRefused) {
  const std::string file = Export("m");
  base::Limits limits;
  limits.max_parameters = 41;
  server = std::make_unique<TestServer>(limits);
  v1::ImportModelResponse response;
  EXPECT_EQ(Import("m", file, &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace backprop::rpc
