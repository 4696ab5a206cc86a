// A network's plan: where each parameter lies. Immutable, shared by all who compute with it.
#ifndef BACKPROP_SERVER_ENGINE_NETWORK_H_
#define BACKPROP_SERVER_ENGINE_NETWORK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/engine/buffer.h"
#include "server/engine/schedule.h"
#include "server/engine/spec.h"

namespace backprop::engine {

// One layer's place among the parameters: W (inputs, units), row-major, then b (units).
struct LayerPlan {
  int64_t inputs;
  int64_t units;
  LayerSpec spec;
  int64_t weights_offset;  // first element of W in the flat parameters
  int64_t bias_offset;     // first element of b
};

// A parameter tensor as callers see it.
struct TensorInfo {
  std::string name;  // "layers[i].weights" or "layers[i].bias"
  int64_t rows;      // inputs; 1 for a bias
  int64_t cols;      // units
  bool is_bias;      // a vector of `cols`, where weights are a matrix
  int64_t offset;    // first element in the flat parameters
  int64_t size() const { return rows * cols; }
};

// One state vector of an optimiser; the names are those of PyTorch's.
struct SlotInfo {
  std::string name;           // "momentum", "exp_avg", …
  double initial = 0;         // what it starts from
  bool non_negative = false;  // a mean or sum of squares
};

class Network {
 public:
  explicit Network(NetworkSpec spec);

  const NetworkSpec& spec() const { return spec_; }
  const std::vector<LayerPlan>& layers() const { return layers_; }
  int64_t inputs() const { return spec_.input_size; }           // d
  int64_t outputs() const { return layers_.back().units; }      // k
  int64_t parameter_count() const { return parameters_; }       // P
  int64_t widest() const { return widest_; }                    // most units in a layer
  int64_t units_in_all() const { return units_in_all_; }        // sum of units
  int64_t largest_weights() const { return largest_weights_; }  // most elements in a W

  // The optimiser's state vectors, each of P elements, in this order.
  const std::vector<SlotInfo>& slots() const { return slots_; }
  int64_t slot_count() const { return static_cast<int64_t>(slots_.size()); }

  // All parameter tensors, layer by layer, weights before bias.
  std::vector<TensorInfo> tensors() const;

 private:
  NetworkSpec spec_;
  std::vector<LayerPlan> layers_;
  std::vector<SlotInfo> slots_;
  int64_t parameters_ = 0;
  int64_t widest_ = 0;
  int64_t units_in_all_ = 0;
  int64_t largest_weights_ = 0;
};

// Number of parameters of a spec, or -1 when it exceeds `limit`. Never overflows.
int64_t CountParameters(const NetworkSpec& spec, int64_t limit);

// Means and standard deviations of the inputs, (d) each, std > 0. Immutable.
struct Standardization {
  std::vector<double> mean;
  std::vector<double> std;
};

// Everything that training changes. A published State is immutable; a step writes the next one.
struct State {
  // P parameters, then each optimiser slot of P elements.
  Buffer values;
  int64_t step = 0;            // optimiser steps applied to the model
  int64_t optimizer_step = 0;  // steps seen by the optimiser's slots and its schedule (Adam's t)
  PlateauState plateau;        // of ScheduleKind::kReduceOnPlateau
  // Null without standardisation, and before it was fitted.
  std::shared_ptr<const Standardization> standardization;

  explicit State(const Network& network)
      : values(network.spec().data_type, network.parameter_count() * (1 + network.slot_count())) {}
  explicit State(Buffer numbers) : values(std::move(numbers)) {}
};

// Whether the model waits for a run to fit its standardisation, and cannot compute before.
inline bool AwaitsFit(const Network& network, const State& state) {
  return network.spec().standardize != Standardize::kNo && state.standardization == nullptr;
}

// The state of a new model but for its parameters, which are 0.
std::shared_ptr<State> EmptyState(const Network& network);

// The state of a new model: parameters drawn from the spec's seed, the optimiser's at its start.
std::shared_ptr<State> InitialState(const Network& network);

std::shared_ptr<State> Clone(const State& state);

// Sets the optimiser's slots, its step count and its schedule to their start.
void ResetOptimizer(const Network& network, State* state);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_NETWORK_H_
