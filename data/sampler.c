// The order of samples as arithmetic: nothing is stored but counters, nothing depends on the number
// of ranks.
//
// Place: a Feistel network keyed by (seed, source, epoch) permutes [0, 4^h) >= n; results outside
// [0, n) are fed through again until they fall inside (cycle walking: Black & Rogaway, CT-RSA
// 2002), which keeps it a bijection. Mixture: sample j of source k belongs in the window of global
// samples where w_k * i has passed j but not yet j + 1. Taking the open window that ends first
// keeps every count within 1 of its target w_k * i at every step; "largest deficit first" does not
// (w = 15 uneven sources drift by 1.04).
#include "data/internal.h"

#include "base/rng.h"

enum { FEISTEL_ROUNDS = 4 };

uint64_t sampler__permute(uint64_t n, uint64_t index, uint64_t seed, uint32_t source,
                          uint32_t epoch) {
    ASSERT(index < n);
    int half_bits = 1;
    while (half_bits < 32 && (1ULL << (2 * half_bits)) < n) half_bits++;
    const uint64_t mask = (1ULL << half_bits) - 1;
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};

    uint64_t x = index;
    do {
        uint64_t left = x >> half_bits, right = x & mask;
        for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
            const uint32_t counter[4] = {(uint32_t)right, epoch, source, round};
            uint32_t random[4];
            philox4x32(random, counter, key);
            uint64_t mixed = left ^ (random[0] & mask);
            left = right;
            right = mixed;
        }
        x = left << half_bits | right;
    } while (x >= n);  // at most 4 turns on average, as 4^h <= 4n
    return x;
}

int sampler__pick(const double *weights, const int64_t *counts, int sources, int64_t sample) {
    int best = -1;
    double best_end = 0;
    for (int k = 0; k < sources; k++) {
        // Sums of doubles: counts come from a file, and the largest has no successor.
        if (weights[k] * ((double)sample + 1) <= (double)counts[k]) continue;  // not open yet
        double end = ((double)counts[k] + 1) / weights[k];
        if (best < 0 || end < best_end) {
            best = k;
            best_end = end;
        }
    }
    if (best >= 0) return best;

    // The deficits sum to 1, so a window is open but for rounding: then the largest weight.
    best = 0;
    for (int k = 1; k < sources; k++)
        if (weights[k] > weights[best]) best = k;
    return best;
}
