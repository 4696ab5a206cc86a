// health, version.
#include <cstdio>
#include <memory>

#include "bp_version.h"
#include "client/cli/command.h"

namespace backprop::cli {

void AddServerCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* health = app->add_subcommand("health", "Check whether the server is serving");
  auto service = std::make_shared<std::string>();
  health->add_option("--service", *service,
                     "Full name of a service; default: the server as a whole");
  health->callback([=] {
    *chosen = [=] {
      Client client = globals->Connect();
      const auto serving = client.CheckHealth(*service, globals->Call());
      if (!serving.ok()) return globals->Fail(serving.status());
      if (!globals->json) std::printf("%s\n", *serving ? "SERVING" : "NOT_SERVING");
      return *serving ? kOk : kFailed;
    };
  });

  auto* version = app->add_subcommand("version", "Print version and commit");
  version->callback([=] {
    *chosen = [=] {
      globals->SetDocument(std::string(R"({"version":)") + JsonString(kVersion) + R"(,"commit":)" +
                           JsonString(kCommit) + "}");
      if (!globals->json) std::printf("backprop %s (commit %s)\n", kVersion, kCommit);
      return kOk;
    };
  });
}

}  // namespace backprop::cli
