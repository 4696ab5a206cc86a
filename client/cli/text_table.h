// Text tables with columns as wide as their contents.
#ifndef BACKPROP_CLIENT_CLI_TEXT_TABLE_H_
#define BACKPROP_CLIENT_CLI_TEXT_TABLE_H_

#include <chrono>
#include <string>
#include <vector>

namespace backprop::cli {

// Returns the number of characters of UTF-8 text; each is assumed to take one cell of a terminal.
size_t TextWidth(const std::string& text);
// Returns the first `width` characters.
std::string TextStart(const std::string& text, size_t width);

class TextTable {
 public:
  struct Column {
    std::string title;
    bool right = false;  // right-aligned, for numbers
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // `cells` must have one element per column.
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // Returns a line of titles and the rows, or "" without rows. No line ends in spaces.
  std::string ToString() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Returns the age of `time`: "5s", "12m", "3h", "4d"; "-" if it is not set.
std::string Age(std::chrono::system_clock::time_point time);

// Returns "xor" for "models/xor".
std::string IdOfName(const std::string& name);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_TEXT_TABLE_H_
