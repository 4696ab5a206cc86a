// Names of the kinds in a spec on the command line.
#ifndef BACKPROP_CLIENT_CLI_SPEC_NAMES_H_
#define BACKPROP_CLIENT_CLI_SPEC_NAMES_H_

#include <map>
#include <string>
#include <vector>

#include "backprop/model.h"

namespace backprop::cli {

const std::map<std::string, Activation>& Activations();
const std::map<std::string, Initializer>& Initializers();
const std::map<std::string, Initializer>& BiasInitializers();
// In the order of the alternatives of the client's variants.
const std::vector<std::string>& LossNames();
const std::vector<std::string>& OptimizerNames();
const std::vector<std::string>& ScheduleNames();

// Returns "2 → 8 relu → 2, softmax_cross_entropy, sgd(learning_rate=0.1, momentum=0), float32".
std::string Describe(const ModelSpec& spec);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SPEC_NAMES_H_
