// Files of NumPy's format .npy, valid or not, for tests.
#ifndef BACKPROP_TESTS_CLIENT_CLI_NPY_FILE_H_
#define BACKPROP_TESTS_CLIENT_CLI_NPY_FILE_H_

#include <cstdint>
#include <string>

namespace backprop::cli {

// A file with this header and data. The size of the header has 2 bytes in version 1, else 4.
inline std::string Npy(const std::string& header, const std::string& data, int version = 1) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes[6] = static_cast<char>(version);
  const auto size = static_cast<uint32_t>(header.size());
  bytes.append(reinterpret_cast<const char*>(&size), version == 1 ? 2 : 4);
  return bytes + header + data;
}

// Such as HeaderOf("<f4", "(3, 2)").
inline std::string HeaderOf(const std::string& type, const std::string& shape,
                            bool fortran = false) {
  return "{'descr': '" + type + "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + shape + ", }\n";
}

}  // namespace backprop::cli

#endif  // BACKPROP_TESTS_CLIENT_CLI_NPY_FILE_H_
