// Sampling, block prefill, recurrent decoding.
#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/finite.h"
#include "base/rng.h"

enum { PREFILL_CHUNK = 512 };  // tokens of a prompt at a time: memory does not grow with the prompt

#define AT(member) offsetof(SampleConfig, member)
// clang-format off
const Field SAMPLE_FIELDS[] = {
    {"sample.temperature", CFG_F64, AT(temperature), 0, 100, "0.8", NULL, "divides the logits; 0 = greedy", ""},
    {"sample.top_k", CFG_INT, AT(top_k), 0, 1 << 24, "0", NULL, "keep the k likeliest tokens, 0 = all", ""},
    {"sample.top_p", CFG_F64, AT(top_p), 0, 1, "0.95", NULL, "keep the smallest set with this share of probability, 1 = all", ""},
    {"sample.min_p", CFG_F64, AT(min_p), 0, 1, "0", NULL, "drop tokens below this share of the likeliest one's probability", ""},
    {"sample.seed", CFG_I64, AT(seed), 0, 9e15, "1", NULL, "seed of the draws", ""},
    {"sample.max_new", CFG_INT, AT(max_new), 0, 1 << 30, "200", NULL, "tokens generated at most", "tokens"},
};
// clang-format on
const int SAMPLE_FIELD_COUNT = sizeof SAMPLE_FIELDS / sizeof SAMPLE_FIELDS[0];

// ---- sampling ----------------------------------------------------------------------------------

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

int sample_next(const real *logits, int V, const SampleConfig *cfg, int row, int64_t step) {
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
    uint64_t draw = (uint64_t)row << 40 | (uint64_t)step;
    double left = total * rng_uniform((uint64_t)cfg->seed, STREAM_SAMPLE, draw);
    int pick = 0;
    while (pick + 1 < kept && left >= c[pick].weight) left -= c[pick++].weight;
    int id = c[pick].id;
    free(c);
    return id;
}

// ---- generation --------------------------------------------------------------------------------

typedef struct Generation {
    Model *m;
    Tape *tp;
    DecodeState *all;       // one row a prompt
    BatchRoom chunk, step;  // of one prompt, and of all rows
    real *logits;           // (rows,V): of the next token
    int *next;              // (rows), -1: the row has ended
    int rows;
} Generation;

// Logits of the last of a row's n tokens.
static Tensor *last_logits(Generation *g, Tensor *hidden, int n) {
    size_t at = (size_t)(n - 1) * (size_t)hidden->cols;
    real *last = hidden->data == NULL ? NULL : hidden->data + at;
    Tensor *x = tape_leaf(g->tp, last, 1, hidden->cols);
    return model_project(g->tp, g->m, x);
}

static Status generation_reserve(Generation *g) {
    Batch chunk, step;
    TRY(batch_open(&g->chunk, PREFILL_CHUNK, 1, 0));
    TRY(batch_shape(&g->chunk, 1, PREFILL_CHUNK, &chunk));
    TRY(batch_open(&g->step, 1, 1, 0));
    TRY(batch_shape(&g->step, g->rows, 1, &step));
    tape_dry(g->tp, false);
    last_logits(g, model_hidden(g->tp, g->m, &chunk, g->all), PREFILL_CHUNK);
    tape_dry(g->tp, false);
    model_logits(g->tp, g->m, &step, g->all);
    return tape_reserve(g->tp);
}

static Status generation_open(Generation *g, Model *m, int rows) {
    *g = (Generation){.m = m, .tp = tape_new(), .rows = rows};
    g->logits = calloc((size_t)rows * (size_t)m->cfg.vocab, sizeof *g->logits);
    g->next = calloc((size_t)rows, sizeof *g->next);
    if (!g->logits || !g->next) {
        FAIL(E_NOMEM, "generate fewer prompts at a time", "out of memory for %d prompts", rows);
    }
    TRY(decode_open(&g->all, m, rows));
    return generation_reserve(g);
}

static void generation_close(Generation *g) {
    decode_close(g->all);
    tape_free(g->tp);
    batch_close(&g->chunk);
    batch_close(&g->step);
    free(g->logits);
    free(g->next);
}

// As many rows as were reserved.
static void must(Status st) {
    ASSERT(st == OK);
}

// Ranks that share the parameters generate the same tokens together.
static Status ranks_agree(const Model *m, Status mine) {
    return m->mesh != NULL && m->mesh->tp > 1 ? agree(mine, m->mesh->tp_axis) : mine;
}

// Runs one prompt in chunks on a fresh state of its own, then copies that into row r. Only the last
// token's logits are kept.
static Status prefill(Generation *g, int r, const Prompt *p, DecodeState *alone) {
    int V = g->m->cfg.vocab;
    for (int done = 0; done < p->count;) {
        int n = p->count - done < PREFILL_CHUNK ? p->count - done : PREFILL_CHUNK;
        TRY(ranks_agree(g->m, decode_reserve(alone, n)));
        must(batch_begin(&g->chunk, 1, n));
        memcpy(batch_next_tokens(&g->chunk), p->ids + done, (size_t)n * sizeof *p->ids);
        batch_continue_row(&g->chunk, done);
        done += n;
        Batch b = batch_view(&g->chunk);
        tape_begin(g->tp, false);
        Tensor *hidden = model_hidden(g->tp, g->m, &b, alone);
        if (done < p->count) continue;
        Tensor *logits = last_logits(g, hidden, n);
        for (int v = 0; v < V; v++) g->logits[(size_t)r * (size_t)V + (size_t)v] = logits->data[v];
    }
    return ranks_agree(g->m, decode_copy_row(g->all, r, alone, 0));
}

static Status prefill_all(Generation *g, const Prompt *prompts) {
    Status st = OK;
    for (int r = 0; r < g->rows && st == OK; r++) {
        DecodeState *alone = NULL;
        st = ranks_agree(g->m, decode_open(&alone, g->m, 1));
        if (st == OK) st = prefill(g, r, &prompts[r], alone);
        decode_close(alone);
    }
    return st;
}

// One step of all rows together; ended rows ride along on token 0.
static Status decode_step(Generation *g) {
    TRY(ranks_agree(g->m, decode_reserve(g->all, 1)));
    must(batch_begin(&g->step, g->rows, 1));
    for (int r = 0; r < g->rows; r++) {
        *batch_next_tokens(&g->step) = g->next[r] < 0 ? 0 : g->next[r];
        batch_continue_row(&g->step, decode_pos(g->all)[r]);
    }
    Batch b = batch_view(&g->step);
    tape_begin(g->tp, false);
    Tensor *logits = model_logits(g->tp, g->m, &b, g->all);
    size_t count = (size_t)g->rows * (size_t)g->m->cfg.vocab;
    for (size_t i = 0; i < count; i++) g->logits[i] = logits->data[i];
    return OK;
}

// No id is banned here, so that -inf, too, comes from an overflow.
static Status logits_check(const real *logits, int V, int row, int64_t step) {
    int v = (int)reals_outside(logits, (size_t)V, (real)INFINITY);
    if (v == V) return OK;
    FAIL(E_DIVERGED, "are the weights of a run that diverged?",
         "prompt %d, new token %lld: a logit is not a number (%g for id %d)", row + 1,
         (long long)step + 1, isnan(logits[v]) ? (double)NAN : (double)logits[v], v);
}

// Draws each live row's next token and reports it; *alive: rows that go on.
static Status draw_tokens(Generation *g, bool ends, const SampleConfig *cfg, int64_t step,
                          TokenFn token, void *user, int *alive) {
    int V = g->m->cfg.vocab;
    *alive = 0;
    for (int r = 0; r < g->rows; r++) {
        if (g->next[r] < 0) continue;
        const real *logits = g->logits + (size_t)r * (size_t)V;
        TRY(logits_check(logits, V, r, step));
        int id = sample_next(logits, V, cfg, r, step);
        bool ended = ends && model_config_ends(&g->m->cfg, id);
        bool goes_on = !ended && token(r, id, user);
        g->next[r] = goes_on ? id : -1;
        *alive += goes_on;
    }
    return OK;
}

static Status prompts_check(const Model *m, const Prompt *prompts, int rows) {
    for (int r = 0; r < rows; r++) {
        if (prompts[r].count < 1)
            FAIL(E_USAGE, "give at least one token", "prompt %d is empty", r + 1);
        for (int i = 0; i < prompts[r].count; i++) {
            if (prompts[r].ids[i] < 0 || prompts[r].ids[i] >= m->cfg.vocab) {
                FAIL(E_USAGE, "is this the model's own tokenizer?",
                     "prompt %d: token %d is outside of the vocabulary of %d", r + 1,
                     prompts[r].ids[i], m->cfg.vocab);
            }
        }
    }
    return OK;
}

Status generate(Model *m, const Prompt *prompts, int rows, bool ends, const SampleConfig *cfg,
                TokenFn token, void *user) {
    TRY(prompts_check(m, prompts, rows));
    if (rows < 1 || cfg->max_new < 1) return OK;
    Generation g;
    Status st = ranks_agree(m, generation_open(&g, m, rows));
    if (st == OK) st = prefill_all(&g, prompts);
    int alive = rows;
    for (int64_t step = 0; st == OK && alive > 0 && step < cfg->max_new; step++) {
        if (step > 0) st = decode_step(&g);
        if (st == OK) st = draw_tokens(&g, ends, cfg, step, token, user, &alive);
    }
    generation_close(&g);
    return st;
}
