#include "client/cli/contexts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "client/cli/json_output.h"
#include "client/cli/server_address.h"
#include "client/cli/suggest.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

constexpr char kCurrent[] = "current_context";
constexpr char kContexts[] = "contexts";

// Reports an error at a place of the file: "/path/config.toml:3: contexts.prod.port: …".
[[noreturn]] void Wrong(const std::string& file, const toml::source_region& at,
                        const std::string& what) {
  throw DataError{file + ":" + std::to_string(at.begin.line) + ": " + what};
}

std::string HomeFolder() {
  const char* home = std::getenv("HOME");
  return home != nullptr ? home : "";
}

std::string FilePath() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  // By the specification, relative paths are ignored.
  if (config != nullptr && config[0] == '/') return std::string(config) + "/backprop/config.toml";
  const std::string home = HomeFolder();
  return home.empty() ? "" : home + "/.config/backprop/config.toml";
}

// The content of the file; nothing if it does not exist.
std::optional<std::string> ReadText(const std::string& path) {
  struct stat about {};
  if (path.empty() || (stat(path.c_str(), &about) != 0 && (errno == ENOENT || errno == ENOTDIR))) {
    return std::nullopt;
  }
  if ((about.st_mode & S_IWOTH) != 0) {
    throw DataError{path + ": every user of this machine can change this file; chmod 600 it"};
  }
  return ReadFile(path);
}

std::string PathIn(const std::string& folder, const std::string& path) {
  if (path.rfind("~/", 0) == 0) return HomeFolder() + path.substr(1);
  return path.front() == '/' ? path : folder + "/" + path;
}

// A key of a context and where its value goes.
struct TextKey {
  const char* key;
  std::string Context::*field;
  bool is_path;
};
constexpr TextKey kTextKeys[] = {
    {"server", &Context::server, false},
    {"ca", &Context::ca, true},
    {"cert", &Context::cert, true},
    {"key", &Context::key, true},
    {"tls_server_name", &Context::tls_server_name, false},
    {"token_file", &Context::token_file, true},
};

[[noreturn]] void UnknownKey(const std::string& file, const toml::key& key,
                             const std::string& name) {
  if (key.str() == "token") {
    Wrong(file, key.source(), name + ": a token does not belong here; use token_file");
  }
  std::vector<std::string> keys = {"tls"};
  for (const TextKey& text : kTextKeys) keys.emplace_back(text.key);
  const std::string nearest = Nearest(std::string(key.str()), keys);
  Wrong(file, key.source(),
        name + ": unknown key" + (nearest.empty() ? "" : "; did you mean " + nearest + "?"));
}

std::string TextOf(const std::string& file, const std::string& name, const toml::node& node) {
  const auto text = node.value<std::string>();
  if (!node.is_string() || !text.has_value()) Wrong(file, node.source(), name + ": must be a text");
  if (text->empty()) Wrong(file, node.source(), name + ": must not be empty");
  return *text;
}

Context ParseContext(const std::string& file, const std::string& name, const toml::table& table) {
  Context context;
  std::optional<bool> tls;
  for (const auto& entry : table) {
    const toml::key& key = entry.first;
    const toml::node& node = entry.second;
    const std::string full = name + "." + std::string(key.str());
    if (key.str() == "tls") {
      if (!node.is_boolean()) Wrong(file, node.source(), full + ": must be true or false");
      tls = node.value<bool>();
      continue;
    }
    const auto* const found =
        std::find_if(std::begin(kTextKeys), std::end(kTextKeys),
                     [&](const TextKey& one) { return one.key == key.str(); });
    if (found == std::end(kTextKeys)) UnknownKey(file, key, full);
    std::string text = TextOf(file, full, node);
    if (found->is_path) text = PathIn(std::filesystem::path(file).parent_path().string(), text);
    context.*found->field = text;
  }
  if (context.server.empty()) Wrong(file, table.source(), name + ": needs a server");
  if (const std::string wrong = CompleteServerAddress(&context.server); !wrong.empty()) {
    Wrong(file, table.source(), name + ".server: " + wrong);
  }
  if (context.cert.empty() != context.key.empty()) {
    Wrong(file, table.source(), name + ": cert and key must be given together");
  }
  const bool needs_tls =
      !context.ca.empty() || !context.cert.empty() || !context.tls_server_name.empty();
  if (needs_tls && !tls.value_or(true)) {
    Wrong(file, table.source(), name + ": ca, cert, key and tls_server_name need tls = true");
  }
  context.tls = tls.value_or(needs_tls);
  return context;
}

// The table of contexts.
void ParseContexts(const toml::node& node, Contexts* contexts) {
  if (!node.is_table()) {
    Wrong(contexts->file, node.source(), "contexts: must be tables [contexts.NAME]");
  }
  for (const auto& [key, context] : *node.as_table()) {
    const std::string name(key.str());
    const std::string full = std::string("contexts.").append(name);
    if (!context.is_table()) {
      Wrong(contexts->file, context.source(),
            std::string(full).append(": must be a table [").append(full).append("]"));
    }
    contexts->all[name] = ParseContext(contexts->file, full, *context.as_table());
  }
}

toml::table ParseToml(const std::string& file, const std::string& text) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    Wrong(file, error.source(), std::string(error.description()));
  }
}

// The number of bytes before a place in the text. TOML counts characters, not bytes.
size_t OffsetOf(const std::string& text, const toml::source_position& place) {
  size_t at = 0;
  for (toml::source_index line = 1; line < place.line; ++line) at = text.find('\n', at) + 1;
  for (toml::source_index column = 1; column < place.column && at < text.size(); ++column) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  }
  return at;
}

// Replaces a file as a whole and keeps its permissions.
void ReplaceFile(const std::string& path, const std::string& text) {
  const std::string temporary = path + "." + std::to_string(getpid());
  std::error_code error;
  {
    std::ofstream out(temporary, std::ios::binary);
    out << text;
    out.close();
    if (!out) error = std::error_code(errno, std::generic_category());
  }
  if (!error) {
    const auto permissions = std::filesystem::status(path, error).permissions();
    if (!error) std::filesystem::permissions(temporary, permissions, error);
  }
  if (!error) std::filesystem::rename(temporary, path, error);
  if (!error) return;
  std::error_code ignored;
  std::filesystem::remove(temporary, ignored);
  throw DataError{path + ": cannot be written: " + error.message()};
}

}  // namespace

const Context& Contexts::Find(const std::string& name) const {
  const auto found = all.find(name);
  if (found != all.end()) return found->second;
  std::string names;
  for (const auto& [known, context] : all) names += (names.empty() ? "" : ", ") + known;
  throw DataError{file + ": there is no context \"" + name + "\"; " +
                  (all.empty() ? "there are none" : "there are: " + names)};
}

Contexts ReadContexts() {
  Contexts contexts;
  contexts.file = FilePath();
  const auto text = ReadText(contexts.file);
  if (!text.has_value()) return contexts;
  const toml::table table = ParseToml(contexts.file, *text);
  for (const auto& [key, node] : table) {
    if (key.str() == kCurrent) {
      contexts.current = TextOf(contexts.file, kCurrent, node);
    } else if (key.str() == kContexts) {
      ParseContexts(node, &contexts);
    } else {
      Wrong(contexts.file, key.source(),
            std::string(key.str()) + ": unknown key; the keys are current_context and contexts");
    }
  }
  if (!contexts.current.empty()) contexts.Find(contexts.current);
  return contexts;
}

void SetCurrentContext(const Contexts& contexts, const std::string& name) {
  contexts.Find(name);
  std::string text = ReadText(contexts.file).value_or("");
  const std::string quoted = JsonString(name);  // valid in TOML too
  const toml::table table = ParseToml(contexts.file, text);
  if (const toml::node* const current = table.get(kCurrent); current != nullptr) {
    const size_t begin = OffsetOf(text, current->source().begin);
    text.replace(begin, OffsetOf(text, current->source().end) - begin, quoted);
  } else {
    text.insert(0, std::string(kCurrent) + " = " + quoted + "\n");
  }
  if (ParseToml(contexts.file, text)[kCurrent].value<std::string>() != name) {
    throw DataError{contexts.file + ": set current_context = " + quoted + " with an editor"};
  }
  // A file of dotfiles may be a link.
  ReplaceFile(std::filesystem::canonical(contexts.file).string(), text);
}

}  // namespace backprop::cli
