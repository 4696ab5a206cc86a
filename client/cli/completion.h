// Shell completion.
#ifndef BACKPROP_CLIENT_CLI_COMPLETION_H_
#define BACKPROP_CLIENT_CLI_COMPLETION_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "client/cli/command.h"

namespace backprop::cli {

// Returns completions of the last of `words`, the possibly empty words after the program's name.
// Each result is a line "word" or "word<TAB>description" whose word begins with the last one, or
// ":files" if file names are possible. Ids come from the server, which has half a second to
// respond; after an error there are none.
std::vector<std::string> Complete(const CLI::App& app, std::vector<std::string> words);

// Returns the script that makes a shell call `backprop __complete WORDS…`; "" for an unknown shell.
std::string CompletionScript(const std::string& shell);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_COMPLETION_H_
