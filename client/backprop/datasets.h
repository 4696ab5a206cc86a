// Small synthetic datasets for experiments. The same arguments give the same rows on every machine.
#ifndef BACKPROP_CLIENT_DATASETS_H_
#define BACKPROP_CLIENT_DATASETS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backprop/tensor.h"

namespace backprop {

struct DatasetOptions {
  int32_t n = 200;                // rows, at least 1
  std::optional<double> noise{};  // standard deviation of the noise on the coordinates; the default
                                  // depends on the set
  uint64_t seed = 0;
};

// Returns the dataset `name`: rows of two coordinates with a class.
//   xor      2 classes, points uniform in [−1, 1]², class 1 where x₁·x₂ > 0; noise 0.05
//   spirals  2 arms of one and a half turns; noise 0.02
//   circles  2 rings of radius 0.4 and 0.9; noise 0.05
//   blobs    3 clouds around a triangle; noise 0.15
// Returns nothing for another name.
std::optional<Batch> MakeDataset(const std::string& name, const DatasetOptions& options = {});

// The names above.
const std::vector<std::string>& DatasetNames();

}  // namespace backprop

#endif  // BACKPROP_CLIENT_DATASETS_H_
