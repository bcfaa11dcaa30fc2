// Lightning attention with decay and document resets (Qin et al. 2024, "Lightning Attention-2", and
// docs/maths.md): o_t = sum_{t' <= t} exp(-s (t-t')) (q_t . k_t') v_t', linear in the length.
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
//
// Not here: positions (LRPE comes before), the norm and the gate (after), exchange of states
// between ranks.
#include "tensor/kernels/kernels.h"

#include <math.h>
#include <string.h>

#include <omp.h>

#include "base/status.h"
#include "tensor/gemm.h"

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

// What one task, a head of one row, works on: pointers at its first token and column, and its
// scratch.
typedef struct Task {
    const LightningDims *d;
    int block;               // tokens a block, at most T
    double rate;             // s
    const uint8_t *start;    // (T) or NULL
    const real *q, *k, *v;   // strided by ld_q, ld_k, ld_v
    real *weights;           // (block+1): exp(-s n) at block - n, so that rows of D are contiguous
    real *scores, *dscores;  // (SUB, block)
    real *scaled;            // (block, max(A,E))
} Task;

// One block of a task.
typedef struct Block {
    size_t at;  // first token
    int m;      // tokens
    int open;   // rows before the first document start: those that see the state
    int last;   // first row of the last document: those from here on are seen by the next state
} Block;

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

static size_t block_count(const LightningDims *d) {
    ASSERT(d->block >= 1);
    return ((size_t)d->T + (size_t)d->block - 1) / (size_t)d->block;
}

// Arithmetic falls with the block, products become too small below 64. Forward and backward, 2
// threads of an AVX-512 EPYC, B 4, T 2048, H 4, milliseconds at blocks 64, 96, 128, 256: A = E =
// 128: 79, 80, 86, 104; A 256 (LRPE): 136, 140, 148, 174. At A = E = 64, H 8, blocks 32, 64, 128:
// 122, 107, 204 (a busy machine). The price is memory: `store` holds A * E / 64 reals a token and
// head, twice that of blocks of 128.
int lightning_default_block(int A, int E) {
    (void)A, (void)E;  // no size measured prefers another
    return 64;
}

size_t lightning_store_reals(const LightningDims *d) {
    return (size_t)d->B * (size_t)d->H * block_count(d) * (size_t)d->A * (size_t)d->E;
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

static Task task_open(const LightningDims *d, int index, const real *q, const real *k,
                      const real *v, real *scratch) {
    size_t row = (size_t)(index / d->H), head = (size_t)(index % d->H), T = (size_t)d->T;
    Task t = {.d = d, .block = block_tokens(d), .rate = d->decay[head]};
    ASSERT(t.rate >= 0);
    t.start = d->start == NULL ? NULL : d->start + row * T;
    t.q = q + row * T * (size_t)d->ld_q + head * (size_t)d->A;
    t.k = k + row * T * (size_t)d->ld_k + head * (size_t)d->A;
    t.v = v + row * T * (size_t)d->ld_v + head * (size_t)d->E;
    t.weights = scratch + (size_t)omp_get_thread_num() * task_scratch_reals(d);
    t.scores = t.weights + aligned((size_t)t.block + 1);
    t.dscores = t.scores + scores_reals(t.block);
    t.scaled = t.dscores + scores_reals(t.block);
    weights_fill(t.weights, t.rate, t.block);
    return t;
}

static Block block_open(const Task *t, size_t index) {
    Block b = {.at = index * (size_t)t->block};
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
static void scores_weigh(const Task *t, const Block *b, real *scores, int begin, int end, int low,
                         int base) {
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
static int base_at(const Task *t, const Block *b, int i, int base) {
    return t->start != NULL && t->start[b->at + (size_t)i] ? i : base;
}

static int base_after(const Task *t, const Block *b, int begin, int end, int base) {
    for (int i = begin; i < end; i++) base = base_at(t, b, i, base);
    return base;
}

// out (rows, width) = diag(exp(-s n)) x, where n is `first` at row 0 and changes by `step` a row.
static void rows_scale(const Task *t, real *restrict out, const real *restrict x, int ld, int first,
                       int step, int rows, int width) {
    for (int i = 0; i < rows; i++) {
        real w = t->weights[t->block - first - i * step];
        const real *from = x + (size_t)i * (size_t)ld;
        real *to = out + (size_t)i * (size_t)width;
        for (int c = 0; c < width; c++) to[c] = w * from[c];
    }
}

// S <- exp(-s m) S, or 0 after a document start. By expm1 because 1 - s m rounds away the small
// rates of late layers: in floats, 1 - 3.9e-8 is 1 - 6.0e-8.
static void state_decay(real *state, size_t count, double rate, const Block *b) {
    if (b->open < b->m) {
        memset(state, 0, count * sizeof(real));
        return;
    }
    real change = (real)expm1(-rate * b->m);
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        real x = state[i] + change * state[i];
        state[i] = ABS(x) < TINY ? 0 : x;
    }
}

// One token: the recurrent form, without products too small for BLAS.
static void forward_token(const Task *t, const Block *b, real *restrict out, real *restrict state) {
    const LightningDims *d = t->d;
    size_t E = (size_t)d->E;
    const real *q = t->q + b->at * (size_t)d->ld_q, *k = t->k + b->at * (size_t)d->ld_k;
    const real *restrict v = t->v + b->at * (size_t)d->ld_v;
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

static void forward_block(const Task *t, const Block *b, real *out, real *state) {
    const LightningDims *d = t->d;
    int A = d->A, E = d->E;
    const real *q = t->q + b->at * (size_t)d->ld_q, *k = t->k + b->at * (size_t)d->ld_k;
    const real *v = t->v + b->at * (size_t)d->ld_v;

    // Inside the block, some rows at a time: O = A V.
    for (int begin = 0, base = 0; begin < b->m; begin += SUB) {
        int end = int_min(begin + SUB, b->m), low = base_at(t, b, begin, base), width = end - low;
        gemm(GEMM_N, GEMM_T, end - begin, width, A, 1, q + (size_t)begin * (size_t)d->ld_q, d->ld_q,
             k + (size_t)low * (size_t)d->ld_k, d->ld_k, 0, t->scores, width);
        scores_weigh(t, b, t->scores, begin, end, low, base);
        gemm(GEMM_N, GEMM_N, end - begin, E, width, 1, t->scores, width,
             v + (size_t)low * (size_t)d->ld_v, d->ld_v, 0, out + (size_t)begin * (size_t)d->ld_o,
             d->ld_o);
        base = base_after(t, b, begin, end, base);
    }

    // Before the block: O += diag(win) Q S, with the state as it was.
    rows_scale(t, t->scaled, q, d->ld_q, 1, 1, b->open, A);
    gemm(GEMM_N, GEMM_N, b->open, E, A, 1, t->scaled, A, state, E, 1, out, d->ld_o);

    // S <- exp(-s m) S + K^T diag(wout) V
    int rows = b->m - b->last;
    rows_scale(t, t->scaled, v + (size_t)b->last * (size_t)d->ld_v, d->ld_v, rows - 1, -1, rows, E);
    state_decay(state, (size_t)A * (size_t)E, t->rate, b);
    gemm(GEMM_T, GEMM_N, A, E, rows, 1, k + (size_t)b->last * (size_t)d->ld_k, d->ld_k, t->scaled,
         E, 1, state, E);
}

void lightning_forward(real *restrict out, real *restrict state, real *restrict store,
                       const real *restrict q, const real *restrict k, const real *restrict v,
                       real *restrict scratch, const LightningDims *d) {
    size_t states = (size_t)d->A * (size_t)d->E, blocks = block_count(d);
    // Every task is one head of one row from first to last token, whatever the thread: bits do not
    // depend on how many there are. Products inside are serial.
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < d->B * d->H; i++) {
        Task t = task_open(d, i, q, k, v, scratch);
        size_t row = (size_t)(i / d->H), head = (size_t)(i % d->H);
        real *o = out + row * (size_t)d->T * (size_t)d->ld_o + head * (size_t)d->E;
        real *s = state + (size_t)i * states;
        for (size_t n = 0; n < blocks; n++) {
            Block b = block_open(&t, n);
            real *to = o + b.at * (size_t)d->ld_o;
            if (store != NULL)
                memcpy(store + ((size_t)i * blocks + n) * states, s, states * sizeof *s);
            if (b.m == 1)
                forward_token(&t, &b, to, s);
            else
                forward_block(&t, &b, to, s);
        }
    }
}

// The gradients of one task, and what they flow from.
typedef struct Gradients {
    real *dq, *dk, *dv;
    const real *dout;
    real *dstate;  // (A,E) dL/dS after the block, then before it
} Gradients;

// dA = (dO V^T) * D ;  dQ += dA K ;  dK += dA^T Q ;  dV += A^T dO
static void backward_inside(const Task *t, const Block *b, const Gradients *g) {
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

// Through the states: S before the block, and its gradient, which is still that of S after the
// block when dK and dV use it.
static void backward_states(const Task *t, const Block *b, const Gradients *g, const real *state) {
    const LightningDims *d = t->d;
    int A = d->A, E = d->E;

    // dK += diag(wout) V dS^T ;  dV += diag(wout) K dS
    int rows = b->m - b->last;
    size_t c = b->at + (size_t)b->last;
    rows_scale(t, t->scaled, t->v + c * (size_t)d->ld_v, d->ld_v, rows - 1, -1, rows, E);
    gemm(GEMM_N, GEMM_T, rows, A, E, 1, t->scaled, E, g->dstate, E, 1, g->dk + c * (size_t)d->ld_dk,
         d->ld_dk);
    rows_scale(t, t->scaled, t->k + c * (size_t)d->ld_k, d->ld_k, rows - 1, -1, rows, A);
    gemm(GEMM_N, GEMM_N, rows, E, A, 1, t->scaled, A, g->dstate, E, 1, g->dv + c * (size_t)d->ld_dv,
         d->ld_dv);

    // dQ += diag(win) dO S^T ;  dS <- exp(-s m) dS + Q^T diag(win) dO
    rows_scale(t, t->scaled, g->dout + b->at * (size_t)d->ld_do, d->ld_do, 1, 1, b->open, E);
    gemm(GEMM_N, GEMM_T, b->open, A, E, 1, t->scaled, E, state, E, 1,
         g->dq + b->at * (size_t)d->ld_dq, d->ld_dq);
    state_decay(g->dstate, (size_t)A * (size_t)E, t->rate, b);
    gemm(GEMM_T, GEMM_N, A, E, b->open, 1, t->q + b->at * (size_t)d->ld_q, d->ld_q, t->scaled, E, 1,
         g->dstate, E);
}

void lightning_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                        real *restrict dstate, const real *restrict dout, const real *restrict q,
                        const real *restrict k, const real *restrict v, const real *restrict store,
                        real *restrict scratch, const LightningDims *d) {
    size_t states = (size_t)d->A * (size_t)d->E, blocks = block_count(d), T = (size_t)d->T;
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < d->B * d->H; i++) {
        Task t = task_open(d, i, q, k, v, scratch);
        size_t row = (size_t)(i / d->H), head = (size_t)(i % d->H);
        Gradients g = {dq + row * T * (size_t)d->ld_dq + head * (size_t)d->A,
                       dk + row * T * (size_t)d->ld_dk + head * (size_t)d->A,
                       dv + row * T * (size_t)d->ld_dv + head * (size_t)d->E,
                       dout + row * T * (size_t)d->ld_do + head * (size_t)d->E,
                       dstate + (size_t)i * states};
        for (size_t n = blocks; n-- > 0;) {
            Block b = block_open(&t, n);
            backward_inside(&t, &b, &g);
            backward_states(&t, &b, &g, store + ((size_t)i * blocks + n) * states);
        }
    }
}
