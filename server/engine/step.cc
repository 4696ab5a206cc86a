#include "server/engine/step.h"

#include <cmath>
#include <cstring>

#include "server/engine/loss.h"
#include "server/engine/optimizer.h"
#include "server/engine/pass.h"
#include "server/engine/schedule.h"
#include "server/engine/vector.h"

namespace backprop::engine {
namespace {

// Computes the next state from the gradients in the workspace.
template <class T>
void Finish(const Network& network, const State& in, Workspace* workspace, Parallel* parallel,
            StepResult* result, State* out) {
  if (workspace->shards().count == 1 && network.parameter_count() < kParallelParameters) {
    parallel = Serial::Get();
  }
  const OptimizerSpec& optimizer = network.spec().optimizer;
  const T* gradients = workspace->gradients<T>();
  result->gradient_norm =
      GradientNorm(gradients, in.values.as<T>().data(), optimizer.l1, network.parameter_count(),
                   workspace->partial_sums(), parallel);
  result->learning_rate = LearningRate(optimizer, in.optimizer_step, in.plateau);
  if (!std::isfinite(result->loss.mean())) {
    result->not_finite = NotFinite::kLoss;
  } else if (!std::isfinite(result->gradient_norm)) {
    result->not_finite = NotFinite::kGradient;
  } else if (!ApplyGradients<T>(network, in, gradients, result->gradient_norm,
                                result->learning_rate, parallel, out)) {
    result->not_finite = NotFinite::kNextState;
  }
}

template <class T>
StepResult TrainStepIn(const Network& network, const State& in, const BatchView& batch,
                       Workspace* workspace, State* out, Parallel* parallel) {
  workspace->Prepare(network, batch.rows, PassKind::kForwardBackward);
  StepResult result;
  result.rows = batch.rows;
  result.loss = ForwardBackward(ModelOf<T>(network, in), batch, in.step, workspace, parallel);
  Finish<T>(network, in, workspace, parallel, &result, out);
  return result;
}

template <class T>
StepResult ComputeGradientsIn(const Network& network, const State& state, const BatchView& batch,
                              Workspace* workspace, Parallel* parallel) {
  workspace->Prepare(network, batch.rows, PassKind::kForwardBackward);
  StepResult result;
  result.rows = batch.rows;
  result.loss = ForwardBackward(ModelOf<T>(network, state), batch, state.step, workspace, parallel);
  const T* gradients = workspace->gradients<T>();
  result.gradient_norm = GradientNorm(gradients, gradients, 0, network.parameter_count(),
                                      workspace->partial_sums(), parallel);
  result.learning_rate =
      LearningRate(network.spec().optimizer, state.optimizer_step, state.plateau);
  if (!std::isfinite(result.loss.mean())) {
    result.not_finite = NotFinite::kLoss;
  } else if (!std::isfinite(result.gradient_norm)) {
    result.not_finite = NotFinite::kGradient;
  }
  return result;
}

template <class T>
StepResult ApplyStepIn(const Network& network, const State& in, const Buffer& gradients,
                       Workspace* workspace, State* out, Parallel* parallel) {
  workspace->Prepare(network, 1, PassKind::kForwardBackward);
  std::memcpy(workspace->gradients<T>(), gradients.bytes(), gradients.size_bytes());
  StepResult result;
  Finish<T>(network, in, workspace, parallel, &result, out);
  return result;
}

template <class T>
LossResult EvaluateIn(const Network& network, const State& state, const BatchView& batch,
                      Workspace* workspace, Parallel* parallel) {
  workspace->Prepare(network, batch.rows, PassKind::kForward);
  return ForwardLoss(ModelOf<T>(network, state), batch, workspace, parallel);
}

template <class T>
void PredictIn(const Network& network, const State& state, const BatchView& batch,
               Workspace* workspace, const PredictTargets& out) {
  workspace->Prepare(network, batch.rows, PassKind::kForward);
  Forward(ModelOf<T>(network, state), batch, workspace);
  const T* z = Outputs<T>(network, batch.rows, workspace);
  const int64_t n = batch.rows;
  const int64_t k = network.outputs();
  const Loss loss = network.spec().loss.kind;
  if (out.logits != nullptr) std::memcpy(out.logits, z, static_cast<size_t>(n * k) * sizeof(T));
  if (out.probabilities != nullptr) {
    Probabilities<T>(loss, z, reinterpret_cast<T*>(out.probabilities), n, k);
  }
  if (out.classes != nullptr) {
    for (int64_t i = 0; i < n; ++i) out.classes[i] = PredictedClass<T>(loss, z + i * k, k);
  }
}

}  // namespace

StepResult TrainStep(const Network& network, const State& in, const BatchView& batch,
                     Workspace* workspace, State* out, Parallel* parallel) {
  return network.spec().data_type == DataType::kFloat32
             ? TrainStepIn<float>(network, in, batch, workspace, out, parallel)
             : TrainStepIn<double>(network, in, batch, workspace, out, parallel);
}

StepResult ComputeGradients(const Network& network, const State& state, const BatchView& batch,
                            Workspace* workspace, Parallel* parallel) {
  return network.spec().data_type == DataType::kFloat32
             ? ComputeGradientsIn<float>(network, state, batch, workspace, parallel)
             : ComputeGradientsIn<double>(network, state, batch, workspace, parallel);
}

StepResult ApplyStep(const Network& network, const State& in, const Buffer& gradients,
                     Workspace* workspace, State* out, Parallel* parallel) {
  return network.spec().data_type == DataType::kFloat32
             ? ApplyStepIn<float>(network, in, gradients, workspace, out, parallel)
             : ApplyStepIn<double>(network, in, gradients, workspace, out, parallel);
}

LossResult Evaluate(const Network& network, const State& state, const BatchView& batch,
                    Workspace* workspace, Parallel* parallel) {
  return network.spec().data_type == DataType::kFloat32
             ? EvaluateIn<float>(network, state, batch, workspace, parallel)
             : EvaluateIn<double>(network, state, batch, workspace, parallel);
}

const std::byte* OutputBytes(const Network& network, int64_t rows, Workspace* workspace) {
  return network.spec().data_type == DataType::kFloat32
             ? reinterpret_cast<const std::byte*>(Outputs<float>(network, rows, workspace))
             : reinterpret_cast<const std::byte*>(Outputs<double>(network, rows, workspace));
}

void Predict(const Network& network, const State& state, const BatchView& batch,
             Workspace* workspace, const PredictTargets& out) {
  if (network.spec().data_type == DataType::kFloat32) {
    PredictIn<float>(network, state, batch, workspace, out);
  } else {
    PredictIn<double>(network, state, batch, workspace, out);
  }
}

int64_t ForwardCost(const Network& network, int64_t rows) {
  // One multiplication and one addition per weight, and about twenty operations per activation.
  return rows * (2 * network.parameter_count() + 20 * network.units_in_all());
}

std::string InstructionSet() {
  switch (kVectorBytes) {
    case 64:
      return "x86-64-v4";
    case 32:
      return "x86-64-v3";
    default:
#if defined(__SSE4_2__)
      return "x86-64-v2";
#else
      return "generic";
#endif
  }
}

}  // namespace backprop::engine
