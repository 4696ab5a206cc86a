// Which column of a CSV file is what to a model: by their names where both have names, else by
// their places.
#ifndef BACKPROP_CLIENT_CLI_COLUMNS_H_
#define BACKPROP_CLIENT_CLI_COLUMNS_H_

#include <optional>
#include <string>
#include <vector>

#include "backprop/model.h"
#include "client/cli/table.h"

namespace backprop::cli {

// What the command line says about columns: by name, or by index from 0. Empty: nothing.
struct ColumnFlags {
  std::string label;
  std::string weight;
};

// The columns of a table, told apart. Indices from 0.
struct Columns {
  std::vector<size_t> inputs;  // in the model's order
  std::vector<size_t> wanted;  // the label, or the targets
  std::optional<size_t> weight;
  std::vector<std::string> notes;  // what was left to chance or left out, for people
};

// Whether one column says which class a row has; else each output has a column.
bool WantsLabel(const ModelSpec& spec);

// With a header and `feature_names` of the spec's, each feature is the column of its name, in any
// order and among others; a note names what is not used. Else the features are all columns, in
// their order, but the weight and what is wanted. What is wanted is the label column of the flags,
// or the last ones that are not used otherwise. `inputs_alone`: what is wanted may be missing.
// Throws DataError that names the columns that are missing, there twice, or too many.
Columns TellApart(const CsvTable& table, const std::string& model, const ModelSpec& spec,
                  const ColumnFlags& flags, bool inputs_alone);

// "x, y", for people; the first 20 of them.
std::string Join(const std::vector<std::string>& names);
std::string NamesOf(const CsvTable& table, const std::vector<size_t>& columns);

// The rows of some columns as numbers; throws DataError.
Tensor Numbers(const CsvTable& table, const std::vector<size_t>& columns);

// The labels of a column, as class names if the model has them all, else as class indices. 1.0 is
// 1, and the class whose name is 1. Throws DataError.
void Labels(const CsvTable& table, size_t column, const ModelSpec& spec, Batch* batch);

// The different fields of a column in the order in which they come; none if all are class indices.
std::vector<std::string> NamesIn(const CsvTable& table, size_t column);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_COLUMNS_H_
