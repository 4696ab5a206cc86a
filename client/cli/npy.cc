// NumPy's format: a magic, a version, a header that is a Python dictionary, then the elements.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include <cstring>
#include <regex>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

template <class T>
void Append(const std::string& bytes, size_t offset, size_t count, std::vector<double>* out) {
  for (size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes.data() + offset + i * sizeof(T), sizeof(T));
    out->push_back(static_cast<double>(value));
  }
}

}  // namespace

NpyArray ParseNpy(const std::string& file, const std::string& bytes) {
  const auto fail = [&](const std::string& message) { return DataError{file + ": " + message}; };
  constexpr size_t kMagic = 8;  // with the version
  if (bytes.size() < kMagic + 4 || bytes.compare(0, 6, "\x93NUMPY") != 0) {
    throw fail("is not a .npy file");
  }
  const bool wide = bytes[6] >= 2;
  uint32_t header_size = 0;
  std::memcpy(&header_size, bytes.data() + kMagic, wide ? 4 : 2);
  const size_t begin = kMagic + (wide ? 4 : 2);
  if (bytes.size() - begin < header_size) throw fail("the header is cut off");
  const std::string header = bytes.substr(begin, header_size);

  std::smatch match;
  if (!std::regex_search(header, match, std::regex("'descr': *'([^']*)'"))) {
    throw fail("has no plain element type");
  }
  const std::string type = match[1];
  if (std::regex_search(header, std::regex("'fortran_order': *True"))) {
    throw fail("is in Fortran order; save numpy.ascontiguousarray(a)");
  }
  if (!std::regex_search(header, match, std::regex("'shape': *\\(([0-9]+),? *([0-9]*),?\\)"))) {
    throw fail("must have one or two dimensions");
  }
  NpyArray array;
  try {
    array.rows = std::stoll(match[1]);
    array.cols = match[2].length() == 0 ? 1 : std::stoll(match[2]);
  } catch (const std::out_of_range&) {
    throw fail("the shape is too large");
  }
  const size_t element = type == "<f4" || type == "<i4" ? 4 : 8;
  const size_t available = (bytes.size() - begin - header_size) / element;
  const auto rows = static_cast<size_t>(array.rows);
  const auto cols = static_cast<size_t>(array.cols);
  if (rows == 0 || cols == 0) throw fail("has no rows of data");
  if (rows > available / cols) {
    throw fail("is cut off: shape (" + std::to_string(rows) + ", " + std::to_string(cols) +
               ") needs more than the " + std::to_string(available) + " elements there are");
  }
  const size_t count = rows * cols;
  array.is_float32 = type == "<f4";
  array.is_integer = type == "<i4" || type == "<i8";
  if (type == "<f4") {
    Append<float>(bytes, begin + header_size, count, &array.values);
  } else if (type == "<f8") {
    Append<double>(bytes, begin + header_size, count, &array.values);
  } else if (type == "<i4") {
    Append<int32_t>(bytes, begin + header_size, count, &array.values);
  } else if (type == "<i8") {
    Append<int64_t>(bytes, begin + header_size, count, &array.values);
  } else {
    throw fail("elements must be float32, float64, int32 or int64, little-endian, got " + type);
  }
  return array;
}

NpyArray ReadNpy(const std::string& file) { return ParseNpy(file, ReadFile(file)); }

}  // namespace backprop::cli
