// A model that is written as ONNX and read again is the same model.
#include "server/transfer/onnx_export.h"

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cstring>

#include "server/base/limits.h"
#include "server/codec/parameters_codec.h"
#include "server/codec/spec_codec.h"
#include "server/transfer/onnx_format.h"
#include "server/transfer/onnx_import.h"

namespace backprop::transfer {
namespace {

// A model with layers of one activation, trained as far as its spec allows: not at all.
struct Sample {
  v1::Model description;
  std::unique_ptr<engine::Network> network;
  std::shared_ptr<engine::State> state;
};

enum class Standardized { kNo, kGiven, kFitted };

Sample MakeSample(v1::Activation activation, v1::Loss::KindCase loss, v1::DataType type,
                  Standardized standardized) {
  v1::ModelSpec spec;
  spec.set_input_size(3);
  spec.set_data_type(type);
  spec.set_seed(7);
  for (int i = 0; i < 2; ++i) {
    v1::Layer* layer = spec.add_layers();
    layer->set_units(3);  // square, so that shapes do not reveal a transposed matrix
    layer->set_activation(activation);
    if (activation == v1::ACTIVATION_LEAKY_RELU) layer->set_negative_slope(0.3);
    if (activation == v1::ACTIVATION_ELU) layer->set_alpha(0.7);
    layer->set_dropout(0.25);
  }
  v1::Layer* last = spec.add_layers();
  last->set_units(3);
  const bool classifies =
      loss == v1::Loss::kSoftmaxCrossEntropy || loss == v1::Loss::kBinaryCrossEntropy;
  if (!classifies) last->set_activation(activation);
  switch (loss) {
    case v1::Loss::kSoftmaxCrossEntropy:
      spec.mutable_loss()->mutable_softmax_cross_entropy()->set_label_smoothing(0.1);
      break;
    case v1::Loss::kBinaryCrossEntropy:
      spec.mutable_loss()->mutable_binary_cross_entropy();
      break;
    case v1::Loss::kMeanAbsoluteError:
      spec.mutable_loss()->mutable_mean_absolute_error();
      break;
    case v1::Loss::kHuber:
      spec.mutable_loss()->mutable_huber()->set_delta(2);
      break;
    default:
      spec.mutable_loss()->mutable_mean_squared_error();
  }
  spec.mutable_optimizer()->mutable_adamw()->set_beta1(0.8);
  for (const char* name : {"a \"b\"", "é", "c"}) {
    if (classifies) spec.add_class_names(name);
  }
  for (const char* name : {"x", "y", "z"}) spec.add_feature_names(name);
  const engine::Standardization numbers{{0.5, -1, 1e-3}, {2, 0.1, 3}};
  if (standardized != Standardized::kNo) spec.mutable_input_standardization();
  if (standardized == Standardized::kGiven) {
    codec::EncodeStandardization(numbers, spec.mutable_input_standardization());
  }
  Sample sample;
  auto decoded = codec::DecodeSpec(spec, base::Limits());
  EXPECT_TRUE(decoded.ok()) << decoded.status();
  sample.network = std::make_unique<engine::Network>(*std::move(decoded));
  sample.state = engine::InitialState(*sample.network);
  sample.state->step = 12;
  if (standardized != Standardized::kNo) {
    sample.state->standardization = std::make_shared<engine::Standardization>(numbers);
  }
  sample.description.set_name("models/m");
  sample.description.set_step(12);
  (*sample.description.mutable_labels())["team"] = "blue";
  codec::EncodeSpec(sample.network->spec(), sample.description.mutable_spec());
  *sample.description.mutable_spec()->mutable_class_names() = spec.class_names();
  *sample.description.mutable_spec()->mutable_feature_names() = spec.feature_names();
  return sample;
}

onnx::ModelProto Parse(const std::string& bytes) {
  onnx::ModelProto file;
  EXPECT_TRUE(file.ParseFromString(bytes));
  return file;
}

absl::StatusOr<v1::ModelFile> Import(const std::string& bytes) {
  OnnxImportOptions options;
  options.max_parameters = 1000;
  return ImportOnnx(bytes, options);
}

class OnnxRoundTripTest
    : public testing::TestWithParam<std::tuple<v1::Activation, v1::Loss::KindCase, v1::DataType>> {
};

TEST_P(OnnxRoundTripTest, IsExact) {
  const auto& [activation, loss, type] = GetParam();
  for (const auto standardized : {Standardized::kNo, Standardized::kGiven, Standardized::kFitted}) {
    const Sample sample = MakeSample(activation, loss, type, standardized);
    const auto bytes = ExportOnnx(sample.description, *sample.network, *sample.state);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    const auto back = Import(*bytes);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->model().labels().at("team"), "blue");
    // The spec, with its defaults written, to the last bit.
    const auto spec = codec::DecodeSpec(back->model().spec(), base::Limits());
    ASSERT_TRUE(spec.ok()) << spec.status();
    v1::ModelSpec encoded;
    codec::EncodeSpec(*spec, &encoded);
    *encoded.mutable_class_names() = back->model().spec().class_names();
    *encoded.mutable_feature_names() = back->model().spec().feature_names();
    EXPECT_EQ(encoded.DebugString(), sample.description.spec().DebugString());
    // Weights, biases and standardisation.
    const engine::Network network(*spec);
    const auto state = codec::DecodeParameters(back->parameters(), "p", network,
                                               *engine::EmptyState(network), true);
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(std::memcmp((*state)->values.bytes(), sample.state->values.bytes(),
                          static_cast<size_t>(network.parameter_count() *
                                              engine::SizeOf(network.spec().data_type))),
              0);
    if (standardized == Standardized::kNo) {
      EXPECT_EQ((*state)->standardization, nullptr);
    } else {
      EXPECT_EQ((*state)->standardization->mean, sample.state->standardization->mean);
      EXPECT_EQ((*state)->standardization->std, sample.state->standardization->std);
    }
    EXPECT_EQ(back->parameters().step(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, OnnxRoundTripTest,
    testing::Combine(testing::Values(v1::ACTIVATION_IDENTITY, v1::ACTIVATION_RELU,
                                     v1::ACTIVATION_TANH, v1::ACTIVATION_SIGMOID,
                                     v1::ACTIVATION_LEAKY_RELU, v1::ACTIVATION_ELU,
                                     v1::ACTIVATION_GELU, v1::ACTIVATION_SILU,
                                     v1::ACTIVATION_SOFTPLUS),
                     testing::Values(v1::Loss::kSoftmaxCrossEntropy, v1::Loss::kBinaryCrossEntropy,
                                     v1::Loss::kMeanSquaredError, v1::Loss::kMeanAbsoluteError,
                                     v1::Loss::kHuber),
                     testing::Values(v1::DATA_TYPE_FLOAT32, v1::DATA_TYPE_FLOAT64)));

TEST(OnnxExportTest, StatesItsVersionsAndNames) {
  const Sample sample = MakeSample(v1::ACTIVATION_TANH, v1::Loss::kSoftmaxCrossEntropy,
                                   v1::DATA_TYPE_FLOAT32, Standardized::kFitted);
  const onnx::ModelProto file =
      Parse(*ExportOnnx(sample.description, *sample.network, *sample.state));
  EXPECT_EQ(file.ir_version(), 8);
  ASSERT_EQ(file.opset_import_size(), 1);
  EXPECT_EQ(file.opset_import(0).version(), 17);
  EXPECT_EQ(file.producer_name(), "backpropd");
  EXPECT_EQ(file.model_version(), 12);
  EXPECT_EQ(file.graph().name(), "models/m");
  std::map<std::string, std::string> metadata;
  for (const auto& entry : file.metadata_props()) metadata[entry.key()] = entry.value();
  EXPECT_EQ(metadata["backprop.feature_names"], R"(["x","y","z"])");
  EXPECT_EQ(metadata["backprop.class_names"], R"(["a \"b\"","é","c"])");
  EXPECT_EQ(metadata["backprop.step"], "12");
  EXPECT_EQ(metadata["backprop.labels.team"], "blue");
  EXPECT_EQ(metadata["backprop.spec"].find("className"), std::string::npos);
  std::vector<std::string> outputs;
  for (const auto& output : file.graph().output()) outputs.push_back(output.name());
  EXPECT_EQ(outputs, (std::vector<std::string>{"probabilities", "logits", "label"}));
  EXPECT_EQ(file.graph().input(0).name(), "inputs");
}

// A file that pretends to be ours, but computes another erf.
TEST(OnnxExportTest, AChangedFunctionIsRefused) {
  const Sample sample = MakeSample(v1::ACTIVATION_GELU, v1::Loss::kMeanSquaredError,
                                   v1::DATA_TYPE_FLOAT64, Standardized::kNo);
  onnx::ModelProto file = Parse(*ExportOnnx(sample.description, *sample.network, *sample.state));
  ASSERT_EQ(file.functions_size(), 1);
  ASSERT_TRUE(Import(file.SerializeAsString()).ok());
  file.mutable_functions(0)->mutable_node(3)->set_op_type("Sub");
  const auto changed = Import(file.SerializeAsString());
  EXPECT_NE(changed.status().message().find("its function is not the one expected"),
            std::string::npos)
      << changed.status();
  file.clear_functions();
  EXPECT_FALSE(Import(file.SerializeAsString()).ok());
}

}  // namespace
}  // namespace backprop::transfer
