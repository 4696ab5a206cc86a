// Which graphs of ONNX become models, with which numbers, and which are refused and why.
#include "server/transfer/onnx_import.h"

#include <cstring>
#include <limits>

#include "absl/strings/str_replace.h"
#include "server/transfer/onnx_export.h"
#include "server/transfer/onnx_file.h"
#include "server/transfer/onnx_format.h"
#include "tests/transfer/onnx_text.h"

namespace backprop::transfer {
namespace {

using testing::TestWithParam;
using testing::Values;

absl::StatusOr<v1::ModelFile> Import(const onnx::ModelProto& file, OnnxImportOptions options = {}) {
  if (options.max_parameters == 0) options.max_parameters = 1000;
  return ImportOnnx(file.SerializeAsString(), options);
}

std::vector<float> Floats(const v1::NamedTensor& tensor) {
  std::vector<float> floats(tensor.tensor().raw().size() / sizeof(float));
  std::memcpy(floats.data(), tensor.tensor().raw().data(), tensor.tensor().raw().size());
  return floats;
}

// Graphs of x·W + b with W = [[1, 2], [3, 4], [5, 6]] and b = [0.5, −1].
struct DenseLayer {
  const char* name;
  const char* constants;
  const char* nodes;
};
class OnnxDenseLayerTest : public TestWithParam<DenseLayer> {};

TEST_P(OnnxDenseLayerTest, HasTheSameNumbers) {
  const auto model = Import(OnnxOfGraph(absl::StrCat(
      "(float[n, 3] x) => (float[n, 2] y) <", GetParam().constants, "> {", GetParam().nodes, "}")));
  ASSERT_TRUE(model.ok()) << model.status();
  const v1::ModelSpec& spec = model->model().spec();
  EXPECT_EQ(spec.input_size(), 3);
  ASSERT_EQ(spec.layers_size(), 1);
  EXPECT_EQ(spec.layers(0).units(), 2);
  EXPECT_EQ(spec.data_type(), v1::DATA_TYPE_FLOAT32);
  EXPECT_TRUE(spec.loss().has_mean_squared_error());
  ASSERT_EQ(model->parameters().tensors_size(), 2);
  EXPECT_EQ(Floats(model->parameters().tensors(0)), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(Floats(model->parameters().tensors(1)), (std::vector<float>{0.5, -1}));
}

#define W "float[3, 2] W = {1, 2, 3, 4, 5, 6}"
#define WT "float[2, 3] W = {1, 3, 5, 2, 4, 6}"
#define B "float[2] b = {0.5, -1}"
INSTANTIATE_TEST_SUITE_P(
    All, OnnxDenseLayerTest,
    Values(DenseLayer{"Gemm", W ", " B, "y = Gemm(x, W, b)"},
           DenseLayer{"TransB", WT ", " B, "y = Gemm<transB = 1>(x, W, b)"},
           DenseLayer{"AlphaBeta", "float[3, 2] W = {0.5, 1, 1.5, 2, 2.5, 3}, float[2] b = {1, -2}",
                      "y = Gemm<alpha = 2.0, beta = 0.5>(x, W, b)"},
           DenseLayer{"BiasOfOneRow", W ", float[1, 2] b = {0.5, -1}", "y = Gemm(x, W, b)"},
           DenseLayer{"MatMulAdd", W ", " B, "z = MatMul(x, W) y = Add(z, b)"},
           DenseLayer{"AddOfTheConstantFirst", W ", " B, "z = MatMul(x, W) y = Add(b, z)"},
           DenseLayer{"GemmWithoutBias", W ", " B, "z = Gemm(x, W) y = Add(z, b)"},
           DenseLayer{"BiasInTwoParts", W ", float[2] b = {0.25, -2}, float[2] c = {0.25, 1}",
                      "z = Gemm(x, W, b) y = Add(z, c)"},
           DenseLayer{"ScalarBias", W ", float[2] b = {1.5, 0}, float c = {-1}",
                      "z = Gemm(x, W, b) y = Add(z, c)"},
           DenseLayer{"TransposedConstant", WT ", " B,
                      "V = Transpose<perm = [1, 0]>(W) z = MatMul(x, V) y = Add(z, b)"},
           DenseLayer{
               "ReshapedConstant",
               "float[6] W = {1, 2, 3, 4, 5, 6}, int64[2] s = {3, -1}, float[2, 1] b = {0.5, "
               "-1}, int64[1] t = {-1}",
               "V = Reshape(W, s) c = Reshape(b, t) y = Gemm(x, V, c)"},
           DenseLayer{"NodesThatDoNothing", W ", " B ", int64[2] s = {-1, 2}, float[1] r = {0.5}",
                      "a = Identity(x) c = Flatten(a) z = MatMul(c, W) d = Reshape(z, s) "
                      "e = Cast<to = 1>(d) f = Add(e, b) y = Dropout(f, r)"},
           DenseLayer{"FixedNumberOfRows", W ", " B ", int64[2] s = {0, 2}",
                      "z = Gemm(x, W, b) y = Reshape(z, s)"},
           DenseLayer{"ConstantNodes", B,
                      "W = Constant<value = float[3, 2] {1, 2, 3, 4, 5, 6}>() y = Gemm(x, W, b)"}),
    [](const auto& test) { return test.param.name; });

// Functions between two layers.
struct Function {
  const char* name;
  const char* nodes;  // from z to a
  v1::Activation activation;
  double parameter = 0;
};
class OnnxActivationTest : public TestWithParam<Function> {};

TEST_P(OnnxActivationTest, IsRecognized) {
  const auto model = Import(OnnxOfGraph(
      absl::StrCat(
          "(float[n, 1] x) => (float[n, 1] y) <float[1, 1] W = {1}, float one = {1}, "
          "float minus = {-1}, float half = {0.5}, float[1] root = {1.41421354}, float "
          "inverse = {0.707106769}, float zero = {0}, float tenth = {0.1}, float twenty = {20}>"
          "{ z = Gemm(x, W) ",
          GetParam().nodes, " y = Gemm(a, W) }"),
      20));
  ASSERT_TRUE(model.ok()) << model.status();
  const v1::Layer& layer = model->model().spec().layers(0);
  EXPECT_EQ(layer.activation(), GetParam().activation);
  if (GetParam().activation == v1::ACTIVATION_LEAKY_RELU) {
    EXPECT_EQ(layer.negative_slope(), GetParam().parameter);
  }
  if (GetParam().activation == v1::ACTIVATION_ELU) {
    EXPECT_EQ(layer.alpha(), GetParam().parameter);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, OnnxActivationTest,
    Values(
        Function{"None", "a = Identity(z)", v1::ACTIVATION_IDENTITY},
        Function{"Relu", "a = Relu(z)", v1::ACTIVATION_RELU},
        Function{"MaxWithZero", "a = Max(zero, z)", v1::ACTIVATION_RELU},
        Function{"Tanh", "a = Tanh(z)", v1::ACTIVATION_TANH},
        Function{"Sigmoid", "a = Sigmoid(z)", v1::ACTIVATION_SIGMOID},
        Function{"Softplus", "a = Softplus(z)", v1::ACTIVATION_SOFTPLUS},
        Function{"LeakyRelu", "a = LeakyRelu<alpha = 0.3>(z)", v1::ACTIVATION_LEAKY_RELU, 0.3},
        Function{"LeakyReluOfTheDefault", "a = LeakyRelu(z)", v1::ACTIVATION_LEAKY_RELU, 0.01},
        Function{"MaxWithAMultiple", "s = Mul(tenth, z) a = Max(s, z)", v1::ACTIVATION_LEAKY_RELU,
                 0.1},
        Function{"Elu", "a = Elu<alpha = 0.7>(z)", v1::ACTIVATION_ELU, 0.7},
        Function{"EluOfTheDefault", "a = Elu(z)", v1::ACTIVATION_ELU, 1},
        Function{"EluInParts",
                 "n = Min(z, zero) e = Exp(n) m = Sub(e, one) s = Mul(m, tenth) p = Max(z, zero) "
                 "a = Add(p, s)",
                 v1::ACTIVATION_ELU, 0.1},
        Function{"Gelu", "a = Gelu(z)", v1::ACTIVATION_GELU},
        Function{"GeluOfPyTorch",
                 "s = Div(z, root) e = Erf(s) p = Add(e, one) t = Mul(z, p) a = Mul(t, half)",
                 v1::ACTIVATION_GELU},
        Function{"GeluOfTensorFlow",
                 "s = Mul(z, inverse) e = Erf(s) p = Add(one, e) t = Mul(half, z) a = Mul(t, p)",
                 v1::ACTIVATION_GELU},
        Function{"GeluOfKeras",
                 "h = Mul(half, z) n = Neg(z) s = Mul(n, inverse) e = Erfc(s) a = Mul(h, e)",
                 v1::ACTIVATION_GELU},
        Function{"Silu", "s = Sigmoid(z) a = Mul(z, s)", v1::ACTIVATION_SILU},
        Function{"SoftplusInParts",
                 "b = Abs(z) n = Neg(b) e = Exp(n) p = Add(e, one) l = Log(p) m = Max(z, zero) "
                 "a = Add(m, l)",
                 v1::ACTIVATION_SOFTPLUS},
        Function{"SoftplusOfPyTorch", "s = Softplus(z) g = Greater(z, twenty) a = Where(g, z, s)",
                 v1::ACTIVATION_SOFTPLUS},
        Function{"SoftplusOfTheDefinition", "e = Exp(z) p = Add(one, e) a = Log(p)",
                 v1::ACTIVATION_SOFTPLUS}),
    [](const auto& test) { return test.param.name; });

// What ends a graph says which loss trains it.
struct Ending {
  const char* name;
  const char* nodes;  // from z to y
  v1::Loss::KindCase loss;
  v1::Activation last = v1::ACTIVATION_IDENTITY;
};
class OnnxEndingTest : public TestWithParam<Ending> {};

TEST_P(OnnxEndingTest, SuggestsTheLoss) {
  const auto model = Import(OnnxOfGraph(absl::StrCat("(float[n, 3] x) => (float[n, 2] y) <" W ", " B
                                                     "> { z = Gemm(x, W, b) ",
                                                     GetParam().nodes, "}")));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->model().spec().loss().kind_case(), GetParam().loss);
  EXPECT_EQ(model->model().spec().layers(0).activation(), GetParam().last);
}

INSTANTIATE_TEST_SUITE_P(
    All, OnnxEndingTest,
    Values(Ending{"Softmax", "y = Softmax(z)", v1::Loss::kSoftmaxCrossEntropy},
           Ending{"SoftmaxOfAxis1", "y = Softmax<axis = 1>(z)", v1::Loss::kSoftmaxCrossEntropy},
           Ending{"LogSoftmax", "y = LogSoftmax<axis = -1>(z)", v1::Loss::kSoftmaxCrossEntropy},
           Ending{"Sigmoid", "y = Sigmoid(z)", v1::Loss::kBinaryCrossEntropy},
           Ending{"Nothing", "y = Identity(z)", v1::Loss::kMeanSquaredError},
           Ending{"Tanh", "y = Tanh(z)", v1::Loss::kMeanSquaredError, v1::ACTIVATION_TANH}),
    [](const auto& test) { return test.param.name; });

TEST(OnnxImportTest, TakesTheLossAndTheOptimizerOfTheCaller) {
  const std::string graph =
      "(float[n, 3] x) => (float[n, 2] y) <" W "> { z = Gemm(x, W) y = Sigmoid(z) }";
  v1::Loss loss;
  v1::Optimizer optimizer;
  optimizer.mutable_adam()->set_learning_rate(0.25);
  loss.mutable_huber();
  auto model = Import(OnnxOfGraph(graph), {&loss, &optimizer});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->model().spec().loss().has_huber());
  EXPECT_EQ(model->model().spec().layers(0).activation(), v1::ACTIVATION_SIGMOID);
  EXPECT_EQ(model->model().spec().optimizer().adam().learning_rate(), 0.25);
  loss.mutable_binary_cross_entropy();
  model = Import(OnnxOfGraph(graph), {&loss, &optimizer});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->model().spec().layers(0).activation(), v1::ACTIVATION_IDENTITY);
  loss.mutable_softmax_cross_entropy();
  EXPECT_FALSE(Import(OnnxOfGraph(graph), {&loss, &optimizer}).ok());
}

TEST(OnnxImportTest, ReadsAStandardization) {
  for (const char* nodes :
       {"c = Sub(x, m) s = Div(c, d)", "c = Add(x, n) s = Mul(c, r)",
        "w = Cast<to = 11>(x) c = Sub(w, m) v = Div(c, d) s = Cast<to = 1>(v)",
        "s = ai.onnx.ml.Scaler<offset = [1.0, -2.0, 0.0], scale = [0.5, 0.25, 2.0]>(x)"}) {
    const auto model = Import(OnnxOfGraph(
        absl::StrCat("(float[n, 3] x) => (float[n, 2] y) <" W
                     ", float[3] m = {1, -2, 0}, float[3] n = {-1, 2, 0}, float[1, 3] d = {2, 4, "
                     "0.5}, float[3] r = {0.5, 0.25, 2}> {",
                     nodes, " y = Gemm(s, W) }")));
    ASSERT_TRUE(model.ok()) << nodes << ": " << model.status();
    const auto& numbers = model->model().spec().input_standardization();
    EXPECT_EQ(std::vector<double>(numbers.mean().begin(), numbers.mean().end()),
              (std::vector<double>{1, -2, 0}));
    EXPECT_EQ(std::vector<double>(numbers.std().begin(), numbers.std().end()),
              (std::vector<double>{2, 4, 0.5}));
  }
}

// An image becomes a row before the first layer only: MatMul alone would keep its dimensions.
TEST(OnnxImportTest, AnInputOfMoreDimensionsMustBecomeRowsFirst) {
  const std::string begin = "(float[n, 3, 1] x) => (float[n, 2] y) <" W ", int64[2] s = {-1, 2}> {";
  const auto flat = Import(OnnxOfGraph(begin + "f = Flatten(x) y = MatMul(f, W) }"));
  ASSERT_TRUE(flat.ok()) << flat.status();
  EXPECT_EQ(flat->model().spec().input_size(), 3);
  for (const char* nodes : {"z = MatMul(x, W) y = Reshape(z, s) }", "y = MatMul(x, W) }"}) {
    const auto late = Import(OnnxOfGraph(begin + nodes));
    EXPECT_NE(late.status().message().find("must have two dimensions"), std::string::npos)
        << late.status();
  }
}

TEST(OnnxImportTest, IgnoresLabelsButNoOtherOutput) {
  const auto model = Import(
      OnnxOfGraph("(float[n, 3] x) => (int64[n] label, float[n, 2] p, float[n, 2] z) <" W
                  "> { z = Gemm(x, W) p = Softmax(z) label = ArgMax<axis = 1, keepdims = 0>(p) }"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->model().spec().loss().has_softmax_cross_entropy());
}

// Graphs that are no models of ours: what the error says. The graph has the input x (n, 3) and the
// constants W (3, 2), V (2, 2) and b (2).
struct Refusal {
  const char* name;
  const char* nodes;  // from x to y
  const char* said;
};
class OnnxRefusalTest : public TestWithParam<Refusal> {};

TEST_P(OnnxRefusalTest, NamesTheNodeAndTheReason) {
  const auto model = Import(OnnxOfGraph(
      absl::StrCat("(float[n, 3] x) => (float[n, 2] y) <" W ", " B
                   ", float[2, 2] V = {1, 2, 3, 4}, float two = {2}, int64[2] rows = {2, -1}, "
                   "int64[2] wide = {-1, 4}, float[1, 3] one = {1, 2, 3}, float[2] nothing = {0, "
                   "0}, float[2, 1] column = {1, 2}, float[3, 2] "
                   "zeros = {0, 0, 0, 0, 0, 0}> {",
                   GetParam().nodes, "}"),
      20));
  ASSERT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << model.status();
  EXPECT_NE(model.status().message().find(GetParam().said), std::string::npos) << model.status();
}

INSTANTIATE_TEST_SUITE_P(
    All, OnnxRefusalTest,
    Values(
        Refusal{"TransA", "y = Gemm<transA = 1>(x, W, b)", R"((Gemm) that computes "y": transA)"},
        Refusal{"RowsOnTheRight", "y = MatMul(V, x)", "on the right"},
        Refusal{"ProductOfTwoInputs", "z = Gemm(x, W) y = MatMul(z, z)", "on the right"},
        Refusal{"BiasOfRows", "z = Gemm(x, W) y = Gemm(z, V, column)", "one number for each of 2"},
        Refusal{"ComputedBias", "z = Gemm(x, W) y = Gemm(z, V, z)", "bias must be a constant"},
        Refusal{"Columns", "z = Gemm(x, W) y = Gemm(z, W)", "expects 3 columns, but"},
        Refusal{"InputColumns", "y = Gemm(x, V)", "must have 2 columns"},
        Refusal{"Convolution", "z = Gemm(x, W) y = Conv(z, V)", "the operator Conv"},
        Refusal{"Selu", "z = Gemm(x, W) y = Selu(z)", "the operator Selu"},
        Refusal{"OtherDomain", "z = Gemm(x, W) y = other.Gelu(z)", "the operator other.Gelu"},
        Refusal{"GeluOfTanh", "z = Gemm(x, W) y = Gelu<approximate = \"tanh\">(z)",
                "an approximation"},
        Refusal{"QuickGelu", "z = Gemm(x, W) t = Mul(z, two) s = Sigmoid(t) y = Mul(z, s)",
                "computes Mul(x, Sigmoid(Mul(x, 2))), which is no activation"},
        Refusal{"Scaled", "z = Gemm(x, W) y = Mul(z, two)", "computes Mul(x, 2)"},
        Refusal{"LeakyReluOfTwo", "z = Gemm(x, W) t = Mul(z, two) y = Max(z, t)", "Max(x, Mul"},
        Refusal{"Residual", "z = Gemm(x, W) r = Relu(z) h = Gemm(r, V) y = Add(h, r)",
                "(Add) that computes \"y\": joins \"h\" and \"z\"; networks with branches"},
        Refusal{"SoftmaxOfRows", "z = Gemm(x, W) y = Softmax<axis = 0>(z)",
                "must be along the columns (axis 1 or -1), got 0"},
        Refusal{"HiddenSoftmax", "z = Gemm(x, W) s = Softmax(z) y = Gemm(s, V)",
                "the operator Softmax"},
        Refusal{"ReluBeforeSoftmax", "z = Gemm(x, W) r = Relu(z) y = Softmax(r)",
                "must follow a dense layer without an activation"},
        Refusal{"FlattenOfRows", "z = Gemm(x, W) y = Flatten<axis = 0>(z)", "must have axis 1"},
        Refusal{"ReshapeOfRows", "z = Gemm(x, W) y = Reshape(z, rows)", "keeps the rows"},
        Refusal{"ReshapeOfColumns", "z = Gemm(x, W) y = Reshape(z, wide)",
                "number of columns from 2 to 4"},
        Refusal{"SqueezeOfTwo", "z = Gemm(x, W) y = Squeeze(z)", "number of columns from 2 to 1"},
        Refusal{"CastToIntegers", "z = Gemm(x, W) c = Cast<to = 7>(z) y = Cast<to = 1>(c)",
                "neither FLOAT nor DOUBLE"},
        Refusal{"Normalizer", "s = ai.onnx.ml.Normalizer(x) y = Gemm(s, W)",
                "a model standardises columns only"},
        Refusal{"Joined", "z = Gemm(x, W) y = Concat<axis = 1>(z, z)", "only the probabilities"},
        Refusal{"ScaleOfZero",
                "s = ai.onnx.ml.Scaler<offset = [0.0], scale = [0.0]>(x) "
                "y = Gemm(s, W)",
                "no standardisation"},
        Refusal{"ActivationOfTheInput", "s = Tanh(x) y = Gemm(s, W)", "no standardisation"},
        Refusal{"ConstantOfMoreColumns", "z = Gemm<transB = 1>(x, one) y = Max(z, nothing)",
                "a constant has 2 numbers for 1 columns"},
        Refusal{"AttributeOfAnotherType", "z = Gemm(x, W) y = Elu<alpha = 1>(z)",
                "alpha must be a float"},
        Refusal{"SoftplusWithALowThreshold",
                "z = Gemm(x, W) s = Softplus(z) g = Greater(z, two) y = Where(g, z, s)",
                "computes Where(Greater(x, 2), x, Softplus(x))"},
        Refusal{"NoLayer", "y = Tanh(x)", "no Gemm and no MatMul"},
        Refusal{"NoInput", "y = Tanh(b)", "does not depend on the input"},
        Refusal{"LaterValue", "y = Gemm(z, V) z = Gemm(x, W)", "not computed by an earlier node"},
        Refusal{"Cycle", "y = Add(y, b)", "not computed by an earlier node"},
        Refusal{"TwiceDefined", "y = Gemm(x, W) y = Gemm(x, W)", "defined before"}),
    [](const auto& test) { return test.param.name; });

TEST(OnnxImportTest, RefusesWhatTheTextFormCannotSay) {
  const onnx::ModelProto good =
      OnnxOfGraph("(float[n, 3] x) => (float[n, 2] y) <" W "> { y = Gemm(x, W) }");
  ASSERT_TRUE(Import(good).ok());
  const auto expect = [&](const char* said, const std::function<void(onnx::ModelProto*)>& change) {
    onnx::ModelProto file = good;
    change(&file);
    const auto model = Import(file);
    EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << said;
    EXPECT_NE(model.status().message().find(said), std::string::npos) << model.status();
  };
  const auto weights = [](onnx::ModelProto* file) {
    return file->mutable_graph()->mutable_initializer(0);
  };
  expect("in another file",
         [&](auto* file) { weights(file)->set_data_location(onnx::TensorProto::EXTERNAL); });
  expect("must have 6 elements by its dims, got 5 elements",
         [&](auto* file) { weights(file)->mutable_float_data()->RemoveLast(); });
  expect("must have 1000000 elements by its dims",
         [&](auto* file) { weights(file)->set_dims(0, 500'000); });
  expect("too many elements", [&](auto* file) { weights(file)->set_dims(0, int64_t{1} << 62); });
  expect("has a dimension of -3", [&](auto* file) { weights(file)->set_dims(0, -3); });
  expect("must have finite elements, got nan as element 4", [&](auto* file) {
    weights(file)->set_float_data(4, std::numeric_limits<float>::quiet_NaN());
  });
  expect("elements of type 10", [&](auto* file) { weights(file)->set_data_type(10); });
  expect("got 23 bytes", [&](auto* file) {
    weights(file)->clear_float_data();
    weights(file)->set_raw_data(std::string(23, '\0'));
  });
  expect("ir_version must be between 3 and 14, got 15",
         [](auto* file) { file->set_ir_version(kNewestIrVersion + 1); });
  expect("ai.onnx must be between 7 and 28, got 29",
         [](auto* file) { file->mutable_opset_import(0)->set_version(kNewestOpset + 1); });
  expect("does not name ai.onnx", [](auto* file) { file->clear_opset_import(); });
  expect("no graph", [](auto* file) { file->clear_graph(); });
  expect("the graph must have one input, got 2", [](auto* file) {
    *file->mutable_graph()->add_input() = file->graph().input(0);
    file->mutable_graph()->mutable_input(1)->set_name("other");
  });
  expect("sparse", [](auto* file) { file->mutable_graph()->add_sparse_initializer(); });
  expect("must be a tensor of FLOAT or DOUBLE", [](auto* file) {
    file->mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(
        onnx::TensorProto::INT64);
  });
  expect("calls a function of the file; inline it", [](auto* file) {
    file->mutable_graph()->mutable_node(0)->set_domain("other");
    file->add_functions()->set_domain("other");
    file->mutable_functions(0)->set_name("Gemm");
  });
  expect("metadata_props[\"backprop.spec\"] must be", [](auto* file) {
    file->add_metadata_props()->set_key(kSpecKey);
    file->mutable_metadata_props(0)->set_value("{");
  });
  expect("describes another network than the graph", [](auto* file) {
    file->add_metadata_props()->set_key(kSpecKey);
    file->mutable_metadata_props(0)->set_value(R"({"inputSize":3,"layers":[{"units":3}]})");
  });
  expect("is not valid UTF-8", [](auto* file) {
    file->add_metadata_props()->set_key(kClassNamesKey);
    file->mutable_metadata_props(0)->set_value("\xff");
  });
}

TEST(OnnxImportTest, LimitsWhatAFileMayHold) {
  const onnx::ModelProto good =
      OnnxOfGraph("(float[n, 3] x) => (float[n, 2] y) <" W "> { y = Gemm(x, W) }");
  OnnxImportOptions options;
  options.max_parameters = 8;
  EXPECT_TRUE(Import(good, options).ok());
  options.max_parameters = 7;
  EXPECT_EQ(Import(good, options).status().code(), absl::StatusCode::kResourceExhausted);

  // A graph of a hundred layers that share one large constant: 128 · 128 numbers in the file.
  onnx::ModelProto shared =
      OnnxOfGraph("(float[n, 128] x) => (float[n, 128] y) { y = Gemm(x, W) }");
  onnx::GraphProto* graph = shared.mutable_graph();
  onnx::TensorProto* weights = graph->add_initializer();
  weights->set_name("W");
  weights->set_data_type(onnx::TensorProto::FLOAT);
  weights->add_dims(128);
  weights->add_dims(128);
  weights->set_raw_data(std::string(128 * 128 * 4, '\0'));
  graph->mutable_node(0)->set_output(0, "v0");
  for (int i = 1; i <= 100; ++i) {
    onnx::NodeProto* node = graph->add_node();
    node->set_op_type("Gemm");
    node->add_input(absl::StrCat("v", i - 1));
    node->add_input("W");
    node->add_output(i == 100 ? "y" : absl::StrCat("v", i));
  }
  options.max_parameters = 101 * (128 * 128 + 128);
  EXPECT_TRUE(Import(shared, options).ok());
  --options.max_parameters;
  EXPECT_EQ(Import(shared, options).status().code(), absl::StatusCode::kResourceExhausted);
}

// Elementwise and constant nodes in a row, at the limit and one past it.
TEST(OnnxImportTest, LimitsNodesInARow) {
  const auto chain = [](const char* op, int count, const std::string& from, const std::string& to) {
    std::string nodes;
    for (int i = 0; i < count; ++i) {
      absl::StrAppend(&nodes, i + 1 == count ? to : absl::StrCat("v", i), " = ", op, "(",
                      i == 0 ? from : absl::StrCat("v", i - 1), ") ");
    }
    return nodes;
  };
  const auto status = [](const std::string& nodes) {
    return std::string(Import(OnnxOfGraph(absl::StrCat(
                                  "(float[n, 3] x) => (float[n, 2] y) <" W "> {", nodes, "}")))
                           .status()
                           .message());
  };
  EXPECT_EQ(status(chain("Transpose", kMaxConstantNodes, "W", "V") + "y = Gemm<transB = 0>(x, V)"),
            "");
  EXPECT_NE(status(chain("Transpose", kMaxConstantNodes + 1, "W", "V") + "y = MatMul(x, V)")
                .find("more than 16 nodes in a row"),
            std::string::npos);
  // The value that they are applied to is one of the limit.
  EXPECT_NE(status("z = Gemm(x, W) " + chain("Neg", kMaxElementwiseNodes - 1, "z", "y"))
                .find("no activation"),
            std::string::npos);
  EXPECT_NE(status("z = Gemm(x, W) " + chain("Neg", kMaxElementwiseNodes, "z", "y"))
                .find("more than 64 elementwise nodes"),
            std::string::npos);
}

TEST(OnnxFileTest, CountsPartsBeforeItParses) {
  onnx::ModelProto file;
  file.set_ir_version(8);                    // an integer
  file.add_opset_import()->set_version(17);  // a message with an integer
  file.mutable_graph();                      // a message
  for (int64_t i = 4; i < kMaxOnnxParts; ++i) file.mutable_graph()->add_node();
  EXPECT_TRUE(ParseOnnx(file.SerializeAsString()).ok());
  file.mutable_graph()->add_node();
  EXPECT_NE(ParseOnnx(file.SerializeAsString()).status().message().find("messages, strings"),
            std::string::npos);
  // Integers of one byte, which take eight in memory.
  file.mutable_graph()->clear_node();
  onnx::TensorProto* tensor = file.mutable_graph()->add_initializer();
  for (int64_t i = 6; i < kMaxOnnxParts; ++i) tensor->add_int64_data(1);
  EXPECT_TRUE(ParseOnnx(file.SerializeAsString()).ok());
  tensor->add_int64_data(1);
  EXPECT_FALSE(ParseOnnx(file.SerializeAsString()).ok());
}

TEST(OnnxFileTest, LimitsTheDepth) {
  // The file is level 0, a graph in it level 1, a node 2, an attribute 3, its graph 4.
  for (const int graphs : {5, 6}) {
    onnx::ModelProto file;
    file.set_ir_version(8);
    file.add_opset_import()->set_version(17);
    onnx::GraphProto* graph = file.mutable_graph();
    for (int i = 0; i < graphs; ++i) graph = graph->add_node()->add_attribute()->mutable_g();
    EXPECT_EQ(ParseOnnx(file.SerializeAsString()).ok(), graphs == 5) << graphs;
  }
}

TEST(OnnxFileTest, DamagedFilesAreErrors) {
  const std::string file =
      OnnxOfGraph("(float[n, 3] x) => (float[n, 2] y) <" W "> { y = Gemm(x, W) }")
          .SerializeAsString();
  ASSERT_TRUE(StartsLikeOnnx(file));
  OnnxImportOptions options;
  options.max_parameters = 1000;
  for (size_t at = 0; at < file.size(); ++at) {
    EXPECT_FALSE(ImportOnnx(file.substr(0, at), options).ok()) << at;
    for (const int bit : {0, 3, 7}) {
      std::string flipped = file;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      const auto model = ImportOnnx(flipped, options);  // another number may be as good
      EXPECT_TRUE(model.ok() || model.status().code() == absl::StatusCode::kInvalidArgument ||
                  model.status().code() == absl::StatusCode::kResourceExhausted)
          << model.status();
    }
  }
}

}  // namespace
}  // namespace backprop::transfer
