// The network that a neural memory trains while it reads: layers with GELU or SiLU between them,
// LayerNorm and a residual around them or not, on one piece. Each token's gradient is of rank one,
// x^T err, taken at the weights of the chunk's start; the outer gradient goes through it, second
// order (docs/maths.md 17; TTT, Sun et al. 2024, arXiv:2407.04620, has the dual form).
#include <math.h>
#include <string.h>

#include "tensor/gemm.h"
#include "tensor/kernels/memory_chunk.h"
#include "tensor/kernels/vmath.h"

// ---- sizes -------------------------------------------------------------------------------------

static int inputs_of(const MemoryDims *d, int l) {
    return l == 0 ? d->D : d->hidden;
}
static int outputs_of(const MemoryDims *d, int l) {
    return l == d->layers - 1 ? d->D : d->hidden;
}
static size_t widest(const MemoryDims *d) {
    return (size_t)(d->layers > 1 && d->hidden > d->D ? d->hidden : d->D);
}

size_t memory__piece_reals(const MemoryDims *d) {
    size_t c = (size_t)d->chunk, D = (size_t)d->D, w = widest(d);
    size_t layer = 12 * c * w + 2 * c * c + 2 * c + memory__gates_reals(d->chunk);
    return (size_t)d->layers * layer + 7 * c * D + 2 * c + 2 * c * w + c;
}

void memory__piece_open(MemoryPiece *p, const MemoryDims *d, real *scratch) {
    size_t c = (size_t)d->chunk, D = (size_t)d->D, w = widest(d);
    *p = (MemoryPiece){.d = d};
    real **const inputs[] = {&p->q, &p->k, &p->v, &p->diff, &p->hat, &p->hat_q, &p->y};
    for (int i = 0; i < 7; i++) *inputs[i] = memory__take(&scratch, c * D);
    p->scale = memory__take(&scratch, c);
    p->scale_q = memory__take(&scratch, c);
    for (int l = 0; l < d->layers; l++) {
        real **const wide[] = {&p->x[l],     &p->z[l],       &p->err[l], &p->clipped[l],
                               &p->back[l],  &p->a[l],       &p->r[l],   &p->slope[l],
                               &p->curve[l], &p->slope_q[l], &p->aW[l],  &p->aS[l]};
        for (int i = 0; i < 12; i++) *wide[i] = memory__take(&scratch, c * w);
        p->M[l] = memory__take(&scratch, c * c);
        p->keep[l] = memory__take(&scratch, c);
        p->norm[l] = memory__take(&scratch, c);
        p->w[l] = (FastWeight){.p = inputs_of(d, l), .q = outputs_of(d, l)};
        p->gates[l] = memory__take(&scratch, memory__gates_reals(d->chunk));
    }
    p->room = memory__take(&scratch, 2 * c * w + c);
}

// ---- activations -------------------------------------------------------------------------------

static const real PER_ROOT_2_PI = (real)0.39894228040143267794;

// Value, slope and, unless NULL, curvature at z.
static void gelu(real *restrict value, real *restrict slope, real *restrict curve,
                 const real *restrict z, size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        real gauss = real_exp(-(real)0.5 * z[i] * z[i]);
        real below = real_normal_below(z[i], gauss), density = gauss * PER_ROOT_2_PI;
        value[i] = z[i] * below;
        slope[i] = below + z[i] * density;
        if (curve != NULL) curve[i] = density * (2 - z[i] * z[i]);
    }
}

static void silu(real *restrict value, real *restrict slope, real *restrict curve,
                 const real *restrict z, size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        real s = real_sigmoid(z[i]);
        value[i] = z[i] * s;
        slope[i] = s * (1 + z[i] * (1 - s));
        if (curve != NULL) curve[i] = s * (1 - s) * (2 + z[i] * (1 - 2 * s));
    }
}

static void activate(const MemoryDims *d, real *value, real *slope, real *curve, const real *z,
                     size_t count) {
    if (d->activation == MEMORY_GELU)
        gelu(value, slope, curve, z, count);
    else
        silu(value, slope, curve, z, count);
}

// out = or += a * b.
static void times(real *restrict out, const real *restrict a, const real *restrict b,
                  size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) out[i] = a[i] * b[i];
}
static void add_times(real *restrict out, const real *restrict a, const real *restrict b,
                      size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) out[i] += a[i] * b[i];
}

// ---- LayerNorm ---------------------------------------------------------------------------------

static const double NORM_EPS = 1e-6;

// hat = (o - mean) / scale, scale = sqrt(var + eps), row by row.
static void normalise(real *restrict hat, real *restrict scale, const real *restrict o, int n,
                      int D) {
    for (int t = 0; t < n; t++) {
        const real *from = o + (size_t)t * (size_t)D;
        real *to = hat + (size_t)t * (size_t)D;
        real mean = (real)(row_sum(from, (size_t)D) / D);
        for (int j = 0; j < D; j++) to[j] = from[j] - mean;
        double root = sqrt(row_dot(to, to, (size_t)D) / D + NORM_EPS);
        real over = (real)(1 / root);
        scale[t] = (real)root;
        for (int j = 0; j < D; j++) to[j] *= over;
    }
}

// out = LayerNorm's backward of g = r * gain: (g - mean g - hat mean(g hat)) / scale.
static void normalise_backward(real *restrict out, const real *restrict r,
                               const real *restrict gain, const real *restrict hat,
                               const real *restrict scale, int n, int D) {
    for (int t = 0; t < n; t++) {
        size_t at = (size_t)t * (size_t)D;
        real *to = out + at, over = 1 / scale[t];
        times(to, r + at, gain, (size_t)D);
        real mean = (real)(row_sum(to, (size_t)D) / D);
        real along = (real)(row_dot(to, hat + at, (size_t)D) / D);
        for (int j = 0; j < D; j++) to[j] = (to[j] - mean - hat[at + (size_t)j] * along) * over;
    }
}

// ---- forward -----------------------------------------------------------------------------------

// out = x + gain * hat + shift, row by row.
static void affine(real *restrict out, const real *restrict x, const real *restrict hat,
                   const MemoryPiece *p, int n) {
    int D = p->d->D;
    const real *gain = p->gain, *shift = p->shift;
    for (int t = 0; t < n; t++) {
        size_t at = (size_t)t * (size_t)D;
#pragma omp simd
        for (int j = 0; j < D; j++)
            out[at + (size_t)j] = x[at + (size_t)j] + gain[j] * hat[at + (size_t)j] + shift[j];
    }
}

// f(k) less v, or what another loss makes of it: the derivative of the loss by f(k).
static void loss_slope(MemoryPiece *p) {
    const MemoryDims *d = p->d;
    size_t count = (size_t)p->n * (size_t)d->D;
    real *restrict diff = p->diff;
    const real *v = p->v;
    if (p->gain != NULL)
        affine(diff, p->k, p->hat, p, p->n);
    else
        memcpy(diff, p->z[d->layers - 1], count * sizeof *diff);
    for (size_t i = 0; i < count; i++) diff[i] = d->loss == MEMORY_HEBBIAN ? -v[i] : diff[i] - v[i];
    for (size_t i = 0; i < count && d->loss == MEMORY_HUBER; i++)
        diff[i] = diff[i] > d->huber ? d->huber : diff[i] < -d->huber ? -d->huber : diff[i];
}

// |x| |err| of each token of a layer: the norm of its gradient x^T err.
static void gradient_norms(real *norm, const MemoryPiece *p, int l) {
    int in = p->w[l].p, out = p->w[l].q;
    for (int t = 0; t < p->n; t++) {
        const real *x = p->x[l] + (size_t)t * (size_t)in;
        const real *err = p->err[l] + (size_t)t * (size_t)out;
        norm[t] = (real)sqrt(row_dot(x, x, (size_t)in) * row_dot(err, err, (size_t)out));
    }
}

// What a step of 1 along a token's gradient changes of its output's error, times: with one linear
// layer and |k| = 1 it is 1.
static double excess_of(const MemoryPiece *p, int t) {
    size_t D = (size_t)p->d->D;
    const real *diff = p->diff + (size_t)t * D;
    double error = row_dot(diff, diff, D), all = 0;
    for (int l = 0; l < p->d->layers; l++) all += (double)p->norm[l][t] * (double)p->norm[l][t];
    return p->d->damped && all > error ? all / error : 1;
}

// Gradients are divided by their excess, and clipped.
static void limit_steps(MemoryPiece *p) {
    const MemoryDims *d = p->d;
    double clip = (double)d->clip;
    for (int l = 0; l < d->layers; l++) gradient_norms(p->norm[l], p, l);
    for (int t = 0; t < p->n; t++) {
        double part = 1 / excess_of(p, t);
        for (int l = 0; l < d->layers; l++) {
            double norm = part * (double)p->norm[l][t];
            p->keep[l][t] = (real)(clip > 0 && norm > clip ? part * clip / norm : part);
        }
    }
    for (int l = 0; l < d->layers; l++)
        memory__scale_rows(p->clipped[l], p->err[l], p->keep[l], p->n, p->w[l].q);
}

void memory__inner(MemoryPiece *p) {
    const MemoryDims *d = p->d;
    int n = p->n, top = d->layers - 1;
    memcpy(p->x[0], p->k, (size_t)n * (size_t)d->D * sizeof(real));
    for (int l = 0; l <= top; l++) {
        int in = p->w[l].p, out = p->w[l].q;
        gemm(GEMM_N, GEMM_N, n, out, in, 1, p->x[l], in, p->w[l].W0, out, 0, p->z[l], out);
        if (l < top)
            activate(d, p->x[l + 1], p->slope[l], p->curve[l], p->z[l], (size_t)n * (size_t)out);
    }
    if (p->gain != NULL) normalise(p->hat, p->scale, p->z[top], n, d->D);
    loss_slope(p);
    if (p->gain != NULL)
        normalise_backward(p->err[top], p->diff, p->gain, p->hat, p->scale, n, d->D);
    else
        memcpy(p->err[top], p->diff, (size_t)n * (size_t)d->D * sizeof(real));
    for (int l = top; l > 0; l--) {
        int in = p->w[l].p, out = p->w[l].q;
        gemm(GEMM_N, GEMM_T, n, in, out, 1, p->err[l], out, p->w[l].W0, out, 0, p->back[l], in);
        times(p->err[l - 1], p->back[l], p->slope[l - 1], (size_t)n * (size_t)in);
    }
    limit_steps(p);
}

void memory__answer(MemoryPiece *p) {
    const MemoryDims *d = p->d;
    int n = p->n, top = d->layers - 1;
    memcpy(p->a[0], p->q, (size_t)n * (size_t)d->D * sizeof(real));
    for (int l = 0; l <= top; l++) {
        memory__read(p->r[l], p->M[l], p->aW[l], p->aS[l], p->a[l], p->x[l], p->clipped[l],
                     &p->w[l], &p->g[l], d->strict);
        if (l < top)
            activate(d, p->a[l + 1], p->slope_q[l], NULL, p->r[l], (size_t)n * (size_t)p->w[l].q);
    }
    if (p->gain == NULL) {
        memcpy(p->y, p->r[top], (size_t)n * (size_t)d->D * sizeof(real));
        return;
    }
    normalise(p->hat_q, p->scale_q, p->r[top], n, d->D);
    affine(p->y, p->q, p->hat_q, p, n);
}

void memory__learn(MemoryPiece *p) {
    for (int l = 0; l < p->d->layers; l++)
        memory__write(&p->w[l], p->room, p->x[l], p->clipped[l], &p->g[l]);
}

// ---- backward ----------------------------------------------------------------------------------

// Room of a backward pass of a piece.
typedef struct Room {
    real *dz[MEMORY_LAYERS], *dx[MEMORY_LAYERS], *derr[MEMORY_LAYERS];  // (n, width)
    real *dhat, *ddiff, *dread;                                         // (n, D); (n, widest)
    real *rest;
} Room;

size_t memory__backward_reals(const MemoryDims *d) {
    size_t c = (size_t)d->chunk, w = widest(d);
    size_t fast = memory__fast_reals(d->chunk, (int)w, (int)w);
    return (size_t)d->layers * 3 * c * w + 2 * c * (size_t)d->D + 2 * c * w + fast + 2 * c * c + c;
}

static Room room_of(const MemoryPiece *p, real *at) {
    const MemoryDims *d = p->d;
    size_t n = (size_t)p->n, w = widest(d);
    Room room;
    for (int l = 0; l < d->layers; l++) {
        room.dz[l] = memory__take(&at, n * w);
        room.dx[l] = memory__take(&at, n * w);
        room.derr[l] = memory__take(&at, n * w);
        memset(room.dz[l], 0, n * w * sizeof(real));
        memset(room.dx[l], 0, n * w * sizeof(real));
        memset(room.derr[l], 0, n * w * sizeof(real));
    }
    room.dhat = memory__take(&at, n * (size_t)d->D);
    room.ddiff = memory__take(&at, n * (size_t)d->D);
    room.dread = memory__take(&at, 2 * n * w);
    room.rest = at;
    return room;
}

// Through y = q + gain * hat + shift; leaves what flows into the network's output in `out`.
static void answer_backward(MemoryPieceGrads *g, const MemoryPiece *p, real *out, const real *dy) {
    int n = p->n, D = p->d->D;
    if (p->gain == NULL) {
        memcpy(out, dy, (size_t)n * (size_t)D * sizeof(real));
        return;
    }
    for (int t = 0; t < n; t++) {
        const real *dyt = dy + (size_t)t * (size_t)D, *hat = p->hat_q + (size_t)t * (size_t)D;
        real *restrict dq = g->dq + (size_t)t * (size_t)D;
        real *restrict dgain = g->dgain, *restrict dshift = g->dshift;
#pragma omp simd
        for (int j = 0; j < D; j++) {
            dq[j] += dyt[j];
            dgain[j] += dyt[j] * hat[j];
            dshift[j] += dyt[j];
        }
    }
    normalise_backward(out, dy, p->gain, p->hat_q, p->scale_q, n, D);
}

// Reads from the last to the first, and writes: dx, derr, and the weights before the piece.
static void reads_backward(MemoryPieceGrads *g, const MemoryPiece *p, Room *room, const real *dy) {
    const MemoryDims *d = p->d;
    size_t n = (size_t)p->n;
    real *dread = room->dread, *da = dread + n * widest(d);
    answer_backward(g, p, dread, dy);
    for (int l = d->layers - 1; l >= 0; l--) {
        int in = p->w[l].p, out = p->w[l].q;
        memory__fast_backward(da, room->dx[l], room->derr[l], g->dW[l], g->dS[l], &g->g[l],
                              room->rest, dread, p->M[l], p->aW[l], p->aS[l], p->a[l], p->x[l],
                              p->clipped[l], &p->w[l], &p->g[l], d->strict);
        if (l > 0) times(dread, da, p->slope_q[l - 1], n * (size_t)in);
        for (size_t i = 0; i < n * (size_t)in && l == 0; i++) g->dq[i] += da[i];
        for (size_t i = 0; i < n * (size_t)out; i++)
            room->derr[l][i] *= p->keep[l][i / (size_t)out];
    }
}

// Through err[l] = back[l+1] * slope(z[l]), back[l+1] = err[l+1] W0[l+1]^T, from the first layer
// on.
static void errors_backward(MemoryPieceGrads *g, const MemoryPiece *p, Room *room) {
    const MemoryDims *d = p->d;
    int n = p->n;
    for (int l = 0; l + 1 < d->layers; l++) {
        int in = p->w[l + 1].p, out = p->w[l + 1].q;
        real *dback = room->dread;
        times(dback, room->derr[l], p->slope[l], (size_t)n * (size_t)in);
#pragma omp simd
        for (size_t i = 0; i < (size_t)n * (size_t)in; i++)
            room->dz[l][i] += room->derr[l][i] * p->back[l + 1][i] * p->curve[l][i];
        gemm(GEMM_N, GEMM_N, n, out, in, 1, dback, in, p->w[l + 1].W0, out, 1, room->derr[l + 1],
             out);
        gemm(GEMM_T, GEMM_N, in, out, n, 1, dback, in, p->err[l + 1], out, 1, g->dW0[l + 1], out);
    }
}

// One row of LayerNorm's backward, differentiated: err = LNb(diff * gain; hat, scale). Adds to
// dgain, stores ddiff and dhat; returns what flows into the scale.
static double second_row(MemoryPieceGrads *g, const MemoryPiece *p, const Room *room,
                         const real *restrict derr, const real *restrict err, int t) {
    size_t D = (size_t)p->d->D, at = (size_t)t * D;
    const real *hat = p->hat + at, *diff = p->diff + at, *d = derr + at;
    real *dhat = room->dhat + at, *ddiff = room->ddiff + at, over = 1 / p->scale[t];
    times(ddiff, diff, p->gain, D);  // what LNb takes, until it is replaced
    real along = (real)(row_dot(ddiff, hat, D) / (double)D);
    real mean = (real)(row_sum(d, D) / (double)D) * over;
    real m = -(real)(row_dot(d, hat, D)) * over;
    real share = m / (real)D;
    for (size_t j = 0; j < D; j++) {
        real u = d[j] * over, dgrad = u - mean + share * hat[j];
        dhat[j] = share * ddiff[j] - u * along;
        ddiff[j] = dgrad * p->gain[j];
        g->dgain[j] += dgrad * diff[j];
    }
    return -row_dot(d, err + at, D) * (double)over;
}

// Through the loss's slope, into v and f(k): with a norm into k, gain, shift and hat; without, into
// the network's output itself.
static void slope_backward(MemoryPieceGrads *g, const MemoryPiece *p, Room *room) {
    const MemoryDims *d = p->d;
    size_t D = (size_t)d->D, count = (size_t)p->n * D;
    for (size_t i = 0; i < count; i++) {
        bool cut = d->loss == MEMORY_HUBER && (p->diff[i] >= d->huber || p->diff[i] <= -d->huber);
        if (cut) room->ddiff[i] = 0;
        g->dv[i] -= room->ddiff[i];
        if (d->loss == MEMORY_HEBBIAN) room->ddiff[i] = 0;  // now of f(k)
    }
    for (size_t at = 0; at < count && p->gain != NULL; at += D) {
        const real *dd = room->ddiff + at, *hat = p->hat + at, *gain = p->gain;
        real *restrict dk = g->dk + at, *restrict dhat = room->dhat + at;
        real *restrict dgain = g->dgain, *restrict dshift = g->dshift;
#pragma omp simd
        for (size_t j = 0; j < D; j++) {
            dk[j] += dd[j];
            dshift[j] += dd[j];
            dgain[j] += dd[j] * hat[j];
            dhat[j] += dd[j] * gain[j];
        }
    }
}

static void norm_backward(MemoryPieceGrads *g, const MemoryPiece *p, Room *room) {
    int D = p->d->D, top = p->d->layers - 1;
    real *dscale = room->rest;
    for (int t = 0; t < p->n; t++)
        dscale[t] = (real)second_row(g, p, room, room->derr[top], p->err[top], t);
    slope_backward(g, p, room);
    for (int t = 0; t < p->n; t++) {
        size_t at = (size_t)t * (size_t)D;
        const real *dhat = room->dhat + at, *hat = p->hat + at;
        real *dz = room->dz[top] + at, over = 1 / p->scale[t];
        real mean = (real)(row_sum(dhat, (size_t)D) / D);
        double along = row_dot(dhat, hat, (size_t)D) * (double)over;
        real sum = (real)(((double)dscale[t] - along) / D);
        for (int j = 0; j < D; j++) dz[j] += (dhat[j] - mean) * over + sum * hat[j];
    }
}

void memory__piece_backward(MemoryPieceGrads *g, const MemoryPiece *p, const real *dy, real *at) {
    const MemoryDims *d = p->d;
    int n = p->n, top = d->layers - 1;
    size_t count = (size_t)n * (size_t)d->D;
    Room room = room_of(p, at);
    reads_backward(g, p, &room, dy);
    errors_backward(g, p, &room);
    if (p->gain != NULL) {
        norm_backward(g, p, &room);
    } else {
        memcpy(room.ddiff, room.derr[top], count * sizeof(real));
        slope_backward(g, p, &room);
        for (size_t i = 0; i < count; i++) room.dz[top][i] += room.ddiff[i];
    }
    for (int l = top; l >= 0; l--) {
        int in = p->w[l].p, out = p->w[l].q;
        gemm(GEMM_N, GEMM_T, n, in, out, 1, room.dz[l], out, p->w[l].W0, out, 1, room.dx[l], in);
        gemm(GEMM_T, GEMM_N, in, out, n, 1, p->x[l], in, room.dz[l], out, 1, g->dW0[l], out);
        if (l > 0) add_times(room.dz[l - 1], room.dx[l], p->slope[l - 1], (size_t)n * (size_t)in);
    }
    for (size_t i = 0; i < count; i++) g->dk[i] += room.dx[0][i];
}
