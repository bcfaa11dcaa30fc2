// Lightning attention by its definition, over pairs of tokens and token by token.
#include "tests/ref/ref_attention.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

// One head of one row: vectors of token t, and the weight of token j in token i.
typedef struct Head {
    const LightningDims *d;
    int row, head;
    double rate;
} Head;

static const real *vector(const Head *h, const real *x, int ld, int width, int t) {
    return x + ((size_t)h->row * (size_t)h->d->T + (size_t)t) * (size_t)ld +
           (size_t)(h->head * width);
}

static double *dense(const Head *h, double *x, int width, int t) {
    return x +
           (((size_t)h->row * (size_t)h->d->T + (size_t)t) * (size_t)h->d->H + (size_t)h->head) *
               (size_t)width;
}

static size_t state_at(const Head *h) {
    return ((size_t)h->row * (size_t)h->d->H + (size_t)h->head) * (size_t)h->d->A * (size_t)h->d->E;
}

// Does a document start in tokens (after, upto]?
static bool document_between(const Head *h, int after, int upto) {
    if (h->d->start == NULL) return false;
    for (int t = after + 1; t <= upto; t++)
        if (h->d->start[(size_t)h->row * (size_t)h->d->T + (size_t)t]) return true;
    return false;
}

// Weight of token j in token i; j = -1 is the state before the first token.
static double weight(const Head *h, int i, int j) {
    return document_between(h, j, i) ? 0 : exp(-h->rate * (i - j));
}

static double dot(const real *x, const real *y, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

static void add(double *to, double w, const real *x, int n) {
    for (int i = 0; i < n; i++) to[i] += w * (double)x[i];
}

typedef void (*HeadFn)(const Head *h, void *user);

static void each_head(const LightningDims *d, HeadFn fn, void *user) {
    for (int row = 0; row < d->B; row++) {
        for (int head = 0; head < d->H; head++) {
            Head h = {d, row, head, d->decay[head]};
            fn(&h, user);
        }
    }
}

typedef struct Operands {
    RefLightning *r;
    const real *dout, *dstate, *state, *q, *k, *v;
} Operands;

static void quadratic_head(const Head *h, void *user) {
    Operands *o = user;
    const LightningDims *d = h->d;
    int A = d->A, E = d->E, T = d->T;
    const real *before = o->state + state_at(h);
    double *after = o->r->state + state_at(h), carry = weight(h, T - 1, -1);
    for (int n = 0; n < A * E; n++) after[n] = carry * (double)before[n];
    for (int i = 0; i < T; i++) {
        const real *q = vector(h, o->q, d->ld_q, A, i);
        double *out = dense(h, o->r->out, E, i), win = weight(h, i, -1);
        memset(out, 0, (size_t)E * sizeof *out);
        for (int a = 0; a < A && win > 0; a++)
            add(out, win * (double)q[a], before + (size_t)a * (size_t)E, E);
        for (int j = i; j >= 0; j--) {
            const real *k = vector(h, o->k, d->ld_k, A, j), *v = vector(h, o->v, d->ld_v, E, j);
            double w = weight(h, i, j);
            if (w == 0) break;
            add(out, w * dot(q, k, A), v, E);
            for (int a = 0; a < A && i == T - 1; a++)
                add(after + (size_t)a * (size_t)E, w * (double)k[a], v, E);
        }
    }
}

void ref_lightning_quadratic(RefLightning *r, const real *state, const real *q, const real *k,
                             const real *v, const LightningDims *d) {
    Operands o = {r, NULL, NULL, state, q, k, v};
    each_head(d, quadratic_head, &o);
}

static void recurrent_head(const Head *h, void *user) {
    Operands *o = user;
    const LightningDims *d = h->d;
    int A = d->A, E = d->E;
    double *state = o->r->state + state_at(h);
    for (int n = 0; n < A * E; n++) state[n] = (double)o->state[state_at(h) + (size_t)n];
    for (int t = 0; t < d->T; t++) {
        const real *q = vector(h, o->q, d->ld_q, A, t), *k = vector(h, o->k, d->ld_k, A, t);
        const real *v = vector(h, o->v, d->ld_v, E, t);
        double *out = dense(h, o->r->out, E, t),
               lambda = document_between(h, t - 1, t) ? 0 : exp(-h->rate);
        memset(out, 0, (size_t)E * sizeof *out);
        for (int a = 0; a < A; a++) {
            for (int e = 0; e < E; e++) {
                double *s = state + (size_t)a * (size_t)E + (size_t)e;
                *s = lambda * *s + (double)k[a] * (double)v[e];
                out[e] += (double)q[a] * *s;
            }
        }
    }
}

void ref_lightning_recurrent(RefLightning *r, const real *state, const real *q, const real *k,
                             const real *v, const LightningDims *d) {
    Operands o = {r, NULL, NULL, state, q, k, v};
    each_head(d, recurrent_head, &o);
}

// The terms of the states before the first and after the last token.
static void backward_head_states(const Head *h, const Operands *o, int t) {
    const LightningDims *d = h->d;
    int A = d->A, E = d->E;
    const real *q = vector(h, o->q, d->ld_q, A, t), *k = vector(h, o->k, d->ld_k, A, t);
    const real *v = vector(h, o->v, d->ld_v, E, t), *dout = vector(h, o->dout, d->ld_do, E, t);
    double win = weight(h, t, -1), wout = weight(h, d->T - 1, t);
    for (int a = 0; a < A; a++) {
        size_t at = state_at(h) + (size_t)a * (size_t)E;
        dense(h, o->r->dq, A, t)[a] += win * dot(o->state + at, dout, E);
        dense(h, o->r->dk, A, t)[a] += wout * dot(o->dstate + at, v, E);
        add(dense(h, o->r->dv, E, t), wout * (double)k[a], o->dstate + at, E);
        add(o->r->dstate + at, win * (double)q[a], dout, E);
    }
}

static void backward_head(const Head *h, void *user) {
    Operands *o = user;
    const LightningDims *d = h->d;
    int A = d->A, E = d->E, T = d->T;
    double carry = weight(h, T - 1, -1);
    for (int n = 0; n < A * E; n++)
        o->r->dstate[state_at(h) + (size_t)n] = carry * (double)o->dstate[state_at(h) + (size_t)n];
    for (int t = 0; t < T; t++) {
        memset(dense(h, o->r->dq, A, t), 0, (size_t)A * sizeof(double));
        memset(dense(h, o->r->dk, A, t), 0, (size_t)A * sizeof(double));
        memset(dense(h, o->r->dv, E, t), 0, (size_t)E * sizeof(double));
    }
    for (int i = 0; i < T; i++) {
        const real *q = vector(h, o->q, d->ld_q, A, i), *dout = vector(h, o->dout, d->ld_do, E, i);
        backward_head_states(h, o, i);
        for (int j = i; j >= 0; j--) {
            const real *k = vector(h, o->k, d->ld_k, A, j), *v = vector(h, o->v, d->ld_v, E, j);
            double w = weight(h, i, j);
            if (w == 0) break;
            double da = w * dot(dout, v, E);
            add(dense(h, o->r->dq, A, i), da, k, A);
            add(dense(h, o->r->dk, A, j), da, q, A);
            add(dense(h, o->r->dv, E, j), w * dot(q, k, A), dout, E);
        }
    }
}

void ref_lightning_backward(RefLightning *r, const real *dout, const real *dstate,
                            const real *state, const real *q, const real *k, const real *v,
                            const LightningDims *d) {
    Operands o = {r, dout, dstate, state, q, k, v};
    each_head(d, backward_head, &o);
}
