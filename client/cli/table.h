// A table read from a file: CSV or NumPy's .npy.
#ifndef BACKPROP_CLIENT_CLI_TABLE_H_
#define BACKPROP_CLIENT_CLI_TABLE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace backprop::cli {

// An error that names file, line and column.
struct DataError {
  std::string message;
};

// Text fields with where they stood. Every row has as many fields.
struct CsvTable {
  std::string file;                 // as it is named in errors
  std::vector<std::string> header;  // empty if the file has none
  std::vector<std::vector<std::string>> rows;
  std::vector<int64_t> lines;  // of each row, from 1

  size_t columns() const { return rows.empty() ? header.size() : rows[0].size(); }
  // "file:line:column: message", column from 1.
  DataError Error(size_t row, size_t column, const std::string& message) const;
  // The field as a finite number, or an error that says where it is.
  double Number(size_t row, size_t column) const;  // throws DataError
};

// Reads RFC 4180 text: quoted fields, CRLF or LF, a byte-order mark, empty lines skipped. Without
// `header` the first line is taken for one if none of its fields is a number. Throws DataError.
CsvTable ReadCsv(const std::string& file, std::optional<bool> header);  // "-": standard input
CsvTable ParseCsv(const std::string& file, const std::string& text, std::optional<bool> header);

// A matrix, or a vector as a matrix of one column, of float32, float64, int32 or int64 in C order.
struct NpyArray {
  int64_t rows = 0;
  int64_t cols = 0;
  bool is_float32 = false;
  bool is_integer = false;
  std::vector<double> values;
};
NpyArray ReadNpy(const std::string& file);  // throws DataError
NpyArray ParseNpy(const std::string& file, const std::string& bytes);

// The whole file, "-" for standard input. Throws DataError.
std::string ReadFile(const std::string& file);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_TABLE_H_
