#include "client/cli/plot.h"

#include <algorithm>
#include <cmath>

#include "client/cli/format.h"

namespace backprop::cli {
namespace {

// Eighths of a character's height.
constexpr const char* kBars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

// Returns the mean of each of `count` equal parts.
std::vector<double> Condense(const std::vector<double>& values, size_t count) {
  std::vector<double> means;
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = i * values.size() / count;
    const size_t end = std::max(begin + 1, (i + 1) * values.size() / count);
    double sum = 0;
    for (size_t j = begin; j < end; ++j) sum += values[j];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  return means;
}

}  // namespace

std::string Sparkline(const std::vector<double>& values, size_t width) {
  if (values.empty()) return "";
  const auto means = Condense(values, std::min(width, values.size()));
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  const double range = std::max(*high - *low, 1e-12);
  std::string line;
  for (double v : means) line += kBars[1 + static_cast<int>((v - *low) / range * 6.99)];
  return line;
}

std::string LossCurve(const std::vector<double>& losses, int64_t last_x, int width, int height) {
  if (losses.empty()) return "";
  const auto columns = static_cast<size_t>(width);
  // If there are fewer values than columns, each is several columns wide.
  std::vector<double> bars;
  const auto means = Condense(losses, std::min(columns, losses.size()));
  for (size_t i = 0; i < columns; ++i) bars.push_back(means[i * means.size() / columns]);
  const double top = *std::max_element(bars.begin(), bars.end());
  std::string picture;
  for (int row = height; row-- > 0;) {
    const double label = top * (row + 1) / height;
    picture += row % 2 == 1 || row == height - 1 ? FormatText("%8.3f ┤", label) : "         │";
    for (double bar : bars) {
      const double eighths = std::max(1.0, bar / top * height * 8) - row * 8;
      picture += kBars[static_cast<int>(std::clamp(std::round(eighths), 0.0, 8.0))];
    }
    picture += "\n";
  }
  picture += "   0.000 └";
  for (size_t i = 0; i < columns; ++i) picture += "─";
  const std::string last = std::to_string(last_x);
  picture += "\n          1" +
             std::string(columns > last.size() + 1 ? columns - last.size() - 1 : 1, ' ') + last;
  return picture + "  iteration\n";
}

Tensor BoundaryPicture::Grid() const {
  std::vector<float> points;
  for (int row = 0; row < height; ++row) {
    for (int col = 0; col < width; ++col) {
      points.push_back(static_cast<float>(limit * (2 * (col + 0.5) / width - 1)));
      points.push_back(static_cast<float>(limit * (1 - 2 * (row + 0.5) / height)));
    }
  }
  return Tensor(int64_t{width} * height, 2, points);
}

std::string BoundaryPicture::Draw(const std::vector<int32_t>& classes, const Batch& data,
                                  bool color) const {
  static constexpr const char* kShades[] = {"·", "░", "▒", "▓"};
  static constexpr const char* kPoints[] = {"o", "x", "+", "*"};
  static constexpr const char* kColors[] = {"\033[34m", "\033[33m", "\033[32m", "\033[35m"};
  std::vector<std::string> cells;
  for (int32_t c : classes) cells.push_back(kShades[c % 4]);
  for (int64_t i = 0; i < data.inputs.rows(); ++i) {
    const int col = static_cast<int>((data.inputs.at(i, 0) / limit + 1) / 2 * width);
    const int row = static_cast<int>((1 - data.inputs.at(i, 1) / limit) / 2 * height);
    if (col < 0 || col >= width || row < 0 || row >= height) continue;
    const int32_t label = data.labels[static_cast<size_t>(i)] % 4;
    const std::string point = kPoints[label];
    cells[At(row, col)] = color ? kColors[label] + point + "\033[0m" : point;
  }
  std::string picture;
  for (int row = 0; row < height; ++row) {
    picture += "  ";
    for (int col = 0; col < width; ++col) picture += cells[At(row, col)];
    picture += "\n";
  }
  return picture;
}

}  // namespace backprop::cli
