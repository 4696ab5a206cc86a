// Double-double numbers of about 104 bits, and IEEE binary128 for transcendental functions.
//
// The algorithms are Dekker's and Knuth's as given by Hida, Li and Bailey, "Algorithms for
// quad-double precision floating point arithmetic" (ARITH 2001). A sum or product of finite numbers
// has a relative error of at most kDoubleDoubleUnit, as long as nothing overflows and no low part
// underflows. Translation units that use this header must be compiled with -ffp-contract=off: a
// fused multiply-add in place of a product and a sum breaks the algorithms.
#ifndef BACKPROP_SERVER_ENGINE_DOUBLE_DOUBLE_H_
#define BACKPROP_SERVER_ENGINE_DOUBLE_DOUBLE_H_

#include <cfloat>
#include <cmath>

#if LDBL_MANT_DIG != 113
// From libquadmath. Its header is in a directory of GCC's that clang-based tools do not search.
extern "C" {
__float128 expq(__float128 x) noexcept;
__float128 expm1q(__float128 x) noexcept;
__float128 logq(__float128 x) noexcept;
__float128 log1pq(__float128 x) noexcept;
__float128 tanhq(__float128 x) noexcept;
__float128 erfcq(__float128 x) noexcept;
__float128 sqrtq(__float128 x) noexcept;
__float128 atanq(__float128 x) noexcept;
}
#endif

namespace backprop::engine {

// IEEE binary128: 113 bits. An operation takes tens of nanoseconds.
#if LDBL_MANT_DIG == 113
using Quad = long double;
inline Quad Exp(Quad x) { return std::exp(x); }
inline Quad Expm1(Quad x) { return std::expm1(x); }
inline Quad Log(Quad x) { return std::log(x); }
inline Quad Log1p(Quad x) { return std::log1p(x); }
inline Quad Tanh(Quad x) { return std::tanh(x); }
inline Quad Erfc(Quad x) { return std::erfc(x); }
inline Quad Sqrt(Quad x) { return std::sqrt(x); }
inline Quad Atan(Quad x) { return std::atan(x); }
#else
using Quad = __float128;
inline Quad Exp(Quad x) { return expq(x); }
inline Quad Expm1(Quad x) { return expm1q(x); }
inline Quad Log(Quad x) { return logq(x); }
inline Quad Log1p(Quad x) { return log1pq(x); }
inline Quad Tanh(Quad x) { return tanhq(x); }
inline Quad Erfc(Quad x) { return erfcq(x); }
inline Quad Sqrt(Quad x) { return sqrtq(x); }
inline Quad Atan(Quad x) { return atanq(x); }
#endif

inline constexpr double kDoubleDoubleUnit = 0x1p-104;

struct DoubleDouble {
  double high = 0;  // the number rounded to double
  double low = 0;   // the remainder, |low| ≤ ulp(high) / 2

  DoubleDouble() = default;
  // Exact. Implicit, because every double is such a number.
  // NOLINTNEXTLINE(google-explicit-constructor)
  DoubleDouble(double x) : high(x) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  DoubleDouble(int x) : high(x) {}
  DoubleDouble(double h, double l) : high(h), low(l) {}
  explicit DoubleDouble(Quad x)
      : high(static_cast<double>(x)), low(static_cast<double>(x - static_cast<Quad>(high))) {}

  // Exact.
  Quad quad() const { return static_cast<Quad>(high) + static_cast<Quad>(low); }
};

inline DoubleDouble operator-(DoubleDouble a) { return {-a.high, -a.low}; }

inline DoubleDouble operator+(DoubleDouble a, DoubleDouble b) {
  const auto two_sum = [](double x, double y) {
    const double sum = x + y;
    const double rounded_y = sum - x;
    return DoubleDouble(sum, (x - (sum - rounded_y)) + (y - rounded_y));
  };
  DoubleDouble s = two_sum(a.high, b.high);
  const DoubleDouble t = two_sum(a.low, b.low);
  s.low += t.high;
  const double high = s.high + s.low;
  const double low = s.low - (high - s.high) + t.low;
  const double sum = high + low;
  return {sum, low - (sum - high)};
}

inline DoubleDouble operator-(DoubleDouble a, DoubleDouble b) { return a + -b; }

inline DoubleDouble operator*(DoubleDouble a, DoubleDouble b) {
  const double product = a.high * b.high;
  const double error = std::fma(a.high, b.high, -product) + (a.high * b.low + a.low * b.high);
  const double high = product + error;
  return {high, error - (high - product)};
}

// The quotient of the high parts, corrected twice.
inline DoubleDouble operator/(DoubleDouble a, DoubleDouble b) {
  const double first = a.high / b.high;
  DoubleDouble rest = a - b * first;
  const double second = rest.high / b.high;
  rest = rest - b * second;
  return DoubleDouble(first) + DoubleDouble(second) + DoubleDouble(rest.high / b.high);
}

// e^x − 1 and log(1 + x) with a relative error of a few roundings, also for tiny x. Small |x| uses
// the power series.
inline DoubleDouble Expm1(DoubleDouble x) {
  if (!(std::abs(x.high) < 0.05)) return DoubleDouble(Expm1(x.quad()));
  DoubleDouble term = x;
  DoubleDouble sum = x;
  for (int n = 2; std::abs(term.high) > 0x1p-106 * std::abs(sum.high); ++n) {
    term = term * x / DoubleDouble(n);
    sum = sum + term;
  }
  return sum;
}
inline DoubleDouble Log1p(DoubleDouble x) {
  if (!(std::abs(x.high) < 0.05)) return DoubleDouble(Log1p(x.quad()));
  DoubleDouble power = x;
  DoubleDouble sum = x;
  for (int n = 2; std::abs(power.high) > 0x1p-106 * std::abs(sum.high); ++n) {
    power = -(power * x);
    sum = sum + power / DoubleDouble(n);
  }
  return sum;
}

inline bool IsZero(DoubleDouble a) { return a.high == 0; }
inline bool IsPositive(DoubleDouble a) { return a.high > 0; }

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_DOUBLE_DOUBLE_H_
