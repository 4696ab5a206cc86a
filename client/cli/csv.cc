#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "client/cli/note.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

std::string Trim(const std::string& s) {
  const size_t begin = s.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

// Splits text into records, one per call.
class Reader {
 public:
  Reader(const std::string& file, const std::string& text) : file_(file), text_(text) {
    if (text_.rfind("\xEF\xBB\xBF", 0) == 0) at_ = 3;
  }

  // Returns false at the end. `line` is the line on which the record begins.
  bool Next(std::vector<std::string>* fields, int64_t* line) {
    fields->clear();
    SkipBlankLines();
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

  void SkipBlankLines() {
    for (;;) {
      const size_t end = text_.find_first_not_of(" \t", at_);
      if (end == std::string::npos) {
        at_ = text_.size();
        return;
      }
      if (text_[end] != '\n' && text_[end] != '\r') return;
      at_ = end;
      Skip();
    }
  }

  void SkipSpaces() { at_ = std::min(text_.find_first_not_of(" \t", at_), text_.size()); }

  // Reads up to the comma or the end of the line.
  std::string Field(size_t column) {
    SkipSpaces();
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
        SkipSpaces();
        const bool ends = at_ >= text_.size() || std::strchr(",\r\n", text_[at_]) != nullptr;
        if (ends) return field;
        throw Error(begin_line, column, "text after the closing quote");
      }
    }
    throw Error(begin_line, column, "the quote is not closed");
  }

  DataError Error(int64_t line, size_t column, const std::string& message) const {
    return {file_ + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + message};
  }

  const std::string& file_;
  const std::string& text_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

// Whether the fields are column numbers, 0, 1, 2, … or 1, 2, 3, …, as pandas and spreadsheets write
// them for columns without names.
bool LooksLikeNames(const std::vector<std::string>& fields) {
  for (const int first : {0, 1}) {
    bool counts = fields.size() >= 3;
    for (size_t i = 0; i < fields.size(); ++i) {
      counts = counts && fields[i] == std::to_string(static_cast<size_t>(first) + i);
    }
    if (counts) return true;
  }
  return false;
}

bool AllEmpty(const std::vector<std::string>& fields) {
  return std::all_of(fields.begin(), fields.end(), [](const auto& field) { return field.empty(); });
}

// Removes the empty rows that a spreadsheet writes for cells that were once in use.
void DropEmptyEnd(CsvTable* table) {
  while (!table->rows.empty() && AllEmpty(table->rows.back())) {
    table->rows.pop_back();
    table->lines.pop_back();
  }
}

// Returns the name of a separator other than the comma if there is only one column.
std::string OtherSeparator(const std::vector<std::string>& fields) {
  if (fields.size() != 1) return "";
  if (fields[0].find(';') != std::string::npos) return "semicolons";
  if (fields[0].find('\t') != std::string::npos) return "tabs";
  return "";
}

DataError OtherSeparatorError(const std::string& file, const std::string& separator) {
  return {file + ":1: the fields are separated by " + separator + "; separate them by commas"};
}

}  // namespace

std::optional<int32_t> ClassIndex(double value) {
  const bool fits = value >= 0 && value <= std::numeric_limits<int32_t>::max();
  if (!fits || value != std::floor(value)) return std::nullopt;
  return static_cast<int32_t>(value);
}

std::optional<double> ToNumber(const std::string& text) {
  const std::string field = Trim(text);
  const bool plus = !field.empty() && field[0] == '+';
  const char* begin = field.data() + (plus ? 1 : 0);
  const char* end = field.data() + field.size();
  if (begin == end || (plus && *begin == '-')) return std::nullopt;
  double value = 0;
  const auto [stopped, error] = std::from_chars(begin, end, value);
  if (stopped != end) return std::nullopt;
  // Too small or too large: strtod returns 0, the nearest denormal or infinity.
  if (error == std::errc::result_out_of_range) return std::strtod(begin, nullptr);
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::string CsvTable::ColumnNames() const {
  if (header.empty()) {
    return std::to_string(columns()) + " columns without names, counted from 0";
  }
  constexpr size_t kShown = 20;
  std::string names;
  for (size_t i = 0; i < std::min(header.size(), kShown); ++i) {
    names += (i == 0 ? "" : ", ") + header[i].substr(0, 80);
  }
  if (header.size() > kShown) names += ", … (" + std::to_string(header.size()) + " columns)";
  return names;
}

DataError CsvTable::Error(size_t row, size_t column, const std::string& message) const {
  return {file + ":" + std::to_string(lines[row]) + ":" + std::to_string(column + 1) + ": " +
          message};
}

double CsvTable::Number(size_t row, size_t column) const {
  const std::string& field = rows[row][column];
  const auto value = ToNumber(field);
  if (!value.has_value()) {
    const bool first = row == 0 && header.empty() && guessed;
    throw Error(row, column,
                "expected a number, got \"" + field + "\"" +
                    (first ? "; use --header if this line names the columns" : ""));
  }
  if (!std::isfinite(*value)) {
    throw Error(row, column, "expected a finite number, got \"" + field + "\"");
  }
  return *value;
}

CsvTable ParseCsv(const std::string& file, const std::string& text, std::optional<bool> header) {
  if (text.compare(0, 6, "\x93NUMPY") == 0) {
    throw DataError{file + ": is a .npy file; give it a name that ends in .npy"};
  }
  if (text.find('\0') != std::string::npos) throw DataError{file + ": is not text"};
  CsvTable table;
  table.file = file;
  table.guessed = !header.has_value();
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
      if (const std::string other = OtherSeparator(fields); !other.empty()) {
        throw OtherSeparatorError(file, other);
      }
      if (!header.has_value() && LooksLikeNames(fields)) {
        PrintNote(file +
                  ": the first line looks like column numbers but is read as data; use --header if "
                  "it is a header, otherwise --no-header");
      }
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
  DropEmptyEnd(&table);
  if (table.rows.empty()) throw DataError{file + ": has no rows of data"};
  return table;
}

CsvTable ReadCsv(const std::string& file, std::optional<bool> header) {
  return ParseCsv(file == "-" ? "stdin" : file, ReadFile(file), header);
}

}  // namespace backprop::cli
