// Where a command's rows come from: a built-in set, a CSV file, .npy files, or the command line.
#ifndef BACKPROP_CLIENT_CLI_DATA_SOURCE_H_
#define BACKPROP_CLIENT_CLI_DATA_SOURCE_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backprop/model.h"
#include "backprop/tensor.h"
#include "client/cli/columns.h"
#include "client/cli/table.h"

namespace backprop::cli {

struct DataSource {
  std::string data;  // name of a set, file, "-"
  int32_t n = 200;
  std::optional<double> noise;
  uint64_t seed = 0;
  std::optional<bool> header;
  std::string label_column;       // name or index from 0; empty: the last one(s)
  std::string labels_file;        // .npy
  std::string targets_file;       // .npy
  std::string weight_column;      // name or index from 0; empty: none
  std::string weights_file;       // .npy
  std::string validation_file;    // CSV; set by the command that has it
  std::string dataset;            // id of a dataset of the server's
  std::vector<std::string> rows;  // "0.5,-1"

  // Adds the flags; what may stand instead of --data depends on the command.
  enum class Instead { kNothing, kRows, kDataset };
  void AddTo(CLI::App* command, Instead instead);
  // Throws CLI::RequiredError unless --data or --dataset is given.
  void CheckGiven() const;

  // Rows with what is wanted of them, as the model takes it. Throws DataError.
  Batch Load(const ModelInfo& model) const;
  // The same without a model that says which columns are what: the last `targets` ones are targets,
  // or with 0 the label is in the last one (or --label-column). Throws DataError.
  Batch LoadForAnyModel(int64_t targets) const;
  // The rows of validation_file, read as those of `data` are. Throws DataError.
  Batch LoadValidation(const ModelInfo& model) const;
  // Inputs alone; a label column that is there too is left out. Throws DataError.
  Tensor LoadInputs(const ModelInfo& model) const;

 private:
  ColumnFlags Flags() const { return {label_column, weight_column}; }
  Batch FromCsv(const CsvTable& table, const std::string& model, const ModelSpec& spec) const;

  mutable std::vector<std::string> input_names_;  // of the last CSV; none without a header
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_DATA_SOURCE_H_
