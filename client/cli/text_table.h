// Tables for people: columns as wide as what is in them.
#ifndef BACKPROP_CLIENT_CLI_TEXT_TABLE_H_
#define BACKPROP_CLIENT_CLI_TEXT_TABLE_H_

#include <chrono>
#include <string>
#include <vector>

namespace backprop::cli {

// How many characters UTF-8 text has; each takes one cell of a terminal here.
size_t TextWidth(const std::string& text);
// The first `width` characters.
std::string TextStart(const std::string& text, size_t width);

class TextTable {
 public:
  struct Column {
    std::string title;
    bool right = false;  // numbers
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as there are columns.
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // A line of titles, then the rows; without rows nothing. No line ends in spaces.
  std::string ToString() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// How long ago that was: "5s", "12m", "3h", "4d"; "-" for a time that is not set.
std::string Age(std::chrono::system_clock::time_point time);

// "xor" of "models/xor".
std::string IdOfName(const std::string& name);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_TEXT_TABLE_H_
