#include "tests/conformance/cpp/values.h"

#include <openssl/evp.h>

#include <fstream>
#include <iterator>
#include <map>

namespace backprop::conformance {
namespace {

std::string Decode(const std::string& text) {
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  if (size < 0) FailInvalid("not base64");
  // It decodes the padding, too.
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  bytes.resize(bytes.size() - padding);
  return bytes;
}

std::string Encode(const std::string& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

template <class Enum>
Enum EnumOf(const std::map<std::string, Enum>& names, const std::string& name) {
  const auto found = names.find(name);
  if (found == names.end()) FailInvalid("unknown name " + name);
  return found->second;
}

const std::map<std::string, Activation> kActivations = {
    {"ACTIVATION_UNSPECIFIED", Activation::kDefault},
    {"ACTIVATION_IDENTITY", Activation::kIdentity},
    {"ACTIVATION_RELU", Activation::kRelu},
    {"ACTIVATION_TANH", Activation::kTanh},
    {"ACTIVATION_SIGMOID", Activation::kSigmoid},
    {"ACTIVATION_GELU", Activation::kGelu},
    {"ACTIVATION_SILU", Activation::kSilu},
    {"ACTIVATION_SOFTPLUS", Activation::kSoftplus}};

const std::map<std::string, DataType> kDataTypes = {{"DATA_TYPE_FLOAT32", DataType::kFloat32},
                                                    {"DATA_TYPE_FLOAT64", DataType::kFloat64}};

Loss LossOf(const Json& loss) {
  if (loss.contains("meanSquaredError")) return MeanSquaredError{};
  if (loss.contains("softmaxCrossEntropy")) return SoftmaxCrossEntropy{};
  FailInvalid("a loss that this runner does not know");
}

Optimizer OptimizerOf(const Json& optimizer) {
  if (optimizer.contains("sgd")) {
    return Sgd{.learning_rate = optimizer["sgd"].value("learningRate", 1e-3)};
  }
  if (optimizer.contains("adam")) {
    return Adam{.learning_rate = optimizer["adam"].value("learningRate", 1e-3)};
  }
  FailInvalid("an optimiser that this runner does not know");
}

}  // namespace

void FailInvalid(const std::string& message) {
  Status status;
  status.code = StatusCode::kInvalidArgument;
  status.message = message;
  throw Failure{status};
}

Json ErrorOf(const Status& status) {
  Json violations = Json::array();
  for (const FieldViolation& violation : status.field_violations) {
    violations.push_back({{"field", violation.field}, {"description", violation.description}});
  }
  return {{"code", StatusCodeName(status.code)},
          {"message", status.message},
          {"violations", violations},
          {"reason", status.reason},
          {"metadata", status.metadata}};
}

Tensor TensorOf(const Json& array) {
  const auto shape = array.at("shape").get<std::vector<int64_t>>();
  std::string bytes;
  if (array.contains("file")) {
    std::ifstream file(array["file"].get<std::string>(), std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  } else {
    bytes = Decode(array.at("base64").get<std::string>());
  }
  const DataType type = array.at("dtype") == "float64" ? DataType::kFloat64 : DataType::kFloat32;
  const bool matrix = shape.size() == 2;
  return Tensor(matrix ? shape[0] : 1, matrix ? shape[1] : shape.at(0), type, std::move(bytes));
}

Json ArrayOf(const Tensor& tensor, const std::string& file, bool is_vector) {
  Json array;
  array["shape"] =
      is_vector ? Json{tensor.rows() * tensor.cols()} : Json{tensor.rows(), tensor.cols()};
  array["dtype"] = tensor.type() == DataType::kFloat64 ? "float64" : "float32";
  if (file.empty()) {
    array["base64"] = Encode(tensor.bytes());
  } else {
    std::ofstream(file, std::ios::binary) << tensor.bytes();
    array["file"] = file;
  }
  return array;
}

std::vector<NamedTensor> TensorsOf(const Json& arrays) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, array] : arrays.items()) {
    tensors.push_back({name, TensorOf(array), array.at("shape").size() == 1});
  }
  return tensors;
}

Json ArraysOf(const std::vector<NamedTensor>& tensors, const std::string& file) {
  Json arrays = Json::object();
  for (const NamedTensor& tensor : tensors) {
    arrays[tensor.name] =
        ArrayOf(tensor.tensor, file.empty() ? "" : file + "." + tensor.name, tensor.is_vector);
  }
  return arrays;
}

Batch BatchOf(const Json& args) {
  Batch batch;
  if (args.contains("inputs")) batch.inputs = TensorOf(args["inputs"]);
  if (args.contains("labels")) batch.labels = args["labels"].get<std::vector<int32_t>>();
  if (args.contains("targets")) batch.targets = TensorOf(args["targets"]);
  return batch;
}

ModelSpec SpecOf(const Json& json) {
  ModelSpec spec;
  spec.input_size = json.value("inputSize", 0);
  for (const Json& from : json.at("layers")) {
    Layer layer;
    layer.units = from.value("units", 0);
    layer.activation =
        EnumOf(kActivations, from.value("activation", std::string("ACTIVATION_UNSPECIFIED")));
    spec.layers.push_back(layer);
  }
  spec.loss = LossOf(json.at("loss"));
  spec.optimizer = OptimizerOf(json.at("optimizer"));
  spec.seed = json.value("seed", uint64_t{0});
  spec.data_type = EnumOf(kDataTypes, json.value("dataType", std::string("DATA_TYPE_FLOAT32")));
  return spec;
}

Json JsonOf(const ModelSpec& spec) {
  Json layers = Json::array();
  for (const Layer& layer : spec.layers) layers.push_back({{"units", layer.units}});
  return {{"inputSize", spec.input_size}, {"layers", layers}};
}

}  // namespace backprop::conformance
