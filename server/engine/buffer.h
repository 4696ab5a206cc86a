// Aligned memory for elements of one precision.
#ifndef BACKPROP_SERVER_ENGINE_BUFFER_H_
#define BACKPROP_SERVER_ENGINE_BUFFER_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "server/engine/spec.h"

namespace backprop::engine {

template <class T>
constexpr DataType DataTypeOf() {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  return sizeof(T) == 4 ? DataType::kFloat32 : DataType::kFloat64;
}

// A fixed number of elements, aligned to 64 bytes and initialised to zero. Movable; copied only by
// Clone(). Thread-compatible.
class Buffer {
 public:
  static constexpr std::align_val_t kAlignment{64};
  // Frees memory that the buffer adopted.
  using Release = void (*)(std::byte* data, size_t bytes);

  // Takes ownership of memory for `count` elements, aligned to 64 bytes. The destructor calls
  // `release`.
  static Buffer Adopt(DataType type, int64_t count, std::byte* data, Release release) {
    Buffer buffer;
    buffer.type_ = type;
    buffer.count_ = count;
    buffer.data_ = data;
    buffer.release_ = release;
    return buffer;
  }

  Buffer() = default;
  Buffer(DataType type, int64_t count) : type_(type), count_(count) {
    if (count == 0) return;
    data_ = static_cast<std::byte*>(::operator new(size_bytes(), kAlignment));
    std::memset(data_, 0, size_bytes());
  }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(type_, other.type_);
    std::swap(count_, other.count_);
    std::swap(data_, other.data_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~Buffer() {
    if (release_ != nullptr) {
      release_(data_, size_bytes());
    } else {
      ::operator delete(data_, kAlignment);
    }
  }

  Buffer Clone() const {
    Buffer copy(type_, count_);
    if (count_ > 0) std::memcpy(copy.data_, data_, size_bytes());
    return copy;
  }

  DataType type() const { return type_; }
  int64_t count() const { return count_; }
  size_t size_bytes() const { return static_cast<size_t>(count_ * SizeOf(type_)); }
  std::byte* bytes() { return data_; }
  const std::byte* bytes() const { return data_; }

  // Returns the elements. T must be the buffer's type.
  template <class T>
  std::span<T> as() {
    assert(count_ == 0 || DataTypeOf<T>() == type_);
    return {reinterpret_cast<T*>(data_), static_cast<size_t>(count_)};
  }
  template <class T>
  std::span<const T> as() const {
    assert(count_ == 0 || DataTypeOf<T>() == type_);
    return {reinterpret_cast<const T*>(data_), static_cast<size_t>(count_)};
  }

  // Element i as a double, in either precision. Slow: not for inner loops.
  double Get(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    return type_ == DataType::kFloat32 ? static_cast<double>(as<float>()[at]) : as<double>()[at];
  }
  void Set(int64_t i, double value) {
    const auto at = static_cast<size_t>(i);
    if (type_ == DataType::kFloat32) {
      as<float>()[at] = static_cast<float>(value);
    } else {
      as<double>()[at] = value;
    }
  }

 private:
  DataType type_ = DataType::kFloat32;
  int64_t count_ = 0;
  std::byte* data_ = nullptr;
  Release release_ = nullptr;  // set for adopted memory only
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_BUFFER_H_
