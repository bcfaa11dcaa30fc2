// Neural memory token by token: a network that takes one step of gradient descent, then answers.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref.h"

enum { WIDEST = 64 };

// A network of one head: its layers one after the other, in doubles.
typedef struct Net {
    const MemoryDims *d;
    const real *gain, *shift;
    int in[MEMORY_LAYERS], out[MEMORY_LAYERS];
    size_t at[MEMORY_LAYERS], count;
} Net;

static Net net_of(const MemoryDims *d, const MemoryInputs *in, int head) {
    Net n = {.d = d};
    if (d->normed) n.gain = in->gain + head * d->D;
    if (d->normed) n.shift = in->shift + head * d->D;
    for (int l = 0; l < d->layers; l++) {
        n.in[l] = l == 0 ? d->D : d->hidden;
        n.out[l] = l == d->layers - 1 ? d->D : d->hidden;
        n.at[l] = n.count;
        n.count += (size_t)n.in[l] * (size_t)n.out[l];
    }
    return n;
}

static double curve(const MemoryDims *d, double z) {
    if (d->activation == MEMORY_GELU) return z * 0.5 * erfc(-z / sqrt(2));
    return z / (1 + exp(-z));
}
static double slope(const MemoryDims *d, double z) {
    if (d->activation == MEMORY_GELU)
        return 0.5 * erfc(-z / sqrt(2)) + z * exp(-z * z / 2) / sqrt(8 * atan(1));
    double s = 1 / (1 + exp(-z));
    return s + z * s * (1 - s);
}

// What one token leaves in a network.
typedef struct Pass {
    double x[MEMORY_LAYERS][WIDEST], z[MEMORY_LAYERS][WIDEST];
    double hat[WIDEST], scale, f[WIDEST];
} Pass;

static void pass(const Net *n, Pass *p, const double *W, const real *x) {
    int D = n->d->D, top = n->d->layers - 1;
    for (int j = 0; j < D; j++) p->x[0][j] = (double)x[j];
    for (int l = 0; l <= top; l++) {
        for (int j = 0; j < n->out[l]; j++) {
            p->z[l][j] = 0;
            for (int i = 0; i < n->in[l]; i++)
                p->z[l][j] += p->x[l][i] * W[n->at[l] + (size_t)(i * n->out[l] + j)];
            if (l < top) p->x[l + 1][j] = curve(n->d, p->z[l][j]);
        }
    }
    double mean = 0, var = 0;
    for (int j = 0; j < D; j++) mean += p->z[top][j] / D;
    for (int j = 0; j < D; j++) var += (p->z[top][j] - mean) * (p->z[top][j] - mean) / D;
    p->scale = sqrt(var + 1e-6);
    for (int j = 0; j < D; j++) {
        p->hat[j] = (p->z[top][j] - mean) / p->scale;
        p->f[j] = p->z[top][j];
        if (n->gain != NULL)
            p->f[j] = (double)x[j] + (double)n->gain[j] * p->hat[j] + (double)n->shift[j];
    }
}

static double square(const double *x, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += x[i] * x[i];
    return sum;
}

// The gradient of all weights together over its excess; then that of each layer to norm `clip`.
static void limit(const Net *n, double *g, const double *diff) {
    double excess = square(g, n->count) / square(diff, (size_t)n->d->D), most = (double)n->d->clip;
    for (size_t i = 0; i < n->count && n->d->damped && excess > 1; i++) g[i] /= excess;
    for (int l = 0; l < n->d->layers && most > 0; l++) {
        double *own = g + n->at[l];
        size_t count = (size_t)(n->in[l] * n->out[l]);
        double norm = sqrt(square(own, count));
        for (size_t i = 0; i < count && norm > most; i++) own[i] *= most / norm;
    }
}

// The gradient of the token's loss in every weight: the Jacobian of LayerNorm written out.
static void gradient(const Net *n, double *g, const Pass *p, const double *W, const real *v) {
    int D = n->d->D, top = n->d->layers - 1;
    double err[WIDEST] = {0}, diff[WIDEST], below[WIDEST];
    for (int j = 0; j < D; j++) {
        diff[j] = n->d->loss == MEMORY_HEBBIAN ? -(double)v[j] : p->f[j] - (double)v[j];
        double most = (double)n->d->huber;
        if (n->d->loss == MEMORY_HUBER) diff[j] = fmax(-most, fmin(most, diff[j]));
    }
    for (int j = 0; j < D; j++) {
        if (n->gain == NULL) err[j] = diff[j];
        for (int i = 0; i < D && n->gain != NULL; i++)
            err[j] += diff[i] * (double)n->gain[i] *
                      ((i == j) - 1.0 / D - p->hat[i] * p->hat[j] / D) / p->scale;
    }
    for (int l = top; l >= 0; l--) {
        for (int i = 0; i < n->in[l]; i++) {
            below[i] = 0;
            for (int j = 0; j < n->out[l]; j++) {
                g[n->at[l] + (size_t)(i * n->out[l] + j)] = p->x[l][i] * err[j];
                below[i] += err[j] * W[n->at[l] + (size_t)(i * n->out[l] + j)];
            }
        }
        for (int i = 0; i < n->in[l] && l > 0; i++) err[i] = below[i] * slope(n->d, p->z[l - 1][i]);
    }
    limit(n, g, diff);
}

typedef struct Memory {
    Net n;
    double *W0, *W, *S, *g, spent[MEMORY_LAYERS];
} Memory;

static void learn(Memory *m, const real *gates, int head) {
    const MemoryDims *d = m->n.d;
    for (int l = 0; l < d->layers; l++) {
        const real *gate = gates + l * d->H + head;
        int kind = d->layers * d->H;
        double alpha = (double)gate[0], eta = (double)gate[kind], theta = (double)gate[2 * kind];
        if (d->budget > 0 && m->spent[l] + theta > d->budget)
            theta = fmax(0, d->budget - m->spent[l]);
        m->spent[l] += theta;
        for (size_t i = m->n.at[l]; i < m->n.at[l] + (size_t)(m->n.in[l] * m->n.out[l]); i++) {
            m->S[i] = eta * m->S[i] - theta * m->g[i];
            m->W[i] = (1 - alpha) * m->W[i] + m->S[i];
        }
    }
}

static void one_head(Memory *m, real *out, real *state, const MemoryInputs *in, int row, int head) {
    const MemoryDims *d = m->n.d;
    size_t count = m->n.count;
    double *const parts[] = {m->W0, m->W, m->S};
    Pass p;
    for (size_t i = 0; i < 3 * count; i++) parts[i / count][i % count] = (double)state[i];
    for (int l = 0; l < d->layers; l++) m->spent[l] = (double)state[3 * count + (size_t)l];
    for (int t = 0; t < d->T; t++) {
        int at = row * d->T + t;
        bool starts = d->start != NULL && d->start[at];
        for (size_t i = 0; i < count && starts; i++) {
            m->W[i] = (double)in->init[(size_t)head * count + i];
            m->S[i] = 0;
        }
        if (starts || d->pos[at] % d->chunk == 0) {
            memcpy(m->W0, m->W, count * sizeof *m->W0);
            memset(m->spent, 0, sizeof m->spent);
        }
        const real *q = in->q + at * d->ld_q + head * d->D, *k = in->k + at * d->ld_k + head * d->D;
        if (d->strict) pass(&m->n, &p, m->W, q);
        double before[WIDEST];
        memcpy(before, p.f, sizeof before);
        pass(&m->n, &p, m->W0, k);
        gradient(&m->n, m->g, &p, m->W0, in->v + at * d->ld_v + head * d->D);
        learn(m, in->gates + at * d->ld_g, head);
        if (!d->strict) pass(&m->n, &p, m->W, q);
        for (int j = 0; j < d->D; j++)
            out[at * d->ld_o + head * d->D + j] = (real)(d->strict ? before[j] : p.f[j]);
    }
    for (size_t i = 0; i < 3 * count; i++) state[i] = (real)parts[i / count][i % count];
    for (int l = 0; l < d->layers; l++) state[3 * count + (size_t)l] = (real)m->spent[l];
}

void ref_memory_forward(real *out, real *state, const MemoryInputs *in, const MemoryDims *d) {
    for (int row = 0; row < d->B; row++) {
        for (int head = 0; head < d->H; head++) {
            Memory m = {.n = net_of(d, in, head)};
            m.W0 = calloc(4 * m.n.count + 1, sizeof *m.W0);
            if (m.W0 == NULL) abort();
            m.W = m.W0 + m.n.count;
            m.S = m.W + m.n.count;
            m.g = m.S + m.n.count;
            size_t one = 3 * m.n.count + (size_t)d->layers;
            one_head(&m, out, state + (size_t)(row * d->H + head) * one, in, row, head);
            free(m.W0);
        }
    }
}
