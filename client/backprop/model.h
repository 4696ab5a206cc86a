// What models are and what is said about them. Names, defaults and ranges are those of the
// contract, proto/backprop/v1.
#ifndef BACKPROP_CLIENT_MODEL_H_
#define BACKPROP_CLIENT_MODEL_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "backprop/tensor.h"

namespace backprop {

enum class Activation { kDefault, kIdentity, kRelu, kTanh, kSigmoid };
enum class Initializer { kDefault, kHeNormal, kHeUniform, kXavierNormal, kXavierUniform, kZeros };
enum class Loss { kSoftmaxCrossEntropy, kBinaryCrossEntropy, kMeanSquaredError };

struct Layer {
  int32_t units = 1;
  Activation activation = Activation::kDefault;     // ReLU; identity for the last layer
  Initializer initializer = Initializer::kDefault;  // He normal; Xavier uniform for tanh, sigmoid
};

struct Sgd {
  double learning_rate = 1e-3;
  double momentum = 0;
};

struct Adam {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

struct ModelSpec {
  int32_t input_size = 1;
  std::vector<Layer> layers{};
  Loss loss = Loss::kSoftmaxCrossEntropy;
  std::variant<Sgd, Adam> optimizer{};
  uint64_t seed = 0;
  DataType data_type = DataType::kFloat32;
  std::vector<std::string> class_names{};    // none, or one per class
  std::vector<std::string> feature_names{};  // none, or one per feature
};

struct ModelInfo {
  std::string name{};  // models/{id}
  ModelSpec spec{};    // with defaults filled in
  int64_t step = 0;
  int64_t parameter_count = 0;
  std::map<std::string, std::string> labels{};
  std::chrono::system_clock::time_point create_time{};
  std::optional<std::chrono::nanoseconds> ttl{};
  std::string active_run{};  // models/{id}/runs/{n}, or empty
};

struct ModelPage {
  std::vector<ModelInfo> models{};
  std::string next_page_token{};  // empty after the last page
};

struct NamedTensor {
  std::string name{};
  Tensor tensor{};
  bool is_vector = false;  // a bias: one dimension
};

// Enough to continue exactly where it was read.
struct Parameters {
  std::vector<NamedTensor> tensors{};
  std::vector<NamedTensor> optimizer_state{};
  std::optional<int64_t> step{};
  std::optional<int64_t> optimizer_step{};
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_MODEL_H_
