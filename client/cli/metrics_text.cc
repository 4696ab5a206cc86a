#include "client/cli/metrics_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

// Reads one line from left to right.
class LineReader {
 public:
  LineReader(std::string_view line, size_t number) : rest_(line), number_(number) {}

  [[noreturn]] void Fail(const char* expected) const {
    throw DataError{"the metrics of the server: line " + std::to_string(number_) + ": expected " +
                    expected};
  }
  bool Take(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void SkipBlanks() {
    while (Take(' ') || Take('\t')) {
    }
  }
  bool AtEnd() const { return rest_.empty(); }

  // The characters up to the first of `ends`, of which there must be one; at least one character.
  std::string_view Until(const char* ends, const char* what) {
    const size_t size = rest_.find_first_of(ends);
    if (size == std::string_view::npos || size == 0) Fail(what);
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  std::string_view Word() {
    const std::string_view taken = rest_.substr(0, rest_.find_first_of(" \t"));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  // A value of a label, after its opening quote.
  std::string Quoted() {
    std::string value;
    while (!Take('"')) {
      if (rest_.empty()) Fail("a closing quote");
      if (Take('\\')) {
        if (rest_.empty()) Fail("a character after a backslash");
        value += rest_[0] == 'n' ? '\n' : rest_[0];
      } else {
        value += rest_[0];
      }
      rest_.remove_prefix(1);
    }
    return value;
  }

  double Number() {
    const std::string_view text = Word();
    if (text == "+Inf") return std::numeric_limits<double>::infinity();
    if (text == "-Inf") return -std::numeric_limits<double>::infinity();
    if (text == "NaN" || text == "Nan") return std::nan("");
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) Fail("a number");
    return value;
  }

 private:
  std::string_view rest_;
  const size_t number_;
};

MetricLabels ReadLabels(LineReader* line) {
  MetricLabels labels;
  line->SkipBlanks();
  while (!line->Take('}')) {
    const std::string name(line->Until("=", "a label and ="));
    line->Take('=');
    if (!line->Take('"')) line->Fail("a quoted value of a label");
    if (!labels.emplace(name, line->Quoted()).second) line->Fail("each label once");
    line->Take(',');
    line->SkipBlanks();
  }
  return labels;
}

bool Selects(const MetricsPage::Query& query, const MetricLabels& labels) {
  const auto has = [&](const auto& pair) {
    const auto found = labels.find(pair.first);
    return found != labels.end() && found->second == pair.second;
  };
  return std::all_of(query.with.begin(), query.with.end(), has) &&
         std::none_of(query.without.begin(), query.without.end(), has);
}

// The name of the family of a sample: a histogram has samples with three suffixes.
std::string FamilyOf(const std::string& name) {
  for (const std::string_view suffix : {"_bucket", "_count", "_sum"}) {
    if (name.size() > suffix.size() && name.ends_with(suffix)) {
      return name.substr(0, name.size() - suffix.size());
    }
  }
  return name;
}

}  // namespace

MetricsPage MetricsPage::Parse(std::string_view text) {
  MetricsPage page;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t size = std::min(text.find('\n'), text.size());
    LineReader line(text.substr(0, size), number);
    text.remove_prefix(std::min(size + 1, text.size()));
    line.SkipBlanks();
    if (line.AtEnd()) continue;
    if (line.Take('#')) {
      line.SkipBlanks();
      if (line.Word() != "TYPE") continue;
      line.SkipBlanks();
      page.families_.emplace(line.Word());
      continue;
    }
    const std::string name(line.Until("{ \t", "a name and a value"));
    line.SkipBlanks();
    MetricLabels labels;
    if (line.Take('{')) labels = ReadLabels(&line);
    line.SkipBlanks();
    const double value = line.Number();  // a time stamp may follow
    page.series_[name].push_back({std::move(labels), value});
  }
  return page;
}

std::optional<double> MetricsPage::Sum(const Query& query) const {
  const auto found = series_.find(query.name);
  const bool known = found != series_.end() || families_.count(query.name) != 0 ||
                     families_.count(FamilyOf(query.name)) != 0;
  if (!known) return std::nullopt;
  double sum = 0;
  if (found == series_.end()) return sum;
  for (const Series& series : found->second) {
    if (Selects(query, series.labels)) sum += series.value;
  }
  return sum;
}

CumulativeCounts MetricsPage::Histogram(const std::string& name, const MetricLabels& with) const {
  CumulativeCounts counts;
  const auto found = series_.find(name + "_bucket");
  if (found == series_.end()) return counts;
  for (const Series& series : found->second) {
    const auto bound = series.labels.find("le");
    if (bound == series.labels.end() || !Selects({name, with, {}}, series.labels)) continue;
    counts[LineReader(bound->second, 0).Number()] += series.value;
  }
  return counts;
}

std::set<std::string> MetricsPage::LabelValues(const std::string& name,
                                               const std::string& label) const {
  std::set<std::string> values;
  const auto found = series_.find(name);
  if (found == series_.end()) return values;
  for (const Series& series : found->second) {
    const auto it = series.labels.find(label);
    if (it != series.labels.end()) values.insert(it->second);
  }
  return values;
}

std::optional<double> RateBetween(const MetricsPage& before, const MetricsPage& after,
                                  const MetricsPage::Query& counter, double seconds) {
  const auto first = before.Sum(counter);
  const auto last = after.Sum(counter);
  if (!first.has_value() || !last.has_value()) return std::nullopt;
  if (!(*last >= *first) || !(seconds > 0)) return std::nullopt;
  return (*last - *first) / seconds;
}

CumulativeCounts CountsBetween(const CumulativeCounts& before, const CumulativeCounts& after) {
  CumulativeCounts added;
  for (const auto& [bound, count] : after) {
    const auto first = before.find(bound);
    if (first == before.end() || !(count >= first->second)) return {};
    added[bound] = count - first->second;
  }
  return added;
}

std::optional<double> Quantile(const CumulativeCounts& counts, double q) {
  if (counts.empty() || !(counts.rbegin()->second > 0)) return std::nullopt;
  const double rank = q * counts.rbegin()->second;
  double lower_bound = 0;
  double below = 0;  // values up to lower_bound
  for (const auto& [bound, count] : counts) {
    if (count >= rank && count > below) {
      if (std::isinf(bound)) return lower_bound;
      return lower_bound + (bound - lower_bound) * std::max(rank - below, 0.0) / (count - below);
    }
    lower_bound = bound;
    below = count;
  }
  return lower_bound;
}

}  // namespace backprop::cli
