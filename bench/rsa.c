// Ring Self-Attention (Li et al. 2021, arXiv:2105.13120, 3.2), made causal: keys travel round and
// fill whole rows of scores, (own queries) x (all keys); softmax; values travel round. The
// probabilities are kept for backward: memory grows with the square of the length, divided by T.
//
//     forward    S_p = scale Q K_p^T      P = softmax(S)      O = sum_p P_p V_p
//     backward   ring of V:  dP_p = dO V_p^T,  dV_p = P_p^T dO;   dS = P * (dP - rowsum(P * dP))
//                ring of K:  dQ += scale dS_p K_p,  dK_p = scale dS_p^T Q
//
// and every rank's parts of dK, dV of all tokens are summed over ranks. Chunks after the own one
// are masked; neither their scores nor their gradients are computed. One thread, as in
// ring_linear.c.
#include <string.h>

#include "bench/methods.h"
#include "bench/relay.h"
#include "parallel/exchange.h"
#include "parallel/mesh.h"
#include "tensor/gemm.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/vmath.h"

typedef struct RsaInfo {
    const Mesh *mesh;
    SeqInfo seq;
    AttentionDims dims;
} RsaInfo;

static int row_tokens(const RsaInfo *i) {
    return i->seq.bound[i->mesh->sp];
}

static size_t scores_count(const RsaInfo *i) {
    const AttentionDims *d = &i->dims;
    return (size_t)d->B * (size_t)d->H * (size_t)d->Tq * (size_t)row_tokens(i);
}

// Matrices of this op that hops read or fill.
typedef struct Rsa {
    const RsaInfo *info;
    const Tensor *q;
    real *scores, *dscores;  // (B,H,Tq,N)
    real *out, *dq, *whole;  // whole: (B,N,H*D), gradients of all keys or values
    const real *dout;
    int ld_dq;
} Rsa;

// One head of one row, and the chunk at hand: where it stands in each of them.
typedef struct Part {
    size_t q, dq, out, score, key, whole;
    int keys;
} Part;

static Part part_of(const Rsa *x, const Relay *r, int source, int n) {
    const RsaInfo *i = x->info;
    const AttentionDims *d = &i->dims;
    size_t b = (size_t)(n / d->H), head = (size_t)(n % d->H) * (size_t)d->D;
    size_t row = b * (size_t)d->Tq, N = (size_t)row_tokens(i), begin = (size_t)i->seq.bound[source];
    int keys = relay_tokens(r, source);
    return (Part){.q = row * (size_t)d->ld_q + head,
                  .dq = row * (size_t)x->ld_dq + head,
                  .out = row * (size_t)r->width + head,
                  .score = (size_t)n * (size_t)d->Tq * N + begin,
                  .key = b * (size_t)keys * (size_t)r->width + head,
                  .whole = (b * N + begin) * (size_t)r->width + head,
                  .keys = keys};
}

typedef void HopFn(const Rsa *x, const Part *p, const real *chunk);

// The chunks of `r` go round, fn sees every head of those that are not masked.
static void round_trip(const Rsa *x, Relay *r, CommUse use, HopFn *fn) {
    const AttentionDims *d = &x->info->dims;
    for (int h = 0; h < r->mesh->sp; h++) {
        int source = relay_source(r, h);
        bool last = h + 1 == r->mesh->sp;
        if (!last) relay_start(r, use, h);
        for (int n = 0; n < d->B * d->H && source <= r->mesh->sp_rank; n++) {
            Part p = part_of(x, r, source, n);
            fn(x, &p, r->at[r->now] + p.key);
            relay_poll(r);
        }
        if (!last) relay_end(r);
    }
}

static void scores_fill(const Rsa *x, const Part *p, const real *k) {
    const AttentionDims *d = &x->info->dims;
    gemm(GEMM_N, GEMM_T, d->Tq, p->keys, d->D, d->scale, x->q->data + p->q, d->ld_q, k, d->H * d->D,
         0, x->scores + p->score, row_tokens(x->info));
}

static void values_add(const Rsa *x, const Part *p, const real *v) {
    const AttentionDims *d = &x->info->dims;
    int C = d->H * d->D;
    gemm(GEMM_N, GEMM_N, d->Tq, d->D, p->keys, 1, x->scores + p->score, row_tokens(x->info), v, C,
         1, x->out + p->out, C);
}

static void values_backward(const Rsa *x, const Part *p, const real *v) {
    const AttentionDims *d = &x->info->dims;
    int C = d->H * d->D, N = row_tokens(x->info);
    const real *dout = x->dout + p->out;
    gemm(GEMM_N, GEMM_T, d->Tq, p->keys, d->D, 1, dout, C, v, C, 0, x->dscores + p->score, N);
    gemm(GEMM_T, GEMM_N, p->keys, d->D, d->Tq, 1, x->scores + p->score, N, dout, C, 0,
         x->whole + p->whole, C);
}

static void keys_backward(const Rsa *x, const Part *p, const real *k) {
    const AttentionDims *d = &x->info->dims;
    int C = d->H * d->D, N = row_tokens(x->info);
    const real *ds = x->dscores + p->score;
    gemm(GEMM_N, GEMM_N, d->Tq, d->D, p->keys, d->scale, ds, N, k, C, 1, x->dq + p->dq, x->ld_dq);
    gemm(GEMM_T, GEMM_N, p->keys, d->D, d->Tq, d->scale, ds, N, x->q->data + p->q, d->ld_q, 0,
         x->whole + p->whole, C);
}

// ---- rows of scores ----------------------------------------------------------------------------

// Keys [low, high) are seen by query i of row b.
static int low_of(const RsaInfo *x, int b, int i) {
    return x->seq.first == NULL ? 0 : x->seq.first[(size_t)b * (size_t)x->dims.Tq + (size_t)i];
}
static int high_of(const RsaInfo *x, int i) {
    return x->seq.bound[x->mesh->sp_rank] + i + 1;
}

static void softmax_row(real *s, int low, int high, int N) {
    real most = s[low], sum = 0;
#pragma omp simd reduction(max : most)
    for (int j = low; j < high; j++) most = s[j] > most ? s[j] : most;
#pragma omp simd reduction(+ : sum)
    for (int j = low; j < high; j++) sum += s[j] = real_exp(s[j] - most);
    real scale = 1 / sum;
    for (int j = low; j < high; j++) s[j] *= scale;
    memset(s, 0, (size_t)low * sizeof *s);
    memset(s + high, 0, (size_t)(N - high) * sizeof *s);
}

// dP becomes dS.
static void softmax_row_backward(real *ds, const real *p, int low, int high, int end) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int j = low; j < high; j++) sum += ds[j] * p[j];
    for (int j = 0; j < low; j++) ds[j] = 0;
    for (int j = low; j < high; j++) ds[j] = p[j] * (ds[j] - sum);
    for (int j = high; j < end; j++) ds[j] = 0;
}

static void rows_each(const Rsa *x) {
    const AttentionDims *d = &x->info->dims;
    int N = row_tokens(x->info), end = x->info->seq.bound[x->info->mesh->sp_rank + 1];
    for (int n = 0; n < d->B * d->H; n++) {
        for (int i = 0; i < d->Tq; i++) {
            size_t at = ((size_t)n * (size_t)d->Tq + (size_t)i) * (size_t)N;
            int low = low_of(x->info, n / d->H, i), high = high_of(x->info, i);
            if (x->dscores == NULL)
                softmax_row(x->scores + at, low, high, N);
            else
                softmax_row_backward(x->dscores + at, x->scores + at, low, high, end);
        }
    }
}

// ---- the op ------------------------------------------------------------------------------------

// Sums every rank's part of a gradient of whole rows and adds the own rows to dx.
static void whole_reduce(const Rsa *x, real *dx, int ld, real *scratch) {
    const RsaInfo *i = x->info;
    size_t N = (size_t)row_tokens(i), C = (size_t)(i->dims.H * i->dims.D), T = (size_t)i->dims.Tq;
    comm_sum_reals(i->mesh->sp_axis, COMM_DKV, x->whole, (size_t)i->seq.B * N * C, scratch);
    for (size_t t = 0; t < (size_t)i->seq.B * T; t++) {
        size_t row = t / T * N + (size_t)i->seq.bound[i->mesh->sp_rank] + t % T;
        for (size_t c = 0; c < C; c++) dx[t * (size_t)ld + c] += x->whole[row * C + c];
    }
}

static void rsa_node(Tape *tp, const Node *n) {
    const RsaInfo *i = n->info;
    const AttentionDims *d = &i->dims;
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    real *dq = tape_grad(tp, q), *dk = tape_grad(tp, k), *dv = tape_grad(tp, v);
    size_t whole = (size_t)d->B * (size_t)row_tokens(i) * (size_t)k->cols;
    Relay keys = relay_take(tp, i->mesh, &i->seq, k->cols);
    Relay values = relay_take(tp, i->mesh, &i->seq, v->cols);
    Rsa x = {.info = i, .q = q, .scores = n->saved[0], .dq = dq, .ld_dq = tape_grad_ld(q)};
    x.dscores = tape_scratch(tp, scores_count(i));
    x.whole = tape_scratch(tp, whole);
    real *scratch = tape_scratch(tp, comm_sum_scratch(i->mesh->sp, whole));
    if (tape_is_dry(tp)) return;
    x.dout = n->out[0]->grad;
    relay_put(&values, 0, v);
    memset(x.whole, 0, whole * sizeof *x.whole);
    round_trip(&x, &values, COMM_KV_AGAIN, values_backward);
    whole_reduce(&x, dv, tape_grad_ld(v), scratch);
    rows_each(&x);
    relay_put(&keys, 0, k);
    memset(x.whole, 0, whole * sizeof *x.whole);
    round_trip(&x, &keys, COMM_KV_AGAIN, keys_backward);
    whole_reduce(&x, dk, tape_grad_ld(k), scratch);
}

Tensor *op_rsa(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v, const SeqInfo *seq,
               const AttentionArgs *a) {
    ASSERT(mesh->sp > 1 && a->window == 0 && a->heads == a->kv_heads);
    RsaInfo i = {mesh, *seq, attention_dims(q, k, v, seq, a)};
    Tensor *o = tape_tensor(tp, q->rows, q->cols);
    real *scores = tape_saved(tp, scores_count(&i));
    Relay keys = relay_take(tp, mesh, &i.seq, k->cols);
    Relay values = relay_take(tp, mesh, &i.seq, v->cols);
    if (!tape_is_dry(tp)) {
        Rsa x = {.info = &i, .q = q, .scores = scores, .out = o->data};
        relay_put(&keys, 0, k);
        round_trip(&x, &keys, COMM_KV, scores_fill);
        rows_each(&x);
        memset(o->data, 0, (size_t)o->rows * (size_t)o->cols * sizeof *o->data);
        relay_put(&values, 0, v);
        round_trip(&x, &values, COMM_KV, values_add);
    }
    return tape_push(tp, &(Node){.backward = rsa_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v),
                                 .saved = {scores},
                                 .info = tape_info(tp, &i, sizeof i)});
}
