// create, list, get, delete.
#include <cstdio>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/confirm.h"
#include "client/cli/spec_flags.h"
#include "client/cli/spec_names.h"
#include "client/cli/table.h"
#include "client/cli/text_table.h"

namespace backprop::cli {
namespace {

// Parses "key=value" pairs.
std::map<std::string, std::string> ParseLabels(const std::vector<std::string>& pairs) {
  std::map<std::string, std::string> labels;
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) {
      throw CLI::ValidationError("--label", "expected key=value, got " + pair);
    }
    labels[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return labels;
}

void Print(const ModelInfo& model) {
  std::printf("%s\n  %s\n  %lld parameters, step %lld, seed %llu\n", model.name.c_str(),
              Describe(model.spec).c_str(), static_cast<long long>(model.parameter_count),
              static_cast<long long>(model.step), static_cast<unsigned long long>(model.spec.seed));
  if (!model.spec.class_names.empty()) {
    std::printf("  classes %s\n", CLI::detail::join(model.spec.class_names, ", ").c_str());
  }
  if (!model.spec.feature_names.empty()) {
    std::printf("  features %s\n", CLI::detail::join(model.spec.feature_names, ", ").c_str());
  }
  for (const auto& [key, value] : model.labels)
    std::printf("  %s=%s\n", key.c_str(), value.c_str());
  if (model.ttl.has_value()) {
    std::printf("  deleted after %g s without use\n",
                std::chrono::duration<double>(*model.ttl).count());
  }
  if (model.durability == Durability::kEverySecond) std::printf("  durability every-second\n");
  if (model.durability == Durability::kNone) std::printf("  durability none\n");
  if (!model.active_run.empty()) std::printf("  active run: %s\n", model.active_run.c_str());
}

int Create(const Globals& globals, const ModelSpec& spec, const CreateOptions& options) {
  Client client = globals.Connect();
  const auto model = client.CreateModel(spec, options, globals.Call());
  if (!model.ok()) return globals.Fail(model.status());
  if (!globals.json) Print(*model);
  return kOk;
}

Result<std::vector<ModelInfo>> AllModels(Client* client, ListOptions options,
                                         const CallOptions& call) {
  std::vector<ModelInfo> models;
  for (;;) {
    const auto page = client->ListModels(options, call);
    if (!page.ok()) return page.status();
    models.insert(models.end(), page->models.begin(), page->models.end());
    if (page->next_page_token.empty()) return models;
    options.page_token = page->next_page_token;
  }
}

int List(const Globals& globals, const ListOptions& options, bool quiet) {
  Client client = globals.Connect();
  const auto models = AllModels(&client, options, globals.Call());
  if (!models.ok()) return globals.Fail(models.status());
  if (globals.json) return kOk;
  TextTable table(
      {{"NAME"}, {"STEP", true}, {"PARAMETERS", true}, {"STATE"}, {"AGE", true}, {"MODEL"}});
  for (const ModelInfo& model : *models) {
    if (quiet) std::printf("%s\n", IdOfName(model.name).c_str());
    table.Add({model.name, std::to_string(model.step), std::to_string(model.parameter_count),
               model.active_run.empty() ? "idle" : "training", Age(model.create_time),
               Describe(model.spec)});
  }
  if (!quiet) std::printf("%s", table.ToString().c_str());
  return kOk;
}

struct DeleteOptions {
  std::vector<std::string> ids;
  std::map<std::string, std::string> labels;
  bool yes = false;
};

int Delete(const Globals& globals, const DeleteOptions& options) {
  std::vector<std::string> names;
  for (const std::string& id : options.ids) names.push_back(WithPrefix("models/", id));
  if (!options.labels.empty()) {
    Client client = globals.ConnectHidden();
    const auto models = AllModels(&client, {.labels = options.labels}, globals.Call());
    if (!models.ok()) return globals.Fail(models.status());
    for (const ModelInfo& model : *models) names.push_back(model.name);
    if (names.empty() && !globals.json) std::printf("no model has that label\n");
    if (!names.empty() && !options.yes &&
        !Confirm("Delete " + std::to_string(names.size()) + " model" +
                 (names.size() == 1 ? "" : "s") + " (" + CLI::detail::join(names, ", ") + ")?")) {
      return globals.FailHere(kFailed, "NOT_CONFIRMED", "nothing was deleted");
    }
  }
  return DeleteEach(globals, names, [&](Client* client, const std::string& name) {
    return client->DeleteModel(name, globals.Call());
  });
}

void AddCreate(CLI::App* app, Globals* globals, Command* chosen) {
  auto* create = app->add_subcommand("create", "Create a model");
  auto flags = std::make_shared<SpecFlags>();
  auto options = std::make_shared<CreateOptions>();
  auto labels = std::make_shared<std::vector<std::string>>();
  auto ttl = std::make_shared<double>(0);
  create->add_option("id", options->model_id, "Id of the model; default: chosen by the server");
  flags->AddTo(create);
  create->add_option("--label", *labels, "A label of the model; may be repeated")
      ->type_name("KEY=VALUE");
  create->add_option("--ttl", *ttl, "Delete the model after this time without use")
      ->type_name("SECONDS");
  create
      ->add_option("--durability", options->durability,
                   "Durability of a change when the server responds; default: sync with a data "
                   "directory, none without")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, Durability>{{"sync", Durability::kSync},
                                            {"every-second", Durability::kEverySecond},
                                            {"none", Durability::kNone}}))
      ->type_name("sync|every-second|none");
  create->callback([=] {
    const ModelSpec spec = flags->Build();
    options->labels = ParseLabels(*labels);
    if (create->count("--ttl") > 0) {
      options->ttl = std::chrono::nanoseconds(static_cast<int64_t>(*ttl * 1e9));
    }
    *chosen = [=] { return Create(*globals, spec, *options); };
  });
}

void AddList(CLI::App* app, Globals* globals, Command* chosen) {
  auto* list = app->add_subcommand("list", "List models");
  auto options = std::make_shared<ListOptions>();
  auto labels = std::make_shared<std::vector<std::string>>();
  list->add_option("--label", *labels, "Only models with this label; may be repeated")
      ->type_name("KEY=VALUE");
  list->add_option("--page-size", options->page_size, "Models per request");
  auto quiet = std::make_shared<bool>(false);
  list->add_flag("-q,--quiet", *quiet, "Print only ids");
  list->callback([=] {
    options->labels = ParseLabels(*labels);
    *chosen = [=] { return List(*globals, *options, *quiet); };
  });
}

void AddGet(CLI::App* app, Globals* globals, Command* chosen) {
  auto* get = app->add_subcommand("get", "Describe a model");
  auto name = std::make_shared<std::string>();
  get->add_option("model", *name, "Id of the model")->required();
  get->callback([=] {
    *chosen = [=] {
      Client client = globals->Connect();
      const auto model = client.GetModel(*name, globals->Call());
      if (!model.ok()) return globals->Fail(model.status());
      if (!globals->json) Print(*model);
      return kOk;
    };
  });
}

void AddDelete(CLI::App* app, Globals* globals, Command* chosen) {
  auto* remove = app->add_subcommand("delete", "Delete models by id or by label");
  auto options = std::make_shared<DeleteOptions>();
  auto labels = std::make_shared<std::vector<std::string>>();
  auto* ids = remove->add_option("models", options->ids, "Ids of the models");
  remove->add_option("--label", *labels, "Delete all models with this label; may be repeated")
      ->type_name("KEY=VALUE")
      ->excludes(ids);
  remove->add_flag("-y,--yes", options->yes,
                   "Do not ask for confirmation before deleting by label");
  remove->callback([=] {
    options->labels = ParseLabels(*labels);
    if (options->ids.empty() && options->labels.empty()) {
      throw CLI::RequiredError("models or --label");
    }
    *chosen = [=] { return Delete(*globals, *options); };
  });
}

}  // namespace

void AddModelCommands(CLI::App* app, Globals* globals, Command* chosen) {
  AddCreate(app, globals, chosen);
  AddList(app, globals, chosen);
  AddGet(app, globals, chosen);
  AddDelete(app, globals, chosen);
}

}  // namespace backprop::cli
