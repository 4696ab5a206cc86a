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

enum class Activation {
  kDefault,
  kIdentity,
  kRelu,
  kTanh,
  kSigmoid,
  kLeakyRelu,
  kElu,
  kGelu,
  kSilu,
  kSoftplus
};
enum class Initializer {
  kDefault,
  kHeNormal,
  kHeUniform,
  kXavierNormal,
  kXavierUniform,
  kZeros,
  kConstant,
  kPytorchLinear
};

struct Layer {
  int32_t units = 1;
  Activation activation = Activation::kDefault;     // ReLU; identity for the last layer
  Initializer initializer = Initializer::kDefault;  // PyTorch's Linear
  std::optional<double> negative_slope{};           // leaky ReLU; default 0.01
  std::optional<double> alpha{};                    // ELU; default 1
  double dropout = 0;                               // must be 0 in the last layer
  std::optional<double> initial_value{};            // with kConstant
  // kZeros, kConstant or kPytorchLinear. Default: kPytorchLinear if the weights use it, otherwise
  // kZeros.
  Initializer bias_initializer = Initializer::kDefault;
  std::optional<double> initial_bias{};  // with a bias_initializer of kConstant
};

// The losses.
struct SoftmaxCrossEntropy {
  double label_smoothing = 0;
  std::vector<double> class_weights{};  // empty, or one per class
};
struct BinaryCrossEntropy {
  std::vector<double> pos_weight{};     // empty, or one per output
  std::vector<double> class_weights{};  // empty, or one per output
};
struct MeanSquaredError {};
struct MeanAbsoluteError {};
struct Huber {
  double delta = 1;
};
using Loss = std::variant<SoftmaxCrossEntropy, BinaryCrossEntropy, MeanSquaredError,
                          MeanAbsoluteError, Huber>;

// The optimisers.
struct Sgd {
  double learning_rate = 1e-3;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
};
struct Adam {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
};
struct AdamW {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};
struct RmsProp {
  double learning_rate = 1e-2;
  double alpha = 0.99;
  double epsilon = 1e-8;
  double momentum = 0;
  bool centered = false;
  double weight_decay = 0;
};
struct Adagrad {
  double learning_rate = 1e-2;
  double lr_decay = 0;
  double epsilon = 1e-10;
  double initial_accumulator_value = 0;
  double weight_decay = 0;
};
using Optimizer = std::variant<Sgd, Adam, AdamW, RmsProp, Adagrad>;

// The learning rate as a function of the optimiser's steps.
struct ConstantSchedule {};
struct StepSchedule {
  int64_t step_size = 1;
  double gamma = 0.1;
};
struct ExponentialSchedule {
  double gamma = 1;
};
struct CosineSchedule {
  int64_t total_steps = 1;
  double min_learning_rate = 0;
};
struct ReduceOnPlateauSchedule {
  double factor = 0.1;
  int64_t patience = 10;
  double threshold = 1e-4;
  int64_t cooldown = 0;
  double min_learning_rate = 0;
};
struct Schedule {
  std::variant<ConstantSchedule, StepSchedule, ExponentialSchedule, CosineSchedule,
               ReduceOnPlateauSchedule>
      kind{};
  int64_t warmup_steps = 0;
  std::optional<double> warmup_start_factor{};  // default 1/3
};

// Clipping of large gradients.
struct NoClipping {};
struct ClipNorm {
  double max_norm = 1;
};
struct ClipValue {
  double max_value = 1;
};
using Clipping = std::variant<NoClipping, ClipNorm, ClipValue>;

// Both empty: fitted to the data of the first run.
struct InputStandardization {
  std::vector<double> mean{};
  std::vector<double> std{};
};

struct ModelSpec {
  int32_t input_size = 1;
  std::vector<Layer> layers{};
  Loss loss{};
  Optimizer optimizer{};
  uint64_t seed = 0;
  DataType data_type = DataType::kFloat32;
  std::vector<std::string> class_names{};    // empty, or one per class
  std::vector<std::string> feature_names{};  // empty, or one per feature
  Schedule schedule{};
  double l1 = 0;
  Clipping clipping{};
  std::optional<InputStandardization> input_standardization{};
};

// The durability of a change when the server, with a data directory, responds.
enum class Durability {
  kDefault,      // kSync with a data directory, kNone without; never in a response
  kSync,         // the change is on disk
  kEverySecond,  // the change reaches the disk within a second
  kNone          // no guarantee
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
  Durability durability = Durability::kDefault;
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

// The state of a ReduceOnPlateauSchedule.
struct PlateauState {
  double learning_rate = 0;
  double best = 0;  // infinite before the first measurement
  int64_t bad_epochs = 0;
  int64_t cooldown = 0;
};

// Parameters and optimiser state: with all fields, training continues exactly from this state.
struct Parameters {
  std::vector<NamedTensor> tensors{};
  std::vector<NamedTensor> optimizer_state{};
  std::optional<int64_t> step{};
  std::optional<int64_t> optimizer_step{};
  std::optional<InputStandardization> input_standardization{};
  std::optional<PlateauState> plateau{};
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_MODEL_H_
