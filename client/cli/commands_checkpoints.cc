// checkpoint create, list, restore, delete.
#include <cstdio>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/confirm.h"
#include "client/cli/text_table.h"

namespace backprop::cli {
namespace {

void Print(const CheckpointInfo& checkpoint) {
  std::printf("%-48s step %lld", checkpoint.name.c_str(), static_cast<long long>(checkpoint.step));
  if (checkpoint.metrics.has_value()) std::printf(", loss %.6f", checkpoint.metrics->loss);
  if (checkpoint.validation.has_value()) {
    std::printf(", validation loss %.6f", checkpoint.validation->loss);
  }
  std::printf("\n");
}

int Create(const Globals& globals, const std::string& model, const std::string& id) {
  Client client = globals.Connect();
  const auto checkpoint = client.CreateCheckpoint(model, id, globals.Call());
  if (!checkpoint.ok()) return globals.Fail(checkpoint.status());
  if (!globals.json) Print(*checkpoint);
  return kOk;
}

int List(const Globals& globals, const std::string& model, bool quiet) {
  Client client = globals.Connect();
  const auto checkpoints = client.ListCheckpoints(model, globals.Call());
  if (!checkpoints.ok()) return globals.Fail(checkpoints.status());
  if (globals.json) return kOk;
  const auto loss = [](const std::optional<Metrics>& metrics) {
    char text[32] = "-";
    if (metrics.has_value()) std::snprintf(text, sizeof(text), "%.6f", metrics->loss);
    return std::string(text);
  };
  TextTable table({{"NAME"}, {"STEP", true}, {"AGE", true}, {"LOSS", true}, {"VALIDATION", true}});
  for (const CheckpointInfo& checkpoint : *checkpoints) {
    if (quiet) std::printf("%s\n", IdOfName(checkpoint.name).c_str());
    table.Add({checkpoint.name, std::to_string(checkpoint.step), Age(checkpoint.create_time),
               loss(checkpoint.metrics), loss(checkpoint.validation)});
  }
  if (!quiet) std::printf("%s", table.ToString().c_str());
  return kOk;
}

int Restore(const Globals& globals, const std::string& model, const std::string& id,
            std::optional<int64_t> expected) {
  Client client = globals.Connect();
  const auto step = client.RestoreCheckpoint(model, id, expected, globals.Call());
  if (!step.ok()) return globals.Fail(step.status());
  if (!globals.json) std::printf("restored; step %lld\n", static_cast<long long>(*step));
  return kOk;
}

int Delete(const Globals& globals, const std::string& model, const std::vector<std::string>& ids) {
  std::vector<std::string> names;
  for (const std::string& id : ids) {
    names.push_back(
        id.rfind("models/", 0) == 0 ? id : WithPrefix("models/", model) + "/checkpoints/" + id);
  }
  return DeleteEach(globals, names, [&](Client* client, const std::string& name) {
    return client->DeleteCheckpoint(model, name, globals.Call());
  });
}

}  // namespace

void AddCheckpointCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* group =
      app->add_subcommand("checkpoint", "Create, list, restore and delete checkpoints of a model");
  group->require_subcommand(1);
  auto model = std::make_shared<std::string>();
  auto id = std::make_shared<std::string>();
  const auto add = [&](const char* name, const char* what, bool with_id) {
    auto* command = group->add_subcommand(name, what);
    command->add_option("model", *model, "Id of the model")->required();
    if (with_id) command->add_option("checkpoint", *id, "Id of the checkpoint")->required();
    return command;
  };
  add("create", "Store the current state of the model; allowed during a run", true)->callback([=] {
    *chosen = [=] { return Create(*globals, *model, *id); };
  });
  auto* list = add("list", "List a model's checkpoints", false);
  auto quiet = std::make_shared<bool>(false);
  list->add_flag("-q,--quiet", *quiet, "Print only ids");
  list->callback([=] { *chosen = [=] { return List(*globals, *model, *quiet); }; });
  auto* restore = add("restore", "Reset the model to a checkpoint", true);
  auto expected = std::make_shared<std::optional<int64_t>>();
  restore->add_option("--expected-step", *expected, "Fail unless the model is at this step");
  restore->callback([=] { *chosen = [=] { return Restore(*globals, *model, *id, *expected); }; });
  auto* remove = add("delete", "Delete checkpoints", false);
  auto ids = std::make_shared<std::vector<std::string>>();
  remove->add_option("checkpoints", *ids, "Ids of the checkpoints")->required();
  remove->callback([=] { *chosen = [=] { return Delete(*globals, *model, *ids); }; });
}

}  // namespace backprop::cli
