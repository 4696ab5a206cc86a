// NumPy's format: a magic, a version, a header that is a Python dictionary, then the elements.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

constexpr size_t kMagic = 8;  // including the version
constexpr size_t kMaxHeader = 1 << 20;
constexpr size_t kMaxDimensions = 32;  // NumPy's limit

struct Header {
  std::string type;
  bool is_structured = false;  // the type is a list of fields
  bool fortran_order = false;
  std::vector<std::string> shape;  // decimal digits
};

// Parses the dictionary that NumPy writes. Uses neither recursion nor backtracking, so that any
// input is safe.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  // Returns false if the text is not such a dictionary.
  bool Parse(Header* header) {
    if (!Take('{')) return false;
    for (int keys = 0; !Take('}'); ++keys) {
      std::string key;
      if (keys > 0 && !Take(',')) return false;
      if (Take('}')) break;
      if (!String(&key) || !Take(':')) return false;
      if (key == "descr") {
        header->is_structured = Peek() == '[' || Peek() == '(';
        if (header->is_structured) return true;  // rejected later, so the rest does not matter
        if (!String(&header->type)) return false;
      } else if (key == "fortran_order") {
        if (!Bool(&header->fortran_order)) return false;
      } else if (key == "shape") {
        if (!Tuple(&header->shape)) return false;
      } else {
        return false;
      }
    }
    return !header->type.empty();
  }

 private:
  void Skip() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr) ++at_;
  }
  char Peek() {
    Skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool Take(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }
  bool String(std::string* out) {
    const char quote = Peek();
    if (quote != '\'' && quote != '"') return false;
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return false;
    *out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return true;
  }
  bool Bool(bool* out) {
    Skip();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      *out = value;
      return true;
    }
    return false;
  }
  bool Tuple(std::vector<std::string>* out) {
    if (!Take('(')) return false;
    while (!Take(')')) {
      if (!out->empty() && !Take(',')) return false;
      if (Take(')')) return true;
      std::string digits;
      Skip();
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') digits += text_[at_++];
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2
      if (digits.empty() || out->size() == kMaxDimensions) return false;
      out->push_back(digits);
    }
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// IEEE 754 half precision.
double FromHalf(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const double mantissa = bits & 1023;
  double magnitude = 0;
  if (exponent == 0) {
    magnitude = std::ldexp(mantissa, -24);
  } else if (exponent == 31) {
    magnitude = mantissa == 0 ? INFINITY : NAN;
  } else {
    magnitude = std::ldexp(mantissa + 1024, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// Returns one element from its bytes, least significant first.
double Decode(char kind, size_t size, uint64_t bits) {
  switch (kind) {
    case 'b':
      return bits != 0 ? 1 : 0;
    case 'u':
      return static_cast<double>(bits);
    case 'i': {
      const auto unused = static_cast<int>(64 - 8 * size);
      return static_cast<double>(static_cast<int64_t>(bits << unused) >> unused);
    }
    default:
      if (size == 2) return FromHalf(static_cast<uint16_t>(bits));
      if (size == 4) {
        return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
      }
      return std::bit_cast<double>(bits);
  }
}

// Byte order, kind and size of the elements.
struct Type {
  bool big_endian = false;
  char kind = 0;
  size_t size = 0;
};

bool ParseType(const std::string& text, Type* type) {
  if (text.size() != 3 || std::strchr("<>=|", text[0]) == nullptr) return false;
  type->big_endian = text[0] == '>';
  type->kind = text[1];
  type->size = static_cast<size_t>(text[2] - '0');
  const std::string known = "|b1|i1|i2|i4|i8|u1|u2|u4|u8|f2|f4|f8|";
  return known.find("|" + text.substr(1) + "|") != std::string::npos;
}

// Returns the common name of an unsupported type.
std::string NameOf(const std::string& type) {
  const char kind = type.size() > 1 ? type[1] : '\0';
  switch (kind) {
    case 'c':
      return "complex numbers";
    case 'f':
      return "floats of another precision than 16, 32 or 64 bits";
    case 'O':
      return "Python objects";
    case 'S':
    case 'a':
    case 'U':
      return "text";
    case 'M':
    case 'm':
      return "dates or times";
    case 'V':
      return "raw bytes or a type of another library";
    default:
      return "of an unknown type";
  }
}

int64_t Dimension(const std::string& digits) {
  // 18 digits fit in 64 bits.
  const size_t begin = std::min(digits.find_first_not_of('0'), digits.size());
  if (digits.size() - begin > 18) return -1;
  return begin == digits.size() ? 0 : std::stoll(digits.substr(begin));
}

Header ParseHeader(const std::string& file, const std::string& bytes, size_t* elements_begin) {
  const auto fail = [&](const std::string& message) { return DataError{file + ": " + message}; };
  if (bytes.size() < kMagic + 4 || bytes.compare(0, 6, "\x93NUMPY") != 0) {
    throw fail("is not a .npy file");
  }
  const int version = static_cast<unsigned char>(bytes[6]);
  if (version < 1 || version > 3) {
    throw fail("has version " + std::to_string(version) +
               " of the format; versions 1, 2 and 3 are supported");
  }
  size_t size = 0;
  const size_t width = version == 1 ? 2 : 4;
  for (size_t i = 0; i < width; ++i) {
    size |= static_cast<size_t>(static_cast<unsigned char>(bytes[kMagic + i])) << (8 * i);
  }
  const size_t begin = kMagic + width;
  if (size > kMaxHeader) {
    throw fail("has a header of " + std::to_string(size) + " bytes, more than " +
               std::to_string(kMaxHeader));
  }
  if (bytes.size() - begin < size) throw fail("the header is truncated");
  Header header;
  if (!HeaderParser(std::string_view(bytes).substr(begin, size)).Parse(&header)) {
    throw fail("the header is not in the format that NumPy writes");
  }
  *elements_begin = begin + size;
  return header;
}

}  // namespace

NpyArray ParseNpy(const std::string& file, const std::string& bytes) {
  const auto fail = [&](const std::string& message) { return DataError{file + ": " + message}; };
  size_t begin = 0;
  const Header header = ParseHeader(file, bytes, &begin);
  if (header.is_structured)
    throw fail("has elements of several fields; save each field separately");
  Type type;
  if (!ParseType(header.type, &type)) {
    throw fail("elements are " + NameOf(header.type) + " (" + header.type.substr(0, 40) +
               "); save them as float32, float64 or integers");
  }
  if (header.shape.empty() || header.shape.size() > 2) {
    throw fail("must have one or two dimensions, got " + std::to_string(header.shape.size()));
  }
  NpyArray array;
  array.file = file;
  array.rows = Dimension(header.shape[0]);
  array.cols = header.shape.size() == 1 ? 1 : Dimension(header.shape[1]);
  if (array.rows < 0 || array.cols < 0) throw fail("the shape is too large");
  if (array.rows == 0 || array.cols == 0) throw fail("has no rows of data");
  const auto rows = static_cast<size_t>(array.rows);
  const auto cols = static_cast<size_t>(array.cols);
  const size_t available = (bytes.size() - begin) / type.size;
  if (rows > available / cols) {
    throw fail("is truncated: shape (" + std::to_string(rows) + ", " + std::to_string(cols) +
               ") requires more elements than the " + std::to_string(available) + " in the file");
  }
  array.is_float32 = type.kind == 'f' && type.size <= 4;
  array.values.resize(rows * cols);
  for (size_t i = 0; i < array.values.size(); ++i) {
    uint64_t bits = 0;
    std::memcpy(&bits, bytes.data() + begin + i * type.size, type.size);
    if (type.big_endian) bits = __builtin_bswap64(bits) >> (64 - 8 * type.size);
    const size_t to = header.fortran_order ? i % rows * cols + i / rows : i;
    array.values[to] = Decode(type.kind, type.size, bits);
  }
  return array;
}

NpyArray ReadNpy(const std::string& file) { return ParseNpy(file, ReadFile(file)); }

std::vector<int32_t> NpyArray::Classes() const {
  if (cols != 1) {
    throw DataError{file + ": labels must have one dimension, got " + std::to_string(cols) +
                    " columns"};
  }
  std::vector<int32_t> classes;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::optional<int32_t> index = ClassIndex(values[i]);
    if (!index.has_value()) {
      char got[40];
      std::snprintf(got, sizeof(got), "%.17g", values[i]);
      throw DataError{file + "[" + std::to_string(i) +
                      "]: expected a class index, a whole number " + "from 0 to 2147483647, got " +
                      got};
    }
    classes.push_back(*index);
  }
  return classes;
}

}  // namespace backprop::cli
