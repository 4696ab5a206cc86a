#include "client/cli/data_source.h"

#include <algorithm>
#include <limits>

#include "backprop/datasets.h"
#include "client/cli/note.h"

namespace backprop::cli {
namespace {

bool EndsWith(const std::string& s, const std::string& end) {
  return s.size() >= end.size() && s.compare(s.size() - end.size(), end.size(), end) == 0;
}

Tensor FromNpy(const NpyArray& array) {
  if (!array.is_float32) return Tensor(array.rows, array.cols, array.values);
  return Tensor(array.rows, array.cols,
                std::vector<float>(array.values.begin(), array.values.end()));
}

Tensor FromRows(const std::vector<std::string>& rows) {
  std::string text;
  for (const std::string& row : rows) text += row + "\n";
  const CsvTable table = ParseCsv("--row", text, false);
  std::vector<size_t> columns;
  for (size_t i = 0; i < table.columns(); ++i) columns.push_back(i);
  return Numbers(table, columns);
}

// Returns the names of `columns`, or nothing if a name is missing or not unique.
std::vector<std::string> NamesToMatch(const CsvTable& table, const std::vector<size_t>& columns) {
  std::vector<std::string> names;
  for (const size_t i : columns) {
    const std::string name = table.header.empty() ? "" : table.header[i];
    const bool again = std::count(table.header.begin(), table.header.end(), name) > 1;
    if (name.empty() || again) return {};
    names.push_back(name);
  }
  return names;
}

// Notes go to standard error, separate from results.
void PrintNotes(const Columns& columns) {
  for (const std::string& note : columns.notes) PrintNote(note);
}

}  // namespace

void DataSource::AddTo(CLI::App* command, Instead instead) {
  auto* source = command->add_option("--data", data,
                                     "Source of the rows: xor, spirals, circles or blobs; a CSV "
                                     "file; a .npy file; - for CSV on standard input");
  source->type_name("SOURCE");
  if (instead == Instead::kDataset) {
    auto* of_server =
        command
            ->add_option("--dataset", dataset, "An uploaded dataset; see backprop dataset upload")
            ->type_name("ID");
    of_server->excludes(source);
  } else if (instead == Instead::kRows) {
    auto* row =
        command->add_option("--row", rows, "A row of comma-separated numbers; may be repeated")
            ->type_name("x1,x2,…");
    row->excludes(source);
  } else {
    source->required();
  }
  const std::string group = "Data";
  command->add_option("--n", n, "Number of rows of a built-in dataset")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str()
      ->group(group);
  command->add_option("--noise", noise, "Noise of a built-in dataset")
      ->check(CLI::Range(0.0, 1e6))
      ->group(group);
  command->add_option("--data-seed", seed, "Seed of a built-in dataset")
      ->capture_default_str()
      ->group(group);
  command
      ->add_flag_callback(
          "--header", [this] { header = true; }, "The CSV has a header")
      ->group(group);
  command
      ->add_flag_callback(
          "--no-header", [this] { header = false; },
          "The CSV has no header; default: the first line is a header if it has no numbers")
      ->group(group);
  command
      ->add_option("--label-column", label_column,
                   "Column of the label, by name or by index from 0; default: the last")
      ->group(group);
  command->add_option("--labels", labels_file, "Class indices, with --data X.npy")
      ->type_name("FILE.npy")
      ->group(group);
  command
      ->add_option("--weight-column", weight_column,
                   "Column of the sample weights, by name or by index from 0")
      ->group(group);
  command->add_option("--weights", weights_file, "Sample weights, with --data X.npy")
      ->type_name("FILE.npy")
      ->group(group);
  command->add_option("--targets", targets_file, "Targets, with --data X.npy")
      ->type_name("FILE.npy")
      ->group(group);
}

void DataSource::CheckGiven() const {
  if (data.empty() && dataset.empty()) throw CLI::RequiredError("--data or --dataset");
}

Batch DataSource::Load(const ModelInfo& model) const {
  DatasetOptions options{n, noise, seed};
  if (auto batch = MakeDataset(data, options)) return *std::move(batch);
  if (!EndsWith(data, ".npy")) return FromCsv(ReadCsv(data, header), model.name, model.spec);
  Batch batch;
  batch.inputs = FromNpy(ReadNpy(data));
  if (!weights_file.empty()) {
    const NpyArray weights = ReadNpy(weights_file);
    if (weights.cols != 1) throw DataError{weights_file + ": weights must have one dimension"};
    batch.sample_weights = weights.values;
  }
  if (labels_file.empty() == targets_file.empty()) {
    throw DataError{data + ": requires --labels or --targets"};
  }
  if (!targets_file.empty()) {
    batch.targets = FromNpy(ReadNpy(targets_file));
  } else {
    batch.labels = ReadNpy(labels_file).Classes();
  }
  return batch;
}

Batch DataSource::LoadForAnyModel(int64_t targets) const {
  ModelInfo model;
  model.name = "the dataset";
  model.spec.layers = {{std::numeric_limits<int32_t>::max()}};
  if (targets > 0) {
    model.spec.layers[0].units = static_cast<int32_t>(targets);
    model.spec.loss = MeanSquaredError();
  }
  const bool table_file = !EndsWith(data, ".npy") && !MakeDataset(data, {}).has_value();
  if (!table_file) return Load(model);
  const CsvTable table = ReadCsv(data, header);
  const size_t others =
      (targets > 0 ? static_cast<size_t>(targets) : 1) + (weight_column.empty() ? 0 : 1);
  if (table.columns() <= others) {
    throw DataError{table.file + ": has " + std::to_string(table.columns()) +
                    " columns, which leaves none for features"};
  }
  model.spec.input_size = static_cast<int32_t>(table.columns() - others);
  if (targets == 0) {
    const Columns columns = TellApart(table, model.name, model.spec, Flags(), false);
    model.spec.class_names = NamesIn(table, columns.wanted[0]);
  }
  if (!table.header.empty()) {
    const Columns columns = TellApart(table, model.name, model.spec, Flags(), false);
    PrintNote(table.file + ": the features are, in this order, " + NamesOf(table, columns.inputs) +
              "; the " + (targets > 0 ? "targets are " : "label is ") +
              NamesOf(table, columns.wanted));
  }
  return FromCsv(table, model.name, model.spec);
}

Batch DataSource::LoadValidation(const ModelInfo& model) const {
  ModelSpec spec = model.spec;
  // Columns of the two files are matched by name if they have names.
  if (spec.feature_names.empty()) spec.feature_names = input_names_;
  return FromCsv(ReadCsv(validation_file, header), model.name, spec);
}

Batch DataSource::FromCsv(const CsvTable& table, const std::string& model,
                          const ModelSpec& spec) const {
  const Columns columns = TellApart(table, model, spec, Flags(), /*inputs_alone=*/false);
  PrintNotes(columns);
  Batch batch;
  batch.inputs = Numbers(table, columns.inputs);
  if (columns.weight.has_value()) {
    batch.sample_weights = Numbers(table, {*columns.weight}).ToDoubles();
  }
  if (WantsLabel(spec)) {
    Labels(table, columns.wanted[0], spec, &batch);
  } else {
    batch.targets = Numbers(table, columns.wanted);
  }
  input_names_ = NamesToMatch(table, columns.inputs);
  return batch;
}

Tensor DataSource::LoadInputs(const ModelInfo& model) const {
  if (!rows.empty()) return FromRows(rows);
  if (data.empty()) throw DataError{"requires --data or --row"};
  if (auto batch = MakeDataset(data, DatasetOptions{n, noise, seed})) return batch->inputs;
  if (EndsWith(data, ".npy")) return FromNpy(ReadNpy(data));
  const CsvTable table = ReadCsv(data, header);
  const Columns columns = TellApart(table, model.name, model.spec, Flags(), /*inputs_alone=*/true);
  PrintNotes(columns);
  return Numbers(table, columns.inputs);
}

}  // namespace backprop::cli
