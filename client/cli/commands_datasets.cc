// dataset upload, list, get, delete.
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/data_source.h"

namespace backprop::cli {
namespace {

void Print(const DatasetInfo& dataset) {
  std::printf("%s: %lld rows of %d inputs and ", dataset.name.c_str(),
              static_cast<long long>(dataset.rows), dataset.input_size);
  if (dataset.target_size > 0) {
    std::printf("%d targets", dataset.target_size);
  } else if (dataset.class_names.empty()) {
    std::printf("a class");
  } else {
    std::printf("one of %zu classes", dataset.class_names.size());
  }
  std::printf("%s, %s, %lld bytes%s\n", dataset.has_sample_weights ? ", weighted" : "",
              dataset.data_type == DataType::kFloat32 ? "float32" : "float64",
              static_cast<long long>(dataset.size_bytes),
              dataset.ready ? "" : "; its upload is not complete");
}

int Upload(const Globals& globals, const std::string& id, const DataSource& source,
           const std::string& model, int64_t targets, UploadOptions options) {
  Client client = globals.Connect(Globals::kPatiently);
  Batch rows;
  if (model.empty()) {
    rows = source.LoadForAnyModel(targets);
  } else {
    const auto info = Client(globals.server).GetModel(model, globals.Call());
    if (!info.ok()) return globals.Fail(info.status());
    rows = source.Load(*info);
  }
  const bool shows = isatty(STDERR_FILENO) == 1;
  if (shows) {
    options.on_progress = [all = rows.inputs.rows()](int64_t sent) {
      std::fprintf(stderr, "\r\033[K%lld/%lld rows %3.0f%%", static_cast<long long>(sent),
                   static_cast<long long>(all),
                   100 * static_cast<double>(sent) / static_cast<double>(all));
    };
  }
  const auto dataset = client.UploadDataset(id, rows, options, globals.Call());
  if (shows) std::fprintf(stderr, "\r\033[K");
  if (!dataset.ok()) return globals.Fail(dataset.status());
  if (!globals.json) Print(*dataset);
  return kOk;
}

int List(const Globals& globals) {
  Client client = globals.Connect();
  const auto datasets = client.ListDatasets(globals.Call());
  if (!datasets.ok()) return globals.Fail(datasets.status());
  if (globals.json) return kOk;
  for (const DatasetInfo& dataset : *datasets) Print(dataset);
  return kOk;
}

int Get(const Globals& globals, const std::string& id) {
  Client client = globals.Connect();
  const auto dataset = client.GetDataset(id, globals.Call());
  if (!dataset.ok()) return globals.Fail(dataset.status());
  if (!globals.json) Print(*dataset);
  return kOk;
}

int Delete(const Globals& globals, const std::string& id) {
  Client client = globals.Connect();
  const Status status = client.DeleteDataset(id, globals.Call());
  if (!status.ok()) return globals.Fail(status);
  if (!globals.json) std::printf("deleted\n");
  return kOk;
}

}  // namespace

void AddDatasetCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* group = app->add_subcommand("dataset", "Rows that are sent once and used by name");
  group->require_subcommand(1);
  auto id = std::make_shared<std::string>();

  auto* upload = group->add_subcommand("upload", "Send rows");
  auto source = std::make_shared<DataSource>();
  auto targets = std::make_shared<int64_t>(0);
  auto options = std::make_shared<UploadOptions>();
  upload->add_option("dataset", *id, "Id of the dataset")->required();
  source->AddTo(upload, DataSource::Instead::kNothing);
  auto model = std::make_shared<std::string>();
  auto* for_model = upload
                        ->add_option("--model", *model,
                                     "Take the columns of a CSV as this model does, its features "
                                     "by name")
                        ->type_name("ID");
  upload
      ->add_option("--target-columns", *targets,
                   "So many columns at the end of a CSV are targets; default: the last one is a "
                   "label")
      ->check(CLI::Range(1, 1000000))
      ->excludes(for_model);
  upload->add_flag_callback(
      "--float64", [options] { options->data_type = DataType::kFloat64; },
      "Keep the rows in double precision");
  upload->callback([=] {
    *chosen = [=] { return Upload(*globals, *id, *source, *model, *targets, *options); };
  });

  auto* list = group->add_subcommand("list", "List datasets");
  list->callback([=] { *chosen = [=] { return List(*globals); }; });
  auto* get = group->add_subcommand("get", "Describe a dataset");
  get->add_option("dataset", *id, "Id of the dataset")->required();
  get->callback([=] { *chosen = [=] { return Get(*globals, *id); }; });
  auto* remove = group->add_subcommand("delete", "Delete a dataset that no run uses");
  remove->add_option("dataset", *id, "Id of the dataset")->required();
  remove->callback([=] { *chosen = [=] { return Delete(*globals, *id); }; });
}

}  // namespace backprop::cli
