// The source of a command's rows: a built-in dataset, a CSV file, .npy files, or the command line.
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
  std::string data;  // name of a built-in dataset, a file, or "-"
  int32_t n = 200;
  std::optional<double> noise;
  uint64_t seed = 0;
  std::optional<bool> header;
  std::string label_column;       // name or index from 0; empty: the last column or columns
  std::string labels_file;        // .npy
  std::string targets_file;       // .npy
  std::string weight_column;      // name or index from 0; empty: none
  std::string weights_file;       // .npy
  std::string validation_file;    // CSV; set by commands with this flag
  std::string dataset;            // id of a dataset on the server
  std::vector<std::string> rows;  // "0.5,-1"

  // Adds the flags. `instead` is the flag that the command allows instead of --data.
  enum class Instead { kNothing, kRows, kDataset };
  void AddTo(CLI::App* command, Instead instead);
  // Throws CLI::RequiredError unless --data or --dataset is given.
  void CheckGiven() const;

  // Returns rows with labels or targets as the model expects them. Throws DataError.
  Batch Load(const ModelInfo& model) const;
  // The same without a model: the last `targets` columns are the targets, or with 0 the last column
  // (or --label-column) is the label. Throws DataError.
  Batch LoadForAnyModel(int64_t targets) const;
  // Returns the rows of validation_file, read like those of `data`. Throws DataError.
  Batch LoadValidation(const ModelInfo& model) const;
  // Returns only the inputs; a label column is ignored. Throws DataError.
  Tensor LoadInputs(const ModelInfo& model) const;

  // Names of the input columns of the last CSV file, in their order; empty unless a header names
  // each of them.
  const std::vector<std::string>& input_names() const { return input_names_; }

 private:
  ColumnFlags Flags() const { return {label_column, weight_column}; }
  Batch FromCsv(const CsvTable& table, const std::string& model, const ModelSpec& spec) const;

  mutable std::vector<std::string> input_names_;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_DATA_SOURCE_H_
