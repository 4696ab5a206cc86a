// context: list, use.
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/command.h"
#include "client/cli/contexts.h"
#include "client/cli/json_output.h"
#include "client/cli/text_table.h"
#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

const char* JsonBool(bool value) { return value ? "true" : "false"; }

int ListContexts(const Globals& globals) {
  const Contexts contexts = ReadContexts();
  TextTable table({{"CURRENT"}, {"NAME"}, {"SERVER"}, {"TLS"}});
  std::string json;
  for (const auto& [name, context] : contexts.all) {
    const bool current = name == contexts.current;
    table.Add({current ? "*" : "", Printable(name), context.server, context.tls ? "yes" : "no"});
    json += std::string(json.empty() ? "" : ",") + R"({"name":)" + JsonString(name) +
            R"(,"server":)" + JsonString(context.server) + R"(,"tls":)" + JsonBool(context.tls) +
            R"(,"current":)" + JsonBool(current) + "}";
  }
  globals.SetDocument(R"({"contexts":[)" + json + "]}");
  if (!globals.json) std::printf("%s", table.ToString().c_str());
  return kOk;
}

int UseContext(const Globals& globals, const std::string& name) {
  const Contexts contexts = ReadContexts();
  SetCurrentContext(contexts, name);
  globals.SetDocument(R"({"currentContext":)" + JsonString(name) + "}");
  if (!globals.json) {
    std::printf("%s is the current context: %s\n", Printable(name).c_str(),
                contexts.Find(name).server.c_str());
  }
  return kOk;
}

}  // namespace

void AddContextCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* context = app->add_subcommand("context", "Named servers of the file config.toml");
  context->require_subcommand(1);
  auto* list = context->add_subcommand("list", "List the named servers");
  list->callback([=] { *chosen = [=] { return ListContexts(*globals); }; });
  auto* use = context->add_subcommand("use", "Choose the server of later commands");
  auto name = std::make_shared<std::string>();
  use->add_option("context", *name, "The name of the context")->required();
  use->callback([=] { *chosen = [=] { return UseContext(*globals, *name); }; });
}

}  // namespace backprop::cli
