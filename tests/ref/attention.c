// Causal softmax attention by its definition: every query looks at every key and asks whether it
// sees it.
#include "tests/ref/ref_attention.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct Operands {
    const AttentionDims *d;
    const real *q, *k, *v;
    int row, head, query;
} Operands;

static size_t query_index(const Operands *o) {
    return (size_t)o->row * (size_t)o->d->Tq + (size_t)o->query;
}

static const real *query_row(const Operands *o) {
    return o->q + query_index(o) * (size_t)o->d->ld_q + (size_t)(o->head * o->d->D);
}

static size_t kv_head(const Operands *o) {
    return (size_t)(o->head / (o->d->H / o->d->Hk));
}

static const real *key_row(const Operands *o, const real *x, int ld, int j) {
    size_t index = (size_t)o->row * (size_t)o->d->Tk + (size_t)j;
    return x + index * (size_t)ld + kv_head(o) * (size_t)o->d->D;
}

static double *dense_query(const Operands *o, double *x) {
    return x + (query_index(o) * (size_t)o->d->H + (size_t)o->head) * (size_t)o->d->D;
}

static double *dense_key(const Operands *o, double *x, int j) {
    size_t index = (size_t)o->row * (size_t)o->d->Tk + (size_t)j;
    return x + (index * (size_t)o->d->Hk + kv_head(o)) * (size_t)o->d->D;
}

static bool sees(const Operands *o, int key) {
    const AttentionDims *d = o->d;
    int i = d->offset + o->query, j = d->key_begin + key;
    if (j > i || (d->window > 0 && j <= i - d->window)) return false;
    return d->first == NULL || j >= d->first[query_index(o)];
}

static double dot(const real *x, const real *y, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

// Probabilities (Tk) of one query and the log of its sum; all 0 and -1e30 where it sees nothing.
static double probabilities(const Operands *o, double *p) {
    const AttentionDims *d = o->d;
    double max = -INFINITY, sum = 0;
    for (int j = 0; j < d->Tk; j++) {
        p[j] = sees(o, j) ? (double)d->scale * dot(query_row(o), key_row(o, o->k, d->ld_k, j), d->D)
                          : -INFINITY;
        max = fmax(max, p[j]);
    }
    for (int j = 0; j < d->Tk; j++) sum += p[j] = isinf(p[j]) ? 0 : exp(p[j] - max);
    for (int j = 0; j < d->Tk && sum > 0; j++) p[j] /= sum;
    return sum > 0 ? max + log(sum) : -1e30;
}

static void forward_query(RefAttention *r, const Operands *o, double *p) {
    const AttentionDims *d = o->d;
    double *out = dense_query(o, r->out);
    r->lse[((size_t)o->row * (size_t)d->H + (size_t)o->head) * (size_t)d->Tq + (size_t)o->query] =
        probabilities(o, p);
    memset(out, 0, (size_t)d->D * sizeof *out);
    for (int j = 0; j < d->Tk; j++)
        for (int c = 0; c < d->D; c++) out[c] += p[j] * (double)key_row(o, o->v, d->ld_v, j)[c];
}

void ref_attention_forward(RefAttention *r, const real *q, const real *k, const real *v,
                           const AttentionDims *d) {
    double *p = calloc((size_t)d->Tk + 1, sizeof *p);
    Operands o = {d, q, k, v, 0, 0, 0};
    for (o.row = 0; o.row < d->B; o.row++)
        for (o.head = 0; o.head < d->H; o.head++)
            for (o.query = 0; o.query < d->Tq; o.query++) forward_query(r, &o, p);
    free(p);
}

static void backward_query(RefAttention *r, const Operands *o, const real *dout, double *p) {
    const AttentionDims *d = o->d;
    const real *dy = dout + (query_index(o) * (size_t)d->H + (size_t)o->head) * (size_t)d->D;
    const real *q = query_row(o);
    double mean = 0;
    probabilities(o, p);
    for (int j = 0; j < d->Tk; j++) mean += p[j] * dot(dy, key_row(o, o->v, d->ld_v, j), d->D);
    for (int j = 0; j < d->Tk; j++) {
        const real *k = key_row(o, o->k, d->ld_k, j), *v = key_row(o, o->v, d->ld_v, j);
        double ds = p[j] * (dot(dy, v, d->D) - mean) * (double)d->scale;
        for (int c = 0; c < d->D; c++) {
            dense_query(o, r->dq)[c] += ds * (double)k[c];
            dense_key(o, r->dk, j)[c] += ds * (double)q[c];
            dense_key(o, r->dv, j)[c] += p[j] * (double)dy[c];
        }
    }
}

void ref_attention_backward(RefAttention *r, const real *dout, const real *q, const real *k,
                            const real *v, const AttentionDims *d) {
    double *p = calloc((size_t)d->Tk + 1, sizeof *p);
    size_t queries = (size_t)d->B * (size_t)d->Tq * (size_t)d->H * (size_t)d->D;
    size_t keys = (size_t)d->B * (size_t)d->Tk * (size_t)d->Hk * (size_t)d->D;
    memset(r->dq, 0, queries * sizeof(double));
    memset(r->dk, 0, keys * sizeof(double));
    memset(r->dv, 0, keys * sizeof(double));
    Operands o = {d, q, k, v, 0, 0, 0};
    for (o.row = 0; o.row < d->B; o.row++)
        for (o.head = 0; o.head < d->H; o.head++)
            for (o.query = 0; o.query < d->Tq; o.query++) backward_query(r, &o, dout, p);
    free(p);
}
