// Causal softmax attention in tiles, without a T x T matrix (Dao 2023, "FlashAttention-2").
//
// A tile of queries meets its keys a tile at a time and carries the triple (max, sum, values) of
// the softmax so far (Milakov & Gimelshein 2018); before the first visible key it is (-1e30, 0, 0).
// With l the log of the sum of exponentials, backward recomputes p and needs one number a query,
// delta = dO . O:
//
//     S = scale Q K^T    p = exp(S - l)    O = p V
//     dV = p^T dO        dS = p * (dO V^T - delta) * scale        dQ = dS K     dK = dS^T Q
//
// Causality, window and documents give every query one interval of keys [low, high). Key tiles
// cover the union of a query tile's intervals, and rows of scores are worked on only inside their
// own interval: full tiles are never tested element by element, tiles nobody sees are never formed.
//
// The keys of a row may come in pieces, wherever they stand in it (key_begin): a piece gives (O, l)
// of its own keys, pieces are merged, and backward needs no more than the merged (O, l), because p
// and delta are those of the whole row.
#include "tensor/kernels/kernels.h"

#include <math.h>
#include <string.h>

#include <omp.h>

#include "base/status.h"
#include "tensor/gemm.h"
#include "tensor/kernels/vmath.h"
#include "tensor/progress.h"

enum {
    TILE_Q = 64,   // queries a tile
    TILE_K = 128,  // keys a tile
    ALIGNED = 16   // reals in a cache line (of floats)
};
static const real EMPTY_MAX = (real)-1e30;  // finite: differences of it are 0, of infinities NaN
// Probabilities below this are set to 0: they cannot change a sum, but as operands they may become
// denormal, and x86 multiplies denormals a hundred times slower.
static const real TINY = (real)1e-30;

typedef struct Interval {
    int low, high;  // [low, high), empty when low >= high
} Interval;

// A query tile of one head: pointers at its first query, and at the first key of the row.
typedef struct Tile {
    const AttentionDims *d;
    int row, begin, rows;    // first query, number of queries
    size_t at;               // of query `begin` in (B,H,Tq)
    size_t dense;            // of query `begin` in (B*Tq, H*D)
    Interval keys;           // all keys that some query sees
    const real *q, *k, *v;   // strided by ld_q, ld_k, ld_v
    real *scores, *dscores;  // (TILE_Q, TILE_K)
    real *max, *sum;         // (TILE_Q) forward; max: delta in backward
} Tile;

static int int_min(int a, int b) {
    return a < b ? a : b;
}
static int int_max(int a, int b) {
    return a > b ? a : b;
}
static size_t aligned(size_t n) {
    return (n + ALIGNED - 1) / ALIGNED * ALIGNED;
}
static int dense_ld(const AttentionDims *d) {
    return d->H * d->D;
}

// Scores and values. Where not, each product alone is small, too: BLAS does not take threads of its
// own.
static bool tasks_feed_threads(const AttentionDims *d) {
    return products_feed_threads((double)d->B * d->H * d->Tq * d->Tk * 2 * d->D);
}

size_t attention_scratch_reals(const AttentionDims *d, int threads) {
    (void)d;
    return (size_t)threads * aligned(2 * TILE_Q * TILE_K + 2 * TILE_Q);
}

// The given keys that query i (within the row) sees, counted from the first of them.
static Interval query_keys(const AttentionDims *d, int row, int i) {
    int64_t high = (int64_t)d->offset + i + 1 - d->key_begin;
    int64_t low = d->window > 0 ? high - d->window : 0;
    if (d->first != NULL) {
        int64_t first = (int64_t)d->first[(size_t)row * (size_t)d->Tq + (size_t)i] - d->key_begin;
        if (first > low) low = first;
    }
    if (high > d->Tk) high = d->Tk;
    if (low < 0) low = 0;
    return low < high ? (Interval){(int)low, (int)high} : (Interval){0, 0};
}

static Tile tile_open(const AttentionDims *d, int row, int head, int begin, const real *q,
                      const real *k, const real *v, real *scratch) {
    size_t kv = (size_t)(head / (d->H / d->Hk)) * (size_t)d->D;
    size_t query = (size_t)row * (size_t)d->Tq + (size_t)begin, key = (size_t)row * (size_t)d->Tk;
    Tile t = {.d = d, .row = row, .begin = begin, .rows = int_min(TILE_Q, d->Tq - begin)};
    t.at = ((size_t)row * (size_t)d->H + (size_t)head) * (size_t)d->Tq + (size_t)begin;
    t.dense = (query * (size_t)d->H + (size_t)head) * (size_t)d->D;
    t.q = q + query * (size_t)d->ld_q + (size_t)head * (size_t)d->D;
    t.k = k + key * (size_t)d->ld_k + kv;
    t.v = v + key * (size_t)d->ld_v + kv;
    t.scores = scratch + (size_t)omp_get_thread_num() * attention_scratch_reals(d, 1);
    t.dscores = t.scores + TILE_Q * TILE_K;
    t.max = t.dscores + TILE_Q * TILE_K;
    t.sum = t.max + TILE_Q;
    t.keys = (Interval){d->Tk, 0};
    for (int i = 0; i < t.rows; i++) {
        Interval x = query_keys(d, row, begin + i);
        if (x.low >= x.high) continue;
        t.keys.low = int_min(t.keys.low, x.low);
        t.keys.high = int_max(t.keys.high, x.high);
    }
    return t;
}

// The part of key tile [key, key+width) that query i of the tile sees, counted from `key`.
static Interval tile_interval(const Tile *t, int i, int key, int width) {
    Interval x = query_keys(t->d, t->row, t->begin + i);
    x.low = int_min(int_max(x.low - key, 0), width);
    x.high = int_max(int_min(x.high - key, width), x.low);
    return x;
}

static void row_clear_outside(real *row, Interval in, int width) {
    for (int j = 0; j < in.low; j++) row[j] = 0;
    for (int j = in.high; j < width; j++) row[j] = 0;
}

// scores (rows, width) = scale Q K^T
static void tile_scores(const Tile *t, int key, int width) {
    const AttentionDims *d = t->d;
    gemm(GEMM_N, GEMM_T, t->rows, width, d->D, d->scale, t->q, d->ld_q,
         t->k + (size_t)key * (size_t)d->ld_k, d->ld_k, 0, t->scores, width);
}

static real row_max(const real *row, Interval in, real max) {
#pragma omp simd reduction(max : max)
    for (int j = in.low; j < in.high; j++) max = row[j] > max ? row[j] : max;
    return max;
}

// row <- exp(row - max) inside the interval; returns the sum.
static real row_exp(real *row, Interval in, real max) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int j = in.low; j < in.high; j++) {
        real p = real_exp(row[j] - max);
        row[j] = p < TINY ? 0 : p;
        sum += row[j];
    }
    return sum;
}

// Scores of one key tile to probabilities under the running maximum, which may rise: what was
// summed under the old one is scaled down.
static void tile_softmax(const Tile *t, real *out, int key, int width) {
    for (int i = 0; i < t->rows; i++) {
        real *row = t->scores + (size_t)i * (size_t)width,
             *o = out + (size_t)i * (size_t)dense_ld(t->d);
        Interval in = tile_interval(t, i, key, width);
        row_clear_outside(row, in, width);
        if (in.low == in.high) continue;
        real max = row_max(row, in, t->max[i]), shrink = real_exp(t->max[i] - max);
        t->sum[i] = t->sum[i] * shrink + row_exp(row, in, max);
        t->max[i] = max;
        if (shrink == 1) continue;
        for (int c = 0; c < t->d->D; c++) o[c] *= shrink;
    }
}

static void forward_tile(const Tile *t, real *out, real *lse) {
    const AttentionDims *d = t->d;
    int ld = dense_ld(d);
    for (int i = 0; i < t->rows; i++) {
        t->max[i] = EMPTY_MAX;
        t->sum[i] = 0;
        memset(out + (size_t)i * (size_t)ld, 0, (size_t)d->D * sizeof *out);
    }
    for (int key = t->keys.low; key < t->keys.high; key += TILE_K) {
        int width = int_min(TILE_K, t->keys.high - key);
        tile_scores(t, key, width);
        tile_softmax(t, out, key, width);
        gemm(GEMM_N, GEMM_N, t->rows, d->D, width, 1, t->scores, width,
             t->v + (size_t)key * (size_t)d->ld_v, d->ld_v, 1, out, ld);
    }
    // A query that saw no key keeps the empty triple: output 0.
    for (int i = 0; i < t->rows; i++) {
        real *o = out + (size_t)i * (size_t)ld, sum = t->sum[i];
        lse[i] = sum == 0 ? EMPTY_MAX : t->max[i] + (real)log((double)sum);
        if (sum == 0) continue;
        real inverse = 1 / sum;
        for (int c = 0; c < d->D; c++) o[c] *= inverse;
    }
}

void attention_forward(real *restrict out, real *restrict lse, const real *restrict q,
                       const real *restrict k, const real *restrict v, real *restrict scratch,
                       const AttentionDims *d) {
    ASSERT(d->Hk > 0 && d->H % d->Hk == 0);
    // Late tiles see more keys, so they go first; tiles share nothing, so the order cannot change a
    // bit.
    int tiles = (d->Tq + TILE_Q - 1) / TILE_Q;
    int64_t heads = (int64_t)d->B * d->H, tasks = heads * tiles;
#pragma omp parallel for schedule(dynamic, 1) if (tasks_feed_threads(d))
    for (int64_t n = 0; n < tasks; n++) {
        int index = (int)(n % heads), begin = (tiles - 1 - (int)(n / heads)) * TILE_Q;
        Tile t = tile_open(d, index / d->H, index % d->H, begin, q, k, v, scratch);
        forward_tile(&t, out + t.dense, lse + t.at);
        progress();
    }
}

// One token and head: (o, l) <- the softmax over both sets of keys. Weights add up to 1, and are
// exactly 1 and 0 beside an empty partial.
static void token_merge(real *restrict o, real *restrict lse, const real *restrict part,
                        real part_lse, int D) {
    double l = (double)*lse, p = (double)part_lse, max = l > p ? l : p;
    double kept = exp(l - max), added = exp(p - max), sum = kept + added;
    real keep = (real)(kept / sum), add = (real)(added / sum);
    *lse = (real)(max + log(sum));
#pragma omp simd
    for (int c = 0; c < D; c++) o[c] = keep * o[c] + add * part[c];
}

void attention_merge(real *restrict out, real *restrict lse, const real *restrict part_out,
                     const real *restrict part_lse, int B, int T, int H, int D) {
    int64_t heads = (int64_t)B * H;
#pragma omp parallel for schedule(static) if (worth_threads(B * T, H * D))
    for (int64_t n = 0; n < heads; n++) {
        for (int i = 0; i < T; i++) {
            size_t token = (size_t)(n / H) * (size_t)T + (size_t)i,
                   at = (size_t)n * (size_t)T + (size_t)i;
            size_t o = (token * (size_t)H + (size_t)(n % H)) * (size_t)D;
            token_merge(out + o, lse + at, part_out + o, part_lse[at], D);
        }
    }
}

// Scores and dscores of one key tile to p and dS.
static void tile_softmax_backward(const Tile *t, const real *lse, int key, int width) {
    for (int i = 0; i < t->rows; i++) {
        real *p = t->scores + (size_t)i * (size_t)width,
             *ds = t->dscores + (size_t)i * (size_t)width;
        real delta = t->max[i], l = lse[i], scale = t->d->scale;
        Interval in = tile_interval(t, i, key, width);
        row_clear_outside(p, in, width);
        row_clear_outside(ds, in, width);
#pragma omp simd
        for (int j = in.low; j < in.high; j++) {
            real x = real_exp(p[j] - l);
            p[j] = x < TINY ? 0 : x;
            ds[j] = p[j] * (ds[j] - delta) * scale;
        }
    }
}

// Adds the gradients of one query tile; dk and dv point at the first key of the row.
static void backward_tile(const Tile *t, real *dq, real *dk, real *dv, const real *dout,
                          const real *out, const real *lse) {
    const AttentionDims *d = t->d;
    int ld = dense_ld(d);
    for (int i = 0; i < t->rows; i++) {
        size_t at = (size_t)i * (size_t)ld;
        t->max[i] = (real)row_dot(dout + at, out + at, (size_t)d->D);
    }
    for (int key = t->keys.low; key < t->keys.high; key += TILE_K) {
        int width = int_min(TILE_K, t->keys.high - key);
        const real *k = t->k + (size_t)key * (size_t)d->ld_k,
                   *v = t->v + (size_t)key * (size_t)d->ld_v;
        tile_scores(t, key, width);
        gemm(GEMM_N, GEMM_T, t->rows, width, d->D, 1, dout, ld, v, d->ld_v, 0, t->dscores, width);
        tile_softmax_backward(t, lse, key, width);

        gemm(GEMM_N, GEMM_N, t->rows, d->D, width, 1, t->dscores, width, k, d->ld_k, 1, dq,
             d->ld_dq);
        gemm(GEMM_T, GEMM_N, width, d->D, t->rows, 1, t->dscores, width, t->q, d->ld_q, 1,
             dk + (size_t)key * (size_t)d->ld_dk, d->ld_dk);
        gemm(GEMM_T, GEMM_N, width, d->D, t->rows, 1, t->scores, width, dout, ld, 1,
             dv + (size_t)key * (size_t)d->ld_dv, d->ld_dv);
    }
}

void attention_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                        const real *restrict dout, const real *restrict out,
                        const real *restrict lse, const real *restrict q, const real *restrict k,
                        const real *restrict v, real *restrict scratch, const AttentionDims *d) {
    ASSERT(d->Hk > 0 && d->H % d->Hk == 0);
    int group = d->H / d->Hk;
    // One task is one key/value head of a row with all its query heads, in order: dK and dV have
    // one writer.
#pragma omp parallel for schedule(dynamic, 1) if (tasks_feed_threads(d))
    for (int n = 0; n < d->B * d->Hk; n++) {
        int row = n / d->Hk, kv = n % d->Hk;
        size_t key = (size_t)row * (size_t)d->Tk, column = (size_t)kv * (size_t)d->D;
        real *dkey = dk + key * (size_t)d->ld_dk + column,
             *dvalue = dv + key * (size_t)d->ld_dv + column;
        for (int head = kv * group; head < (kv + 1) * group; head++) {
            for (int begin = 0; begin < d->Tq; begin += TILE_Q) {
                Tile t = tile_open(d, row, head, begin, q, k, v, scratch);
                size_t query = (size_t)row * (size_t)d->Tq + (size_t)begin;
                real *dquery = dq + query * (size_t)d->ld_dq + (size_t)head * (size_t)d->D;
                backward_tile(&t, dquery, dkey, dvalue, dout + t.dense, out + t.dense, lse + t.at);
                progress();
            }
        }
    }
}
