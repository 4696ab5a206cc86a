// A model's spec from flags or from a JSON file.
#ifndef BACKPROP_CLIENT_CLI_SPEC_FLAGS_H_
#define BACKPROP_CLIENT_CLI_SPEC_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backprop/model.h"
#include "backprop/resources.h"

namespace backprop::cli {

// The flags of a spec. Some flags apply only to certain kinds of loss, optimiser, schedule or layer
// and are rejected with others. Flags that are not given leave the API's defaults.
class SpecFlags {
 public:
  void AddTo(CLI::App* command);
  // Returns the spec. Throws DataError, or CLI::ParseError for incompatible flags.
  ModelSpec Build() const;

  // The flags of the loss and of the optimiser alone, for a model that exists. `otherwise` is what
  // --help shows as the default of the loss and the optimiser.
  void AddTrainingTo(CLI::App* command, const std::string& otherwise);
  // What these flags say; nothing if none of them is given. Throw CLI::ParseError for incompatible
  // flags.
  std::optional<Loss> GivenLoss() const;
  std::optional<OptimizerSettings> GivenOptimizer() const;

 private:
  // A flag, and the values of a selecting flag that it is allowed with.
  struct Condition {
    CLI::Option* option;
    const std::string* selector_value;
    std::string selector;
    std::vector<std::string> kinds;
  };
  void AddLossFlags(CLI::App* command);
  void AddOptimizerFlags(CLI::App* command);
  void AddScheduleFlags(CLI::App* command);
  void AddLayerFlags(CLI::App* command);
  template <class T>
  void AddFor(CLI::App* command, const std::string& selector, const std::string* selector_value,
              std::vector<std::string> kinds, const std::string& flag, T* value,
              const std::string& description);
  void CheckConditions() const;
  std::vector<Layer> BuildLayers() const;
  Loss BuildLoss() const;
  Optimizer BuildOptimizer() const;
  Schedule BuildSchedule() const;
  Clipping BuildClipping() const;

  using Number = std::optional<double>;
  using Count = std::optional<int64_t>;
  ModelSpec spec_;
  std::string file_;
  std::vector<std::string> layers_;  // "8:relu"
  std::string data_type_ = "float32";
  std::string initializer_ = "default", bias_initializer_ = "default";
  Number initial_value_, initial_bias_, negative_slope_, alpha_, dropout_;
  std::string loss_ = "softmax_cross_entropy";
  Number label_smoothing_, delta_;
  std::vector<double> class_weights_, pos_weight_;
  std::string optimizer_ = "sgd";
  Number learning_rate_, momentum_, beta1_, beta2_, epsilon_, weight_decay_, rms_alpha_, lr_decay_,
      initial_accumulator_value_, l1_, clip_norm_, clip_value_;
  bool nesterov_ = false, centered_ = false;
  std::string schedule_ = "constant";
  Count step_size_, total_steps_, patience_, cooldown_, warmup_steps_;
  Number gamma_, min_learning_rate_, factor_, threshold_, warmup_start_factor_;
  bool standardize_ = false;
  std::vector<double> input_mean_, input_std_;
  std::vector<Condition> conditions_;
  std::vector<const CLI::Option*> loss_flags_, optimizer_flags_;  // of AddTrainingTo
  const CLI::App* command_ = nullptr;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SPEC_FLAGS_H_
