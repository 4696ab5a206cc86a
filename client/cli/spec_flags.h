// A model's spec from flags or from a JSON file.
#ifndef BACKPROP_CLIENT_CLI_SPEC_FLAGS_H_
#define BACKPROP_CLIENT_CLI_SPEC_FLAGS_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "backprop/model.h"

namespace backprop::cli {

struct SpecFlags {
  ModelSpec spec;
  std::string file;
  std::vector<std::string> layers;  // "8:relu"
  std::string loss = "softmax_cross_entropy";
  std::string optimizer = "sgd";
  std::string data_type = "float32";
  std::string initializer = "default";
  double learning_rate = 1e-3;
  double momentum = 0;
  Adam adam;

  void AddTo(CLI::App* command);
  // Throws DataError.
  ModelSpec Build() const;
};

// "2 → 8 relu → 2, softmax_cross_entropy, sgd"
std::string Describe(const ModelSpec& spec);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SPEC_FLAGS_H_
