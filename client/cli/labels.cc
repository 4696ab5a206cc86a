// Labels in a column: class names or class indices.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <variant>

#include "client/cli/columns.h"
#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

// Number of classes.
int32_t Classes(const ModelSpec& spec) {
  return std::holds_alternative<BinaryCrossEntropy>(spec.loss)
             ? 2
             : std::max(spec.layers.back().units, 1);
}

// Finds class names, as written or as numbers: 1.0 is the class "1".
class NameFinder {
 public:
  explicit NameFinder(const std::vector<std::string>& names) : names_(names.begin(), names.end()) {
    for (const std::string& name : names) {
      if (const auto number = ToNumber(name); number.has_value()) numbers_.emplace(*number, name);
    }
  }
  bool has_numbers() const { return !numbers_.empty(); }
  bool Has(const std::string& field) const { return names_.count(field) > 0; }
  std::optional<std::string> Find(const std::string& field) const {
    if (Has(field)) return field;
    const auto number = ToNumber(field);
    const auto found = number.has_value() ? numbers_.find(*number) : numbers_.end();
    if (found == numbers_.end()) return std::nullopt;
    return found->second;
  }

 private:
  std::unordered_set<std::string> names_;
  std::unordered_map<double, std::string> numbers_;
};

DataError WrongLabel(const CsvTable& table, size_t row, size_t column,
                     const std::string& expected) {
  return table.Error(row, column,
                     "expected " + expected + ", got \"" + table.rows[row][column] + "\"");
}

}  // namespace

void Labels(const CsvTable& table, size_t column, const ModelSpec& spec, Batch* batch) {
  const std::vector<std::string>& names = spec.class_names;
  const NameFinder finder(names);
  // A model with class names also accepts indices, if no label is a name and no name is a number.
  const bool by_name =
      finder.has_numbers() || std::any_of(table.rows.begin(), table.rows.end(),
                                          [&](const auto& row) { return finder.Has(row[column]); });
  const std::string known = "one of the model's class_names " + Join(names);
  const std::string indices = "a class index from 0 to " + std::to_string(Classes(spec) - 1);
  const std::string either = names.empty() ? indices : known + ", or " + indices;
  for (size_t row = 0; row < table.rows.size(); ++row) {
    const std::string& field = table.rows[row][column];
    if (by_name) {
      const std::optional<std::string> name = finder.Find(field);
      if (!name.has_value()) {
        throw WrongLabel(table, row, column, known);
      }
      batch->label_names.push_back(*name);
      continue;
    }
    const std::optional<double> number = ToNumber(field);
    const std::optional<int32_t> index =
        number.has_value() ? ClassIndex(*number) : std::optional<int32_t>();
    if (!index.has_value() || *index >= Classes(spec)) {
      throw WrongLabel(table, row, column, either);
    }
    batch->labels.push_back(*index);
  }
}

std::vector<std::string> NamesIn(const CsvTable& table, size_t column) {
  std::vector<std::string> names;
  std::unordered_set<std::string> known;
  bool numbers = true;
  for (const auto& row : table.rows) {
    const std::string& field = row[column];
    const std::optional<double> number = ToNumber(field);
    numbers = numbers && number.has_value() && ClassIndex(*number).has_value();
    if (known.insert(field).second) names.push_back(field);
  }
  for (size_t row = 0; !numbers && row < table.rows.size(); ++row) {
    if (IsUtf8(table.rows[row][column])) continue;
    throw table.Error(row, column, "the label is not text in UTF-8; save the file in UTF-8");
  }
  return numbers ? std::vector<std::string>() : names;
}

}  // namespace backprop::cli
