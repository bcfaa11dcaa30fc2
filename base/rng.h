// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11). A value is a function of
// (seed, stream, index) alone, so results do not depend on rank count, threads or order.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"

// One stream per purpose, so that no two uses share numbers. A tensor's stream is STREAM_INIT + its
// row.
enum { STREAM_DATA = 1, STREAM_SAMPLE = 2, STREAM_TEST = 3, STREAM_HASH = 4, STREAM_INIT = 1024 };

void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
uint64_t rng_u64(uint64_t seed, uint64_t stream, uint64_t index);
double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);  // [0,1), 53 bits
double rng_normal(uint64_t seed, uint64_t stream,
                  uint64_t index);  // Box-Muller, mean 0, variance 1
// out[i] = std * rng_normal(seed, stream, first + i), any split of a range gives the same values.
void rng_fill_normal(real *out, size_t count, size_t first, double std, uint64_t seed,
                     uint64_t stream);
