// What a shell offers at a point of a command line.
#ifndef BACKPROP_CLIENT_CLI_COMPLETION_H_
#define BACKPROP_CLIENT_CLI_COMPLETION_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "client/cli/command.h"

namespace backprop::cli {

// `words` are those after the program's name; the last one, maybe empty, is to be completed.
// Returns lines "word" or "word<TAB>description", each word beginning with the last one, and
// ":files" where files may stand too. Ids are asked of the server, for half a second; errors offer
// nothing.
std::vector<std::string> Complete(const CLI::App& app, const Globals& globals,
                                  std::vector<std::string> words);

// The script that makes a shell ask `backprop __complete WORDS…`; "" for a shell that is not known.
std::string CompletionScript(const std::string& shell);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_COMPLETION_H_
