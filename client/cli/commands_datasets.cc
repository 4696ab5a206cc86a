// dataset upload, list, get, delete.
#include <cstdio>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/confirm.h"
#include "client/cli/data_source.h"
#include "client/cli/live_line.h"
#include "client/cli/note.h"
#include "client/cli/text_table.h"
#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

// The server's limits for feature_names.
constexpr size_t kMaxNames = 65536;
constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxAllNamesBytes = size_t{1} << 20;

std::string WhatRowsHave(const DatasetInfo& dataset) {
  std::string text = std::to_string(dataset.input_size) + " inputs and ";
  if (dataset.target_size > 0) {
    text += std::to_string(dataset.target_size) + " targets";
  } else if (dataset.class_names.empty()) {
    text += "a class";
  } else {
    text += "one of " + std::to_string(dataset.class_names.size()) + " classes";
  }
  if (dataset.has_sample_weights) text += ", weighted";
  return text + (dataset.data_type == DataType::kFloat32 ? ", float32" : ", float64");
}

void Print(const DatasetInfo& dataset) {
  std::printf("%s: %lld rows of %s, %lld bytes%s\n", dataset.name.c_str(),
              static_cast<long long>(dataset.rows), WhatRowsHave(dataset).c_str(),
              static_cast<long long>(dataset.size_bytes),
              dataset.ready ? "" : "; the upload is not complete");
}

// Returns the names of the columns, or nothing if the server cannot store one of them; a note then
// says so. Without names the dataset can be used, by a model that has feature names, too.
std::vector<std::string> NamesToStore(const DataSource& source) {
  const std::vector<std::string>& names = source.input_names();
  size_t bytes = 0;
  std::string reason;
  for (const std::string& name : names) {
    bytes += name.size();
    if (name.size() > kMaxNameBytes) reason = "a name has more than 255 bytes";
    if (!IsUtf8(name)) reason = "a name is not UTF-8";
  }
  if (bytes > kMaxAllNamesBytes) reason = "the names have more than 1 MiB in total";
  if (names.size() > kMaxNames) reason = "there are more than 65536 names";
  if (reason.empty()) return names;
  PrintNote("the dataset is stored without column names: " + reason);
  return {};
}

int Upload(const Globals& globals, const std::string& id, const DataSource& source,
           const std::string& model, int64_t targets, UploadOptions options) {
  Client client = globals.Connect(Globals::kPatiently);
  Batch rows;
  if (model.empty()) {
    rows = source.LoadForAnyModel(targets);
  } else {
    const auto info = globals.ConnectHidden().GetModel(model, globals.Call());
    if (!info.ok()) return globals.Fail(info.status());
    rows = source.Load(*info);
  }
  options.feature_names = NamesToStore(source);
  LiveLine line(stderr, IsTerminal(stderr));
  options.on_progress = [&line, all = rows.inputs.rows()](int64_t sent) {
    line.Show({{std::to_string(sent) + "/" + std::to_string(all) + " rows", 1},
               {std::to_string(all == 0 ? 100 : sent * 100 / all) + "%", 0}});
  };
  const auto dataset = client.UploadDataset(id, rows, options, globals.Call());
  line.Clear();
  if (!dataset.ok()) return globals.Fail(dataset.status());
  if (!globals.json) Print(*dataset);
  return kOk;
}

int List(const Globals& globals, bool quiet) {
  Client client = globals.Connect();
  const auto datasets = client.ListDatasets(globals.Call());
  if (!datasets.ok()) return globals.Fail(datasets.status());
  if (globals.json) return kOk;
  TextTable table({{"NAME"}, {"ROWS", true}, {"BYTES", true}, {"STATE"}, {"AGE", true}, {"ROW"}});
  for (const DatasetInfo& dataset : *datasets) {
    if (quiet) std::printf("%s\n", IdOfName(dataset.name).c_str());
    table.Add({dataset.name, std::to_string(dataset.rows), std::to_string(dataset.size_bytes),
               dataset.ready ? "ready" : "uploading", Age(dataset.create_time),
               WhatRowsHave(dataset)});
  }
  if (!quiet) std::printf("%s", table.ToString().c_str());
  return kOk;
}

int Get(const Globals& globals, const std::string& id) {
  Client client = globals.Connect();
  const auto dataset = client.GetDataset(id, globals.Call());
  if (!dataset.ok()) return globals.Fail(dataset.status());
  if (!globals.json) Print(*dataset);
  return kOk;
}

int Delete(const Globals& globals, const std::vector<std::string>& ids) {
  std::vector<std::string> names;
  for (const std::string& id : ids) names.push_back(WithPrefix("datasets/", id));
  return DeleteEach(globals, names, [&](Client* client, const std::string& name) {
    return client->DeleteDataset(name, globals.Call());
  });
}

}  // namespace

void AddDatasetCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* group = app->add_subcommand("dataset", "Upload, list, describe and delete datasets");
  group->require_subcommand(1);
  auto id = std::make_shared<std::string>();

  auto* upload = group->add_subcommand("upload", "Upload rows as a dataset");
  auto source = std::make_shared<DataSource>();
  auto targets = std::make_shared<int64_t>(0);
  auto options = std::make_shared<UploadOptions>();
  upload->add_option("dataset", *id, "Id of the dataset")->required();
  source->AddTo(upload, DataSource::Instead::kNothing);
  auto model = std::make_shared<std::string>();
  auto* for_model =
      upload
          ->add_option("--model", *model,
                       "Assign the columns of a CSV as for this model, features by name")
          ->type_name("ID");
  upload
      ->add_option(
          "--target-columns", *targets,
          "Number of target columns at the end of a CSV; default: the last column is a label")
      ->check(CLI::Range(1, 1000000))
      ->excludes(for_model);
  upload->add_flag_callback(
      "--float64", [options] { options->data_type = DataType::kFloat64; },
      "Store the rows in double precision");
  upload->callback([=] {
    *chosen = [=] { return Upload(*globals, *id, *source, *model, *targets, *options); };
  });

  auto* list = group->add_subcommand("list", "List datasets");
  auto quiet = std::make_shared<bool>(false);
  list->add_flag("-q,--quiet", *quiet, "Print only ids");
  list->callback([=] { *chosen = [=] { return List(*globals, *quiet); }; });
  auto* get = group->add_subcommand("get", "Describe a dataset");
  get->add_option("dataset", *id, "Id of the dataset")->required();
  get->callback([=] { *chosen = [=] { return Get(*globals, *id); }; });
  auto* remove = group->add_subcommand("delete", "Delete datasets that no run uses");
  auto ids = std::make_shared<std::vector<std::string>>();
  remove->add_option("datasets", *ids, "Ids of the datasets")->required();
  remove->callback([=] { *chosen = [=] { return Delete(*globals, *ids); }; });
}

}  // namespace backprop::cli
