// Ring attention: after hop h this rank holds the chunk of rank (r - h) mod T and attends to it;
// partial results over disjoint keys are merged by their log-sum-exp. Later chunks travel on
// unseen. Backward, the chunks go round again, and a second ring carries their gradients: each rank
// adds its part, and after T hops they are home.
#include <string.h>

#include "parallel/seq_kv.h"
#include "tensor/threads.h"

static int ring_rank(const KvInfo *i, int shift) {
    return ((i->mesh->sp_rank + shift) % i->mesh->sp + i->mesh->sp) % i->mesh->sp;
}

// Rows [k | v] of a chunk, of all batch rows.
static int chunk_rows(const KvInfo *i, int rank) {
    return chunk_tokens(i, rank) * i->seq.B;
}

static size_t chunk_most(const KvInfo *i) {
    int most = 0;
    for (int r = 0; r < i->mesh->sp; r++) most = chunk_rows(i, r) > most ? chunk_rows(i, r) : most;
    return (size_t)most * kv_width(&i->dims);
}

static AttentionDims dims_chunk(const KvInfo *i, int rank) {
    AttentionDims d = i->dims;
    d.Tk = chunk_tokens(i, rank);
    d.key_begin = i->seq.bound[rank];
    d.offset = i->seq.bound[i->mesh->sp_rank];
    d.ld_k = d.ld_v = d.ld_dk = d.ld_dv = (int)kv_width(&d);
    return d;
}

// Two buffers: one is read while the other is filled by the rank before.
typedef struct Ring {
    real *at[2];
    int now;
} Ring;

static Ring ring_take(Tape *tp, const KvInfo *i) {
    Ring r = {{tape_scratch(tp, chunk_most(i)), tape_scratch(tp, chunk_most(i))}, 0};
    return r;
}

// The chunk after hop h goes one rank on, the one of hop h + 1 comes in.
static void ring_pass(const KvInfo *i, const Ring *r, CommUse use, int h) {
    comm_shift(i->mesh->sp_axis, use, r->at[r->now], chunk_rows(i, ring_rank(i, -h)),
               ring_rank(i, 1), r->at[1 - r->now], chunk_rows(i, ring_rank(i, -h - 1)),
               ring_rank(i, -1), (int)kv_width(&i->dims));
}

typedef struct Partial {
    real *out, *lse;
} Partial;

// Own chunk first: it is the one that every query with a key sees.
static void ring_attend(const KvInfo *i, int h, const Ring *r, Tensor *o, real *lse,
                        const Tensor *q, Partial part, real *scratch) {
    int source = ring_rank(i, -h);
    size_t half = kv_width(&i->dims) / 2;
    if (source > i->mesh->sp_rank) return;
    AttentionDims d = dims_chunk(i, source);
    const real *kv = r->at[r->now];
    attention_forward(h == 0 ? o->data : part.out, h == 0 ? lse : part.lse, q->data, kv, kv + half,
                      scratch, &d);
    if (h > 0) attention_merge(o->data, lse, part.out, part.lse, d.B, d.Tq, d.H, d.D);
}

// Adds this rank's part to the chunk's gradient, which starts at its owner, and sends it on. It is
// on its way while the next chunk is worked on.
static void dkv_add(const KvInfo *i, Ring *dkv, const real *part, int h) {
    size_t count = (size_t)chunk_rows(i, ring_rank(i, -h)) * kv_width(&i->dims);
    if (h > 0) dkv->now = 1 - dkv->now;
    real *sum = dkv->at[dkv->now];
    if (h == 0) memset(sum, 0, count * sizeof *sum);
#pragma omp parallel for schedule(static) if (feeds_threads(count))
    for (size_t c = 0; c < count; c++) sum[c] += part[c];
    ring_pass(i, dkv, COMM_DKV, h);
}

static void ring_node(Tape *tp, const Node *n) {
    const KvInfo *i = n->info;
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    size_t width = kv_width(&i->dims), half = width / 2;
    KvGrads g = {tape_grad(tp, k), tape_grad(tp, v), tape_grad_ld(k), tape_grad_ld(v), (int)width};
    real *dq = tape_grad(tp, q);
    Ring kv = ring_take(tp, i), dkv = ring_take(tp, i);
    real *part = tape_scratch(tp, chunk_most(i));
    real *scratch = tape_scratch(tp, attention_scratch_reals(&i->dims, threads_chosen()));
    if (tape_is_dry(tp)) return;
    comm__enter(i->mesh->sp_axis, "ring attention, backward", 0);
    kv_pack(kv.at[0], k, v);
    for (int h = 0; h < i->mesh->sp; h++) {
        int source = ring_rank(i, -h);
        if (h + 1 < i->mesh->sp) ring_pass(i, &kv, COMM_KV_AGAIN, h);
        memset(part, 0, (size_t)chunk_rows(i, source) * width * sizeof *part);
        if (source <= i->mesh->sp_rank) {
            AttentionDims d = dims_chunk(i, source);
            const real *keys = kv.at[kv.now];
            d.ld_dq = tape_grad_ld(q);
            attention_backward(dq, part, part + half, n->out[0]->grad, n->out[0]->data, n->saved[0],
                               q->data, keys, keys + half, scratch, &d);
        }
        comm_finish(i->mesh->sp_axis);  // the next keys, and this chunk's gradient so far
        kv.now = 1 - kv.now;
        dkv_add(i, &dkv, part, h);
    }
    comm_finish(i->mesh->sp_axis);
    kv_add(&g, dkv.at[1 - dkv.now], 0, k->rows);
}

Tensor *kv__ring(Tape *tp, const KvInfo *i, Tensor *q, Tensor *k, Tensor *v) {
    const AttentionDims *d = &i->dims;
    size_t rows = (size_t)d->B * (size_t)d->H * (size_t)d->Tq;
    Tensor *o = tape_tensor(tp, q->rows, q->cols);
    real *lse = tape_saved(tp, rows);
    Ring r = ring_take(tp, i);
    Partial part = {tape_scratch(tp, rows * (size_t)d->D), tape_scratch(tp, rows)};
    real *scratch = tape_scratch(tp, attention_scratch_reals(d, threads_chosen()));
    if (!tape_is_dry(tp)) {
        comm__enter(i->mesh->sp_axis, "ring attention", 0);
        kv_pack(r.at[0], k, v);
    }
    for (int h = 0; h < i->mesh->sp && !tape_is_dry(tp); h++) {
        bool last = h + 1 == i->mesh->sp;
        if (!last) ring_pass(i, &r, COMM_KV, h);
        ring_attend(i, h, &r, o, lse, q, part, scratch);
        if (!last) comm_finish(i->mesh->sp_axis);
        r.now = 1 - r.now;
    }
    return tape_push(tp, &(Node){.backward = ring_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v),
                                 .saved = {lse},
                                 .info = tape_info(tp, i, sizeof *i)});
}
