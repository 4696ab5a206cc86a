// Requests with raw tensors in either byte order, declared or not.
#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <vector>

#include "tests/codec/raw_tensor.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

using codec::Raw;

class ByteOrderTest : public ServiceTest {
 protected:
  ByteOrderTest() { CreateModel("m", kXorSpec); }

  // The logits of rows (0, 0), (0, 1), (1, 0), (1, 1).
  std::string Predict(const v1::Tensor& inputs, grpc::Status* status) {
    v1::PredictRequest request;
    request.set_model("models/m");
    *request.mutable_inputs() = inputs;
    request.add_outputs(v1::PREDICT_OUTPUT_LOGITS);
    v1::PredictResponse response;
    *status = Call(&Stub::Predict, request, &response);
    return response.logits().raw();
  }
  grpc::Status Step(const v1::Tensor& labels) {
    v1::StepRequest request;
    request.set_model("models/m");
    *request.mutable_batch()->mutable_inputs() = Raw(kInputs, false);
    *request.mutable_batch()->mutable_labels() = labels;
    v1::StepResponse response;
    return Call(&Stub::Step, request, &response);
  }

  const std::vector<float> kInputs = {0, 0, 0, 1, 1, 0, 1, 1};
  const std::vector<double> kDoubles = {kInputs.begin(), kInputs.end()};
};

TEST_F(ByteOrderTest, BothOrdersGiveTheSameBits) {
  grpc::Status status;
  const std::string expected = Predict(Raw(kInputs, false), &status);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Predict(Raw(kInputs, true, v1::BYTE_ORDER_BIG_ENDIAN), &status), expected);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Predict(Raw(kInputs, false, v1::BYTE_ORDER_LITTLE_ENDIAN), &status), expected);
  EXPECT_EQ(Predict(Raw(kDoubles, true, v1::BYTE_ORDER_BIG_ENDIAN), &status), expected);
  EXPECT_TRUE(status.ok()) << status.error_message();
  const auto big = v1::BYTE_ORDER_BIG_ENDIAN;
  EXPECT_TRUE(Step(Raw<int32_t>({0, 1, 1, 0}, true, big)).ok());
  EXPECT_TRUE(Step(Raw<int64_t>({0, 1, 1, 0}, true, big)).ok());
}

TEST_F(ByteOrderTest, RefusalsNameTheField) {
  grpc::Status status;
  const auto refused = [&](const v1::Tensor& inputs, const std::string& message) {
    Predict(inputs, &status);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(status.error_message(), message);
    EXPECT_EQ(Violations(status).size(), 1U);
  };
  refused(Raw(kInputs, false, static_cast<v1::ByteOrder>(7)),
          "inputs.byte_order: expected a known byte order, got 7");
  v1::Tensor typed;
  for (const double x : kDoubles) typed.add_values(x);
  typed.set_byte_order(v1::BYTE_ORDER_LITTLE_ENDIAN);
  refused(typed,
          "inputs.byte_order: is allowed only with raw, got BYTE_ORDER_LITTLE_ENDIAN with values");
  refused(Raw(kInputs, true),
          "inputs.byte_order: must be set, because the bytes of raw look big-endian: the first "
          "number is 4.6006e-41 as little-endian and 1 as big-endian; set "
          "BYTE_ORDER_BIG_ENDIAN, or BYTE_ORDER_LITTLE_ENDIAN if the bytes are little-endian");
  // Two numbers are too few for a suspicion, but enough for a hint if they are rejected for another
  // reason.
  refused(Raw<float>({std::bit_cast<float>(0x3f80c07f), 1}, true),
          "inputs[0][0]: must be finite, got nan; read as big-endian, the first element is "
          "1.00587; see byte_order");
  refused(Raw<float>({1, std::numeric_limits<float>::quiet_NaN()}, false),
          "inputs[0][1]: must be finite, got nan");
}

TEST_F(ByteOrderTest, LabelsOutOfRangeHint) {
  const std::string message = "batch.labels[1]: must be a class index in [0, 2), got 16777216";
  EXPECT_EQ(Step(Raw<int32_t>({0, 1, 1, 0}, true)).error_message(),
            message + "; read as big-endian, all elements are in that range; see byte_order");
  EXPECT_EQ(Step(Raw<int32_t>({0, 1, 2, 0}, true)).error_message(), message);
  EXPECT_EQ(
      Step(Raw<int32_t>({0, 16777216, 0, 0}, true, v1::BYTE_ORDER_BIG_ENDIAN)).error_message(),
      message);
}

// A dataset accepts any class, so that wrong ones would be stored.
TEST_F(ByteOrderTest, RowsOfADatasetAreChecked) {
  const auto upload = [&](const v1::Tensor& inputs, const v1::Tensor& labels) {
    grpc::ClientContext call;
    v1::UploadDatasetResponse response;
    const auto writer = server->stub->UploadDataset(&call, &response);
    v1::UploadDatasetRequest message;
    message.mutable_header()->set_dataset_id("d");
    message.mutable_header()->set_request_id("r");
    writer->Write(message);
    v1::Batch* rows = message.mutable_chunk()->mutable_rows();
    *rows->mutable_inputs() = inputs;
    rows->mutable_inputs()->add_shape(4);
    rows->mutable_inputs()->add_shape(2);
    *rows->mutable_labels() = labels;
    writer->Write(message);
    message.mutable_commit()->set_rows(4);
    writer->Write(message);
    writer->WritesDone();
    return writer->Finish().error_message();
  };
  const auto begins = [](const std::string& text, const std::string& with) {
    return text.substr(0, with.size()) == with;
  };
  const auto labels = Raw<int32_t>({0, 1, 1, 0}, false);
  EXPECT_TRUE(begins(upload(Raw(kInputs, true), labels), "chunk.rows.inputs.byte_order: must be"));
  EXPECT_TRUE(begins(upload(Raw(kInputs, false), Raw<int32_t>({0, 1, 1, 0}, true)),
                     "chunk.rows.labels.byte_order: must be"));
  EXPECT_EQ(upload(Raw(kInputs, false), labels), "");
}

}  // namespace
}  // namespace backprop::rpc
