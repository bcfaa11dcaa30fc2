// The baseline of the LASP papers (Sun et al. 2024, arXiv:2404.02882, 4.2): Ring Attention (Liu et
// al. 2023, arXiv:2310.01889) of the linear layer. Chunks of keys and values travel round, and
//
//     O += (Q K_p^T * D) V_p        D_nm = e^{-s (n - m)} where m <= n in the same document, else 0
//
// is formed from the left, without the state: quadratic in the length, and no softmax to merge.
// Backward, with S = Q K_p^T, the chunks go round again and their gradients travel with them:
//
//     dS = dO V_p^T * D      dQ += dS K_p      dK_p += dS^T Q      dV_p += (S * D)^T dO
//
// One thread: the benchmark gives each rank one core.
#include <math.h>
#include <string.h>

#include "bench/methods.h"
#include "bench/relay.h"
#include "parallel/mesh.h"
#include "tensor/gemm.h"
#include "tensor/kernels/kernels.h"

enum { TILE_Q = 64, TILE_K = 256 };
// Below this a weight is 0: products of denormals cost a hundred times others.
static const double TINY = 1e-30;

typedef struct RingInfo {
    const Mesh *mesh;
    SeqInfo seq;
    LightningDims dims;
} RingInfo;

// One head of one row: this rank's queries and a chunk's keys.
typedef struct Pair {
    const LightningDims *d;
    const real *q, *k, *v, *dout;  // at the first token
    real *out, *dq, *dk, *dv;
    int ld_kv;                    // of k, v, dk, dv
    int keys, offset, key_begin;  // places of the first query and key in the whole row
    const int *first;             // (T) where documents start, NULL: 0
    const real *weight;           // e^{-s gap} at weight[-gap]
    real *scores, *dscores;       // (TILE_Q, TILE_K)
} Pair;

// Queries i.. and keys j.. of a pair, none of them beyond the last query's diagonal.
typedef struct Tile {
    int i, rows, j, cols;
} Tile;

static int least(int a, int b) {
    return a < b ? a : b;
}

static bool tile_next(const Pair *p, Tile *t) {
    t->j += t->cols;
    for (; t->i < p->d->T; t->i += t->rows, t->j = 0) {
        t->rows = least(TILE_Q, p->d->T - t->i);
        int seen = least(p->keys, p->offset + t->i + t->rows - p->key_begin);
        t->cols = least(TILE_K, seen - t->j);
        if (t->cols > 0) return true;
    }
    return false;
}

// scores * D, in place.
static void tile_decay(const Pair *p, const Tile *t, real *scores) {
    for (int i = 0; i < t->rows; i++) {
        real *row = scores + (size_t)i * TILE_K;
        int n = p->offset + t->i + i, m = p->key_begin + t->j;
        int low = p->first == NULL ? 0 : p->first[t->i + i] - m, high = least(t->cols, n + 1 - m);
        low = low < 0 ? 0 : least(low, t->cols);
        const real *weight = p->weight - (n - m);
        for (int j = 0; j < low; j++) row[j] = 0;
        for (int j = low; j < high; j++) row[j] *= weight[j];
        for (int j = low > high ? low : high; j < t->cols; j++) row[j] = 0;
    }
}

static void tile_forward(const Pair *p, const Tile *t) {
    const LightningDims *d = p->d;
    const real *q = p->q + (size_t)t->i * (size_t)d->ld_q;
    size_t key = (size_t)t->j * (size_t)p->ld_kv;
    gemm(GEMM_N, GEMM_T, t->rows, t->cols, d->A, 1, q, d->ld_q, p->k + key, p->ld_kv, 0, p->scores,
         TILE_K);
    tile_decay(p, t, p->scores);
    gemm(GEMM_N, GEMM_N, t->rows, d->E, t->cols, 1, p->scores, TILE_K, p->v + key, p->ld_kv, 1,
         p->out + (size_t)t->i * (size_t)d->ld_o, d->ld_o);
}

static void tile_backward(const Pair *p, const Tile *t) {
    const LightningDims *d = p->d;
    const real *q = p->q + (size_t)t->i * (size_t)d->ld_q;
    const real *dout = p->dout + (size_t)t->i * (size_t)d->ld_do;
    size_t key = (size_t)t->j * (size_t)p->ld_kv;
    gemm(GEMM_N, GEMM_T, t->rows, t->cols, d->A, 1, q, d->ld_q, p->k + key, p->ld_kv, 0, p->scores,
         TILE_K);
    gemm(GEMM_N, GEMM_T, t->rows, t->cols, d->E, 1, dout, d->ld_do, p->v + key, p->ld_kv, 0,
         p->dscores, TILE_K);
    tile_decay(p, t, p->scores);
    tile_decay(p, t, p->dscores);
    gemm(GEMM_N, GEMM_N, t->rows, d->A, t->cols, 1, p->dscores, TILE_K, p->k + key, p->ld_kv, 1,
         p->dq + (size_t)t->i * (size_t)d->ld_dq, d->ld_dq);
    gemm(GEMM_T, GEMM_N, t->cols, d->A, t->rows, 1, p->dscores, TILE_K, q, d->ld_q, 1, p->dk + key,
         p->ld_kv);
    gemm(GEMM_T, GEMM_N, t->cols, d->E, t->rows, 1, p->scores, TILE_K, dout, d->ld_do, 1,
         p->dv + key, p->ld_kv);
}

// ---- one hop -----------------------------------------------------------------------------------

typedef struct Hop {
    const RingInfo *info;
    const Relay *kv;
    const Tensor *q;
    real *out, *dq;  // forward; backward
    const real *dout;
    real *dkv;            // gradients of the chunk at hand
    const real *weights;  // (H, whole row)
    real *scratch;        // two tiles
} Hop;

static Pair hop_pair(const Hop *h, int source, int b, int head) {
    const RingInfo *i = h->info;
    const LightningDims *d = &i->dims;
    int tokens = relay_tokens(h->kv, source), whole = i->seq.bound[i->mesh->sp];
    size_t row = (size_t)b * (size_t)d->T, a = (size_t)head * (size_t)d->A;
    size_t e = (size_t)head * (size_t)d->E, values = (size_t)d->H * (size_t)d->A + e;
    size_t chunk = (size_t)b * (size_t)tokens * (size_t)h->kv->width;
    const real *kv = h->kv->at[h->kv->now] + chunk;
    Pair p = {.d = d,
              .q = h->q->data + row * (size_t)d->ld_q + a,
              .k = kv + a,
              .v = kv + values,
              .ld_kv = h->kv->width,
              .keys = tokens,
              .offset = i->seq.bound[i->mesh->sp_rank],
              .key_begin = i->seq.bound[source],
              .first = i->seq.first == NULL ? NULL : i->seq.first + row,
              .weight = h->weights + (size_t)(head + 1) * (size_t)whole - 1,
              .scores = h->scratch,
              .dscores = h->scratch + TILE_Q * TILE_K};
    if (h->out != NULL) p.out = h->out + row * (size_t)d->ld_o + e;
    if (h->out != NULL) return p;
    p.dout = h->dout + row * (size_t)d->ld_do + e;
    p.dq = h->dq + row * (size_t)d->ld_dq + a;
    p.dk = h->dkv + chunk + a;
    p.dv = h->dkv + chunk + values;
    return p;
}

// Later chunks are masked: they travel on unseen.
static void hop_run(const Hop *h, int source) {
    const LightningDims *d = &h->info->dims;
    if (source > h->info->mesh->sp_rank) return;
    for (int i = 0; i < d->B * d->H; i++) {
        Pair p = hop_pair(h, source, i / d->H, i % d->H);
        for (Tile t = {0}; tile_next(&p, &t);) {
            if (h->out != NULL)
                tile_forward(&p, &t);
            else
                tile_backward(&p, &t);
            if (t.j == 0) relay_poll(h->kv);
        }
    }
}

// ---- the op ------------------------------------------------------------------------------------

static real *weights_take(Tape *tp, const RingInfo *i) {
    const LightningDims *d = &i->dims;
    int whole = i->seq.bound[i->mesh->sp];
    real *weights = tape_scratch(tp, (size_t)d->H * (size_t)whole);
    for (int h = 0; h < d->H && !tape_is_dry(tp); h++) {
        real *last = weights + (size_t)(h + 1) * (size_t)whole - 1;
        for (int gap = 0; gap < whole; gap++) {
            double w = exp(-d->decay[h] * gap);
            last[-gap] = (real)(w < TINY ? 0 : w);
        }
    }
    return weights;
}

static int ring_width(const LightningDims *d) {
    return d->H * (d->A + d->E);
}

// The gradients that came home, (N, [dk | dv]).
static void gradients_add(const Node *n, const Relay *dkv, real *dk, real *dv) {
    const Tensor *k = n->in[1], *v = n->in[2];
    for (int t = 0; t < k->rows; t++) {
        const real *from = dkv->at[dkv->now] + (size_t)t * (size_t)dkv->width;
        real *to_k = dk + (size_t)t * (size_t)tape_grad_ld(k);
        real *to_v = dv + (size_t)t * (size_t)tape_grad_ld(v);
        for (int c = 0; c < k->cols; c++) to_k[c] += from[c];
        for (int c = 0; c < v->cols; c++) to_v[c] += from[k->cols + c];
    }
}

static void ring_node(Tape *tp, const Node *n) {
    RingInfo i = *(const RingInfo *)n->info;
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    real *dq = tape_grad(tp, q), *dk = tape_grad(tp, k), *dv = tape_grad(tp, v);
    Relay kv = relay_take(tp, i.mesh, &i.seq, ring_width(&i.dims));
    Relay dkv = relay_take(tp, i.mesh, &i.seq, kv.width);
    Hop hop = {.info = &i, .kv = &kv, .q = q, .dq = dq, .weights = weights_take(tp, &i)};
    hop.scratch = tape_scratch(tp, 2 * TILE_Q * TILE_K);
    hop.dkv = tape_scratch(tp, relay_most(&kv));
    if (tape_is_dry(tp)) return;
    hop.dout = n->out[0]->grad;
    i.dims.ld_do = n->out[0]->cols;
    i.dims.ld_dq = tape_grad_ld(q);
    relay_put(&kv, 0, k);
    relay_put(&kv, k->cols, v);
    for (int h = 0; h < i.mesh->sp; h++) {
        int source = relay_source(&kv, h);
        size_t count = relay_reals(&kv, source);
        bool last = h + 1 == i.mesh->sp;
        memset(hop.dkv, 0, count * sizeof *hop.dkv);
        if (!last) relay_start(&kv, COMM_KV_AGAIN, h);
        hop_run(&hop, source);
        if (!last) relay_end(&kv);
        // What the ranks before have added to the chunk's gradient; nothing at its owner.
        real *sum = dkv.at[dkv.now];
        if (h == 0) memset(sum, 0, count * sizeof *sum);
        for (size_t c = 0; c < count; c++) sum[c] += hop.dkv[c];
        relay_start(&dkv, COMM_DKV, h);
        relay_end(&dkv);
    }
    gradients_add(n, &dkv, dk, dv);
}

Tensor *op_ring_linear(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                       const SeqInfo *seq, const LightningArgs *a) {
    ASSERT(mesh->sp > 1 && a->state == NULL);
    RingInfo i = {mesh, *seq, lightning_dims(q, k, v, seq, a)};
    Tensor *o = tape_tensor(tp, v->rows, v->cols);
    Relay kv = relay_take(tp, mesh, &i.seq, ring_width(&i.dims));
    Hop hop = {.info = &i, .kv = &kv, .q = q, .out = o->data, .weights = weights_take(tp, &i)};
    hop.scratch = tape_scratch(tp, 2 * TILE_Q * TILE_K);
    if (!tape_is_dry(tp)) {
        memset(o->data, 0, (size_t)o->rows * (size_t)o->cols * sizeof *o->data);
        relay_put(&kv, 0, k);
        relay_put(&kv, k->cols, v);
        for (int h = 0; h < mesh->sp; h++) {
            bool last = h + 1 == mesh->sp;
            if (!last) relay_start(&kv, COMM_KV, h);
            hop_run(&hop, relay_source(&kv, h));
            if (!last) relay_end(&kv);
        }
    }
    return tape_push(tp, &(Node){.backward = ring_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v),
                                 .info = tape_info(tp, &i, sizeof i)});
}
