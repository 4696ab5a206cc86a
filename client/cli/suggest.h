// Suggestions for mistakes on the command line.
#ifndef BACKPROP_CLIENT_CLI_SUGGEST_H_
#define BACKPROP_CLIENT_CLI_SUGGEST_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace backprop::cli {

// Returns the number of insertions, deletions, replacements and swaps of neighbours that turn one
// word into the other.
size_t EditDistance(const std::string& a, const std::string& b);

// Returns the candidate nearest to `word`, or "" if none is near.
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates);

// Names of the commands of `app`, and of the flags allowed in it: its own and its parents'.
std::vector<std::string> CommandNames(const CLI::App& app);
std::vector<std::string> FlagNames(const CLI::App& app);

// Returns the innermost command that was parsed.
const CLI::App* ParsedCommand(const CLI::App* app);

// Returns two lines about an error of parsing `words`: what is wrong and what was probably meant;
// where to find help.
std::string ExplainUsage(const CLI::App& app, const std::vector<std::string>& words,
                         const CLI::ParseError& error);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SUGGEST_H_
