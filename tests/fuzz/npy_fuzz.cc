// A file of NumPy. An array that was read equals itself after it was written as float64.
#include <cstring>

#include "client/cli/table.h"
#include "tests/client/cli/npy_file.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"

namespace backprop::fuzz {
namespace {

void CheckClasses(const cli::NpyArray& array) {
  try {
    const auto classes = array.Classes();
    BP_HOLDS(classes.size() == array.values.size());
    for (size_t i = 0; i < classes.size(); ++i) {
      BP_HOLDS(classes[i] >= 0 && classes[i] == array.values[i], i);
    }
  } catch (const cli::DataError& error) {
    BP_HOLDS(!error.message.empty());
  }
}

}  // namespace

void RunNpy(absl::string_view input) {
  cli::NpyArray array;
  try {
    array = cli::ParseNpy("f.npy", std::string(input));
  } catch (const cli::DataError& error) {
    BP_HOLDS(error.message.rfind("f.npy: ", 0) == 0, error.message);
    return;
  }
  BP_HOLDS(array.rows >= 1 && array.cols >= 1);
  BP_HOLDS(array.values.size() ==
           static_cast<size_t>(array.rows) * static_cast<size_t>(array.cols));
  BP_HOLDS(array.values.size() <= input.size(), "an element has at least one byte");
  CheckClasses(array);
  const std::string data(reinterpret_cast<const char*>(array.values.data()),
                         array.values.size() * sizeof(double));
  const std::string shape = absl::StrCat("(", array.rows, ", ", array.cols, ")");
  const auto again = cli::ParseNpy("f.npy", cli::Npy(cli::HeaderOf("<f8", shape), data, 2));
  BP_HOLDS(again.rows == array.rows && again.cols == array.cols);
  BP_HOLDS(std::memcmp(again.values.data(), array.values.data(), data.size()) == 0);
}

Seeds NpySeeds() {
  const double doubles[] = {1, -2.5, 3, 4, 5, 1e300};
  const std::string data(reinterpret_cast<const char*>(doubles), sizeof doubles);
  Seeds seeds = {
      cli::Npy(cli::HeaderOf("<f8", "(2, 3)"), data),
      cli::Npy(cli::HeaderOf(">f8", "(6,)"), data, 2),
      cli::Npy(cli::HeaderOf("<f4", "(3, 4)", true), data, 3),
      cli::Npy(cli::HeaderOf("<f2", "(2L, 12L)"), data),
      cli::Npy("{'shape': (1,), 'fortran_order': False, 'descr': [('a', '<f8')]}", data)};
  for (const char* type : {"|b1", "|i1", "|u1", "<i2", ">u2", "<i4", ">u4", "<i8", ">u8"}) {
    seeds.push_back(cli::Npy(cli::HeaderOf(type, "(6,)"), data));
  }
  return seeds;
}

}  // namespace backprop::fuzz
