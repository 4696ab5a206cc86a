// Examples at the end of each command's help.
#ifndef BACKPROP_CLIENT_CLI_EXAMPLES_H_
#define BACKPROP_CLIENT_CLI_EXAMPLES_H_

#include <CLI/CLI.hpp>

namespace backprop::cli {

// Sets the footer of every command that has examples. Tests run all of them.
void AddExamples(CLI::App* app);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_EXAMPLES_H_
