// A file of NumPy. An array that was read equals itself after it was written as float64.
#include <cstring>

#include "client/cli/table.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"

namespace backprop::fuzz {
namespace {

std::string Npy(int version, const std::string& header, const std::string& data) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes[6] = static_cast<char>(version);
  const auto size = static_cast<uint32_t>(header.size());
  bytes.append(reinterpret_cast<const char*>(&size), version == 1 ? 2 : 4);
  return bytes + header + data;
}

std::string HeaderOf(const std::string& type, const std::string& shape, bool fortran = false) {
  return "{'descr': '" + type + "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + shape + ", }\n";
}

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
  const auto again = cli::ParseNpy("f.npy", Npy(2, HeaderOf("<f8", shape), data));
  BP_HOLDS(again.rows == array.rows && again.cols == array.cols);
  BP_HOLDS(std::memcmp(again.values.data(), array.values.data(), data.size()) == 0);
}

Seeds NpySeeds() {
  const double doubles[] = {1, -2.5, 3, 4, 5, 1e300};
  const std::string data(reinterpret_cast<const char*>(doubles), sizeof doubles);
  Seeds seeds = {Npy(1, HeaderOf("<f8", "(2, 3)"), data), Npy(2, HeaderOf(">f8", "(6,)"), data),
                 Npy(3, HeaderOf("<f4", "(3, 4)", true), data),
                 Npy(1, HeaderOf("<f2", "(2L, 12L)"), data),
                 Npy(1, "{'shape': (1,), 'fortran_order': False, 'descr': [('a', '<f8')]}", data)};
  for (const char* type : {"|b1", "|i1", "|u1", "<i2", ">u2", "<i4", ">u4", "<i8", ">u8"}) {
    seeds.push_back(Npy(1, HeaderOf(type, "(6,)"), data));
  }
  return seeds;
}

}  // namespace backprop::fuzz
