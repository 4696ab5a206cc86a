#include "client/cli/completion.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "client/cli/connection.h"
#include "client/cli/contexts.h"
#include "client/cli/server_address.h"
#include "client/cli/suggest.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

constexpr std::chrono::milliseconds kTimeout{500};
constexpr size_t kMostIds = 1000;
constexpr char kFiles[] = ":files";

// The command line up to the word to complete.
struct Position {
  const CLI::App* command = nullptr;
  std::vector<std::string> positionals;
  const CLI::Option* wants_value = nullptr;  // the preceding flag, if it needs a value
  ConnectionFlags connection;
};

// Takes the value of a flag that says how to reach the server.
void TakeValue(const CLI::Option& flag, const std::string& value, ConnectionFlags* connection) {
  const struct {
    const char* name;
    std::string* value;
  } known[] = {
      {"server", &connection->server},
      {"context", &connection->context},
      {"ca", &connection->ca},
      {"cert", &connection->cert},
      {"key", &connection->key},
      {"tls-server-name", &connection->tls_server_name},
      {"token-file", &connection->token_file},
  };
  for (const auto& one : known) {
    if (flag.check_lname(one.name)) *one.value = value;
  }
}

const CLI::Option* FindFlag(const CLI::App* command, const std::string& name) {
  for (; command != nullptr; command = command->get_parent()) {
    for (const CLI::Option* option : command->get_options()) {
      if (name.size() > 1 && option->check_name(name)) return option;
    }
  }
  return nullptr;
}

const CLI::App* FindCommand(const CLI::App* command, const std::string& name) {
  const auto found =
      command->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == name; });
  return found.empty() ? nullptr : found[0];
}

Position Read(const CLI::App& app, const std::vector<std::string>& words) {
  Position at;
  at.command = &app;
  for (const std::string& word : words) {
    if (at.wants_value != nullptr) {
      TakeValue(*at.wants_value, word, &at.connection);
      at.wants_value = nullptr;
    } else if (word.size() > 1 && word[0] == '-') {
      const size_t equals = word.find('=');
      const CLI::Option* flag = FindFlag(at.command, word.substr(0, equals));
      if (flag != nullptr && flag->check_lname("tls")) at.connection.tls = true;
      if (flag == nullptr || flag->get_items_expected_max() == 0) continue;
      if (equals == std::string::npos) at.wants_value = flag;
      if (equals != std::string::npos) {
        TakeValue(*flag, word.substr(equals + 1), &at.connection);
      }
    } else if (const CLI::App* sub = FindCommand(at.command, word)) {
      at.command = sub;
    } else {
      at.positionals.push_back(word);
    }
  }
  return at;
}

std::string IdOf(const std::string& name) { return name.substr(name.rfind('/') + 1); }

// Gets names from the server; none if it does not respond in time.
class Ids {
 public:
  explicit Ids(ConnectionFlags flags) {
    if (!flags.server.empty() && !CompleteServerAddress(&flags.server).empty()) return;
    try {
      const Connection connection = ResolveConnection(flags);
      ClientOptions options;
      options.retry.max_attempts = 1;
      options.tls = connection.tls;
      options.token = connection.token;
      client_.emplace(connection.server, options);
    } catch (const DataError&) {
    } catch (const CLI::Error&) {
    }
    call_.timeout = kTimeout;
  }
  std::vector<std::string> Models() {
    std::vector<std::string> ids;
    ListOptions list{.page_size = static_cast<int32_t>(kMostIds)};
    while (client_.has_value() && ids.size() < kMostIds) {
      const auto page = client_->ListModels(list, call_);
      if (!page.ok()) break;
      for (const ModelInfo& model : page->models) ids.push_back(IdOf(model.name));
      list.page_token = page->next_page_token;
      if (list.page_token.empty()) break;
    }
    return ids;
  }
  std::vector<std::string> Datasets() {
    if (!client_.has_value()) return {};
    return Names(client_->ListDatasets(call_));
  }
  std::vector<std::string> Checkpoints(const std::string& model) {
    if (!client_.has_value()) return {};
    return Names(client_->ListCheckpoints(model, call_));
  }

 private:
  template <class T>
  static std::vector<std::string> Names(const Result<std::vector<T>>& all) {
    std::vector<std::string> ids;
    if (!all.ok()) return ids;
    for (const T& one : *all) ids.push_back(IdOf(one.name));
    return ids;
  }

  std::optional<Client> client_;
  CallOptions call_;
};

// Returns the values that the flag's check lists: "{a,b}", or the type "a|b".
std::vector<std::string> ListedValues(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{');
  const size_t close = type.find('}', open);
  if (open != std::string::npos && close != std::string::npos) {
    std::vector<std::string> values =
        CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
    for (std::string& value : values) value.resize(std::min(value.find("->"), value.size()));
    return values;
  }
  const std::string names = type.substr(0, type.find(':'));
  if (names.find('|') != std::string::npos) return CLI::detail::split(names, '|');
  return {};
}

std::vector<std::string> ContextNames() {
  std::vector<std::string> names;
  try {
    for (const auto& [name, context] : ReadContexts().all) names.push_back(name);
  } catch (const DataError&) {
  }
  return names;
}

std::vector<std::string> ValuesOf(const CLI::Option& option, Ids* ids) {
  if (option.check_lname("data")) return {"xor", "spirals", "circles", "blobs", kFiles};
  if (option.check_lname("dataset") || option.check_lname("validation-dataset")) {
    return ids->Datasets();
  }
  if (option.check_lname("context")) return ContextNames();
  if (absl::StartsWith(option.get_type_name(), "FILE")) return {kFiles};
  return ListedValues(option);
}

std::vector<std::string> PositionalValues(const Position& at, Ids* ids) {
  std::vector<const CLI::Option*> options;
  for (const CLI::Option* option : at.command->get_options()) {
    if (option->get_positional()) options.push_back(option);
  }
  if (options.empty()) return {};
  const CLI::Option* option = options[std::min(at.positionals.size(), options.size() - 1)];
  const bool full =
      at.positionals.size() >= options.size() && option->get_items_expected_max() <= 1;
  if (full) return {};
  const std::string name = option->get_name(true);
  if (absl::StartsWith(name, "model")) return ids->Models();
  if (absl::StartsWith(name, "dataset")) {
    // `upload` takes a new name.
    if (at.command->get_name() == "upload") return {};
    return ids->Datasets();
  }
  if (absl::StartsWith(name, "checkpoint")) {
    if (at.command->get_name() == "create") return {};
    return ids->Checkpoints(at.positionals[0]);
  }
  if (absl::StartsWith(name, "context")) return ContextNames();
  if (absl::StartsWith(name, "file")) return {kFiles};
  return ListedValues(*option);
}

// Flags and commands with their descriptions.
std::vector<std::string> FlagLines(const CLI::App* command) {
  std::vector<std::string> lines;
  for (const std::string& name : FlagNames(*command)) {
    lines.push_back(name + "\t" + FindFlag(command, name)->get_description());
  }
  return lines;
}

std::vector<std::string> CommandLines(const CLI::App* command) {
  std::vector<std::string> lines;
  for (const std::string& name : CommandNames(*command)) {
    lines.push_back(name + "\t" + FindCommand(command, name)->get_description());
  }
  return lines;
}

}  // namespace

std::vector<std::string> Complete(const CLI::App& app, std::vector<std::string> words) {
  // bash splits --flag=value at the equals sign.
  if (!words.empty() && words.back() == "=") words.back() = "";
  words.erase(std::remove(words.begin(), words.end(), "="), words.end());
  const std::string current = words.empty() ? "" : words.back();
  if (!words.empty()) words.pop_back();
  const Position at = Read(app, words);
  Ids ids(at.connection);
  std::vector<std::string> all;
  std::string prefix;  // "--flag=", if the value is in the same word
  const size_t equals = current.find('=');
  if (at.wants_value != nullptr) {
    all = ValuesOf(*at.wants_value, &ids);
  } else if (absl::StartsWith(current, "--") && equals != std::string::npos) {
    prefix = current.substr(0, equals + 1);
    const CLI::Option* flag = FindFlag(at.command, current.substr(0, equals));
    if (flag != nullptr) all = ValuesOf(*flag, &ids);
  } else if (absl::StartsWith(current, "-")) {
    all = FlagLines(at.command);
  } else if (!CommandNames(*at.command).empty()) {
    all = CommandLines(at.command);
  } else {
    all = PositionalValues(at, &ids);
  }
  std::vector<std::string> fitting;
  for (const std::string& line : all) {
    const std::string whole = line == kFiles ? line : prefix + line;
    const bool named =
        std::find(at.positionals.begin(), at.positionals.end(), line) != at.positionals.end();
    if (line == kFiles || (absl::StartsWith(whole, current) && !named)) fitting.push_back(whole);
  }
  return fitting;
}

void AddCompletionCommands(CLI::App* app, Globals* /*globals*/, Command* chosen) {
  auto* completion = app->add_subcommand(
      "completion", "Print a shell script that completes commands, flags and ids");
  auto shell = std::make_shared<std::string>();
  completion->add_option("shell", *shell, "The shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([=] {
    *chosen = [=] {
      std::printf("%s", CompletionScript(*shell).c_str());
      return kOk;
    };
  });
}

}  // namespace backprop::cli
