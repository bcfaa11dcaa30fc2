// Sampling and generation: block prefill, then recurrent decoding of all prompts together.
#pragma once

#include "model/model.h"

typedef struct SampleConfig {
    double temperature;  // 0: greedy
    int top_k;           // 0: off
    double top_p, min_p; // 1 and 0: off
    int64_t seed;
    int max_new;
} SampleConfig;
extern const Field SAMPLE_FIELDS[];
extern const int SAMPLE_FIELD_COUNT;

// The next id of one row: filters in the order temperature, top-k, top-p, min-p; the draw is a function of
// (seed, row, step) alone. logits (V), -inf for an id that must not come. Ties: the smaller id. -1: one is NaN or +inf, or all are
// -inf.
int sample_next(const real *logits, int V, const SampleConfig *cfg, int row, int64_t step);

// Called for each new token of each live row; false: the row stops.
typedef bool (*TokenFn)(int row, int token, void *user);
typedef struct Prompt {
    const int32_t *ids;
    int count;  // >= 1
} Prompt;
// Runs all prompts; a row ends at max_new, when `token` says so and, if ends, before a token that ends a text
// (model_config_ends). Memory is constant in length for lightning layers. E_DIVERGED: a logit is not finite; what `token`
// heard before stands. Collective over the tp axis.
Status generate(Model *m, const Prompt *prompts, int rows, bool ends, const SampleConfig *cfg,
                TokenFn token, void *user) CHECKED;
