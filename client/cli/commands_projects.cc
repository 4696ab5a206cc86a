// project list, get.
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/command.h"
#include "client/cli/text_table.h"

namespace backprop::cli {
namespace {

// Without an exponent, and without zeros at the end.
std::string Number(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.15g", value);
  return text;
}

std::string UsedOf(const QuotaUse& use) {
  return use.used.has_value() ? std::to_string(*use.used) : "";
}
std::string LimitOf(const QuotaUse& use) { return use.limit.has_value() ? Number(*use.limit) : ""; }

int ListProjects(const Globals& globals, bool quiet) {
  Client client = globals.Connect();
  const auto projects = client.ListProjects(globals.Call());
  if (!projects.ok()) return globals.Fail(projects.status());
  if (globals.json) return kOk;
  TextTable table({{"NAME"}, {"QUOTA"}, {"USED", true}, {"LIMIT", true}, {"WEIGHT", true}});
  for (const ProjectInfo& project : *projects) {
    if (quiet) std::printf("%s\n", IdOfName(project.name).c_str());
    for (const QuotaUse& use : project.quotas) {
      table.Add({project.name, use.quota, UsedOf(use), LimitOf(use), Number(project.weight)});
    }
  }
  if (!quiet) std::printf("%s", table.ToString().c_str());
  return kOk;
}

int GetProject(const Globals& globals, const std::string& id) {
  Client client = globals.Connect();
  const auto project = client.GetProject(id, globals.Call());
  if (!project.ok()) return globals.Fail(project.status());
  if (globals.json) return kOk;
  TextTable table({{"QUOTA"}, {"USED", true}, {"LIMIT", true}});
  for (const QuotaUse& use : project->quotas) table.Add({use.quota, UsedOf(use), LimitOf(use)});
  std::printf("%s, weight %s\n%s", project->name.c_str(), Number(project->weight).c_str(),
              table.ToString().c_str());
  return kOk;
}

}  // namespace

void AddProjectCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* group = app->add_subcommand("project", "Show what projects use and may use");
  group->require_subcommand(1);
  auto* list = group->add_subcommand("list", "List projects");
  auto quiet = std::make_shared<bool>(false);
  list->add_flag("-q,--quiet", *quiet, "Print only ids");
  list->callback([=] { *chosen = [=] { return ListProjects(*globals, *quiet); }; });
  auto* get = group->add_subcommand("get", "Show one project");
  auto id = std::make_shared<std::string>();
  get->add_option("project", *id, "Id of the project")->required();
  get->callback([=] { *chosen = [=] { return GetProject(*globals, *id); }; });
}

}  // namespace backprop::cli
