// One block of lightning attention with decay and document resets (Qin et al. 2024, "Lightning
// Attention-2", and docs/maths.md 6): o_t = sum_{t' <= t} exp(-s (t-t')) (q_t . k_t') v_t'.
//
// Tokens go through in blocks of m. Inside a block scores are formed and masked as in ordinary
// attention; what lies before the block is summed up in the state S (A,E), which holds the last
// token undecayed:
//
//     A = (Q K^T) * D       O = A V + diag(win) Q S       S <- exp(-s m) S + K^T diag(wout) V
//     win_i = e^{-s(i+1)}   D_ij = e^{-s(i-j)}, i >= j    wout_j = e^{-s(m-1-j)}
//
// A document that starts inside the block cuts all three: rows before the first start ("open") are
// the only ones that see S, rows from the last start on ("last") the only ones that S will see, and
// D_ij = 0 between documents. Both are ranges of rows, so products are shortened rather than
// masked.
#include "tensor/kernels/lightning_block.h"

#include <math.h>
#include <string.h>

#include <omp.h>

#include "base/status.h"
#include "tensor/gemm.h"
#include "tensor/threads.h"

#ifdef STERNA_F64
#define ABS fabs
#else
#define ABS fabsf
#endif

enum {
    SUB = 64,  // rows of scores formed at a time: only columns up to the last of these rows exist
    ALIGNED = 16  // reals in a cache line (of floats)
};
// Weights and states below this are set to 0. They cannot change a sum of normal size, but as
// operands they would become denormal, and x86 multiplies denormals a hundred times slower.
static const real TINY = (real)1e-30;

static size_t size_max(size_t a, size_t b) {
    return a > b ? a : b;
}
static int int_min(int a, int b) {
    return a < b ? a : b;
}
static size_t aligned(size_t n) {
    return (n + ALIGNED - 1) / ALIGNED * ALIGNED;
}
static int block_tokens(const LightningDims *d) {
    return d->T < d->block ? d->T : d->block;
}

bool lightning__feeds_threads(const LightningDims *d) {
    double tokens = (double)d->B * d->H * d->T, sums = d->A + d->E;
    return products_feed_threads(tokens * (2.0 * d->A * d->E + d->block * sums));
}

size_t lightning__blocks(const LightningDims *d) {
    ASSERT(d->block >= 1);
    return ((size_t)d->T + (size_t)d->block - 1) / (size_t)d->block;
}

static size_t scores_reals(int block) {
    return aligned((size_t)int_min(SUB, block) * (size_t)block);
}

static size_t task_scratch_reals(const LightningDims *d) {
    int block = block_tokens(d);
    size_t wide = size_max((size_t)d->A, (size_t)d->E);
    return aligned((size_t)block + 1) + 2 * scores_reals(block) + aligned((size_t)block * wide);
}

size_t lightning_scratch_reals(const LightningDims *d, int threads) {
    return (size_t)threads * task_scratch_reals(d);
}

// Each weight is computed in double and rounded once: no product of roundings, no exponent above 0.
static void weights_fill(real *weights, double rate, int block) {
    for (int n = 0; n <= block; n++) {
        real w = (real)exp(-rate * n);
        weights[block - n] = w < TINY ? 0 : w;
    }
}

size_t lightning__offset(const LightningDims *d, int index, int ld, int width) {
    size_t row = (size_t)(index / d->H), head = (size_t)(index % d->H);
    return row * (size_t)d->T * (size_t)ld + head * (size_t)width;
}

static const real *operand(const real *x, const LightningDims *d, int index, int ld, int width) {
    return x == NULL ? NULL : x + lightning__offset(d, index, ld, width);
}

LightningTask lightning__task(const LightningDims *d, int index, const real *q, const real *k,
                              const real *v, real *scratch) {
    LightningTask t = {.d = d, .block = block_tokens(d), .rate = d->decay[index % d->H]};
    ASSERT(t.rate >= 0);
    t.start = d->start == NULL ? NULL : d->start + (size_t)(index / d->H) * (size_t)d->T;
    t.q = operand(q, d, index, d->ld_q, d->A);
    t.k = operand(k, d, index, d->ld_k, d->A);
    t.v = operand(v, d, index, d->ld_v, d->E);
    t.weights = scratch + (size_t)omp_get_thread_num() * task_scratch_reals(d);
    t.scores = t.weights + aligned((size_t)t.block + 1);
    t.dscores = t.scores + scores_reals(t.block);
    t.scaled = t.dscores + scores_reals(t.block);
    weights_fill(t.weights, t.rate, t.block);
    return t;
}

LightningGradients lightning__gradients(const LightningDims *d, int index, real *dq, real *dk,
                                        real *dv, const real *dout) {
    return (LightningGradients){dq + lightning__offset(d, index, d->ld_dq, d->A),
                                dk + lightning__offset(d, index, d->ld_dk, d->A),
                                dv + lightning__offset(d, index, d->ld_dv, d->E),
                                dout + lightning__offset(d, index, d->ld_do, d->E)};
}

LightningBlock lightning__block(const LightningTask *t, size_t n) {
    LightningBlock b = {.at = n * (size_t)t->block};
    b.m = int_min(t->block, (int)((size_t)t->d->T - b.at));
    b.open = b.m;
    if (t->start == NULL) return b;
    for (int i = b.m - 1; i >= 0; i--) {
        if (!t->start[b.at + (size_t)i]) continue;
        if (b.open == b.m) b.last = i;
        b.open = i;
    }
    return b;
}

// Multiplies rows [begin, end) of scores, whose first column is key `low`, by D. `base`: first row
// of the document of row begin-1. Entries outside the mask are overwritten, not multiplied.
static void scores_weigh(const LightningTask *t, const LightningBlock *b, real *scores, int begin,
                         int end, int low, int base) {
    int width = end - low;
    for (int i = begin; i < end; i++) {
        real *row = scores + (size_t)(i - begin) * (size_t)width;
        const real *w = t->weights + (t->block - i + low);  // w[j] = exp(-s (i - low - j))
        if (t->start != NULL && t->start[b->at + (size_t)i]) base = i;
        int from = base > low ? base - low : 0, to = i + 1 - low;
        for (int j = 0; j < from; j++) row[j] = 0;
        for (int j = from; j < to; j++) row[j] *= w[j];
        for (int j = to; j < width; j++) row[j] = 0;
    }
}

// First row of the document that row i belongs to, given that of row i-1.
static int base_at(const LightningTask *t, const LightningBlock *b, int i, int base) {
    return t->start != NULL && t->start[b->at + (size_t)i] ? i : base;
}

static int base_after(const LightningTask *t, const LightningBlock *b, int begin, int end,
                      int base) {
    for (int i = begin; i < end; i++) base = base_at(t, b, i, base);
    return base;
}

// out (rows, width) = diag(exp(-s n)) x, where n is `first` at row 0 and changes by `step` a row.
static void rows_scale(const LightningTask *t, real *restrict out, const real *restrict x, int ld,
                       int first, int step, int rows, int width) {
    for (int i = 0; i < rows; i++) {
        real w = t->weights[t->block - first - i * step];
        const real *from = x + (size_t)i * (size_t)ld;
        real *to = out + (size_t)i * (size_t)width;
        for (int c = 0; c < width; c++) to[c] = w * from[c];
    }
}

static inline real flush(real x) {
    return ABS(x) < TINY ? 0 : x;
}

// S <- exp(-s m) S, or 0 after a document start. By expm1 because 1 - s m rounds away the small
// rates of late layers: in floats, 1 - 3.9e-8 is 1 - 6.0e-8.
static void state_decay(real *state, size_t count, double rate, const LightningBlock *b) {
    if (b->open < b->m) {
        memset(state, 0, count * sizeof(real));
        return;
    }
    real change = (real)expm1(-rate * b->m);
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        state[i] = flush(state[i] + change * state[i]);
    }
}

void lightning__remains(real *restrict state, const real *restrict from, size_t count, double rate,
                        size_t tokens) {
    real w = (real)exp(-rate * (double)tokens);
    if (w < TINY) return;
#pragma omp simd
    for (size_t i = 0; i < count; i++) state[i] = flush(state[i] + w * from[i]);
}

void lightning__token(const LightningTask *t, const LightningBlock *b, real *restrict out,
                      real *restrict state) {
    const LightningDims *d = t->d;
    size_t E = (size_t)d->E;
    const real *q = t->q + b->at * (size_t)d->ld_q, *k = t->k + b->at * (size_t)d->ld_k;
    const real *restrict v = t->v + b->at * (size_t)d->ld_v;
    out += b->at * (size_t)d->ld_o;
    state_decay(state, (size_t)d->A * E, t->rate, b);
    memset(out, 0, E * sizeof(real));
    for (int a = 0; a < d->A; a++) {
        real *restrict s = state + (size_t)a * E;
        real qa = q[a], ka = k[a];
        for (size_t e = 0; e < E; e++) {
            s[e] += ka * v[e];
            out[e] += qa * s[e];
        }
    }
}

// Some rows of scores at a time.
void lightning__inside(const LightningTask *t, const LightningBlock *b, real *out) {
    const LightningDims *d = t->d;
    const real *q = t->q + b->at * (size_t)d->ld_q, *k = t->k + b->at * (size_t)d->ld_k;
    const real *v = t->v + b->at * (size_t)d->ld_v;
    out += b->at * (size_t)d->ld_o;
    for (int begin = 0, base = 0; begin < b->m; begin += SUB) {
        int end = int_min(begin + SUB, b->m), low = base_at(t, b, begin, base), width = end - low;
        gemm(GEMM_N, GEMM_T, end - begin, width, d->A, 1, q + (size_t)begin * (size_t)d->ld_q,
             d->ld_q, k + (size_t)low * (size_t)d->ld_k, d->ld_k, 0, t->scores, width);
        scores_weigh(t, b, t->scores, begin, end, low, base);
        gemm(GEMM_N, GEMM_N, end - begin, d->E, width, 1, t->scores, width,
             v + (size_t)low * (size_t)d->ld_v, d->ld_v, 0, out + (size_t)begin * (size_t)d->ld_o,
             d->ld_o);
        base = base_after(t, b, begin, end, base);
    }
}

void lightning__across(const LightningTask *t, const LightningBlock *b, real *out,
                       const real *state) {
    const LightningDims *d = t->d;
    rows_scale(t, t->scaled, t->q + b->at * (size_t)d->ld_q, d->ld_q, 1, 1, b->open, d->A);
    gemm(GEMM_N, GEMM_N, b->open, d->E, d->A, 1, t->scaled, d->A, state, d->E, 1,
         out + b->at * (size_t)d->ld_o, d->ld_o);
}

void lightning__state(const LightningTask *t, const LightningBlock *b, real *state) {
    const LightningDims *d = t->d;
    int rows = b->m - b->last;
    size_t c = b->at + (size_t)b->last;
    rows_scale(t, t->scaled, t->v + c * (size_t)d->ld_v, d->ld_v, rows - 1, -1, rows, d->E);
    state_decay(state, (size_t)d->A * (size_t)d->E, t->rate, b);
    gemm(GEMM_T, GEMM_N, d->A, d->E, rows, 1, t->k + c * (size_t)d->ld_k, d->ld_k, t->scaled, d->E,
         1, state, d->E);
}

void lightning__inside_backward(const LightningTask *t, const LightningBlock *b,
                                const LightningGradients *g) {
    const LightningDims *d = t->d;
    for (int begin = 0, base = 0; begin < b->m; begin += SUB) {
        int end = int_min(begin + SUB, b->m), rows = end - begin;
        int low = base_at(t, b, begin, base), width = end - low;
        size_t r = b->at + (size_t)begin, c = b->at + (size_t)low;  // first query, first key
        const real *q = t->q + r * (size_t)d->ld_q, *k = t->k + c * (size_t)d->ld_k;
        const real *v = t->v + c * (size_t)d->ld_v, *dout = g->dout + r * (size_t)d->ld_do;

        gemm(GEMM_N, GEMM_T, rows, width, d->A, 1, q, d->ld_q, k, d->ld_k, 0, t->scores, width);
        gemm(GEMM_N, GEMM_T, rows, width, d->E, 1, dout, d->ld_do, v, d->ld_v, 0, t->dscores,
             width);
        scores_weigh(t, b, t->scores, begin, end, low, base);
        scores_weigh(t, b, t->dscores, begin, end, low, base);

        gemm(GEMM_N, GEMM_N, rows, d->A, width, 1, t->dscores, width, k, d->ld_k, 1,
             g->dq + r * (size_t)d->ld_dq, d->ld_dq);
        gemm(GEMM_T, GEMM_N, width, d->A, rows, 1, t->dscores, width, q, d->ld_q, 1,
             g->dk + c * (size_t)d->ld_dk, d->ld_dk);
        gemm(GEMM_T, GEMM_N, width, d->E, rows, 1, t->scores, width, dout, d->ld_do, 1,
             g->dv + c * (size_t)d->ld_dv, d->ld_dv);
        base = base_after(t, b, begin, end, base);
    }
}

void lightning__keys_backward(const LightningTask *t, const LightningBlock *b,
                              const LightningGradients *g, const real *dstate) {
    const LightningDims *d = t->d;
    int A = d->A, E = d->E, rows = b->m - b->last;
    size_t c = b->at + (size_t)b->last;
    rows_scale(t, t->scaled, t->v + c * (size_t)d->ld_v, d->ld_v, rows - 1, -1, rows, E);
    gemm(GEMM_N, GEMM_T, rows, A, E, 1, t->scaled, E, dstate, E, 1, g->dk + c * (size_t)d->ld_dk,
         d->ld_dk);
    rows_scale(t, t->scaled, t->k + c * (size_t)d->ld_k, d->ld_k, rows - 1, -1, rows, A);
    gemm(GEMM_N, GEMM_N, rows, E, A, 1, t->scaled, A, dstate, E, 1, g->dv + c * (size_t)d->ld_dv,
         d->ld_dv);
}

void lightning__scale_dout(const LightningTask *t, const LightningBlock *b, const real *dout) {
    const LightningDims *d = t->d;
    rows_scale(t, t->scaled, dout + b->at * (size_t)d->ld_do, d->ld_do, 1, 1, b->open, d->E);
}

void lightning__queries_backward(const LightningTask *t, const LightningBlock *b,
                                 const LightningGradients *g, const real *state) {
    const LightningDims *d = t->d;
    gemm(GEMM_N, GEMM_T, b->open, d->A, d->E, 1, t->scaled, d->E, state, d->E, 1,
         g->dq + b->at * (size_t)d->ld_dq, d->ld_dq);
}

void lightning__dstate(const LightningTask *t, const LightningBlock *b, real *dstate) {
    const LightningDims *d = t->d;
    state_decay(dstate, (size_t)d->A * (size_t)d->E, t->rate, b);
    gemm(GEMM_T, GEMM_N, d->A, d->E, b->open, 1, t->q + b->at * (size_t)d->ld_q, d->ld_q, t->scaled,
         d->E, 1, dstate, d->E);
}
