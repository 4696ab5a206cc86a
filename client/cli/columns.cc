#include "client/cli/columns.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <variant>

namespace backprop::cli {
namespace {

bool Binary(const ModelSpec& spec) { return std::holds_alternative<BinaryCrossEntropy>(spec.loss); }

// Number of label or target columns.
size_t WantedColumns(const ModelSpec& spec) {
  return WantsLabel(spec) ? 1 : static_cast<size_t>(spec.layers.back().units);
}

bool Has(const std::vector<size_t>& columns, size_t column) {
  return std::find(columns.begin(), columns.end(), column) != columns.end();
}

DataError TwoColumns(const CsvTable& table, const std::string& name, const std::string& what) {
  return {table.file + ": has two columns named \"" + name + "\"" + what};
}

size_t ColumnIndex(const CsvTable& table, const std::string& column) {
  const auto named = std::find(table.header.begin(), table.header.end(), column);
  if (named != table.header.end()) {
    if (std::find(named + 1, table.header.end(), column) != table.header.end()) {
      throw TwoColumns(table, column, "");
    }
    return static_cast<size_t>(named - table.header.begin());
  }
  const bool digits =
      !column.empty() && column.size() < 9 &&
      std::all_of(column.begin(), column.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits && std::stoul(column) < table.columns()) return std::stoul(column);
  throw DataError{table.file + ": has no column \"" + column + "\"; it has " + table.ColumnNames()};
}

// Finds the columns of the model's features by name.
std::vector<size_t> ByName(const CsvTable& table, const std::string& model,
                           const std::vector<std::string>& names) {
  std::unordered_map<std::string, size_t> places;
  std::unordered_set<std::string> twice;
  for (size_t i = 0; i < table.header.size(); ++i) {
    if (!places.emplace(table.header[i], i).second) twice.insert(table.header[i]);
  }
  std::vector<size_t> inputs;
  std::vector<std::string> missing;
  for (const std::string& name : names) {
    const auto place = places.find(name);
    if (place == places.end()) {
      missing.push_back("\"" + name + "\"");
    } else if (twice.count(name) > 0) {
      throw TwoColumns(table, name, ", a feature of " + model);
    } else {
      inputs.push_back(place->second);
    }
  }
  if (!missing.empty()) {
    throw DataError{table.file + ": has no column " + Join(missing) + ", a feature of " + model +
                    "; it has " + table.ColumnNames()};
  }
  return inputs;
}

// Returns the columns that are neither the weight nor in `taken`.
std::vector<size_t> Others(const CsvTable& table, const Columns& columns,
                           const std::vector<size_t>& taken) {
  std::vector<size_t> others;
  for (size_t i = 0; i < table.columns(); ++i) {
    if (columns.weight != i && !Has(taken, i)) others.push_back(i);
  }
  return others;
}

std::vector<size_t> Last(const std::vector<size_t>& columns, size_t count) {
  return {columns.end() - static_cast<int64_t>(std::min(count, columns.size())), columns.end()};
}

void CheckDistinct(const CsvTable& table, const Columns& columns) {
  const auto refuse = [&](size_t column, const char* first, const char* second) {
    throw DataError{table.file + ": " + NamesOf(table, {column}) + " cannot be both " + first +
                    " and " + second};
  };
  for (const size_t wanted : columns.wanted) {
    if (columns.weight == wanted) refuse(wanted, "the label", "the weight");
    if (Has(columns.inputs, wanted)) refuse(wanted, "the label", "a feature");
  }
  if (columns.weight.has_value() && Has(columns.inputs, *columns.weight)) {
    refuse(*columns.weight, "the weight", "a feature");
  }
}

// Adds a note about unused columns.
void NoteUnused(const CsvTable& table, const ModelSpec& spec, bool inputs_alone, Columns* columns) {
  std::vector<size_t> unused;
  for (const size_t i : Others(table, *columns, columns->inputs)) {
    if (inputs_alone || !Has(columns->wanted, i)) unused.push_back(i);
  }
  if (unused.empty()) return;
  std::string note = table.file + ": ignores " + NamesOf(table, unused);
  if (!inputs_alone) {
    note += std::string("; the ") + (WantsLabel(spec) ? "label is " : "targets are ") +
            NamesOf(table, columns->wanted);
  }
  columns->notes.push_back(note);
}

void TellByName(const CsvTable& table, const std::string& model, const ModelSpec& spec,
                bool inputs_alone, Columns* columns) {
  columns->inputs = ByName(table, model, spec.feature_names);
  const size_t wanted = WantedColumns(spec);
  if (columns->wanted.empty() && !inputs_alone) {
    const std::vector<size_t> others = Others(table, *columns, columns->inputs);
    columns->wanted = Last(others, wanted);
    if (others.size() < wanted) {
      throw DataError{
          table.file + ": has " + std::to_string(others.size()) +
          " columns besides the features and the weight, but " + model + " needs " +
          (WantsLabel(spec) ? "one for the label" : std::to_string(wanted) + " for targets") +
          "; it has " + table.ColumnNames()};
    }
  }
  NoteUnused(table, spec, inputs_alone, columns);
}

void TellByPlace(const CsvTable& table, const std::string& model, const ModelSpec& spec,
                 bool inputs_alone, Columns* columns) {
  const auto features = static_cast<size_t>(spec.input_size);
  const std::vector<size_t> left = Others(table, *columns, {});
  if (columns->wanted.empty() && !(inputs_alone && left.size() == features)) {
    columns->wanted = Last(left, WantedColumns(spec));
  }
  columns->inputs = Others(table, *columns, columns->wanted);
  if (columns->inputs.size() == features) return;
  std::string names;
  if (!table.header.empty()) names = "; it has " + table.ColumnNames();
  if (!table.header.empty() && columns->inputs.size() > features) {
    names += "; a model created with --feature-names finds its columns by name";
  }
  throw DataError{
      table.file + ": has " + std::to_string(columns->inputs.size()) + " feature columns" +
      (columns->wanted.empty() ? ""
                               : " and " + std::to_string(columns->wanted.size()) +
                                     (WantsLabel(spec) ? " for the label" : " for targets")) +
      ", but " + model + " takes " + std::to_string(features) + " features" + names};
}

}  // namespace

std::string Join(const std::vector<std::string>& names) {
  constexpr size_t kShown = 20;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + names[i].substr(0, 80);
  }
  if (names.size() > kShown) text += ", … (" + std::to_string(names.size()) + ")";
  return text;
}

std::string NamesOf(const CsvTable& table, const std::vector<size_t>& columns) {
  std::vector<std::string> names;
  for (const size_t column : columns) {
    const bool named = !table.header.empty() && !table.header[column].empty();
    names.push_back(named ? table.header[column] : "column " + std::to_string(column));
  }
  return Join(names);
}

bool WantsLabel(const ModelSpec& spec) {
  return std::holds_alternative<SoftmaxCrossEntropy>(spec.loss) ||
         (Binary(spec) && spec.layers.back().units == 1);
}

Columns TellApart(const CsvTable& table, const std::string& model, const ModelSpec& spec,
                  const ColumnFlags& flags, bool inputs_alone) {
  Columns columns;
  if (!flags.weight.empty()) columns.weight = ColumnIndex(table, flags.weight);
  if (!flags.label.empty()) columns.wanted = {ColumnIndex(table, flags.label)};
  if (!table.header.empty() && !spec.feature_names.empty()) {
    TellByName(table, model, spec, inputs_alone, &columns);
  } else {
    TellByPlace(table, model, spec, inputs_alone, &columns);
  }
  CheckDistinct(table, columns);
  return columns;
}

Tensor Numbers(const CsvTable& table, const std::vector<size_t>& columns) {
  std::vector<double> values;
  values.reserve(table.rows.size() * columns.size());
  for (size_t row = 0; row < table.rows.size(); ++row) {
    for (const size_t column : columns) values.push_back(table.Number(row, column));
  }
  return Tensor(static_cast<int64_t>(table.rows.size()), static_cast<int64_t>(columns.size()),
                values);
}

}  // namespace backprop::cli
