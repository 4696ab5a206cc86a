// Vectorised exp, log, tanh and related functions, on the domains that the engine needs.
// Branch-free, without tables, the same computation in every lane. NaN gives NaN. Largest errors in
// units in the last place, with and without fused multiply-add, measured over the whole range
// against the C library in the next wider type and enforced by tests/engine/vector_math_test.cc:
//   ExpNonPositive 1.5   Expm1NonPositive 2   Log 1.5   Log1pOfUnit 2   Tanh 3   Sigmoid 3
#ifndef BACKPROP_SERVER_ENGINE_VECTOR_MATH_H_
#define BACKPROP_SERVER_ENGINE_VECTOR_MATH_H_

#include <cstdint>
#include <limits>

#include "server/engine/vector.h"

namespace backprop::engine {

// c[0] + c[1]·x + … by Horner's rule.
template <class T, size_t kTerms>
[[gnu::always_inline]] inline Vec<T> Polynomial(Vec<T> x, const T (&c)[kTerms]) {
  Vec<T> sum = Splat<T>(c[kTerms - 1]);
  for (size_t i = kTerms - 1; i-- > 0;) sum = sum * x + c[i];
  return sum;
}

// The constants of exp and log in one precision.
template <class T>
struct ElementaryConstants;

template <>
struct ElementaryConstants<float> {
  static constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer
  static constexpr int kMantissaBits = 23;
  static constexpr int32_t kBias = 127;
  // ln 2 in two parts. The first has few enough bits that its product with an exponent is exact.
  static constexpr float kLn2High = 0x1.63p-1f;
  static constexpr float kLn2Low = -0x1.bd0106p-13f;
  static constexpr float kExpLowest = -87.33654f;  // smallest x for which e^x is a normal number
  // (e^r − 1 − r) / r² = Σ r^i / (i + 2)!, for |r| ≤ ln 2 / 2
  static constexpr float kExp[] = {1.0f / 2,   1.0f / 6,   1.0f / 24,
                                   1.0f / 120, 1.0f / 720, 1.0f / 5040};
  // Terms of artanh's series, for |s| ≤ 0.172 in Log and ≤ 1/3 in Log1pOfUnit.
  static constexpr int kLogTerms = 6;
  static constexpr int kLog1pTerms = 8;
};

template <>
struct ElementaryConstants<double> {
  static constexpr double kRound = 0x1.8p52;
  static constexpr int kMantissaBits = 52;
  static constexpr int64_t kBias = 1023;
  static constexpr double kLn2High = 0x1.62e42fee00000p-1;
  static constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kExpLowest = -708.3964185322641;
  static constexpr double kExp[] = {
      1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,      1.0 / 720,       1.0 / 5040,
      1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
  static constexpr int kLogTerms = 12;
  static constexpr int kLog1pTerms = 17;
};

// x = n·ln 2 + r with integer n and |r| ≤ ln 2 / 2: e^x = scale·(1 + tail), scale = 2^n, and tail =
// e^r − 1.
template <class T>
struct ExpParts {
  Vec<T> scale;
  Vec<T> tail;
};

template <class T>
[[gnu::always_inline]] inline ExpParts<T> SplitExp(Vec<T> x) {
  using C = ElementaryConstants<T>;
  constexpr T kLog2E = T(1.442695040888963407359924681001892137L);
  const Vec<T> shifted = x * kLog2E + C::kRound;  // its low bits are n
  const Vec<T> n = shifted - C::kRound;
  const Vec<T> r = (x - n * C::kLn2High) - n * C::kLn2Low;
  // Unsigned, because the shift may drop high bits.
  using Unsigned = Vec<std::make_unsigned_t<IntOf<T>>>;
  const Vec<T> scale =
      (Vec<T>)(((Unsigned)shifted + static_cast<std::make_unsigned_t<IntOf<T>>>(C::kBias))
               << C::kMantissaBits);
  return {x < C::kExpLowest ? Vec<T>{} : scale, r + r * r * Polynomial<T>(r, C::kExp)};
}

// e^x for x ≤ 0. Results below the smallest normal number are 0.
template <class T>
[[gnu::always_inline]] inline Vec<T> ExpNonPositive(Vec<T> x) {
  const ExpParts<T> e = SplitExp<T>(x);
  // For −∞ and very small x the tail is not a number.
  return x < ElementaryConstants<T>::kExpLowest ? Vec<T>{} : e.scale + e.scale * e.tail;
}

// e^x − 1 for x ≤ 0.
template <class T>
[[gnu::always_inline]] inline Vec<T> Expm1NonPositive(Vec<T> x) {
  const ExpParts<T> e = SplitExp<T>(x);
  return x < ElementaryConstants<T>::kExpLowest ? Splat<T>(-1) : e.scale * e.tail + (e.scale - 1);
}

// 2·artanh(s) = 2·(s + s³/3 + s⁵/5 + …), up to s^(2·kTerms − 1), without the first term 2·s.
template <class T, int kTerms>
[[gnu::always_inline]] inline Vec<T> ArtanhTail(Vec<T> s) {
  const Vec<T> s2 = s * s;
  Vec<T> sum = Splat<T>(T(2) / (2 * kTerms - 1));
  for (int i = kTerms - 2; i >= 1; --i) sum = sum * s2 + T(2) / static_cast<T>(2 * i + 1);
  return s * s2 * sum;
}

// log x for normal x > 0 and for ∞: x = 2^n·m, m in [√½, √2), log m = 2·artanh((m − 1) / (m + 1)).
template <class T>
[[gnu::always_inline]] inline Vec<T> Log(Vec<T> x) {
  using C = ElementaryConstants<T>;
  constexpr T kRootHalf = T(0.70710678118654752440L);
  IntOf<T> root_half_bits;
  std::memcpy(&root_half_bits, &kRootHalf, sizeof kRootHalf);
  // Relative to √½, the exponent field is n.
  const IntVec<T> bits = (IntVec<T>)x - root_half_bits;
  const IntVec<T> exponent = bits >> C::kMantissaBits;
  const Vec<T> m = (Vec<T>)((IntVec<T>)x - (exponent << C::kMantissaBits));
  // Converts a small integer to T through the bits of a sum.
  const Vec<T> n = (Vec<T>)(exponent + (IntVec<T>)Splat<T>(C::kRound)) - C::kRound;
  const Vec<T> f = m - 1;
  const Vec<T> s = f / (m + 1);
  // 2·s = f − s·f, where f is exact.
  const Vec<T> tail = ArtanhTail<T, C::kLogTerms>(s) - s * f;
  const Vec<T> log = n * C::kLn2High + (f + (tail + n * C::kLn2Low));
  return x < std::numeric_limits<T>::infinity() ? log : x;
}

// log(1 + x) for x in [0, 1]: 2·artanh(x / (2 + x)).
template <class T>
[[gnu::always_inline]] inline Vec<T> Log1pOfUnit(Vec<T> x) {
  const Vec<T> s = x / (x + 2);
  return 2 * s + ArtanhTail<T, ElementaryConstants<T>::kLog1pTerms>(s);
}

// tanh |x| = −t / (2 + t), t = e^(−2·|x|) − 1.
template <class T>
[[gnu::always_inline]] inline Vec<T> Tanh(Vec<T> x) {
  const Vec<T> t = Expm1NonPositive<T>(-2 * Abs<T>(x));
  const Vec<T> size = -t / (2 + t);
  return x < 0 ? -size : size;
}

// 1 / (1 + e^−x), without overflow.
template <class T>
[[gnu::always_inline]] inline Vec<T> Sigmoid(Vec<T> x) {
  const Vec<T> e = ExpNonPositive<T>(-Abs<T>(x));
  return (x < 0 ? e : Splat<T>(1)) / (1 + e);
}

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_VECTOR_MATH_H_
