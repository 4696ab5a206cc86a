#include "client/cli/suggest.h"

#include <algorithm>

namespace backprop::cli {
namespace {

// "backprop dataset upload"
std::string FullName(const CLI::App* app) {
  return app->get_parent() == nullptr ? app->get_name()
                                      : FullName(app->get_parent()) + " " + app->get_name();
}

std::string DidYouMean(const std::string& word) {
  return word.empty() ? "" : "; did you mean " + word + "?";
}

// Describes an argument that was not parsed: an unknown command or flag, or one too many.
std::string ExplainExtra(const CLI::App* command, const std::string& extra) {
  const std::string flag = extra.substr(0, extra.find('='));
  if (extra.size() > 1 && extra[0] == '-') {
    const bool number = extra.find_first_not_of("-+.0123456789eE,") == std::string::npos;
    if (number) {
      return "unexpected argument \"" + extra +
             "\"; a value that begins with a minus follows its flag after an equals sign: "
             "--row=" +
             extra;
    }
    return "unknown flag " + flag + " of " + FullName(command) +
           DidYouMean(Nearest(flag, FlagNames(*command)));
  }
  const std::vector<std::string> commands = CommandNames(*command);
  if (!commands.empty()) {
    return "unknown command \"" + extra + "\"" + DidYouMean(Nearest(extra, commands));
  }
  return "unexpected argument \"" + extra + "\" of " + FullName(command);
}

// Returns the first word that was not parsed. After an unknown command all words are left over, and
// after an unknown flag its value.
std::string FirstExtra(const std::vector<std::string>& words,
                       const std::vector<std::string>& left) {
  for (const std::string& word : words) {
    if (std::find(left.begin(), left.end(), word) != left.end()) return word;
  }
  return left.empty() ? "" : left[0];
}

// Returns the innermost command before `extra` in the command line. A word after an unknown command
// may still have been parsed as a command.
const CLI::App* CommandBefore(const CLI::App* app, const std::vector<std::string>& words,
                              const std::string& extra) {
  const auto end = std::find(words.begin(), words.end(), extra);
  auto from = words.begin();
  for (;;) {
    const auto parsed = app->get_subcommands();
    if (parsed.empty()) return app;
    const auto at = std::find(from, end, parsed.back()->get_name());
    if (at == end) return app;
    from = at;
    app = parsed.back();
  }
}

}  // namespace

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> before_last, last, now;
  for (size_t i = 0; i <= a.size(); ++i) {
    now.assign(b.size() + 1, i);
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0) {
        now[j] = j;
      } else if (j > 0) {
        now[j] = std::min({last[j] + 1, now[j - 1] + 1,
                           last[j - 1] + (a[i - 1] == b[j - 1] ? size_t{0} : size_t{1})});
        const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
        if (swapped) now[j] = std::min(now[j], before_last[j - 2] + 1);
      }
    }
    before_last = std::move(last);
    last = now;
  }
  return last[b.size()];
}

std::string Nearest(const std::string& word, const std::vector<std::string>& candidates) {
  const auto bare = [](const std::string& text) {
    return text.substr(std::min(text.find_first_not_of('-'), text.size()));
  };
  // learning_rate is a common mistake for --learning-rate.
  std::string plain = bare(word);
  std::replace(plain.begin(), plain.end(), '_', '-');
  const size_t most = std::max<size_t>(1, plain.size() / 3);
  std::string best, start;
  size_t best_distance = most + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(plain, bare(candidate));
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
    const bool begins = plain.size() >= 3 && bare(candidate).rfind(plain, 0) == 0;
    if (begins && start.empty()) start = candidate;
  }
  return best.empty() ? start : best;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* level = &app; level != nullptr; level = level->get_parent()) {
    for (const CLI::Option* option : level->get_options()) {
      if (option->get_lnames().empty() || option->get_group().empty()) continue;
      const std::string name = "--" + option->get_lnames()[0];
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

const CLI::App* ParsedCommand(const CLI::App* app) {
  const auto parsed = app->get_subcommands();
  return parsed.empty() ? app : ParsedCommand(parsed.back());
}

std::string ExplainUsage(const CLI::App& app, const std::vector<std::string>& words,
                         const CLI::ParseError& error) {
  const CLI::App* command = ParsedCommand(&app);
  std::string message = error.what();
  const std::string extra = FirstExtra(words, app.remaining(true));
  if (!extra.empty()) {
    command = CommandBefore(&app, words, extra);
    message = ExplainExtra(command, extra);
  }
  return message + "\nSee " + FullName(command) + " --help.";
}

}  // namespace backprop::cli
