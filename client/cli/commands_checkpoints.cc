// checkpoint create, list, restore, delete.
#include <cstdio>
#include <memory>

#include "client/cli/command.h"

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

int List(const Globals& globals, const std::string& model) {
  Client client = globals.Connect();
  const auto checkpoints = client.ListCheckpoints(model, globals.Call());
  if (!checkpoints.ok()) return globals.Fail(checkpoints.status());
  if (globals.json) return kOk;
  for (const CheckpointInfo& checkpoint : *checkpoints) Print(checkpoint);
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

int Delete(const Globals& globals, const std::string& model, const std::string& id) {
  Client client = globals.Connect();
  const Status status = client.DeleteCheckpoint(model, id, globals.Call());
  if (!status.ok()) return globals.Fail(status);
  if (!globals.json) std::printf("deleted\n");
  return kOk;
}

}  // namespace

void AddCheckpointCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* group = app->add_subcommand("checkpoint", "Points of a model to return to");
  group->require_subcommand(1);
  auto model = std::make_shared<std::string>();
  auto id = std::make_shared<std::string>();
  const auto add = [&](const char* name, const char* what, bool with_id) {
    auto* command = group->add_subcommand(name, what);
    command->add_option("model", *model, "Id of the model")->required();
    if (with_id) command->add_option("checkpoint", *id, "Id of the checkpoint")->required();
    return command;
  };
  add("create", "Keep the model as it is, also during a run", true)->callback([=] {
    *chosen = [=] { return Create(*globals, *model, *id); };
  });
  add("list", "List a model's checkpoints", false)->callback([=] {
    *chosen = [=] { return List(*globals, *model); };
  });
  auto* restore = add("restore", "Make the model what it was", true);
  auto expected = std::make_shared<std::optional<int64_t>>();
  restore->add_option("--expected-step", *expected, "Refuse if the model is at another step");
  restore->callback([=] { *chosen = [=] { return Restore(*globals, *model, *id, *expected); }; });
  add("delete", "Delete a checkpoint", true)->callback([=] {
    *chosen = [=] { return Delete(*globals, *model, *id); };
  });
}

}  // namespace backprop::cli
