// Random numbers: the published vectors, independence of the split, moments.
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

// kat_vectors of Random123 (Salmon et al.), rows "philox4x32 10".
Test(rng, philox_matches_the_published_vectors) {
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } VECTORS[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof VECTORS / sizeof VECTORS[0]; i++) {
        uint32_t out[4];
        philox4x32(out, VECTORS[i].counter, VECTORS[i].key);
        for (int w = 0; w < 4; w++) {
            cr_expect_eq(out[w], VECTORS[i].out[w], "vector %zu word %d: %08x", i, w, out[w]);
        }
    }
}

Test(rng, a_value_is_a_function_of_seed_stream_and_index) {
    uint64_t v = rng_u64(1, 2, 3);
    cr_expect_eq(rng_u64(1, 2, 3), v);
    cr_expect_neq(rng_u64(2, 2, 3), v);
    cr_expect_neq(rng_u64(1, 3, 3), v);
    cr_expect_neq(rng_u64(1, 2, 4), v);
    // The high halves count as much as the low ones.
    const uint64_t high = (uint64_t)1 << 32;
    cr_expect_neq(rng_u64(1 + high, 2, 3), v);
    cr_expect_neq(rng_u64(1, 2 + high, 3), v);
    cr_expect_neq(rng_u64(1, 2, 3 + high), v);
    cr_expect_eq(rng_u64(0, 0, 0), 0xe169c58d6627e8d5u);  // the first vector's low words
}

Test(rng, any_split_of_a_range_gives_the_same_values) {
    enum { N = 103 };
    real whole[N], parts[N];
    const size_t cuts[] = {0, 1, 4, 11, 64, N};
    rng_fill_normal(whole, N, 1000, 0.02, 42, STREAM_TEST);
    for (int i = 0; i < 5; i++) {
        rng_fill_normal(parts + cuts[i], cuts[i + 1] - cuts[i], 1000 + cuts[i], 0.02, 42,
                        STREAM_TEST);
    }
    cr_expect_eq(memcmp(whole, parts, sizeof whole), 0);
    rng_fill_normal(parts, 0, 0, 1, 1, 1);  // an empty range writes nothing
    cr_expect_eq(memcmp(whole, parts, sizeof whole), 0);
}

Test(rng, uniform_fills_the_unit_interval_evenly) {
    enum { N = 100000, BINS = 10 };
    int bins[BINS] = {0};
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double u = rng_uniform(7, STREAM_TEST, (uint64_t)i);
        cr_assert(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
        sum += u;
    }
    // Standard deviation of a bin is 95, of the mean 9.1e-4: five of each.
    for (int b = 0; b < BINS; b++)
        cr_expect(abs(bins[b] - N / BINS) < 475, "bin %d: %d", b, bins[b]);
    cr_expect(fabs(sum / N - 0.5) < 4.6e-3);
}

Test(rng, normals_have_the_moments_of_normals) {
    enum { N = 200000 };
    double m[5] = {0};
    int beyond_two = 0;
    for (int i = 0; i < N; i++) {
        double x = rng_normal(3, STREAM_INIT, (uint64_t)i);
        cr_assert(isfinite(x));
        for (int k = 1; k <= 4; k++) m[k] += pow(x, k) / N;
        beyond_two += fabs(x) > 2;
    }
    // Standard errors at N = 200000: 0.0022, 0.0032, 0.0087, 0.022; five of each.
    cr_expect(fabs(m[1]) < 0.011, "mean %g", m[1]);
    cr_expect(fabs(m[2] - 1) < 0.016, "variance %g", m[2]);
    cr_expect(fabs(m[3]) < 0.044, "third moment %g", m[3]);
    cr_expect(fabs(m[4] - 3) < 0.11, "fourth moment %g", m[4]);
    cr_expect(fabs((double)beyond_two / N - 0.0455) < 0.0024, "beyond two: %d", beyond_two);
}

Test(rng, streams_and_neighbours_do_not_correlate) {
    enum { N = 100000 };
    double streams = 0, neighbours = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = rng_normal(1, STREAM_INIT, i);
        streams += x * rng_normal(1, STREAM_INIT + 1, i) / N;
        neighbours += x * rng_normal(1, STREAM_INIT, i + 1) / N;
    }
    cr_expect(fabs(streams) < 0.016, "%g", streams);
    cr_expect(fabs(neighbours) < 0.016, "%g", neighbours);
}
