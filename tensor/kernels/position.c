// Position codes.
//
// LRPE (Qin et al., TransNormerLLM, 2023): every channel c has a trained frequency theta_c, and a
// head of width D becomes one of width 2D, [ z cos(n theta) | z sin(n theta) ], so that the product
// of two codes depends on the distance of their positions alone. RoPE (Su et al., 2021) rotates
// pairs of channels.
//
// Angles are formed and reduced in double. At position 2 million a float angle has lost 7e-3 of
// cos.
#include "tensor/kernels/kernels.h"

#include "base/status.h"
#include "tensor/kernels/vmath.h"

void lrpe_angles(real *restrict cosine, real *restrict sine, const real *restrict theta,
                 const int64_t *restrict pos, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        real *co = cosine + (size_t)t * (size_t)C, *si = sine + (size_t)t * (size_t)C;
        double at = (double)pos[t];
#pragma omp simd
        for (int c = 0; c < C; c++) real_sincos(at * (double)theta[c], &si[c], &co[c]);
    }
}

void lrpe_forward(real *restrict out, const real *restrict inp, int ld_inp,
                  const real *restrict cosine, const real *restrict sine, int N, int H, int D) {
    size_t C = (size_t)H * (size_t)D;
#pragma omp parallel for schedule(static) if (worth_threads(N, H * D))
    for (int t = 0; t < N; t++) {
        for (int h = 0; h < H; h++) {
            size_t head = (size_t)h * (size_t)D;
            const real *z = inp + (size_t)t * (size_t)ld_inp + head;
            const real *co = cosine + (size_t)t * C + head, *si = sine + (size_t)t * C + head;
            real *y = out + 2 * ((size_t)t * C + head);
#pragma omp simd
            for (int c = 0; c < D; c++) {
                y[c] = z[c] * co[c];
                y[D + c] = z[c] * si[c];
            }
        }
    }
}

// One token's part of dtheta for the first `width` channels of some heads: sum_c += n_t z_tc (d2_tc
// cos - d1_tc sin), d1 and d2 the halves of dout.
static void lrpe_theta_token(double *restrict sum, const real *restrict dout,
                             const real *restrict z, const real *restrict cosine,
                             const real *restrict sine, double at, int heads, int width, int D) {
    for (int h = 0; h < heads; h++) {
        const real *d1 = dout + 2 * (size_t)h * (size_t)D, *d2 = d1 + D;
        size_t head = (size_t)h * (size_t)D;
#pragma omp simd
        for (int c = 0; c < width; c++) {
            real turned = d2[c] * cosine[head + c] - d1[c] * sine[head + c];
            sum[h * width + c] += at * (double)(z[head + c] * turned);
        }
    }
}

// Adds up dtheta. Its terms grow with the position and cancel: the sum is kept in double, and far
// positions, which would only add noise, are left out. Threads own groups of heads and take tokens
// in order; heads wider than a tile are cut.
static void lrpe_backward_theta(real *restrict dtheta, const real *restrict dout,
                                const real *restrict inp, int ld_inp, const real *restrict cosine,
                                const real *restrict sine, const int64_t *restrict pos, int N,
                                int H, int D) {
    size_t C = (size_t)H * (size_t)D;
    for (int from = 0; from < D; from += CHANNEL_TILE) {
        int width = tile_end(from, CHANNEL_TILE, D) - from;
        int group = (tile_width(H * width) + width - 1) / width;  // heads
        if (group * width > CHANNEL_TILE) group = CHANNEL_TILE / width;
#pragma omp parallel for schedule(static) if (worth_threads(N, H * D))
        for (int first = 0; first < H; first += group) {
            int heads = tile_end(first, group, H) - first;
            size_t column = (size_t)first * (size_t)D + (size_t)from;
            double sum[CHANNEL_TILE] = {0};
            for (int t = 0; t < N; t++) {
                if (pos[t] >= LRPE_FROZEN_POS) continue;
                size_t at = (size_t)t * C + column;
                lrpe_theta_token(sum, dout + 2 * at - from,
                                 inp + (size_t)t * (size_t)ld_inp + column, cosine + at, sine + at,
                                 (double)pos[t], heads, width, D);
            }
            for (int i = 0; i < heads * width; i++)
                dtheta[column + (size_t)(i / width) * (size_t)D + (size_t)(i % width)] +=
                    (real)sum[i];
        }
    }
}

void lrpe_backward(real *restrict dinp, int ld_dinp, real *restrict dtheta,
                   const real *restrict dout, const real *restrict inp, int ld_inp,
                   const real *restrict cosine, const real *restrict sine,
                   const int64_t *restrict pos, int N, int H, int D) {
    size_t C = (size_t)H * (size_t)D;
#pragma omp parallel for schedule(static) if (worth_threads(N, H * D))
    for (int t = 0; t < N; t++) {
        for (int h = 0; h < H; h++) {
            size_t head = (size_t)h * (size_t)D;
            const real *d = dout + 2 * ((size_t)t * C + head);
            const real *co = cosine + (size_t)t * C + head, *si = sine + (size_t)t * C + head;
            real *dz = dinp + (size_t)t * (size_t)ld_dinp + head;
#pragma omp simd
            for (int c = 0; c < D; c++) dz[c] += d[c] * co[c] + d[D + c] * si[c];
        }
    }
    lrpe_backward_theta(dtheta, dout, inp, ld_inp, cosine, sine, pos, N, H, D);
}

// Channel pairs whose frequencies are at hand at a time. Heads are rarely wider than twice this.
enum { ROPE_TILE = 128 };

// Pairs [from, from+width) of every head, and the shape.
typedef struct RopeTile {
    double freq[ROPE_TILE];  // base^(-2c/D)
    int from, width, H, D;
} RopeTile;

static void rope_tile(RopeTile *r, int from, double base, int H, int D) {
    int left = D / 2 - from;
    r->from = from;
    r->width = left < ROPE_TILE ? left : ROPE_TILE;
    r->H = H;
    r->D = D;
    for (int i = 0; i < r->width; i++) r->freq[i] = pow(base, -2.0 * (from + i) / D);
}

static void rope_angles(real *restrict cosine, real *restrict sine, const RopeTile *r, double at) {
#pragma omp simd
    for (int i = 0; i < r->width; i++) real_sincos(at * r->freq[i], &sine[i], &cosine[i]);
}

// One token: (x, y) -> (x cos - y sin, x sin + y cos).
static void rope_turn(real *restrict out, const real *restrict inp, const RopeTile *r, double at) {
    real cosine[ROPE_TILE], sine[ROPE_TILE];
    rope_angles(cosine, sine, r, at);
    for (int h = 0; h < r->H; h++) {
        size_t first = (size_t)h * (size_t)r->D + (size_t)r->from;
        const real *x = inp + first, *y = x + r->D / 2;
        real *to_x = out + first, *to_y = to_x + r->D / 2;
#pragma omp simd
        for (int i = 0; i < r->width; i++) {
            to_x[i] = x[i] * cosine[i] - y[i] * sine[i];
            to_y[i] = x[i] * sine[i] + y[i] * cosine[i];
        }
    }
}

void rope_forward(real *restrict out, const real *restrict inp, int ld_inp,
                  const int64_t *restrict pos, double base, int N, int H, int D) {
    ASSERT(D % 2 == 0);
    for (int from = 0; from < D / 2; from += ROPE_TILE) {
        RopeTile r;
        rope_tile(&r, from, base, H, D);
#pragma omp parallel for schedule(static) if (worth_threads(N, H * D))
        for (int t = 0; t < N; t++) {
            rope_turn(out + (size_t)t * (size_t)H * (size_t)D, inp + (size_t)t * (size_t)ld_inp, &r,
                      (double)pos[t]);
        }
    }
}

// One token: the rotation by -angle, added.
static void rope_turn_back(real *restrict dinp, const real *restrict dout, const RopeTile *r,
                           double at) {
    real cosine[ROPE_TILE], sine[ROPE_TILE];
    rope_angles(cosine, sine, r, at);
    for (int h = 0; h < r->H; h++) {
        size_t first = (size_t)h * (size_t)r->D + (size_t)r->from;
        const real *x = dout + first, *y = x + r->D / 2;
        real *to_x = dinp + first, *to_y = to_x + r->D / 2;
#pragma omp simd
        for (int i = 0; i < r->width; i++) {
            to_x[i] += x[i] * cosine[i] + y[i] * sine[i];
            to_y[i] += y[i] * cosine[i] - x[i] * sine[i];
        }
    }
}

void rope_backward(real *restrict dinp, int ld_dinp, const real *restrict dout,
                   const int64_t *restrict pos, double base, int N, int H, int D) {
    ASSERT(D % 2 == 0);
    for (int from = 0; from < D / 2; from += ROPE_TILE) {
        RopeTile r;
        rope_tile(&r, from, base, H, D);
#pragma omp parallel for schedule(static) if (worth_threads(N, H * D))
        for (int t = 0; t < N; t++) {
            rope_turn_back(dinp + (size_t)t * (size_t)ld_dinp,
                           dout + (size_t)t * (size_t)H * (size_t)D, &r, (double)pos[t]);
        }
    }
}
