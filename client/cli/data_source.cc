#include "client/cli/data_source.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <variant>

#include "backprop/datasets.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

bool Binary(const ModelSpec& spec) { return std::holds_alternative<BinaryCrossEntropy>(spec.loss); }

// Whether one column says which class a row has; else each output has a column.
bool WantsLabel(const ModelSpec& spec) {
  return std::holds_alternative<SoftmaxCrossEntropy>(spec.loss) ||
         (Binary(spec) && spec.layers.back().units == 1);
}

// Columns at the end of a table that say what is wanted, when nobody says which.
size_t WantedColumns(const ModelSpec& spec) {
  return WantsLabel(spec) ? 1 : static_cast<size_t>(spec.layers.back().units);
}

bool EndsWith(const std::string& s, const std::string& end) {
  return s.size() >= end.size() && s.compare(s.size() - end.size(), end.size(), end) == 0;
}

size_t ColumnIndex(const CsvTable& table, const std::string& column) {
  const auto named = std::find(table.header.begin(), table.header.end(), column);
  if (named != table.header.end()) return static_cast<size_t>(named - table.header.begin());
  const bool digits =
      !column.empty() && column.size() < 9 &&
      std::all_of(column.begin(), column.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits && std::stoul(column) < table.columns()) return std::stoul(column);
  throw DataError{table.file + ": has no column \"" + column + "\"; it has " +
                  std::to_string(table.columns()) + " columns" +
                  (table.header.empty() ? " without names, counted from 0" : "")};
}

// The columns of a table, told apart.
struct Columns {
  std::vector<size_t> inputs;
  std::vector<size_t> wanted;
  std::optional<size_t> weight;
};

Columns TellApart(const CsvTable& table, const ModelInfo& model, const DataSource& source,
                  bool inputs_alone) {
  const auto features = static_cast<size_t>(model.spec.input_size);
  const size_t wanted = WantedColumns(model.spec);
  Columns columns;
  if (!source.weight_column.empty()) columns.weight = ColumnIndex(table, source.weight_column);
  std::vector<size_t> left;  // that are not the weight
  for (size_t i = 0; i < table.columns(); ++i) {
    if (columns.weight != i) left.push_back(i);
  }
  if (!source.label_column.empty()) {
    columns.wanted = {ColumnIndex(table, source.label_column)};
  } else if (!(inputs_alone && left.size() == features)) {
    columns.wanted.assign(left.end() - static_cast<int64_t>(std::min(wanted, left.size())),
                          left.end());
  }
  for (size_t i : left) {
    if (std::count(columns.wanted.begin(), columns.wanted.end(), i) == 0)
      columns.inputs.push_back(i);
  }
  if (columns.inputs.size() != features) {
    throw DataError{
        table.file + ": has " + std::to_string(columns.inputs.size()) + " columns of features" +
        (columns.wanted.empty()
             ? ""
             : " beside " + std::to_string(columns.wanted.size()) + " for what is wanted") +
        ", but " + model.name + " takes " + std::to_string(features)};
  }
  return columns;
}

Tensor Numbers(const CsvTable& table, const std::vector<size_t>& columns) {
  std::vector<double> values;
  for (size_t row = 0; row < table.rows.size(); ++row) {
    for (size_t column : columns) values.push_back(table.Number(row, column));
  }
  return Tensor(static_cast<int64_t>(table.rows.size()), static_cast<int64_t>(columns.size()),
                values);
}

void Labels(const CsvTable& table, size_t column, const ModelSpec& spec, Batch* batch) {
  for (size_t row = 0; row < table.rows.size(); ++row) {
    const std::string& field = table.rows[row][column];
    if (!spec.class_names.empty()) {
      const auto& names = spec.class_names;
      if (std::find(names.begin(), names.end(), field) == names.end()) {
        throw table.Error(row, column,
                          "is not one of the model's class_names, got \"" + field + "\"");
      }
      batch->label_names.push_back(field);
      continue;
    }
    const double value = table.Number(row, column);
    if (value != std::floor(value) || std::abs(value) > 2e9) {
      throw table.Error(row, column, "expected a class index, got \"" + field + "\"");
    }
    batch->labels.push_back(static_cast<int32_t>(value));
  }
}

// The different fields of a column, unless all are whole numbers.
std::vector<std::string> NamesIn(const CsvTable& table, size_t column) {
  std::vector<std::string> names;
  bool numbers = true;
  for (const auto& row : table.rows) {
    const std::string& field = row[column];
    numbers = numbers && !field.empty() &&
              std::all_of(field.begin(), field.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (std::find(names.begin(), names.end(), field) == names.end()) names.push_back(field);
  }
  return numbers ? std::vector<std::string>() : names;
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

}  // namespace

void DataSource::AddTo(CLI::App* command, Instead instead) {
  auto* source = command->add_option("--data", data,
                                     "xor, spirals, circles or blobs; a CSV file; a .npy file; - "
                                     "for CSV on standard input");
  source->type_name("SOURCE");
  if (instead == Instead::kDataset) {
    auto* of_server = command
                          ->add_option("--dataset", dataset,
                                       "A dataset that was uploaded: backprop dataset upload")
                          ->type_name("ID");
    of_server->excludes(source);
  } else if (instead == Instead::kRows) {
    auto* row = command->add_option("--row", rows, "A row, as numbers with commas; may be repeated")
                    ->type_name("x1,x2,…");
    row->excludes(source);
  } else {
    source->required();
  }
  const std::string group = "Data";
  command->add_option("--n", n, "Rows of a built-in set")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str()
      ->group(group);
  command->add_option("--noise", noise, "Noise of a built-in set")
      ->check(CLI::Range(0.0, 1e6))
      ->group(group);
  command->add_option("--data-seed", seed, "Seed of a built-in set")
      ->capture_default_str()
      ->group(group);
  command
      ->add_flag_callback(
          "--header", [this] { header = true; }, "The CSV has a header")
      ->group(group);
  command
      ->add_flag_callback(
          "--no-header", [this] { header = false; },
          "It has none; default: a first line without numbers is one")
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
                   "Column of what each row weighs, by name or by index from 0")
      ->group(group);
  command->add_option("--weights", weights_file, "What each row weighs, with --data X.npy")
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
  Batch batch;
  if (EndsWith(data, ".npy")) {
    batch.inputs = FromNpy(ReadNpy(data));
    if (!weights_file.empty()) batch.sample_weights = ReadNpy(weights_file).values;
    if (labels_file.empty() == targets_file.empty()) {
      throw DataError{data + ": give --labels or --targets with it"};
    }
    if (!targets_file.empty()) {
      batch.targets = FromNpy(ReadNpy(targets_file));
      return batch;
    }
    const NpyArray labels = ReadNpy(labels_file);
    if (!labels.is_integer) throw DataError{labels_file + ": labels must be integers"};
    batch.labels.assign(labels.values.begin(), labels.values.end());
    return batch;
  }
  return FromCsv(ReadCsv(data, header), model);
}

Batch DataSource::LoadForAnyModel(int64_t targets) const {
  ModelInfo model;
  model.name = "the dataset";
  model.spec.layers = {{static_cast<int32_t>(targets > 0 ? targets : 2)}};
  if (targets > 0) model.spec.loss = MeanSquaredError();
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
    const size_t label = TellApart(table, model, *this, /*inputs_alone=*/false).wanted[0];
    model.spec.class_names = NamesIn(table, label);
  }
  return FromCsv(table, model);
}

Batch DataSource::LoadValidation(const ModelInfo& model) const {
  return FromCsv(ReadCsv(validation_file, header), model);
}

Batch DataSource::FromCsv(const CsvTable& table, const ModelInfo& model) const {
  const Columns columns = TellApart(table, model, *this, /*inputs_alone=*/false);
  Batch batch;
  batch.inputs = Numbers(table, columns.inputs);
  if (columns.weight.has_value()) {
    batch.sample_weights = Numbers(table, {*columns.weight}).ToDoubles();
  }
  if (WantsLabel(model.spec)) {
    Labels(table, columns.wanted[0], model.spec, &batch);
  } else {
    batch.targets = Numbers(table, columns.wanted);
  }
  return batch;
}

Tensor DataSource::LoadInputs(const ModelInfo& model) const {
  if (!rows.empty()) return FromRows(rows);
  if (data.empty()) throw DataError{"give --data or --row"};
  if (auto batch = MakeDataset(data, DatasetOptions{n, noise, seed})) return batch->inputs;
  if (EndsWith(data, ".npy")) return FromNpy(ReadNpy(data));
  const CsvTable table = ReadCsv(data, header);
  return Numbers(table, TellApart(table, model, *this, /*inputs_alone=*/true).inputs);
}

}  // namespace backprop::cli
