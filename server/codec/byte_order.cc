#include "server/codec/byte_order.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"

namespace backprop::codec {
namespace {

constexpr size_t kLookedAt = 4096;  // elements that are checked
constexpr size_t kDifferent = 16;   // different numbers that the first rule needs
constexpr size_t kSimple = 4;       // elements that the second rule needs

bool Within(double x, double magnitude) {
  return std::abs(x) <= magnitude && std::abs(x) >= 1 / magnitude;
}

// `little` and `big` are the same bytes in the two orders.
template <class T>
std::string Complaint(T little, T big) {
  return absl::StrCat("must be set, because the bytes of raw look big-endian: the first number is ",
                      little, " as little-endian and ", big,
                      " as big-endian; set BYTE_ORDER_BIG_ENDIAN, or BYTE_ORDER_LITTLE_ENDIAN if "
                      "the bytes are little-endian");
}

// Up to kDifferent different numbers, in the order in which they were added.
template <class T>
struct Different {
  std::array<T, kDifferent> numbers;
  size_t count = 0;

  void Add(T x) {
    const auto end = numbers.begin() + count;
    if (count < kDifferent && std::find(numbers.begin(), end, x) == end) numbers[count++] = x;
  }
};

template <class T>
std::string Judge(const std::string& raw) {
  Different<T> different;  // elements read as big-endian
  T shown = 0;             // the first of them read as little-endian
  size_t others = 0;       // number of elements that are not 0
  double smallest = std::numeric_limits<double>::infinity();
  double largest = 0;
  bool finite = true;
  bool simple = true;
  const size_t end = std::min(raw.size(), kLookedAt * sizeof(T));
  for (size_t at = 0; at < end; at += sizeof(T)) {
    const T little = Load<T>(raw.data() + at, false);
    const T big = Load<T>(raw.data() + at, true);
    if (little == 0 || big == 0) continue;  // both: -0 is 0 in one order only
    // Most little-endian numbers fail this check, so the loop usually ends early.
    if (!Within(static_cast<double>(big), 0x1p40)) return "";
    if (others++ == 0) shown = little;
    different.Add(big);
    finite = finite && std::isfinite(little);
    smallest = std::min(smallest, std::abs(static_cast<double>(little)));
    largest = std::max(largest, std::abs(static_cast<double>(little)));
    simple = simple && Within(static_cast<double>(big), 0x1p10) && little > 0 &&
             little < std::numeric_limits<T>::denorm_min() * T(65536);
  }
  // The quotient of two doubles may overflow to infinity, which is also at least 2^64.
  const bool odd = !finite || largest < 0x1p-100 || largest / smallest >= 0x1p64;
  if (!(different.count == kDifferent && odd) && !(others >= kSimple && simple)) return "";
  return Complaint(shown, different.numbers[0]);
}

template <class T>
std::string JudgeClasses(const std::string& raw) {
  const T below = 65536;
  std::string complaint;
  const size_t end = std::min(raw.size(), kLookedAt * sizeof(T));
  for (size_t at = 0; at < end; at += sizeof(T)) {
    const T little = Load<T>(raw.data() + at, false);
    if (little == 0) continue;
    const T big = Load<T>(raw.data() + at, true);
    if (little % below != 0 || big < 0 || big >= below) return "";
    if (complaint.empty()) complaint = Complaint(little, big);
  }
  return complaint;
}

template <class T>
bool AllOrdinary(const std::string& raw) {
  bool any = false;
  for (size_t at = 0; at < raw.size(); at += sizeof(T)) {
    const T x = Load<T>(raw.data() + at, true);
    if (x == 0) continue;
    if (!Within(static_cast<double>(x), 0x1p40)) return false;
    any = true;
  }
  return any;
}

template <class T>
bool AllClasses(const std::string& raw, int64_t classes) {
  for (size_t at = 0; at < raw.size(); at += sizeof(T)) {
    const T x = Load<T>(raw.data() + at, true);
    if (x < 0 || x >= classes) return false;
  }
  return true;
}

}  // namespace

std::string LooksBigEndian(const v1::Tensor& tensor) {
  if (tensor.byte_order() != v1::BYTE_ORDER_UNSPECIFIED) return "";
  switch (tensor.data_type()) {
    case v1::DATA_TYPE_FLOAT32:
      return Judge<float>(tensor.raw());
    case v1::DATA_TYPE_FLOAT64:
      return Judge<double>(tensor.raw());
    case v1::DATA_TYPE_INT32:
      return JudgeClasses<int32_t>(tensor.raw());
    case v1::DATA_TYPE_INT64:
      return JudgeClasses<int64_t>(tensor.raw());
    default:
      return "";
  }
}

std::string BigEndianHint(const v1::Tensor& tensor, int64_t classes) {
  if (tensor.raw().empty() || tensor.byte_order() == v1::BYTE_ORDER_BIG_ENDIAN) return "";
  const std::string& raw = tensor.raw();
  const char* end = "; see byte_order";
  switch (tensor.data_type()) {
    case v1::DATA_TYPE_FLOAT32:
      if (!AllOrdinary<float>(raw)) return "";
      return absl::StrCat("; read as big-endian, the first element is ",
                          Load<float>(raw.data(), true), end);
    case v1::DATA_TYPE_FLOAT64:
      if (!AllOrdinary<double>(raw)) return "";
      return absl::StrCat("; read as big-endian, the first element is ",
                          Load<double>(raw.data(), true), end);
    case v1::DATA_TYPE_INT32:
      if (!AllClasses<int32_t>(raw, classes)) return "";
      break;
    case v1::DATA_TYPE_INT64:
      if (!AllClasses<int64_t>(raw, classes)) return "";
      break;
    default:
      return "";
  }
  return absl::StrCat("; read as big-endian, all elements are in that range", end);
}

}  // namespace backprop::codec
