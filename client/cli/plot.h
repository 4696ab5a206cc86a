// Plots for a terminal.
#ifndef BACKPROP_CLIENT_CLI_PLOT_H_
#define BACKPROP_CLIENT_CLI_PLOT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "backprop/tensor.h"

namespace backprop::cli {

// Returns a curve in one line of at most `width` characters: ▇▅▃▂▁.
std::string Sparkline(const std::vector<double>& values, size_t width);

// Returns a curve with axes; the plot has `width` × `height` characters, x runs from 1 to `last_x`.
std::string LossCurve(const std::vector<double>& losses, int64_t last_x, int width, int height);

// A plot of the classes of a grid over [−limit, limit]², row by row from the top, and of data
// points.
struct BoundaryPicture {
  int width = 64;
  int height = 26;
  double limit = 1.15;

  // The points of the grid, as inputs for Predict().
  Tensor Grid() const;
  // Index of a point of the grid.
  size_t At(int row, int col) const {
    return static_cast<size_t>(row) * static_cast<size_t>(width) + static_cast<size_t>(col);
  }
  // Draws the plot; `classes` are those of the points of the grid.
  std::string Draw(const std::vector<int32_t>& classes, const Batch& data, bool color) const;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_PLOT_H_
