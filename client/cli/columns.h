// Assignment of the columns of a CSV file to the features and targets of a model: by name if both
// have names, otherwise by position.
#ifndef BACKPROP_CLIENT_CLI_COLUMNS_H_
#define BACKPROP_CLIENT_CLI_COLUMNS_H_

#include <optional>
#include <string>
#include <vector>

#include "backprop/model.h"
#include "client/cli/table.h"

namespace backprop::cli {

// Columns named on the command line, by name or by index from 0. Empty: not given.
struct ColumnFlags {
  std::string label;
  std::string weight;
};

// The columns of a table by their use. Indices count from 0.
struct Columns {
  std::vector<size_t> inputs;  // features, in the model's order
  std::vector<size_t> wanted;  // the label column, or the target columns
  std::optional<size_t> weight;
  std::vector<std::string> notes;  // notes for the user: columns that were guessed or not used
};

// Whether one column holds the class of each row; otherwise each output has a column.
bool WantsLabel(const ModelSpec& spec);

// Assigns the columns of `table`. If the table has a header and the spec has `feature_names`, each
// feature is the column of its name; columns may be in any order, and a note names unused ones.
// Otherwise the features are all columns, in their order, except the weight and the label or
// targets. The label or targets are the label column of the flags, or the last columns not used
// otherwise; with `inputs_alone` they may be missing. Throws DataError that names the columns that
// are missing, duplicate or unexpected.
Columns TellApart(const CsvTable& table, const std::string& model, const ModelSpec& spec,
                  const ColumnFlags& flags, bool inputs_alone);

// "x, y" for messages; at most the first 20.
std::string Join(const std::vector<std::string>& names);
std::string NamesOf(const CsvTable& table, const std::vector<size_t>& columns);

// Returns the rows of `columns` as numbers. Throws DataError.
Tensor Numbers(const CsvTable& table, const std::vector<size_t>& columns);

// Reads the labels of a column into `batch`: as class names if the model has all of them, otherwise
// as class indices. 1.0 is class index 1 and the class named 1. Throws DataError.
void Labels(const CsvTable& table, size_t column, const ModelSpec& spec, Batch* batch);

// Returns the distinct fields of a column in order of appearance; empty if all are class indices.
std::vector<std::string> NamesIn(const CsvTable& table, size_t column);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_COLUMNS_H_
