// The text of a CSV file, after a byte that says whether it has a header. A table that was read
// equals itself after it was written with all fields quoted.
#include <cmath>
#include <cstdio>
#include <optional>

#include "client/cli/table.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"

namespace backprop::fuzz {
namespace {

std::string Line(const std::vector<std::string>& fields) {
  std::string line;
  for (const std::string& field : fields) {
    line += line.empty() ? "\"" : ",\"";
    for (const char c : field) line += c == '"' ? std::string("\"\"") : std::string(1, c);
    line += '"';
  }
  return line + "\r\n";
}

void CheckNumber(const std::string& field) {
  const auto number = cli::ToNumber(field);
  if (!number.has_value() || std::isnan(*number)) return;
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", *number);
  BP_HOLDS(cli::ToNumber(text) == number, field, " ", text);
  const auto index = cli::ClassIndex(*number);
  BP_HOLDS(!index.has_value() || *index == *number, field);
}

// The number of a field is finite, or an error.
void CheckNumbers(const cli::CsvTable& table) {
  for (size_t row = 0; row < table.rows.size(); ++row) {
    BP_HOLDS(table.rows[row].size() == table.columns(), row);
    for (size_t column = 0; column < table.columns(); ++column) {
      CheckNumber(table.rows[row][column]);
      try {
        BP_HOLDS(std::isfinite(table.Number(row, column)), row, " ", column);
      } catch (const cli::DataError& error) {
        BP_HOLDS(!error.message.empty());
      }
    }
  }
}

}  // namespace

void RunCsv(absl::string_view input) {
  if (input.empty()) return;
  const std::optional<bool> headers[] = {std::nullopt, false, true};
  const std::optional<bool> header = headers[static_cast<unsigned char>(input[0]) % 3];
  cli::CsvTable table;
  try {
    table = cli::ParseCsv("f.csv", std::string(input.substr(1)), header);
  } catch (const cli::DataError& error) {
    BP_HOLDS(error.message.rfind("f.csv:", 0) == 0, error.message);
    return;
  }
  BP_HOLDS(!table.rows.empty() && table.lines.size() == table.rows.size());
  CheckNumbers(table);
  std::string text;
  if (!table.header.empty()) text += Line(table.header);
  for (const auto& row : table.rows) text += Line(row);
  try {
    const auto again = cli::ParseCsv("f.csv", text, !table.header.empty());
    BP_HOLDS(again.header == table.header && again.rows == table.rows, text);
  } catch (const cli::DataError& error) {
    Fail(__FILE__, __LINE__, "a table that was written can be read", error.message + "\n" + text);
  }
}

Seeds CsvSeeds() {
  return {std::string("\0x,y,label\n0,0,no\n0,1,yes\n", 25),
          "\1 1.5 , -2e-3 ,+7\r\n1e400,1e-400,nan\r\n",
          "\2\xEF\xBB\xBF\"a \"\"b\"\"\",\"c\nd\"\n1,2\n,\n,\n",
          std::string("\0"
                      "0,1,2\n1,2,3\n",
                      13),
          "\1x;y\n1;2\n"};
}

}  // namespace backprop::fuzz
