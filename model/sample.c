// Drawing tokens: temperature, top-k, top-p, min-p.
#include "model/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "base/status.h"

#define AT(member) offsetof(SampleConfig, member)
// clang-format off
const Field SAMPLE_FIELDS[] = {
    {"sample.temperature", CFG_F64, AT(temperature), 0, 100, "0.8", NULL, "divides the logits; 0 = greedy", "", KEY_FREE},
    {"sample.top_k", CFG_INT, AT(top_k), 0, 1 << 24, "0", NULL, "keep the k likeliest tokens, 0 = all", "", KEY_FREE},
    {"sample.top_p", CFG_F64, AT(top_p), 0, 1, "0.95", NULL, "keep the smallest set with this share of probability, 1 = all", "", KEY_FREE},
    {"sample.min_p", CFG_F64, AT(min_p), 0, 1, "0", NULL, "drop tokens below this share of the likeliest one's probability", "", KEY_FREE},
    {"sample.seed", CFG_I64, AT(seed), 0, 9e15, "1", NULL, "seed of the draws", "", KEY_FREE},
    {"sample.max_new", CFG_INT, AT(max_new), 0, 1 << 30, "200", NULL, "tokens generated at most", "tokens", KEY_FREE},
};
// clang-format on
const int SAMPLE_FIELD_COUNT = sizeof SAMPLE_FIELDS / sizeof SAMPLE_FIELDS[0];

typedef struct Candidate {
    double weight;  // exp(logit - max), not normalised
    int id;
} Candidate;

// Likeliest first; ties by the smaller id.
static int candidate_order(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

// -1: there is none among numbers that are not. -inf alone is a word: never.
static int argmax(const real *logits, int V) {
    int best = 0;
    for (int v = 0; v < V; v++) {
        if (isnan(logits[v])) return -1;
        if (logits[v] > logits[best]) best = v;
    }
    return isfinite(logits[best]) ? best : -1;
}

// How many of the sorted candidates the filters leave, at least one.
static int candidates_kept(const Candidate *c, int V, const SampleConfig *cfg) {
    int kept = cfg->top_k > 0 && cfg->top_k < V ? cfg->top_k : V;
    if (cfg->top_p < 1) {
        double total = 0, sum = 0;
        for (int i = 0; i < kept; i++) total += c[i].weight;
        int n = 0;
        while (n < kept && (n == 0 || sum < cfg->top_p * total)) sum += c[n++].weight;
        kept = n;
    }
    while (kept > 1 && c[kept - 1].weight < cfg->min_p * c[0].weight) kept--;
    return kept;
}

int sample_next(const real *logits, int V, const SampleConfig *cfg, int64_t stream, int64_t step) {
    int best = argmax(logits, V);
    if (best < 0) return -1;
    if (cfg->temperature <= 0) return best;
    Candidate *c = malloc((size_t)V * sizeof *c);
    ASSERT(c != NULL);
    double max = (double)logits[best];
    for (int v = 0; v < V; v++) {
        c[v] = (Candidate){exp(((double)logits[v] - max) / cfg->temperature), v};
    }
    qsort(c, (size_t)V, sizeof *c, candidate_order);
    int kept = candidates_kept(c, V, cfg);
    double total = 0;
    for (int i = 0; i < kept; i++) total += c[i].weight;
    uint64_t draw = (uint64_t)stream << 40 | (uint64_t)step;
    double left = total * rng_uniform((uint64_t)cfg->seed, STREAM_SAMPLE, draw);
    int pick = 0;
    while (pick + 1 < kept && left >= c[pick].weight) left -= c[pick++].weight;
    int id = c[pick].id;
    free(c);
    return id;
}
