// parameters get, parameters set: parameters and optimiser state as JSON, without loss.
#include <cstdio>
#include <memory>

#include "client/backprop/convert.h"
#include "client/cli/command.h"
#include "client/cli/parameters_json.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

int Get(const Globals& globals, const std::string& model, const std::string& file, bool weights) {
  Client client = globals.ConnectHidden();
  const auto parameters = client.GetParameters(model, !weights, globals.Call());
  if (!parameters.ok()) return globals.Fail(parameters.status());
  v1::Parameters message;
  WithValues(parameters->tensors, message.mutable_tensors());
  WithValues(parameters->optimizer_state, message.mutable_optimizer_state());
  message.set_step(parameters->step.value_or(0));
  message.set_optimizer_step(parameters->optimizer_step.value_or(0));
  if (parameters->input_standardization.has_value()) {
    ToMessage(*parameters->input_standardization, message.mutable_input_standardization());
  }
  if (parameters->plateau.has_value()) {
    message.mutable_plateau()->set_learning_rate(parameters->plateau->learning_rate);
    message.mutable_plateau()->set_best(parameters->plateau->best);
    message.mutable_plateau()->set_bad_epochs(parameters->plateau->bad_epochs);
    message.mutable_plateau()->set_cooldown(parameters->plateau->cooldown);
  }
  return WriteJson(globals, message, file);
}

int Set(const Globals& globals, const std::string& model, const std::string& file,
        std::optional<int64_t> expected_step) {
  v1::Parameters message;
  ReadJson(file, &message);
  for (const v1::NamedTensor& tensor : message.tensors()) {
    if (tensor.tensor().shape().empty())
      throw DataError{file + ": " + tensor.name() + " has no shape"};
  }
  Client client = globals.Connect();
  const auto step =
      client.SetParameters(model, FromMessage(message), expected_step, globals.Call());
  if (!step.ok()) return globals.Fail(step.status());
  if (!globals.json) std::printf("set; step %lld\n", static_cast<long long>(*step));
  return kOk;
}

}  // namespace

void AddParametersCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* parameters =
      app->add_subcommand("parameters", "Read or write parameters and optimiser state as JSON");
  parameters->require_subcommand(1);
  auto model = std::make_shared<std::string>();
  auto file = std::make_shared<std::string>("-");

  auto* get = parameters->add_subcommand("get", "Print parameters and optimiser state");
  auto weights = std::make_shared<bool>(false);
  get->add_option("model", *model, "Id of the model")->required();
  get->add_option("--output", *file, "Write to this file instead of standard output")
      ->type_name("FILE");
  get->add_flag("--weights-only", *weights, "Omit the optimiser state");
  get->callback([=] { *chosen = [=] { return Get(*globals, *model, *file, *weights); }; });

  auto* set = parameters->add_subcommand("set", "Replace the tensors that the file contains");
  auto expected = std::make_shared<std::optional<int64_t>>();
  set->add_option("model", *model, "Id of the model")->required();
  set->add_option("--input", *file, "JSON in the format of `get`; default: standard input")
      ->type_name("FILE");
  set->add_option("--expected-step", *expected, "Fail unless the model is at this step");
  set->callback([=] { *chosen = [=] { return Set(*globals, *model, *file, *expected); }; });
}

}  // namespace backprop::cli
