// What a network is: plain data, valid by construction (server/rpc checks what comes from outside).
#ifndef BACKPROP_SERVER_ENGINE_SPEC_H_
#define BACKPROP_SERVER_ENGINE_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

namespace backprop::engine {

enum class DataType { kFloat32, kFloat64 };

enum class Activation { kIdentity, kRelu, kTanh, kSigmoid };

enum class Initializer { kHeNormal, kHeUniform, kXavierNormal, kXavierUniform, kZeros };

enum class Loss { kSoftmaxCrossEntropy, kBinaryCrossEntropy, kMeanSquaredError };

enum class OptimizerKind { kSgd, kAdam };

// A dense layer: activation(x·W + b), (n, inputs) → (n, units).
struct LayerSpec {
  int64_t units = 1;  // ≥ 1
  Activation activation = Activation::kIdentity;
  Initializer initializer = Initializer::kHeNormal;
};

// Names and defaults are PyTorch's.
struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kSgd;
  double learning_rate = 1e-3;  // > 0
  double momentum = 0;          // SGD: in [0, 1)
  double beta1 = 0.9;           // Adam: in [0, 1)
  double beta2 = 0.999;         // Adam: in [0, 1)
  double epsilon = 1e-8;        // Adam: > 0
};

struct NetworkSpec {
  int64_t input_size = 1;         // d ≥ 1
  std::vector<LayerSpec> layers;  // at least one; the last one's units are k
  Loss loss = Loss::kSoftmaxCrossEntropy;
  OptimizerSpec optimizer;
  uint64_t seed = 0;
  DataType data_type = DataType::kFloat32;
};

// Bytes of one element.
constexpr int64_t SizeOf(DataType type) { return type == DataType::kFloat32 ? 4 : 8; }

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_SPEC_H_
