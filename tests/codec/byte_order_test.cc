// Raw tensors in either byte order, stated or not.
#include "server/codec/byte_order.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

template <class T>
constexpr v1::DataType TypeOf() {
  if constexpr (std::is_same_v<T, float>) return v1::DATA_TYPE_FLOAT32;
  if constexpr (std::is_same_v<T, double>) return v1::DATA_TYPE_FLOAT64;
  return sizeof(T) == 4 ? v1::DATA_TYPE_INT32 : v1::DATA_TYPE_INT64;
}

template <class T>
v1::Tensor Raw(const std::vector<T>& elements, bool big,
               v1::ByteOrder said = v1::BYTE_ORDER_UNSPECIFIED) {
  v1::Tensor tensor;
  tensor.set_data_type(TypeOf<T>());
  tensor.set_byte_order(said);
  for (const T& element : elements) {
    const T ordered = codec::Load<T>(reinterpret_cast<const char*>(&element), big);
    tensor.mutable_raw()->append(reinterpret_cast<const char*>(&ordered), sizeof(T));
  }
  return tensor;
}

template <class T>
std::vector<T> Normal(size_t count, double scale) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal(0, scale);
  std::vector<T> numbers(count);
  for (T& x : numbers) x = static_cast<T>(normal(random));
  return numbers;
}

template <class T>
std::vector<T> Tenths(size_t count) {
  std::vector<T> numbers;
  for (size_t i = 0; i < count; ++i) numbers.push_back(static_cast<T>(i) / T(10));
  return numbers;
}

template <class T>
class LooksBigEndianTest : public testing::Test {
 protected:
  // Exactly one byte order of these numbers is suspicious.
  static void ExpectTold(const std::vector<T>& numbers) {
    EXPECT_NE(codec::LooksBigEndian(Raw(numbers, true)), "");
    EXPECT_EQ(codec::LooksBigEndian(Raw(numbers, true, v1::BYTE_ORDER_BIG_ENDIAN)), "");
    EXPECT_EQ(codec::LooksBigEndian(Raw(numbers, true, v1::BYTE_ORDER_LITTLE_ENDIAN)), "");
    ExpectPlain(numbers);
  }
  static void ExpectPlain(const std::vector<T>& numbers) {
    EXPECT_EQ(codec::LooksBigEndian(Raw(numbers, false)), "");
  }
};
using Floats = testing::Types<float, double>;
TYPED_TEST_SUITE(LooksBigEndianTest, Floats);

TYPED_TEST(LooksBigEndianTest, OrdinaryDataIsTold) {
  using T = TypeParam;
  for (const double scale : {1e-4, 1.0, 1e4}) this->ExpectTold(Normal<T>(200, scale));
  this->ExpectTold(Tenths<T>(100));
  this->ExpectTold({0, 0, 0, 1, 1, 0, 1, 1});  // XOR
  this->ExpectTold({0, T(-0.0), 0, 1, 1, T(-0.0), 1, 1});
  this->ExpectTold({T(-0.5), 1, 2, 3});
  std::vector<T> pixels;
  for (int i = 0; i < 784; ++i) pixels.push_back(static_cast<T>(i % 256));
  this->ExpectTold(pixels);
  std::vector<T> sparse(4000, T(0));
  sparse.insert(sparse.end(), 4, T(1));
  this->ExpectTold(sparse);
  // Numbers of float32 stored as doubles: their last bytes are 0.
  const auto narrow = Normal<float>(40, 1);
  this->ExpectTold(std::vector<T>(narrow.begin(), narrow.end()));
}

TYPED_TEST(LooksBigEndianTest, TooFewToTell) {
  using T = TypeParam;
  const auto three = Raw<T>({0, 1, 1, 1}, true);
  EXPECT_EQ(codec::LooksBigEndian(three), "");
  const auto numbers = Normal<T>(15, 1);
  EXPECT_EQ(codec::LooksBigEndian(Raw(numbers, true)), "");
  EXPECT_NE(codec::LooksBigEndian(Raw(Normal<T>(16, 1), true)), "");
}

// Unusual little-endian numbers that are correct.
TYPED_TEST(LooksBigEndianTest, OddDataIsTakenAsItIs) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  this->ExpectPlain(std::vector<T>(100, T(0)));
  for (const T x :
       {T(1e-45), T(1e-44), T(1e-43), T(1e-42), T(1e-41), T(1e-40), T(1e-39), T(1e-38), T(1e-30),
        T(1e30), T(3e38), Limits::min(), Limits::denorm_min(), Limits::max(), Limits::epsilon()}) {
    this->ExpectPlain(std::vector<T>(100, x));
    std::vector<T> around;
    for (int i = 1; i <= 100; ++i) around.push_back(x / static_cast<T>(i));
    this->ExpectPlain(around);
  }
  // Counters and clocks, whose last bytes take all values.
  for (const double from : {1e6, 1e7, 1.6e7, 1e9, 1.7e9, 1e12, 1e15}) {
    for (int start = 0; start < 256; ++start) {
      std::vector<T> counter;
      for (int i = 0; i < 20; ++i) counter.push_back(static_cast<T>(from + start + i));
      this->ExpectPlain(counter);
    }
  }
  // Every scale, and all scales together.
  std::vector<T> all;
  for (int exponent = -140; exponent <= 120; exponent += 4) {
    const auto numbers = Normal<T>(100, std::ldexp(1.0, exponent));
    this->ExpectPlain(numbers);
    all.insert(all.end(), numbers.begin(), numbers.begin() + 16);
  }
  this->ExpectPlain(all);
  // Denormals of every kind; a decaying weight passes through the first ones.
  std::mt19937_64 random(1);
  for (int round = 0; round < 1000; ++round) {
    std::vector<T> denormals;
    for (int i = 0; i < 32; ++i) {
      denormals.push_back(Limits::denorm_min() * static_cast<T>(random() % (1U << (round % 24))));
    }
    this->ExpectPlain(denormals);
  }
}

TEST(LooksBigEndian, Classes) {
  for (const bool wide : {false, true}) {
    const auto told = [&](const std::vector<int64_t>& labels, bool big) {
      const std::vector<int32_t> narrow(labels.begin(), labels.end());
      return codec::LooksBigEndian(wide ? Raw(labels, big) : Raw(narrow, big)) != "";
    };
    EXPECT_TRUE(told({0, 1, 1, 0}, true));
    EXPECT_TRUE(told({0, 9, 300}, true));
    EXPECT_FALSE(told({0, 0}, true));
    EXPECT_FALSE(told({0, 1, 1, 0}, false));
    EXPECT_FALSE(told({65536, 65537}, false));
    EXPECT_FALSE(told({1, 256, 65535}, false));
  }
}

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
TEST_F(ByteOrderTest, ADatasetsRowsAreLookedAtToo) {
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
