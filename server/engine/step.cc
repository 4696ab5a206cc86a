#include "server/engine/step.h"

#include <cmath>
#include <cstring>

#include "server/engine/loss.h"
#include "server/engine/optimizer.h"
#include "server/engine/pass.h"

namespace backprop::engine {
namespace {

template <class T>
double Norm(const T* g, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  return std::sqrt(sum);
}

template <class T>
StepResult TrainStepIn(const Network& network, const State& in, const BatchView& batch,
                       Workspace* workspace, State* out) {
  workspace->Prepare(network, batch.rows, PassKind::kForwardBackward);
  const LossResult loss = ForwardBackward<T>(network, in.values.as<T>().data(), batch, workspace);
  StepResult result;
  result.rows = batch.rows;
  result.loss = loss.sum / static_cast<double>(batch.rows);
  result.correct = loss.correct;
  result.gradient_norm = Norm(workspace->gradients<T>(), network.parameter_count());
  if (!std::isfinite(result.loss)) {
    result.not_finite = NotFinite::kLoss;
  } else if (!std::isfinite(result.gradient_norm)) {
    result.not_finite = NotFinite::kGradient;
  } else if (!ApplyGradients<T>(network, in, workspace->gradients<T>(), out)) {
    result.not_finite = NotFinite::kNextState;
  }
  return result;
}

template <class T>
EvaluateResult EvaluateIn(const Network& network, const State& state, const BatchView& batch,
                          Workspace* workspace) {
  workspace->Prepare(network, batch.rows, PassKind::kForward);
  const LossResult loss = ForwardLoss<T>(network, state.values.as<T>().data(), batch, workspace);
  return {loss.sum, loss.correct};
}

template <class T>
void PredictIn(const Network& network, const State& state, const BatchView& batch,
               Workspace* workspace, const PredictTargets& out) {
  workspace->Prepare(network, batch.rows, PassKind::kForward);
  Forward<T>(network, state.values.as<T>().data(), batch, workspace);
  const T* z = Outputs<T>(network, workspace);
  const int64_t n = batch.rows;
  const int64_t k = network.outputs();
  const Loss loss = network.spec().loss;
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
                     Workspace* workspace, State* out) {
  return network.spec().data_type == DataType::kFloat32
             ? TrainStepIn<float>(network, in, batch, workspace, out)
             : TrainStepIn<double>(network, in, batch, workspace, out);
}

EvaluateResult Evaluate(const Network& network, const State& state, const BatchView& batch,
                        Workspace* workspace) {
  return network.spec().data_type == DataType::kFloat32
             ? EvaluateIn<float>(network, state, batch, workspace)
             : EvaluateIn<double>(network, state, batch, workspace);
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
  // A multiplication and an addition per weight, and about twenty operations per activation.
  return rows * (2 * network.parameter_count() + 20 * network.units_in_all());
}

std::string InstructionSet() {
#if defined(__AVX512F__) && defined(__AVX512VL__)
  return "x86-64-v4";
#elif defined(__AVX2__) && defined(__FMA__)
  return "x86-64-v3";
#elif defined(__SSE4_2__)
  return "x86-64-v2";
#elif defined(__x86_64__)
  return "x86-64";
#else
  return "generic";
#endif
}

}  // namespace backprop::engine
