// The KV driver: softmax layers over sequences that several ranks share. Keys and values travel as
// rows [k | v], rotated before. Three ways to bring keys to queries:
//
//   lasp2h   all-gather of every chunk, reduce-scatter of the gradients (LASP-2H, arXiv:2502.07563)
//   ring     chunks travel round, partial results merge by their log-sum-exp (Liu et al. 2023,
//            arXiv:2310.01889); backward, gradients travel with them (seq_ring.c)
//   ulysses  all-to-all from tokens to heads and back (Jacobs et al. 2023, arXiv:2309.14509;
//            seq_ulysses.c)
//
// and for sliding windows the halo alone: the window - 1 rows before a chunk, from as many earlier
// ranks as hold them. This file: lasp2h and halo, which differ in the rows that a rank needs.
#include <math.h>
#include <string.h>

#include "parallel/seq_kv.h"
#include "tensor/threads.h"

// Rows of the whole sequence, [begin, end).
typedef struct Rows {
    int begin, end;
} Rows;

static int int_min(int a, int b) {
    return a < b ? a : b;
}
static int int_max(int a, int b) {
    return a > b ? a : b;
}

// What rank p wants: everything, as an all-gather brings it, or its chunk and the halo before it.
static Rows rows_wanted(const KvInfo *i, int p) {
    const int *bound = i->seq.bound;
    if (i->dims.window == 0) return (Rows){0, bound[i->mesh->sp]};
    return (Rows){int_max(0, bound[p] - i->dims.window + 1), bound[p + 1]};
}

// What rank p has of it, an empty chunk or one out of reach: nothing.
static Rows rows_of(const KvInfo *i, int p, Rows wanted) {
    const int *bound = i->seq.bound;
    Rows r = {int_max(bound[p], wanted.begin), int_min(bound[p + 1], wanted.end)};
    return r.begin < r.end ? r : (Rows){0, 0};
}

static int rows_count(Rows r) {
    return r.end - r.begin;
}

size_t kv_width(const AttentionDims *d) {
    return 2 * (size_t)d->Hk * (size_t)d->D;
}

void kv_pack(real *restrict out, const Tensor *k, const Tensor *v) {
    size_t half = (size_t)k->cols;
#pragma omp parallel for schedule(static) if (worth_threads(k->rows, 2 * k->cols))
    for (int t = 0; t < k->rows; t++) {
        real *to = out + (size_t)t * 2 * half;
        memcpy(to, k->data + (size_t)t * (size_t)k->ld, half * sizeof *to);
        memcpy(to + half, v->data + (size_t)t * (size_t)v->ld, half * sizeof *to);
    }
}

void kv_add(const KvGrads *g, const real *rows, int first, int count) {
    size_t half = (size_t)g->width / 2;
#pragma omp parallel for schedule(static) if (worth_threads(count, g->width))
    for (int t = 0; t < count; t++) {
        const real *from = rows + (size_t)t * (size_t)g->width;
        real *dk = g->dk + (size_t)(first + t) * (size_t)g->ld_dk;
        real *dv = g->dv + (size_t)(first + t) * (size_t)g->ld_dv;
        for (size_t c = 0; c < half; c++) {
            dk[c] += from[c];
            dv[c] += from[half + c];
        }
    }
}

// ---- rows of several batch rows ----------------------------------------------------------------

// An exchange is rank-major, (p, B, rows of p); attention reads each batch row in one piece, (B,
// rows). With one batch row both are the same.
static void permute(const KvInfo *i, real *by_row, real *by_rank, bool to_rows) {
    Rows wanted = rows_wanted(i, i->mesh->sp_rank);
    size_t width = kv_width(&i->dims), all = (size_t)rows_count(wanted), at = 0;
    for (int p = 0; p < i->mesh->sp; p++) {
        Rows have = rows_of(i, p, wanted);
        for (int b = 0; b < i->seq.B; b++) {
            size_t n = (size_t)rows_count(have) * width;
            if (n == 0) continue;
            real *row = by_row + ((size_t)b * all + (size_t)(have.begin - wanted.begin)) * width;
            memcpy(to_rows ? row : by_rank + at, to_rows ? by_rank + at : row, n * sizeof *row);
            at += n;
        }
    }
}

// ---- forward: rows to where they are wanted ----------------------------------------------------

// Rows of the own chunk that rank p wants, of each batch row, one rank after the other.
static void pack_for_ranks(const KvInfo *i, real *out, const real *mine, int *rows) {
    size_t width = kv_width(&i->dims);
    int first = i->seq.bound[i->mesh->sp_rank];
    for (int p = 0; p < i->mesh->sp; p++) {
        Rows r = rows_of(i, i->mesh->sp_rank, rows_wanted(i, p));
        rows[p] = rows_count(r) * i->seq.B;
        for (int b = 0; b < i->seq.B; b++) {
            size_t n = (size_t)rows_count(r) * width;
            size_t from = (size_t)b * (size_t)i->seq.T + (size_t)(r.begin - first);
            if (n > 0) memcpy(out, mine + from * width, n * sizeof *out);
            out += n;
        }
    }
}

static void wanted_from(const KvInfo *i, int *rows) {
    Rows wanted = rows_wanted(i, i->mesh->sp_rank);
    for (int p = 0; p < i->mesh->sp; p++) rows[p] = rows_count(rows_of(i, p, wanted)) * i->seq.B;
}

// Room for the rows this rank sends in all, its own among them. A bound: each token of the chunk
// lies in about window / chunk later halos, and a shorter sequence, cut less evenly, may send more.
static size_t packed_rows(const KvInfo *i) {
    int chunk = i->seq.T, later = i->mesh->sp - 1 - i->mesh->sp_rank, exact = 0;
    for (int p = 0; p < i->mesh->sp; p++)
        exact += rows_count(rows_of(i, i->mesh->sp_rank, rows_wanted(i, p)));
    int bound = chunk + int_min(later * chunk, i->dims.window + i->mesh->sp);
    return (size_t)int_max(exact, i->dims.window > 0 ? bound : 0) * (size_t)i->seq.B;
}

// Buffers of one exchange in either direction.
typedef struct KvBuffers {
    real *by_rank;  // wanted rows as they travel
    real *by_row;   // and as attention reads them; by_rank when there is one batch row
} KvBuffers;

static KvBuffers buffers_take(Tape *tp, const KvInfo *i, size_t rows) {
    size_t width = kv_width(&i->dims);
    KvBuffers k = {.by_rank = tape_scratch(tp, rows * width)};
    k.by_row = i->seq.B > 1 ? tape_scratch(tp, rows * width) : k.by_rank;
    return k;
}

static size_t wanted_rows(const KvInfo *i) {
    return (size_t)rows_count(rows_wanted(i, i->mesh->sp_rank)) * (size_t)i->seq.B;
}

// mine: the own chunk's rows. packed: room for a halo's; an all-gather sends them as they are.
static void rows_gather(const KvInfo *i, CommUse use, const KvBuffers *k, const real *mine,
                        real *packed) {
    Comm *comm = i->mesh->sp_axis;
    int width = (int)kv_width(&i->dims);
    wanted_from(i, comm->rows);
    if (i->dims.window == 0) {
        comm_gather_rows(comm, use, mine, k->by_rank, comm->rows, width);
    } else {
        int *send_rows = comm->rows + comm->size;
        pack_for_ranks(i, packed, mine, send_rows);
        comm_alltoall_rows(comm, use, packed, send_rows, k->by_rank, comm->rows, width);
    }
    comm_finish(comm);
    if (k->by_row != k->by_rank) permute(i, k->by_row, k->by_rank, true);
}

// ---- backward: gradients of rows to their owners -----------------------------------------------

// Adds what every rank contributes to the rows of this one, in rank order. packed: room for them.
static void rows_scatter(const KvInfo *i, const KvBuffers *k, const KvGrads *g, real *packed) {
    Comm *comm = i->mesh->sp_axis;
    int *recv_rows = comm->rows + comm->size, first = i->seq.bound[i->mesh->sp_rank];
    if (k->by_row != k->by_rank) permute(i, k->by_row, k->by_rank, false);
    wanted_from(i, comm->rows);
    for (int p = 0; p < comm->size; p++)
        recv_rows[p] = rows_count(rows_of(i, i->mesh->sp_rank, rows_wanted(i, p))) * i->seq.B;
    comm_alltoall_rows(comm, COMM_DKV, k->by_rank, comm->rows, packed, recv_rows, g->width);
    comm_finish(comm);
    const real *at = packed;
    for (int p = 0; p < comm->size; p++) {
        Rows r = rows_of(i, i->mesh->sp_rank, rows_wanted(i, p));
        for (int b = 0; b < i->seq.B; b++) {
            kv_add(g, at, b * i->seq.T + r.begin - first, rows_count(r));
            at += (size_t)rows_count(r) * (size_t)g->width;
        }
    }
}

// ---- the op ------------------------------------------------------------------------------------

// Keys at hand: all wanted rows. Those after the own chunk are masked, their tiles never formed.
static AttentionDims dims_gathered(const KvInfo *i) {
    AttentionDims d = i->dims;
    Rows wanted = rows_wanted(i, i->mesh->sp_rank);
    d.Tk = rows_count(wanted);
    d.key_begin = wanted.begin;
    d.offset = i->seq.bound[i->mesh->sp_rank];
    d.ld_k = d.ld_v = (int)kv_width(&d);
    return d;
}

static void gathered_node(Tape *tp, const Node *n) {
    const KvInfo *i = n->info;
    AttentionDims d = dims_gathered(i);
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    size_t width = kv_width(&d), half = width / 2;
    KvGrads g = {tape_grad(tp, k), tape_grad(tp, v), tape_grad_ld(k), tape_grad_ld(v), (int)width};
    real *dq = tape_grad(tp, q), *mine = tape_scratch(tp, (size_t)k->rows * width);
    // Room of the keys serves the gradients that come back: by then keys are of no use.
    size_t rows = wanted_rows(i), packed = packed_rows(i);
    KvBuffers kv = buffers_take(tp, i, rows > packed ? rows : packed),
              dkv = buffers_take(tp, i, rows);
    real *halo = i->dims.window > 0 ? tape_scratch(tp, packed * width) : NULL;
    Tensor *more_k = n->in[3], *more_v = more_k != NULL ? n->in[4] : NULL;
    real *dmore_k = more_k != NULL ? tape_grad(tp, more_k) : NULL;
    real *dmore_v = more_k != NULL ? tape_grad(tp, more_v) : NULL;
    real *room = more_k != NULL ? tape_scratch(tp, attention_more_reals(&d, more_k)) : NULL;
    real *scratch = tape_scratch(tp, attention_scratch_reals(&d, threads_chosen()));
    if (tape_is_dry(tp)) return;
    kv_pack(mine, k, v);
    rows_gather(i, COMM_KV_AGAIN, &kv, mine, halo);
    memset(dkv.by_row, 0, rows * width * sizeof *dkv.by_row);
    d.ld_dq = tape_grad_ld(q);
    d.ld_dk = d.ld_dv = (int)width;
    attention_backward(dq, dkv.by_row, dkv.by_row + half, n->out[0]->grad, n->out[0]->data,
                       n->saved[0], q->data, kv.by_row, kv.by_row + half, scratch, &d);
    if (more_k != NULL)
        attention_more_backward(dq, dmore_k, dmore_v, room, n->out[0]->grad, n->out[0]->data,
                                n->saved[0], q->data, more_k, more_v, &d);
    rows_scatter(i, &dkv, &g, kv.by_rank);
}

static Tensor *gathered(Tape *tp, const KvInfo *i, Tensor *q, Tensor *k, Tensor *v,
                        const AttentionArgs *a) {
    AttentionDims d = dims_gathered(i);
    size_t width = kv_width(&d);
    Tensor *o = tape_tensor(tp, q->rows, q->cols);
    real *lse = tape_saved(tp, (size_t)d.B * (size_t)d.H * (size_t)d.Tq);
    real *mine = tape_scratch(tp, (size_t)k->rows * width);
    KvBuffers kv = buffers_take(tp, i, wanted_rows(i));
    real *halo = d.window > 0 ? tape_scratch(tp, packed_rows(i) * width) : NULL;
    real *room =
        a->more_keys != NULL ? tape_scratch(tp, attention_more_reals(&d, a->more_keys)) : NULL;
    real *scratch = tape_scratch(tp, attention_scratch_reals(&d, threads_chosen()));
    if (!tape_is_dry(tp)) {
        kv_pack(mine, k, v);
        rows_gather(i, COMM_KV, &kv, mine, halo);
        attention_forward(o->data, lse, q->data, kv.by_row, kv.by_row + width / 2, scratch, &d);
        if (room != NULL)
            attention_more(o->data, lse, room, q->data, a->more_keys, a->more_values, &d);
    }
    return tape_push(tp, &(Node){.backward = gathered_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v, a->more_keys, a->more_values),
                                 .saved = {lse},
                                 .info = tape_info(tp, i, sizeof *i)});
}

Tensor *op_seq_attention(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                         const SeqInfo *seq, const AttentionArgs *a) {
    if (mesh == NULL || mesh->sp == 1) return op_attention(tp, q, k, v, seq, a);
    KvInfo i = {mesh, *seq, attention_dims(q, k, v, seq, a)};
    ASSERT(a->more_keys == NULL || a->window > 0);  // the others do not know them
    if (a->window == 0 && mesh->sp_softmax == SP_RING) return kv__ring(tp, &i, q, k, v);
    if (a->window == 0 && mesh->sp_softmax == SP_ULYSSES) return kv__ulysses(tp, &i, q, k, v);
    return gathered(tp, &i, q, k, v, a);
}
