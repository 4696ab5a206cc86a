// Tables read from files: CSV and NumPy's .npy.
#ifndef BACKPROP_CLIENT_CLI_TABLE_H_
#define BACKPROP_CLIENT_CLI_TABLE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace backprop::cli {

// An error in a file. The message names file, line and column.
struct DataError {
  std::string message;
};

// Returns `value` as a class index if it is a whole number from 0 to 2^31 − 1.
std::optional<int32_t> ClassIndex(double value);

// Parses a field as a number: 1.5, +2, -3e-4, with spaces around it; 1e-400 is 0. The result may be
// infinite or NaN.
std::optional<double> ToNumber(const std::string& field);

// Text fields and their lines. All rows have the same number of fields.
struct CsvTable {
  std::string file;                 // name for error messages
  std::vector<std::string> header;  // empty if the file has none
  std::vector<std::vector<std::string>> rows;
  std::vector<int64_t> lines;  // line of each row, from 1
  bool guessed = false;        // whether the header was guessed

  size_t columns() const { return rows.empty() ? header.size() : rows[0].size(); }
  // Returns an error "file:line:column: message", column from 1.
  DataError Error(size_t row, size_t column, const std::string& message) const;
  // "x, y, label" for messages; without a header "3 columns without names, counted from 0".
  std::string ColumnNames() const;
  // Returns the field as a finite number.
  double Number(size_t row, size_t column) const;  // throws DataError
};

// Reads RFC 4180 text: quoted fields, CRLF or LF, a byte-order mark. Spaces around a field, blank
// lines, and empty rows at the end are ignored. If `header` is unset, the first line is a header if
// none of its fields is a number; if numbers in it look like names, a note on standard error says
// so. Throws DataError.
CsvTable ReadCsv(const std::string& file, std::optional<bool> header);  // "-": standard input
CsvTable ParseCsv(const std::string& file, const std::string& text, std::optional<bool> header);

// A matrix, row by row; a vector is a matrix of one column.
struct NpyArray {
  std::string file;
  int64_t rows = 0;
  int64_t cols = 0;
  bool is_float32 =
      false;  // whether every number is exact as float32, because the type of the file is no wider
  std::vector<double> values;

  std::vector<int32_t> Classes() const;  // throws DataError
};
// Reads versions 1 to 3 of the format: booleans, signed and unsigned integers of 8 to 64 bits,
// floats of 16, 32 and 64 bits, in either byte order, in C or Fortran order. Integers above 2^53
// are rounded.
NpyArray ReadNpy(const std::string& file);  // throws DataError
NpyArray ParseNpy(const std::string& file, const std::string& bytes);

// Returns the whole file; "-" is standard input. Throws DataError, also for a directory or an
// archive.
std::string ReadFile(const std::string& file);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_TABLE_H_
