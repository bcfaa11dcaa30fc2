// Philox4x32-10: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As
// Easy as 1, 2, 3", SC'11. Constants from the paper; vectors of the authors' Random123 library in
// tests/base/test_rng.c.
#include "base/rng.h"

#include <math.h>

static const uint32_t M0 = 0xD2511F53u, M1 = 0xCD9E8D57u;  // multipliers
static const uint32_t W0 = 0x9E3779B9u, W1 = 0xBB67AE85u;  // Weyl increments of the key
static const double TWO_PI = 6.283185307179586476925;

void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++, k0 += W0, k1 += W1) {
        uint64_t p0 = (uint64_t)M0 * c0, p1 = (uint64_t)M1 * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// The block of four words at (seed, stream, index).
static void block_at(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                           (uint32_t)(stream >> 32)};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    philox4x32(out, counter, key);
}

uint64_t rng_u64(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t w[4];
    block_at(w, seed, stream, index);
    return (uint64_t)w[1] << 32 | w[0];
}

static double unit(uint64_t bits) {
    return (double)(bits >> 11) * 0x1p-53;
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return unit(rng_u64(seed, stream, index));
}

double rng_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t w[4];
    block_at(w, seed, stream, index);
    double u = 1.0 - unit((uint64_t)w[1] << 32 | w[0]);  // (0,1]: the logarithm stays finite
    double v = unit((uint64_t)w[3] << 32 | w[2]);
    return sqrt(-2.0 * log(u)) * cos(TWO_PI * v);
}

void rng_fill_normal(real *out, size_t count, size_t first, double std, uint64_t seed,
                     uint64_t stream) {
    for (size_t i = 0; i < count; i++) out[i] = (real)(std * rng_normal(seed, stream, first + i));
}
