// The order of samples: permutations, mixtures, and weights from text.
#include "data/internal.h"

#include "base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_bijection(uint64_t n) {
    char *seen = calloc(n, 1);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t place = sampler__permute(n, i, 42, 3, 1);
        cr_assert_lt(place, n);
        cr_assert_eq(seen[place]++, 0, "n %llu: place %llu twice", (unsigned long long)n,
                     (unsigned long long)place);
    }
    free(seen);
}

Test(sampler, permutation_is_a_bijection) {
    for (uint64_t n = 1; n <= 300; n++) check_bijection(n);
    const uint64_t sizes[] = {1023, 1024, 1025, 4095, 4096, 4097, 65537, 100003};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) check_bijection(sizes[i]);
}

Test(sampler, permutation_of_a_huge_source_stays_inside) {
    const uint64_t n = (1ULL << 62) + 12345;
    for (uint64_t i = 0; i < 1000; i++) {
        cr_assert_lt(sampler__permute(n, i, 1, 0, 0), n);
        cr_assert_lt(sampler__permute(n, n - 1 - i, 1, 0, 0), n);
    }
}

Test(sampler, seed_source_and_epoch_each_change_the_order) {
    int same[3] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t place = sampler__permute(1000, i, 5, 1, 1);
        same[0] += place == sampler__permute(1000, i, 5 + (1ULL << 40), 1, 1);
        same[1] += place == sampler__permute(1000, i, 5, 2, 1);
        same[2] += place == sampler__permute(1000, i, 5, 1, 2);
    }
    for (int k = 0; k < 3; k++) cr_assert_lt(same[k], 10, "%d: %d of 1000 in place", k, same[k]);
}

// Where a sample lands over many epochs: chi square with 15 degrees of freedom, 37.7 at p = 0.001.
Test(sampler, permutation_is_uniform_over_epochs) {
    enum { BINS = 16, EPOCHS = 8000 };
    const uint64_t n = 16 * 61;
    for (uint64_t index = 0; index < n; index += n / 3) {
        int count[BINS] = {0};
        for (uint32_t e = 0; e < EPOCHS; e++)
            count[sampler__permute(n, index, 9, 0, e) * BINS / n]++;
        double chi = 0, mean = (double)EPOCHS / BINS;
        for (int b = 0; b < BINS; b++) chi += (count[b] - mean) * (count[b] - mean) / mean;
        cr_assert_lt(chi, 37.7, "index %llu: chi square %g", (unsigned long long)index, chi);
    }
}

static void check_mixture(const double *weights, int sources, int64_t steps) {
    int64_t counts[MAX_SOURCES] = {0};
    for (int64_t i = 0; i < steps; i++) {
        int k = sampler__pick(weights, counts, sources, i);
        cr_assert(k >= 0 && k < sources && weights[k] > 0);
        counts[k]++;
        for (int j = 0; j < sources; j++) {
            double off = fabs((double)counts[j] - weights[j] * (double)(i + 1));
            cr_assert(off < 1 + 1e-9, "step %lld source %d is off by %g", (long long)i, j, off);
        }
    }
}

Test(sampler, mixture_is_within_one_of_target_at_every_step) {
    for (uint64_t trial = 0; trial < 300; trial++) {
        double weights[MAX_SOURCES], sum = 0;
        int sources = 1 + (int)(rng_u64(7, STREAM_TEST, trial) % 24);
        for (int k = 0; k < sources; k++) {
            double u = rng_uniform(7, STREAM_TEST, 1000 + trial * MAX_SOURCES + (uint64_t)k);
            weights[k] = k % 5 == 4 ? 0 : pow(u, (double)(1 + trial % 8)) + 1e-9;
            sum += weights[k];
        }
        for (int k = 0; k < sources; k++) weights[k] /= sum;
        check_mixture(weights, sources, 600);
    }
}

Test(sampler, ties_go_to_the_lowest_index) {
    const double weights[4] = {0.25, 0.25, 0.25, 0.25};
    int64_t counts[4] = {0};
    for (int64_t i = 0; i < 40; i++) {
        int k = sampler__pick(weights, counts, 4, i);
        cr_assert_eq(k, i % 4);
        counts[k]++;
    }
}

// --- weights from text ---

static const char *const NAMES[] = {"austen", "kjv", "my_texts"};
static const int64_t TOKENS[] = {100, 0, 300};
static const MixSources SOURCES = {.names = NAMES, .count = 3},
                        COUNTED = {.names = NAMES, .tokens = TOKENS, .count = 3};

Test(mix, weights_are_normalised_and_unnamed_sources_get_none) {
    double w[3];
    cr_assert_eq(mix__parse(w, "my_texts=3, austen=1", &SOURCES), OK, "%s", err_message());
    cr_assert(w[0] == 0.25 && w[1] == 0 && w[2] == 0.75);
}

Test(mix, empty_means_by_tokens) {
    double w[3];
    cr_assert_eq(mix__parse(w, "", &COUNTED), OK);
    cr_assert(w[0] == 0.25 && w[1] == 0 && w[2] == 0.75);
    cr_assert_eq(mix__parse(w, NULL, &COUNTED), OK);
    cr_assert(w[0] == 0.25 && w[1] == 0 && w[2] == 0.75);
}

Test(mix, a_source_without_text_leaves_its_share_to_the_others) {
    double w[3];
    cr_assert_eq(mix__parse(w, "kjv=0.5,austen=0.5", &COUNTED), OK);
    cr_assert(w[0] == 1 && w[1] == 0 && w[2] == 0);
}

Test(mix, unknown_source_names_the_known_ones) {
    double w[3];
    cr_assert_eq(mix__parse(w, "austin=1", &SOURCES), E_USAGE);
    cr_assert_not_null(strstr(err_message(), "'austin'"));
    cr_assert_not_null(strstr(err_message(), "austen, kjv, my_texts"));
}

Test(mix, malformed_text_is_refused) {
    const char *bad[] = {"austen",       "austen=",    "austen=x",
                         "austen=-1",    "austen=nan", "austen=inf",
                         "austen=1,kjv", "austen=1,",  ",",
                         "=1",           "austen=0",   "austen=1,austen=2",
                         "austen=1e",    "austen=1 2", "austen=1=2",
                         "auste=1",      "austenn=1",  "kjv=1e308,austen=1e308"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        double w[3];
        cr_assert_eq(mix__parse(w, bad[i], &SOURCES), E_USAGE, "'%s'", bad[i]);
    }
}

// Counts at the ends of their type, as a damaged file may hold them: a source is named, nothing
// overflows.
Test(sampler, a_pick_at_the_limits_of_counting_is_a_source) {
    const int64_t ends[] = {0, 1, INT64_MAX - 1, INT64_MAX};
    const double weights[2] = {0.25, 0.75};
    for (size_t i = 0; i < 64; i++) {
        int64_t counts[2] = {ends[i % 4], ends[i / 4 % 4]};
        int k = sampler__pick(weights, counts, 2, ends[i / 16]);
        cr_assert(k == 0 || k == 1);
    }
}
