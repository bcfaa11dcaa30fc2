// Elementary functions and sums that compilers vectorise: branch-free bodies for loops under
// `#pragma omp simd`, and sums whose order is fixed by the source, not by the processor or the
// threads.
//
// exp and sincos follow Cody & Waite (Software Manual for the Elementary Functions, 1980): reduce
// the argument with a constant split into short parts, evaluate a polynomial, scale by integer
// arithmetic on the bits. The polynomials are those of Moshier's Cephes library (expf, sinf, cosf,
// erff). The f64 build calls libm: it checks gradients and need not be fast. NaN in gives NaN out
// everywhere.
#pragma once

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "tensor/threads.h"

// Lanes of a sum: one AVX-512 register of floats; narrower processors use several registers.
enum { LANES = 16 };
// The most channels a thread takes at a time where a sum runs over tokens: bounds its partial sums.
enum { CHANNEL_TILE = 512 };

// Channels a thread should take at a time out of C, in whole cache lines. As wide as the threads
// allow: narrow strips of a tall matrix touch a new page at every token. A channel's own sum, hence
// its bits, is the same for any width.
static inline int tile_width(int C) {
    int threads = omp_get_max_threads();
    int share = (C + threads - 1) / threads, width = (share + LANES - 1) / LANES * LANES;
    if (width > CHANNEL_TILE) return CHANNEL_TILE;
    return width > 0 ? width : LANES;
}

static inline int tile_end(int from, int width, int C) {
    return from + width < C ? from + width : C;
}

#ifdef STERNA_F64

static inline real real_exp(real x) {
    return exp(x);
}
static inline real real_sqrt(real x) {
    return sqrt(x);
}
static inline void real_sincos(double angle, real *sine, real *cosine) {
    *sine = sin(angle);
    *cosine = cos(angle);
}
static inline real real_normal_below(real x, real gauss) {
    (void)gauss;
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

#else

// A number and its bits.
typedef union FloatBits {
    float value;
    uint32_t bits;
} FloatBits;
typedef union DoubleBits {
    double value;
    uint64_t bits;
} DoubleBits;

static inline float real_sqrt(float x) {
    return sqrtf(x);
}

// At most 1 ulp off from -87.3 to 88.7; denormal, then 0 below; infinity above.
static inline float real_exp(float x) {
    // 1.5 * 2^23: added, it leaves a rounded integer in the low bits of the sum.
    const float shift = 12582912.0f;
    const uint32_t shift_bits = 0x4B400000u;

    // Just beyond where the result is infinite or 0. Written so that NaN passes both.
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;

    // x = k ln 2 + r, |r| <= ln(2)/2; the first part of ln 2 is short, so k times it is exact.
    FloatBits shifted = {.value = x * 1.44269504f + shift};
    float k = shifted.value - shift;
    float r = x - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;

    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;

    // 2^k as two factors, because k reaches beyond the exponents of normal numbers at both ends.
    uint32_t n = shifted.bits - shift_bits;
    uint32_t half = (uint32_t)((int32_t)n >> 1);
    FloatBits first = {.bits = (half + 127u) << 23};
    FloatBits second = {.bits = (n - half + 127u) << 23};
    return p * first.value * second.value;
}

// Within 1e-7 of the exact values for |angle| up to 1e8; beyond, precision fades with the double's
// own.
static inline void real_sincos(double angle, float *sine, float *cosine) {
    const double shift = 6755399441055744.0;  // 1.5 * 2^52, as above

    // angle = n pi/2 + r. Parts of 24 bits: products with n are exact up to n = 2^29.
    DoubleBits shifted = {.value = angle * 0x1.45f306dc9c883p-1 + shift};
    double n = shifted.value - shift;
    double reduced = angle - n * 0x1.921fb4p+0;
    reduced = reduced - n * 0x1.4442dp-24;
    reduced = reduced - n * 0x1.8469898cc5170p-48;

    // Both functions on [-pi/4, pi/4].
    float r = (float)reduced, r2 = r * r;
    float s = -1.9515295891e-4f;
    s = s * r2 + 8.3321608736e-3f;
    s = s * r2 - 1.6666654611e-1f;
    s = s * r2 * r + r;
    float c = 2.443315711809948e-5f;
    c = c * r2 - 1.388731625493765e-3f;
    c = c * r2 + 4.166664568298827e-2f;
    c = c * r2 * r2 - 0.5f * r2 + 1.0f;

    // An odd quadrant swaps the two, its second bit flips the sign: sin in 2, 3, cos in 1, 2.
    uint32_t quadrant = (uint32_t)shifted.bits;
    FloatBits as_sine = {.value = (quadrant & 1u) != 0 ? c : s};
    FloatBits as_cosine = {.value = (quadrant & 1u) != 0 ? s : c};
    as_sine.bits ^= (quadrant & 2u) << 30;
    as_cosine.bits ^= ((quadrant + 1u) & 2u) << 30;
    *sine = as_sine.value;
    *cosine = as_cosine.value;
}

// Share of the standard normal distribution below x, given exp(-x^2/2): within 2e-7.
static inline float real_normal_below(float x, float gauss) {
    // erf and erfc of u = |x|/sqrt(2), for u < 1, up to 2, and beyond
    float size = x < 0 ? -x : x;
    size = size > 13.0f ? 13.0f : size;
    float u = size * 0.70710678f, u2 = u * u;
    float t = 7.853861353153693e-5f;
    t = t * u2 - 8.010193625184903e-4f;
    t = t * u2 + 5.188327685732524e-3f;
    t = t * u2 - 2.685381193529856e-2f;
    t = t * u2 + 1.128358514861418e-1f;
    t = t * u2 - 3.761262582423300e-1f;
    t = t * u2 + 1.128379165726710f;
    float v = 1.0f / (u > 0.5f ? u : 0.5f), v2 = v * v;
    float p = 2.326819970068386e-2f;
    p = p * v2 - 1.387039388740657e-1f;
    p = p * v2 + 3.687424674597105e-1f;
    p = p * v2 - 5.824733027278666e-1f;
    p = p * v2 + 6.210004621745983e-1f;
    p = p * v2 - 4.944515323274145e-1f;
    p = p * v2 + 3.404879937665872e-1f;
    p = p * v2 - 2.741127028184656e-1f;
    p = p * v2 + 5.638259427386472e-1f;
    float r = -1.047766399936249e+1f;
    r = r * v2 + 1.297719955372516e+1f;
    r = r * v2 - 7.495518717768503f;
    r = r * v2 + 2.921019019210786f;
    r = r * v2 - 1.015265279202700f;
    r = r * v2 + 4.218463358204948e-1f;
    r = r * v2 - 2.820767439740514e-1f;
    r = r * v2 + 5.641895067754075e-1f;
    float tail = gauss * v * (u < 2.0f ? p : r);
    float outside = u < 1.0f ? 1.0f - u * t : tail;
    float below = 0.5f * outside;
    return x < 0 ? below : x >= 0 ? 1.0f - below : x;
}

#endif

// 0 and 1 at the infinite ends: exp saturates to infinity and 0 there.
static inline real real_sigmoid(real x) {
    return (real)1 / ((real)1 + real_exp(-x));
}

// Adds up lanes as a tree. Overwrites them.
static inline double lanes_fold(double lane[LANES]) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lane[l] += lane[l + width];
    return lane[0];
}

// Sum of a_c * b_c over a row, in double: floats squared cannot overflow it.
static inline double row_dot(const real *a, const real *b, size_t count) {
    double lane[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)a[i + l] * (double)b[i + l];
    for (; i < count; i++) rest += (double)a[i] * (double)b[i];
    return lanes_fold(lane) + rest;
}

// Sum of a row, in double, in the same order.
static inline double row_sum(const real *a, size_t count) {
    double lane[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)a[i + l];
    for (; i < count; i++) rest += (double)a[i];
    return lanes_fold(lane) + rest;
}
