// SIMD vectors as wide as this build's instruction set allows: 16, 32 or 64 bytes. They are GCC's
// vector extensions: operators apply to each lane, a comparison gives lanes of −1 or 0, and `mask ?
// a : b` selects.
#ifndef BACKPROP_SERVER_ENGINE_VECTOR_H_
#define BACKPROP_SERVER_ENGINE_VECTOR_H_

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace backprop::engine {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T, int kBytes = kVectorBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;

// The integer type as wide as T, and a vector of it.
template <class T>
using IntOf = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
template <class T>
using IntVec = Vec<IntOf<T>>;

template <class T>
inline constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

// `count` rounded up to whole vectors.
template <class T>
constexpr int64_t WholeVectors(int64_t count) {
  return (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
[[gnu::always_inline]] inline Vec<T> Load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
[[gnu::always_inline]] inline void Store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof v);
}

// Loads the first `count` <= kLanes elements; the other lanes are 0.
template <class T>
[[gnu::always_inline]] inline Vec<T> LoadPart(const T* from, int64_t count) {
#if defined(__AVX512F__)
  const auto mask = (1U << count) - 1;
  if constexpr (sizeof(T) == 4) {  // NOLINT(bugprone-branch-clone): it does not see the types
    return (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from);
  } else {
    return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), from);
  }
#else
  Vec<T> v = {};
  std::memcpy(&v, from, static_cast<size_t>(count) * sizeof(T));
  return v;
#endif
}

template <class T>
[[gnu::always_inline]] inline void StorePart(T* to, Vec<T> v, int64_t count) {
#if defined(__AVX512F__)
  const auto mask = (1U << count) - 1;
  if constexpr (sizeof(T) == 4) {  // NOLINT(bugprone-branch-clone)
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), (__m512)v);
  } else {
    _mm512_mask_storeu_pd(to, static_cast<__mmask8>(mask), (__m512d)v);
  }
#else
  std::memcpy(to, &v, static_cast<size_t>(count) * sizeof(T));
#endif
}

// A vector with x in all lanes. (x − 0 is x, including the sign of zero.)
template <class T>
[[gnu::always_inline]] inline Vec<T> Splat(T x) {
  return x - Vec<T>{};
}

template <class T>
inline constexpr IntVec<T> LaneNumbers() {
  IntVec<T> lanes = {};
  for (int64_t l = 0; l < kLanes<T>; ++l) lanes[l] = static_cast<IntOf<T>>(l);
  return lanes;
}

// −1 in the first `count` lanes.
template <class T>
[[gnu::always_inline]] inline IntVec<T> FirstLanes(int64_t count) {
  return LaneNumbers<T>() < static_cast<IntOf<T>>(count);
}

template <class T>
[[gnu::always_inline]] inline Vec<T> Abs(Vec<T> x) {
  constexpr auto kAllButSign = std::numeric_limits<IntOf<T>>::max();
  return (Vec<T>)((IntVec<T>)x & kAllButSign);
}

// Per lane; b if either is NaN.
template <class T>
[[gnu::always_inline]] inline Vec<T> Max(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}
template <class T>
[[gnu::always_inline]] inline Vec<T> Min(Vec<T> a, Vec<T> b) {
  return a < b ? a : b;
}

// The sum of all lanes: the halves are added until one lane is left.
template <class T>
inline T SumOfLanes(Vec<T> v) {
  T lanes[kLanes<T>];
  Store<T>(lanes, v);
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// A sum in float64 of the lanes of vectors of T. The order of additions depends only on the width
// of the vectors.
template <class T>
class WideSum {
 public:
  [[gnu::always_inline]] void Add(Vec<T> v) {
    if constexpr (sizeof(T) == 8) {
      sum_[0] += v;
    } else {
      typedef T Half __attribute__((vector_size(kVectorBytes / 2)));
      Half halves[2];
      std::memcpy(halves, &v, sizeof v);
      sum_[0] += __builtin_convertvector(halves[0], Vec<double>);
      sum_[1] += __builtin_convertvector(halves[1], Vec<double>);
    }
  }
  // Adds the squares of the lanes. A square is exact in float64 if T is float.
  [[gnu::always_inline]] void AddSquare(Vec<T> v) {
    if constexpr (sizeof(T) == 8) {
      sum_[0] += v * v;
    } else {
      typedef T Half __attribute__((vector_size(kVectorBytes / 2)));
      Half halves[2];
      std::memcpy(halves, &v, sizeof v);
      for (int h = 0; h < 2; ++h) {
        const Vec<double> x = __builtin_convertvector(halves[h], Vec<double>);
        sum_[h] += x * x;
      }
    }
  }
  double Total() const { return SumOfLanes<double>(sum_[0] + sum_[1]); }

 private:
  Vec<double> sum_[2] = {};
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_VECTOR_H_
