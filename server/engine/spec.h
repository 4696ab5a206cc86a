// The specification of a network: plain data. The engine requires it to be valid; server/rpc
// validates requests. Names, formulas and defaults are PyTorch's; docs/numerics.md has the table.
#ifndef BACKPROP_SERVER_ENGINE_SPEC_H_
#define BACKPROP_SERVER_ENGINE_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

namespace backprop::engine {

enum class DataType { kFloat32, kFloat64 };

enum class Activation {
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
  kHeNormal,
  kHeUniform,
  kXavierNormal,
  kXavierUniform,
  kZeros,
  kConstant,
  kPytorchLinear
};

// A dense layer: dropout(activation(x·W + b)), (n, inputs) → (n, units).
struct LayerSpec {
  int64_t units = 1;  // ≥ 1
  Activation activation = Activation::kIdentity;
  Initializer initializer = Initializer::kHeNormal;
  double negative_slope = 0.01;  // leaky ReLU: slope at z ≤ 0, in [0, 1)
  double alpha = 1;              // ELU: its limit at z → −∞ is −alpha; > 0
  double dropout = 0;            // fraction of outputs set to 0 in training, in [0, 1)
  double initial_value = 0;      // kConstant: every weight
  Initializer bias_initializer = Initializer::kZeros;  // kZeros, kConstant or kPytorchLinear
  double initial_bias = 0;                             // kConstant: every bias
};

enum class Loss {
  kSoftmaxCrossEntropy,
  kBinaryCrossEntropy,
  kMeanSquaredError,
  kMeanAbsoluteError,
  kHuber
};

struct LossSpec {
  Loss kind = Loss::kSoftmaxCrossEntropy;
  double label_smoothing = 0;         // softmax cross-entropy: in [0, 1)
  double delta = 1;                   // Huber: > 0
  std::vector<double> class_weights;  // cross-entropies: (k), ≥ 0; empty: all 1
  std::vector<double> pos_weight;     // binary cross-entropy: (k), > 0; empty: all 1
};

enum class OptimizerKind { kSgd, kAdam, kRmsProp, kAdagrad, kAdamW };

enum class ScheduleKind { kConstant, kStep, kExponential, kCosine, kReduceOnPlateau };

// The learning rate as a function of the optimiser's steps; see schedule.h.
struct ScheduleSpec {
  ScheduleKind kind = ScheduleKind::kConstant;
  int64_t warmup_steps = 0;              // linear, before the schedule starts; ≥ 0
  double warmup_start_factor = 1.0 / 3;  // in (0, 1]
  int64_t step_size = 1;                 // kStep: ≥ 1
  double gamma = 0.1;                    // kStep, kExponential: in (0, 1]
  int64_t total_steps = 1;               // kCosine: PyTorch's T_max, ≥ 1
  double min_learning_rate = 0;          // kCosine's eta_min, kReduceOnPlateau's min_lr; ≥ 0
  double factor = 0.1;                   // kReduceOnPlateau: in (0, 1)
  int64_t patience = 10;                 // kReduceOnPlateau: ≥ 0
  double threshold = 1e-4;               // kReduceOnPlateau: relative, in [0, 1)
  int64_t cooldown = 0;                  // kReduceOnPlateau: ≥ 0
};

enum class Clipping { kNone, kNorm, kValue };

struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kSgd;
  double learning_rate = 1e-3;           // > 0
  double momentum = 0;                   // SGD, RMSProp: in [0, 1)
  double beta1 = 0.9;                    // Adam, AdamW: in [0, 1)
  double beta2 = 0.999;                  // Adam, AdamW: in [0, 1)
  double epsilon = 1e-8;                 // all but SGD: > 0; Adagrad's default is 1e-10
  bool nesterov = false;                 // SGD with momentum
  double alpha = 0.99;                   // RMSProp: in [0, 1)
  bool centered = false;                 // RMSProp
  double lr_decay = 0;                   // Adagrad: ≥ 0
  double initial_accumulator_value = 0;  // Adagrad: ≥ 0
  double weight_decay = 0;               // ≥ 0; AdamW: decoupled; else L2, added to the gradient
  double l1 = 0;                         // ≥ 0; L1, added to the gradient before it is clipped
  Clipping clipping = Clipping::kNone;
  double clip = 0;  // the norm or value, > 0
  ScheduleSpec schedule;
};

// Whether and how inputs are standardised, (x − mean) / std per feature, before the first layer.
enum class Standardize { kNo, kGiven, kFitted };

struct NetworkSpec {
  int64_t input_size = 1;         // d ≥ 1
  std::vector<LayerSpec> layers;  // at least one; the last has k units and no dropout
  LossSpec loss;
  OptimizerSpec optimizer;
  uint64_t seed = 0;
  DataType data_type = DataType::kFloat32;
  Standardize standardize = Standardize::kNo;
  std::vector<double> input_mean;  // kGiven: (d)
  std::vector<double> input_std;   // kGiven: (d), > 0
};

// Bytes of one element.
constexpr int64_t SizeOf(DataType type) { return type == DataType::kFloat32 ? 4 : 8; }

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_SPEC_H_
