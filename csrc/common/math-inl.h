// SPDX-License-Identifier: MIT
// Elementary functions of Vec<double>, without branches or calls. Each is a reduction to a short
// interval and a polynomial that interpolates the function there at Chebyshev nodes, of a degree
// that leaves a relative error below 2^-55 in the result. Errors are below 2 ulp for every target
// (tested); special values are those of the C library.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr double kPi = 0x1.921fb54442d18p+1;

typedef uint64_t UintVec __attribute__((vector_size(LMC_VECTOR_BYTES)));

// c[0] + c[1] x + ... + c[N-1] x^(N-1), by Horner's rule.
template <int N>
LMC_INLINE Vec<double> polynomial(Vec<double> x, const double (&c)[N]) {
  Vec<double> sum = broadcast(c[N - 1]);
#pragma GCC unroll 32
  for (int k = N - 2; k >= 0; --k) sum = sum * x + c[k];
  return sum;
}

LMC_INLINE Vec<double> square_root(Vec<double> x) {
#if defined(__AVX512F__)
  return (Vec<double>)_mm512_sqrt_pd((__m512d)x);
#elif defined(__AVX2__)
  return (Vec<double>)_mm256_sqrt_pd((__m256d)x);
#elif defined(__SSE2__)
  return (Vec<double>)_mm_sqrt_pd((__m128d)x);
#else
  for (int l = 0; l < kLanes<double>; ++l) x[l] = __builtin_sqrt(x[l]);
  return x;
#endif
}

// Rounds to an integer k with |x| < 2^51. Adding 1.5 * 2^52 leaves k in the low bits of the sum.
struct Rounded {
  Vec<double> value;
  UintVec bits;  // k in two's complement
};
LMC_INLINE Rounded round_to_integer(Vec<double> x) {
  constexpr double kShift = 0x1.8p52;
  const Vec<double> shifted = x + kShift;
  return {shifted - kShift, (UintVec)shifted - (UintVec)broadcast(kShift)};
}

// 2^k for k + 1023 in 1 ... 2046.
LMC_INLINE Vec<double> power_of_two(UintVec biased) { return (Vec<double>)(biased << 52); }

LMC_INLINE Vec<double> vector_exp(Vec<double> x) {
  // exp(x) = 2^k exp(r), |r| <= ln 2 / 2, and exp(r) = 1 + r + r^2 P(r). k ln2_high is exact.
  constexpr double kLog2e = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fefa2p-1, kLn2Low = 0x1.9ef35793c7673p-41;
  constexpr double kP[] = {0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d63p-5,
                           0x1.11111111109b3p-7,  0x1.6c16c1788bd90p-10, 0x1.a01a01a7c41d5p-13,
                           0x1.a019b90d2ae7ap-16, 0x1.71de0dae63bb3p-19, 0x1.289185613a3d6p-22,
                           0x1.af38a9b0ec855p-26};
  // Beyond these limits the result is 0 or infinity anyway; NaN passes.
  const Vec<double> high = broadcast(800.0), low = broadcast(-800.0);
  x = x > high ? high : x;
  x = x < low ? low : x;
  const Rounded k = round_to_integer(x * kLog2e);
  const Vec<double> r = (x - k.value * kLn2High) - k.value * kLn2Low;
  const Vec<double> y = 1.0 + (r + r * r * polynomial(r, kP));
  // The scale in two factors, because 2^k alone may not be representable where 2^k exp(r) is.
  const UintVec half = (k.bits + 2046) >> 1;  // 1023 + floor(k/2)
  return y * power_of_two(half) * power_of_two(k.bits + 2046 - half);
}

LMC_INLINE Vec<double> vector_log(Vec<double> x) {
  // x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt 2), s = f / (2 + f), and
  // log(1 + f) = 2 atanh s = f - (f^2/2 - s (f^2/2 + s^2 P(s^2))).
  constexpr double kLn2High = 0x1.62e42fefa2p-1, kLn2Low = 0x1.9ef35793c7673p-41;
  constexpr double kP[] = {0x1.5555555555558p-1, 0x1.9999999995273p-2, 0x1.2492492dfd86cp-2,
                           0x1.c71c62d5e53e0p-3, 0x1.7462b91b8df65p-3, 0x1.39fdcceb4bb45p-3,
                           0x1.2b5f68a50d903p-3};
  constexpr uint64_t kOne = 0x3ff0000000000000, kRootHalf = 0x3fe6a09e667f3bcd;
  constexpr uint64_t kMantissa = 0x000fffffffffffff, kTwo52 = 0x4330000000000000;
  const auto subnormal = x < 0x1p-1022;
  const Vec<double> normal = subnormal ? x * 0x1p54 : x;
  const UintVec bits = (UintVec)normal + (kOne - kRootHalf);
  const Vec<double> biased = (Vec<double>)((bits >> 52) | kTwo52) - 0x1p52;  // exact
  const Vec<double> k = biased - (subnormal ? broadcast(1023.0 + 54.0) : broadcast(1023.0));
  const Vec<double> f = (Vec<double>)((bits & kMantissa) + kRootHalf) - 1.0;
  const Vec<double> s = f / (2.0 + f), z = s * s, half_square = 0.5 * f * f;
  const Vec<double> tail = s * (half_square + z * polynomial(z, kP)) + k * kLn2Low;
  const Vec<double> result = k * kLn2High - ((half_square - tail) - f);
  const Vec<double> infinity = broadcast(__builtin_inf());
  const Vec<double> special =
      x == 0.0 ? -infinity : (x == infinity ? x : broadcast(__builtin_nan("")));
  return x > 0.0 && x < infinity ? result : special;
}

struct SineCosine {
  Vec<double> sine, cosine;
};

// sin(2 pi u) and cos(2 pi u) for |u| < 2^49.
LMC_INLINE SineCosine vector_sincos_2pi(Vec<double> u) {
  // u = k/4 + r exactly, |r| <= 1/8: sin 2 pi r = 2 pi r + r^3 P(r^2), cos 2 pi r = 1 + r^2 Q(r^2),
  // and k turns them by quarters.
  constexpr double kTwoPi = 0x1.921fb54442d18p+2, kTwoPiLow = 0x1.1a62633145c07p-52;
  constexpr double kP[] = {-0x1.4abbce625be52p+5, 0x1.466bc6775a476p+6,  -0x1.32d2cce500387p+6,
                           0x1.50783208843ebp+5,  -0x1.e3027dea82bd7p+3, 0x1.e4a9d9166f052p+1};
  constexpr double kQ[] = {-0x1.3bd3cc9be45dep+4, 0x1.03c1f081b5ac0p+6,  -0x1.55d3c7e3cb241p+6,
                           0x1.e1f5068688d5bp+5,  -0x1.a6d1eef479be1p+4, 0x1.f9ce245cada0bp+2,
                           -0x1.b2f3eb054afcdp+0};
  const Rounded k = round_to_integer(4.0 * u);
  const Vec<double> r = u - 0.25 * k.value, z = r * r;
  const Vec<double> sine = kTwoPi * r + r * (kTwoPiLow + z * polynomial(z, kP));
  const Vec<double> cosine = 1.0 + z * polynomial(z, kQ);
  const auto swapped = (IntVec<double>)((k.bits & 1) != 0);
  const UintVec sine_sign = (k.bits & 2) << 62, cosine_sign = ((k.bits + 1) & 2) << 62;
  return {(Vec<double>)((UintVec)(swapped ? cosine : sine) ^ sine_sign),
          (Vec<double>)((UintVec)(swapped ? sine : cosine) ^ cosine_sign)};
}

}  // namespace lmc::LMC_TARGET
