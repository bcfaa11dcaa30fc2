// Ulysses: an all-to-all turns (own tokens, all heads) into (all tokens, own heads), attention runs
// on whole rows as on one rank, and another one turns the result back. sp must divide heads and
// kv_heads of a tensor-parallel share.
#include <string.h>

#include "parallel/seq_kv.h"
#include "tensor/threads.h"

static int row_tokens(const KvInfo *i) {
    return i->seq.bound[i->mesh->sp];
}

// Attention of this rank's heads over whole rows.
static AttentionDims dims_whole(const KvInfo *i, const int *first) {
    AttentionDims d = i->dims;
    d.Tq = d.Tk = row_tokens(i);
    d.H /= i->mesh->sp;
    d.Hk /= i->mesh->sp;
    d.ld_q = d.ld_dq = d.H * d.D;
    d.ld_k = d.ld_v = d.ld_dk = d.ld_dv = d.Hk * d.D;
    d.first = first;
    return d;
}

// first[] of whole rows: chunks know only their own.
static void first_fill(const KvInfo *i, int *first) {
    const SeqInfo *s = &i->seq;
    for (int b = 0; b < s->B; b++) {
        int *row = first + (size_t)b * (size_t)row_tokens(i), now = 0;
        int next = s->doc == NULL ? 0 : s->doc_row[b], end = s->doc == NULL ? 0 : s->doc_row[b + 1];
        for (int t = 0; t < row_tokens(i); t++) {
            if (next < end && s->doc[next] == t) now = s->doc[next++];
            row[t] = now;
        }
    }
}

// One side of the exchange: the own tokens (B*T, ld) as one block of columns a rank, the whole rows
// (B, tokens, width/sp) as one block of tokens a rank.
typedef struct Swap {
    const KvInfo *i;
    int width;             // columns of the own heads
    real *tokens, *heads;  // as they travel, rank-major
} Swap;

static Swap swap_take(Tape *tp, const KvInfo *i, int columns) {
    Swap s = {.i = i, .width = columns / i->mesh->sp};
    s.tokens = tape_scratch(tp, (size_t)i->seq.B * (size_t)i->seq.T * (size_t)columns);
    s.heads = tape_scratch(tp, (size_t)i->seq.B * (size_t)row_tokens(i) * (size_t)s.width);
    return s;
}

// Rows of either side: those of the own tokens are the same for every rank.
static void swap_rows(const Swap *s, int *token_rows, int *head_rows) {
    for (int p = 0; p < s->i->mesh->sp; p++) {
        token_rows[p] = s->i->seq.B * s->i->seq.T;
        head_rows[p] = s->i->seq.B * chunk_tokens(s->i, p);
    }
}

// Whole rows from the order of travel to their places (`in`), or back.
static void rows_move(const Swap *s, real *rows, bool in) {
    size_t w = (size_t)s->width;
    real *at = s->heads;
    for (int p = 0; p < s->i->mesh->sp; p++) {
        size_t n = (size_t)chunk_tokens(s->i, p) * w;
        for (int b = 0; b < s->i->seq.B && n > 0; b++) {
            size_t first = (size_t)b * (size_t)row_tokens(s->i) + (size_t)s->i->seq.bound[p];
            real *row = rows + first * w;
            memcpy(in ? row : at, in ? at : row, n * sizeof *row);
            at += n;
        }
    }
}

static void to_heads(const Swap *s, CommUse use, real *rows, const real *x, int ld) {
    Comm *comm = s->i->mesh->sp_axis;
    int N = s->i->seq.B * s->i->seq.T, w = s->width;
    for (int p = 0; p < comm->size; p++) {
        for (int t = 0; t < N; t++)
            memcpy(s->tokens + ((size_t)p * (size_t)N + (size_t)t) * (size_t)w,
                   x + (size_t)t * (size_t)ld + (size_t)p * (size_t)w, (size_t)w * sizeof *x);
    }
    swap_rows(s, comm->rows, comm->rows + comm->size);
    comm_alltoall_rows(comm, use, s->tokens, comm->rows, s->heads, comm->rows + comm->size, w);
    comm_finish(comm);
    rows_move(s, rows, true);
}

// x (B*T, ld) += the own tokens of everyone's heads
static void to_tokens(const Swap *s, CommUse use, real *x, int ld, real *rows) {
    Comm *comm = s->i->mesh->sp_axis;
    int N = s->i->seq.B * s->i->seq.T, w = s->width;
    rows_move(s, rows, false);
    swap_rows(s, comm->rows, comm->rows + comm->size);
    comm_alltoall_rows(comm, use, s->heads, comm->rows + comm->size, s->tokens, comm->rows, w);
    comm_finish(comm);
    for (int p = 0; p < comm->size; p++) {
        for (int t = 0; t < N; t++) {
            const real *from = s->tokens + ((size_t)p * (size_t)N + (size_t)t) * (size_t)w;
            real *to = x + (size_t)t * (size_t)ld + (size_t)p * (size_t)w;
            for (int c = 0; c < w; c++) to[c] += from[c];
        }
    }
}

// What backward needs of whole rows.
typedef struct Whole {
    KvInfo i;
    real *q, *k, *v, *o, *lse;
    const int *first;
} Whole;

static void ulysses_node(Tape *tp, const Node *n) {
    const Whole *w = n->info;
    const KvInfo *i = &w->i;
    AttentionDims d = dims_whole(i, w->first);
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    real *dq = tape_grad(tp, q), *dk = tape_grad(tp, k), *dv = tape_grad(tp, v);
    size_t wide = (size_t)d.B * (size_t)d.Tq * (size_t)d.ld_q;
    size_t narrow = (size_t)d.B * (size_t)d.Tk * (size_t)d.ld_k;
    real *whole_dout = tape_scratch(tp, wide), *whole_dq = tape_scratch(tp, wide);
    real *whole_dk = tape_scratch(tp, narrow), *whole_dv = tape_scratch(tp, narrow);
    Swap heads = swap_take(tp, i, q->cols), kv_heads = swap_take(tp, i, k->cols);
    real *scratch = tape_scratch(tp, attention_scratch_reals(&d, threads_chosen()));
    if (tape_is_dry(tp)) return;
    to_heads(&heads, COMM_DKV, whole_dout, n->out[0]->grad, n->out[0]->cols);
    memset(whole_dq, 0, wide * sizeof *whole_dq);
    memset(whole_dk, 0, narrow * sizeof *whole_dk);
    memset(whole_dv, 0, narrow * sizeof *whole_dv);
    attention_backward(whole_dq, whole_dk, whole_dv, whole_dout, w->o, w->lse, w->q, w->k, w->v,
                       scratch, &d);
    to_tokens(&heads, COMM_DKV, dq, tape_grad_ld(q), whole_dq);
    to_tokens(&kv_heads, COMM_DKV, dk, tape_grad_ld(k), whole_dk);
    to_tokens(&kv_heads, COMM_DKV, dv, tape_grad_ld(v), whole_dv);
}

static Whole whole_take(Tape *tp, const KvInfo *i) {
    AttentionDims d = dims_whole(i, NULL);
    size_t rows = (size_t)d.B * (size_t)d.Tq;
    size_t wide = rows * (size_t)d.ld_q, narrow = rows * (size_t)d.ld_k;
    Whole w = {.i = *i};
    w.q = tape_saved(tp, wide);
    w.k = tape_saved(tp, narrow);
    w.v = tape_saved(tp, narrow);
    w.o = tape_saved(tp, wide);
    w.lse = tape_saved(tp, rows * (size_t)d.H);
    int *first = (int *)(void *)tape_saved(tp, rows);  // an int is no larger than a real
    if (!tape_is_dry(tp)) first_fill(i, first);
    w.first = first;
    return w;
}

Tensor *kv__ulysses(Tape *tp, const KvInfo *i, Tensor *q, Tensor *k, Tensor *v) {
    Tensor *o = tape_tensor(tp, q->rows, q->cols);
    Whole w = whole_take(tp, i);
    AttentionDims d = dims_whole(i, w.first);
    Swap heads = swap_take(tp, i, q->cols), kv_heads = swap_take(tp, i, k->cols);
    real *scratch = tape_scratch(tp, attention_scratch_reals(&d, threads_chosen()));
    if (!tape_is_dry(tp)) {
        to_heads(&heads, COMM_KV, w.q, q->data, q->ld);
        to_heads(&kv_heads, COMM_KV, w.k, k->data, k->ld);
        to_heads(&kv_heads, COMM_KV, w.v, v->data, v->ld);
        attention_forward(w.o, w.lse, w.q, w.k, w.v, scratch, &d);
        memset(o->data, 0, (size_t)o->rows * (size_t)o->cols * sizeof *o->data);
        to_tokens(&heads, COMM_KV, o->data, o->ld, w.o);
    }
    return tape_push(tp, &(Node){.backward = ulysses_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v),
                                 .info = tape_info(tp, &w, sizeof w)});
}
