// A network: its spec and the position of each parameter. Immutable and thread-safe.
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

// Position of a layer's parameters: W (inputs, units), row-major, followed by b (units).
struct LayerPlan {
  int64_t inputs;
  int64_t units;
  LayerSpec spec;
  int64_t weights_offset;  // first element of W in the flat parameters
  int64_t bias_offset;     // first element of b
};

// A parameter tensor as the API presents it.
struct TensorInfo {
  std::string name;  // "layers[i].weights" or "layers[i].bias"
  int64_t rows;      // inputs; 1 for a bias
  int64_t cols;      // units
  bool is_bias;      // a vector of `cols` elements; weights are a matrix
  int64_t offset;    // first element in the flat parameters
  int64_t size() const { return rows * cols; }
};

// One state vector of an optimiser. Names are PyTorch's.
struct SlotInfo {
  std::string name;           // "momentum", "exp_avg", …
  double initial = 0;         // value of every element at the start
  bool non_negative = false;  // a mean or sum of squares
};

class Network {
 public:
  explicit Network(NetworkSpec spec);

  const NetworkSpec& spec() const { return spec_; }
  const std::vector<LayerPlan>& layers() const { return layers_; }
  int64_t inputs() const { return spec_.input_size; }       // d
  int64_t outputs() const { return layers_.back().units; }  // k
  int64_t parameter_count() const { return parameters_; }   // P
  int64_t widest() const { return widest_; }                // largest number of units in a layer
  int64_t units_in_all() const { return units_in_all_; }    // sum of the units of all layers
  int64_t largest_weights() const { return largest_weights_; }  // largest number of elements in a W

  // The optimiser's state vectors, of P elements each, in the order in which State::values holds
  // them.
  const std::vector<SlotInfo>& slots() const { return slots_; }
  int64_t slot_count() const { return static_cast<int64_t>(slots_.size()); }

  // All parameter tensors in order of the layers, weights before bias.
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

// Returns the number of parameters of a spec, or -1 if it exceeds `limit`. Never overflows.
int64_t CountParameters(const NetworkSpec& spec, int64_t limit);

// Mean and standard deviation of each input, (d) each, std > 0. Immutable.
struct Standardization {
  std::vector<double> mean;
  std::vector<double> std;
};

// Everything that training changes. A State that has been published to readers is immutable; a step
// writes the next State to other memory.
struct State {
  // The P parameters, followed by the optimiser slots of P elements each.
  Buffer values;
  int64_t step = 0;  // optimiser steps applied to the model
  int64_t optimizer_step =
      0;                 // steps since the optimiser was reset (Adam's t); the schedule uses it
  PlateauState plateau;  // used by ScheduleKind::kReduceOnPlateau
  // Null without standardisation, and before it is fitted.
  std::shared_ptr<const Standardization> standardization;

  explicit State(const Network& network)
      : values(network.spec().data_type, network.parameter_count() * (1 + network.slot_count())) {}
  explicit State(Buffer numbers) : values(std::move(numbers)) {}
};

// Size of the values of one state in bytes.
inline int64_t StateBytes(const Network& network) {
  return network.parameter_count() * (1 + network.slot_count()) * SizeOf(network.spec().data_type);
}

// Whether the standardisation still has to be fitted by a run. Until then the model cannot compute.
inline bool AwaitsFit(const Network& network, const State& state) {
  return network.spec().standardize != Standardize::kNo && state.standardization == nullptr;
}

// Returns the state of a new model, but with all parameters 0.
std::shared_ptr<State> EmptyState(const Network& network);

// Returns the state of a new model: parameters drawn from the spec's seed, the optimiser reset.
std::shared_ptr<State> InitialState(const Network& network);

std::shared_ptr<State> Clone(const State& state);

// Resets the optimiser's slots, step count and schedule to their initial values.
void ResetOptimizer(const Network& network, State* state);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_NETWORK_H_
