// Drawing the next token from logits.
#pragma once

#include <stdint.h>

#include "base/config.h"
#include "base/real.h"

typedef struct SampleConfig {
    double temperature;   // 0: greedy
    int top_k;            // 0: off
    double top_p, min_p;  // 1 and 0: off
    int64_t seed;
    int max_new;
} SampleConfig;
extern const Field SAMPLE_FIELDS[];
extern const int SAMPLE_FIELD_COUNT;

// The next id of one text: filters in the order temperature, top-k, top-p, min-p; the draw is a
// function of (seed, stream, step) alone: the text's number among all texts of all ranks, and its
// tokens so far. logits (V), -inf for an id that must not come. Ties: the smaller id. -1: one is
// NaN or +inf, or all are -inf.
int sample_next(const real *logits, int V, const SampleConfig *cfg, int64_t stream, int64_t step);
