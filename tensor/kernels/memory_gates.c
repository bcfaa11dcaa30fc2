// The fast-weight primitive of the neural memory: gates, reading with and writing into a matrix
// that changes with every token, in chunk form: products of whole pieces, no division. Titans
// (Behrouz et al. 2025, arXiv:2501.00663, eq. 8-14); the backward passes are docs/maths.md 17.
#include <math.h>
#include <string.h>

#include "tensor/gemm.h"
#include "tensor/kernels/memory_chunk.h"
#include "tensor/kernels/vmath.h"

// ---- gates -------------------------------------------------------------------------------------

size_t memory__gates_reals(int n) {
    size_t c = (size_t)n;
    return 3 * c * c + 7 * c;
}

static void gates_take(MemoryGates *g, real *room, int n) {
    size_t c = (size_t)n;
    g->n = n;
    real **const vectors[] = {&g->a, &g->eta, &g->theta, &g->cap, &g->e0, &g->a0, &g->p0};
    real **const matrices[] = {&g->E, &g->P, &g->L};
    for (int i = 0; i < 7; i++) *vectors[i] = memory__take(&room, c);
    for (int i = 0; i < 3; i++) *matrices[i] = memory__take(&room, c * c);
}

// The running cap: the thetas of a chunk add up to the budget at most; what a token takes depends
// on earlier ones alone.
static real cap_of(double theta, double budget, double *spent) {
    double left = budget - *spent;
    double part = budget <= 0 || theta <= left ? 1 : (left > 0 ? left / theta : 0);
    *spent += part * theta;
    return (real)part;
}

static void gates_read(MemoryGates *g, const real *gates, int ld, const int offset[3],
                       double budget, double *spent) {
    for (int t = 0; t < g->n; t++) {
        const real *row = gates + (size_t)t * (size_t)ld;
        g->a[t] = 1 - row[offset[0]];
        g->eta[t] = row[offset[1]];
        g->cap[t] = cap_of((double)row[offset[2]], budget, spent);
        g->theta[t] = g->cap[t] * row[offset[2]];
    }
}

void memory__gates(MemoryGates *g, real *room, int n, const real *gates, int ld,
                   const int offset[3], double budget, double *spent) {
    gates_take(g, room, n);
    gates_read(g, gates, ld, offset, budget, spent);
    memset(g->E, 0, (size_t)n * (size_t)n * sizeof(real));
    memset(g->P, 0, (size_t)n * (size_t)n * sizeof(real));
    memset(g->L, 0, (size_t)n * (size_t)n * sizeof(real));
    for (int t = 0; t < n; t++) {
        real *E = g->E + (size_t)t * (size_t)n, *P = g->P + (size_t)t * (size_t)n;
        real *L = g->L + (size_t)t * (size_t)n;
        real a = g->a[t], eta = g->eta[t];
        for (int i = 0; i < t; i++) {
            E[i] = eta * E[i - n];
            P[i] = a * P[i - n] + E[i];
        }
        E[t] = P[t] = 1;
        g->e0[t] = t > 0 ? eta * g->e0[t - 1] : eta;
        g->a0[t] = t > 0 ? a * g->a0[t - 1] : a;
        g->p0[t] = t > 0 ? a * g->p0[t - 1] + g->e0[t] : g->e0[t];
        for (int i = 0; i <= t; i++) L[i] = P[i] * g->theta[i];
    }
}

size_t memory__gate_grads_reals(int n) {
    return (size_t)n * (size_t)n + 3 * (size_t)n;
}

void memory__gate_grads(MemoryGateGrads *d, real *room, int n) {
    size_t c = (size_t)n;
    memset(room, 0, memory__gate_grads_reals(n) * sizeof *room);
    *d = (MemoryGateGrads){.e0 = 0};
    d->L = memory__take(&room, c * c);
    d->a0 = memory__take(&room, c);
    d->p0 = memory__take(&room, c);
    d->ls = memory__take(&room, c);
}

// What a row of E and P owes to the one before it.
static void rows_backward(const MemoryGates *g, int t, real *dE, real *dP, real *da, real *deta) {
    int n = g->n;
    const real *E = g->E + (size_t)(t - 1) * (size_t)n, *P = g->P + (size_t)(t - 1) * (size_t)n;
    real *e = dE + (size_t)t * (size_t)n, *p = dP + (size_t)t * (size_t)n;
    for (int i = 0; i < t; i++) {
        e[i] += p[i];
        *da += p[i] * P[i];
        p[i - n] += g->a[t] * p[i];
        *deta += e[i] * E[i];
        e[i - n] += g->eta[t] * e[i];
    }
}

void memory__gates_backward(const MemoryGates *g, MemoryGateGrads *d, real *room, real *dgates,
                            int ld, const int offset[3]) {
    int n = g->n;
    size_t c = (size_t)n;
    real *dE = memory__take(&room, c * c), *dP = memory__take(&room, c * c),
         *de0 = memory__take(&room, c);
    const real *last = g->E + (c - 1) * c;
    memset(dE, 0, c * c * sizeof *dE);
    memset(de0, 0, c * sizeof *de0);
    de0[n - 1] = (real)d->e0;
    for (int i = 0; i < n; i++) {
        real dtheta = d->ls[i] * last[i];
        for (int t = i; t < n; t++)
            dtheta += d->L[(size_t)t * c + (size_t)i] * g->P[(size_t)t * c + (size_t)i];
        dgates[(size_t)i * (size_t)ld + (size_t)offset[2]] += g->cap[i] * dtheta;
        dE[(c - 1) * c + (size_t)i] = d->ls[i] * g->theta[i];
        for (int t = 0; t < n; t++)
            dP[(size_t)t * c + (size_t)i] =
                t >= i ? d->L[(size_t)t * c + (size_t)i] * g->theta[i] : 0;
    }
    for (int t = n - 1; t >= 0; t--) {
        real da = 0, deta = 0, *row = dgates + (size_t)t * (size_t)ld;
        de0[t] += d->p0[t];
        if (t > 0) {
            rows_backward(g, t, dE, dP, &da, &deta);
            da += d->p0[t] * g->p0[t - 1] + d->a0[t] * g->a0[t - 1];
            d->p0[t - 1] += g->a[t] * d->p0[t];
            d->a0[t - 1] += g->a[t] * d->a0[t];
            deta += de0[t] * g->e0[t - 1];
            de0[t - 1] += g->eta[t] * de0[t];
        } else {
            da += d->a0[0];
            deta += de0[0];
        }
        row[offset[0]] -= da;
        row[offset[1]] += deta;
    }
}

// ---- reading and writing -----------------------------------------------------------------------

// Row t of what is read uses coefficients of row t - late, the first one of a strict read none.
static const real *row_of(const real *matrix, int n, int t) {
    return t < 0 ? NULL : matrix + (size_t)t * (size_t)n;
}

void memory__read(real *O, real *M, real *XW, real *XS, const real *X, const real *Z, const real *D,
                  const FastWeight *w, const MemoryGates *g, bool strict) {
    int n = g->n, p = w->p, q = w->q, late = strict ? 1 : 0;
    gemm(GEMM_N, GEMM_N, n, q, p, 1, X, p, w->W, q, 0, XW, q);
    gemm(GEMM_N, GEMM_N, n, q, p, 1, X, p, w->S, q, 0, XS, q);
    gemm(GEMM_N, GEMM_T, n, n, p, 1, X, p, Z, p, 0, M, n);
    for (int t = 0; t < n; t++) {
        const real *L = row_of(g->L, n, t - late);
        real a0 = t < late ? 1 : g->a0[t - late], p0 = t < late ? 0 : g->p0[t - late];
        real *restrict o = O + (size_t)t * (size_t)q, *m = M + (size_t)t * (size_t)n;
        const real *xw = XW + (size_t)t * (size_t)q, *xs = XS + (size_t)t * (size_t)q;
        for (int j = 0; j < q; j++) o[j] = a0 * xw[j] + p0 * xs[j];
        for (int i = 0; i < n; i++) m[i] = L == NULL ? 0 : L[i] * m[i];
    }
    gemm(GEMM_N, GEMM_N, n, q, n, -1, M, n, D, q, 1, O, q);
}

void memory__scale_rows(real *to, const real *D, const real *weights, int n, int q) {
    for (int t = 0; t < n; t++)
        for (int j = 0; j < q; j++)
            to[(size_t)t * (size_t)q + (size_t)j] =
                weights[t] * D[(size_t)t * (size_t)q + (size_t)j];
}

// The weights of each token's gradient in S at the end.
static void surprise_weights(real *ls, const MemoryGates *g) {
    const real *E = row_of(g->E, g->n, g->n - 1);
    for (int i = 0; i < g->n; i++) ls[i] = E[i] * g->theta[i];
}

void memory__write(FastWeight *w, real *room, const real *Z, const real *D, const MemoryGates *g) {
    int n = g->n, p = w->p, q = w->q;
    real a0 = g->a0[n - 1], p0 = g->p0[n - 1], e0 = g->e0[n - 1];
    real *ls = memory__take(&room, (size_t)n);
    real *restrict W = w->W, *restrict S = w->S;
#pragma omp simd
    for (size_t i = 0; i < (size_t)p * (size_t)q; i++) {
        W[i] = a0 * W[i] + p0 * S[i];
        S[i] *= e0;
    }
    memory__scale_rows(room, D, row_of(g->L, n, n - 1), n, q);
    gemm(GEMM_T, GEMM_N, p, q, n, -1, Z, p, room, q, 1, w->W, q);
    surprise_weights(ls, g);
    memory__scale_rows(room, D, ls, n, q);
    gemm(GEMM_T, GEMM_N, p, q, n, -1, Z, p, room, q, 1, w->S, q);
}

size_t memory__fast_reals(int n, int p, int q) {
    size_t c = (size_t)n, wide = (size_t)(p > q ? p : q);
    return 3 * c * c + 3 * c * wide + c;
}

// What reading with W (or S), at rows scaled by coef, gives: dX += diag(coef) dO W^T,
// dW += X^T diag(coef) dO, and <dO_t, x_t W> into dcoef. product: X W.
static void read_backward(real *dX, real *dW, real *dcoef, real *scaled, const real *product,
                          const real *dO, const real *X, const real *W, const real *coef, int late,
                          real first, int n, int p, int q) {
    for (int t = 0; t < n; t++) {
        size_t at = (size_t)t * (size_t)q;
        real by = t < late ? first : coef[t - late];
        if (t >= late) dcoef[t - late] += (real)row_dot(dO + at, product + at, (size_t)q);
        for (int j = 0; j < q; j++) scaled[at + (size_t)j] = by * dO[at + (size_t)j];
    }
    gemm(GEMM_N, GEMM_T, n, p, q, 1, scaled, q, W, q, 1, dX, p);
    gemm(GEMM_T, GEMM_N, p, q, n, 1, X, p, scaled, q, 1, dW, q);
}

// What writing gives: dZ -= diag(by) D dW^T, dD -= diag(by) Z dW, and -<(Z dW)_i, D_i> into dby.
static void write_backward(real *dZ, real *dD, real *dby, real *product, real *scaled,
                           const real *Z, const real *D, const real *dW, const real *by, int n,
                           int p, int q) {
    gemm(GEMM_N, GEMM_N, n, q, p, 1, Z, p, dW, q, 0, product, q);
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)q;
        dby[i] -= (real)row_dot(product + at, D + at, (size_t)q);
        for (int j = 0; j < q; j++) dD[at + (size_t)j] -= by[i] * product[at + (size_t)j];
    }
    memory__scale_rows(scaled, D, by, n, q);
    gemm(GEMM_N, GEMM_T, n, p, q, -1, scaled, q, dW, q, 1, dZ, p);
}

// Through M = L * (X Z^T) of -M D.
static void inside_backward(real *dX, real *dZ, real *dD, MemoryGateGrads *dg, real *room,
                            const real *dO, const real *M, const real *X, const real *Z,
                            const real *D, const MemoryGates *g, int late, int p, int q) {
    int n = g->n;
    size_t c = (size_t)n;
    real *T = memory__take(&room, c * c), *dT = memory__take(&room, c * c);
    gemm(GEMM_N, GEMM_T, n, n, p, 1, X, p, Z, p, 0, T, n);
    gemm(GEMM_N, GEMM_T, n, n, q, -1, dO, q, D, q, 0, dT, n);  // of M
    for (int t = 0; t < n; t++) {
        const real *L = row_of(g->L, n, t - late);
        real *dL = t < late ? NULL : dg->L + (size_t)(t - late) * c;
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)t * c + (size_t)i;
            if (dL != NULL && i <= t - late) dL[i] += T[at] * dT[at];
            dT[at] = L == NULL ? 0 : L[i] * dT[at];
        }
    }
    gemm(GEMM_N, GEMM_N, n, p, n, 1, dT, n, Z, p, 1, dX, p);
    gemm(GEMM_T, GEMM_N, n, p, n, 1, dT, n, X, p, 1, dZ, p);
    gemm(GEMM_T, GEMM_N, n, q, n, -1, M, n, dO, q, 1, dD, q);
}

void memory__fast_backward(real *dX, real *dZ, real *dD, real *dW, real *dS, MemoryGateGrads *dg,
                           real *room, const real *dO, const real *M, const real *XW,
                           const real *XS, const real *X, const real *Z, const real *D,
                           const FastWeight *w, const MemoryGates *g, bool strict) {
    int n = g->n, p = w->p, q = w->q, late = strict ? 1 : 0;
    size_t c = (size_t)n, all = (size_t)p * (size_t)q, last = c - 1;
    real *scaled = memory__take(&room, c * (size_t)(p > q ? p : q)),
         *product = memory__take(&room, c * (size_t)q);
    real *ls = memory__take(&room, c);
    memset(dX, 0, c * (size_t)p * sizeof *dX);
    inside_backward(dX, dZ, dD, dg, room, dO, M, X, Z, D, g, late, p, q);
    surprise_weights(ls, g);
    write_backward(dZ, dD, dg->L + last * c, product, scaled, Z, D, dW, row_of(g->L, n, n - 1), n,
                   p, q);
    write_backward(dZ, dD, dg->ls, product, scaled, Z, D, dS, ls, n, p, q);
    dg->a0[last] += (real)row_dot(dW, w->W, all);
    dg->p0[last] += (real)row_dot(dW, w->S, all);
    dg->e0 += row_dot(dS, w->S, all);
    for (size_t i = 0; i < all; i++) {
        dS[i] = g->e0[last] * dS[i] + g->p0[last] * dW[i];
        dW[i] *= g->a0[last];
    }
    read_backward(dX, dW, dg->a0, scaled, XW, dO, X, w->W, g->a0, late, 1, n, p, q);
    read_backward(dX, dS, dg->p0, scaled, XS, dO, X, w->S, g->p0, late, 0, n, p, q);
}
