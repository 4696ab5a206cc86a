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

// A whole number that can be a class: from 0 to 2^31 − 1.
std::optional<int32_t> ClassIndex(double value);

// What a field says, with spaces around it: 1.5, +2, -3e-4; 1e-400 is 0. May be infinite or NaN.
std::optional<double> ToNumber(const std::string& field);

// Text fields with where they stood. Every row has as many fields.
struct CsvTable {
  std::string file;                 // as it is named in errors
  std::vector<std::string> header;  // empty if the file has none
  std::vector<std::vector<std::string>> rows;
  std::vector<int64_t> lines;  // of each row, from 1
  bool guessed = false;        // whether nobody said if there is a header

  size_t columns() const { return rows.empty() ? header.size() : rows[0].size(); }
  // "file:line:column: message", column from 1.
  DataError Error(size_t row, size_t column, const std::string& message) const;
  // "x, y, label", for errors; without a header "3 columns without names, counted from 0".
  std::string ColumnNames() const;
  // The field as a finite number, or an error that says where it is.
  double Number(size_t row, size_t column) const;  // throws DataError
};

// Reads RFC 4180 text: quoted fields, CRLF or LF, a byte-order mark. Spaces around a field, blank
// lines and rows at the end whose fields are all empty do not count. Without `header` the first
// line is taken for one if none of its fields is a number; a note on standard error says so where
// the numbers in it look like names. Throws DataError.
CsvTable ReadCsv(const std::string& file, std::optional<bool> header);  // "-": standard input
CsvTable ParseCsv(const std::string& file, const std::string& text, std::optional<bool> header);

// A matrix, or a vector as a matrix of one column, row by row.
struct NpyArray {
  std::string file;
  int64_t rows = 0;
  int64_t cols = 0;
  bool is_float32 = false;  // every number fits a float32, because the file's are no wider
  std::vector<double> values;

  std::vector<int32_t> Classes() const;  // throws DataError
};
// Reads versions 1 to 3 of the format: booleans, signed and unsigned integers of 8 to 64 bits,
// floats of 16, 32 and 64 bits, in either byte order, in C or Fortran order. Integers above 2^53
// are rounded.
NpyArray ReadNpy(const std::string& file);  // throws DataError
NpyArray ParseNpy(const std::string& file, const std::string& bytes);

// The whole file, "-" for standard input. Throws DataError, also for a directory or an archive.
std::string ReadFile(const std::string& file);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_TABLE_H_
