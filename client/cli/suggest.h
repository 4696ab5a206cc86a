// What a mistake on the command line meant.
#ifndef BACKPROP_CLIENT_CLI_SUGGEST_H_
#define BACKPROP_CLIENT_CLI_SUGGEST_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace backprop::cli {

// Insertions, deletions, replacements and swaps of neighbours that make one word of the other.
size_t EditDistance(const std::string& a, const std::string& b);

// The candidate that `word` most likely means, or "" if none is near.
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates);

// The commands of `app`, and the flags that may stand in it: its own and its parents'.
std::vector<std::string> CommandNames(const CLI::App& app);
std::vector<std::string> FlagNames(const CLI::App& app);

// The deepest command that was parsed.
const CLI::App* ParsedCommand(const CLI::App* app);

// Two lines for an error of parsing `words`: what is wrong and what was probably meant; where help
// is.
std::string ExplainUsage(const CLI::App& app, const std::vector<std::string>& words,
                         const CLI::ParseError& error);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SUGGEST_H_
