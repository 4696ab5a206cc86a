#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

std::string Trim(const std::string& s) {
  const size_t begin = s.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

std::optional<double> ToNumber(const std::string& field) {
  double value = 0;
  const char* begin = field.data() + (!field.empty() && field[0] == '+' ? 1 : 0);
  const char* end = field.data() + field.size();
  const auto [stopped, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stopped != end || field.empty()) return std::nullopt;
  return value;
}

// Splits text into records, one call a record.
class Reader {
 public:
  Reader(const std::string& file, const std::string& text) : file_(file), text_(text) {
    if (text_.rfind("\xEF\xBB\xBF", 0) == 0) at_ = 3;
  }

  // False at the end. `line` is where the record begins.
  bool Next(std::vector<std::string>* fields, int64_t* line) {
    fields->clear();
    while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) Skip();
    if (at_ >= text_.size()) return false;
    *line = line_;
    for (;;) {
      fields->push_back(Field(fields->size() + 1));
      if (at_ >= text_.size()) return true;
      const char c = text_[at_];
      Skip();
      if (c == ',') continue;
      if (c == '\r' && at_ < text_.size() && text_[at_] == '\n') Skip();
      return true;
    }
  }

 private:
  void Skip() {
    if (text_[at_] == '\n') ++line_;
    ++at_;
  }

  // Up to the comma or the end of the line.
  std::string Field(size_t column) {
    if (at_ < text_.size() && text_[at_] == '"') return Quoted(column);
    const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string field = Trim(text_.substr(at_, end - at_));
    at_ = end;
    return field;
  }

  std::string Quoted(size_t column) {
    const int64_t begin_line = line_;
    std::string field;
    Skip();
    while (at_ < text_.size()) {
      const char c = text_[at_];
      Skip();
      if (c != '"') {
        field += c;
      } else if (at_ < text_.size() && text_[at_] == '"') {
        field += c;
        Skip();
      } else {
        const bool ends = at_ >= text_.size() || std::strchr(",\r\n", text_[at_]) != nullptr;
        if (ends) return field;
        throw Error(begin_line, column, "text after the closing quote");
      }
    }
    throw Error(begin_line, column, "the quote is never closed");
  }

  DataError Error(int64_t line, size_t column, const std::string& message) const {
    return {file_ + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + message};
  }

  const std::string& file_;
  const std::string& text_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

DataError CsvTable::Error(size_t row, size_t column, const std::string& message) const {
  return {file + ":" + std::to_string(lines[row]) + ":" + std::to_string(column + 1) + ": " +
          message};
}

double CsvTable::Number(size_t row, size_t column) const {
  const std::string& field = rows[row][column];
  const auto value = ToNumber(field);
  if (!value.has_value()) throw Error(row, column, "expected a number, got \"" + field + "\"");
  if (!std::isfinite(*value)) {
    throw Error(row, column, "expected a finite number, got \"" + field + "\"");
  }
  return *value;
}

CsvTable ParseCsv(const std::string& file, const std::string& text, std::optional<bool> header) {
  CsvTable table;
  table.file = file;
  Reader reader(table.file, text);
  std::vector<std::string> fields;
  int64_t line = 0;
  bool first = true;
  size_t columns = 0;
  while (reader.Next(&fields, &line)) {
    if (first) {
      columns = fields.size();
      bool any_number = false;
      for (const std::string& field : fields) any_number |= ToNumber(field).has_value();
      first = false;
      if (header.value_or(!any_number)) {
        table.header = fields;
        continue;
      }
    }
    if (fields.size() != columns) {
      throw DataError{file + ":" + std::to_string(line) + ": expected " + std::to_string(columns) +
                      " columns, got " + std::to_string(fields.size())};
    }
    table.rows.push_back(fields);
    table.lines.push_back(line);
  }
  if (table.rows.empty()) throw DataError{file + ": has no rows of data"};
  return table;
}

CsvTable ReadCsv(const std::string& file, std::optional<bool> header) {
  return ParseCsv(file == "-" ? "stdin" : file, ReadFile(file), header);
}

std::string ReadFile(const std::string& file) {
  if (file == "-") {
    return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  }
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  if (!stream || bytes.fail()) {
    // An empty file fails the copy without an error of the system's.
    if (stream.is_open() && bytes.str().empty() && stream.peek() == EOF) return "";
    throw DataError{file + ": " + std::strerror(errno)};
  }
  return bytes.str();
}

}  // namespace backprop::cli
