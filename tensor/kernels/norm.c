// SimpleRMSNorm (Qin et al., TransNormerLLM, 2023) and RMSNorm (Zhang & Sennrich, 2019):
//
//   rho_t = 1/sqrt(mean_c(x_tc^2) + eps)      y_tc = x_tc rho_t [gain_c]
//   dx_tc = rho_t g_tc - x_tc rho_t^3 mean_k(x_tk g_tk)      g = dout [gain]
//   dgain_c = sum_t dout_tc x_tc rho_t
//
// eps matters: the output of linear attention at a document's first tokens can be almost 0. Sums of
// a row are in double, so that squares of large activations cannot overflow to rho = 0 and hide.
#include "tensor/kernels/kernels.h"

#include "tensor/kernels/vmath.h"

static real row_rho(const real *x, real eps, int C) {
    double mean = C > 0 ? row_dot(x, x, (size_t)C) / C : 0;
    return (real)(1 / sqrt(mean + (double)eps));
}

// The factor of x_tc in dx_tc, from the sum over k.
static real row_pull(double sum, real rho, int C) {
    double r = (double)rho;
    return (real)(r * r * r * sum / C);
}

void srms_forward(real *restrict out, real *restrict rho, const real *restrict inp, real eps, int N,
                  int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *x = inp + (size_t)t * (size_t)C;
        real *y = out + (size_t)t * (size_t)C;
        real r = rho[t] = row_rho(x, eps, C);
#pragma omp simd
        for (int c = 0; c < C; c++) y[c] = x[c] * r;
    }
}

void srms_backward(real *restrict dinp, const real *restrict dout, const real *restrict inp,
                   const real *restrict rho, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *x = inp + (size_t)t * (size_t)C, *d = dout + (size_t)t * (size_t)C;
        real *dx = dinp + (size_t)t * (size_t)C;
        real r = rho[t], pull = row_pull(row_dot(x, d, (size_t)C), r, C);
#pragma omp simd
        for (int c = 0; c < C; c++) dx[c] += r * d[c] - pull * x[c];
    }
}

void rmsnorm_forward(real *restrict out, real *restrict rho, const real *restrict inp,
                     const real *restrict gain, real eps, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *x = inp + (size_t)t * (size_t)C;
        real *y = out + (size_t)t * (size_t)C;
        real r = rho[t] = row_rho(x, eps, C);
#pragma omp simd
        for (int c = 0; c < C; c++) y[c] = x[c] * r * gain[c];
    }
}

// Sum of x_c d_c gain_c over a row.
static double row_dot_gained(const real *x, const real *d, const real *gain, int C) {
    double lane[LANES] = {0}, rest = 0;
    int c = 0;
    for (; c + LANES <= C; c += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += (double)x[c + l] * (double)(d[c + l] * gain[c + l]);
    for (; c < C; c++) rest += (double)x[c] * (double)(d[c] * gain[c]);
    return lanes_fold(lane) + rest;
}

// Threads own channels and add up tokens in order.
static void rmsnorm_backward_gain(real *restrict dgain, const real *restrict dout,
                                  const real *restrict inp, const real *restrict rho, int N,
                                  int C) {
    int tile = tile_width(C);
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int from = 0; from < C; from += tile) {
        int width = tile_end(from, tile, C) - from;
        double sum[CHANNEL_TILE] = {0};
        for (int t = 0; t < N; t++) {
            const real *x = inp + (size_t)t * (size_t)C + from;
            const real *d = dout + (size_t)t * (size_t)C + from;
            real r = rho[t];
#pragma omp simd
            for (int c = 0; c < width; c++) sum[c] += (double)(d[c] * x[c] * r);
        }
        for (int c = 0; c < width; c++) dgain[from + c] += (real)sum[c];
    }
}

void rmsnorm_backward(real *restrict dinp, real *restrict dgain, const real *restrict dout,
                      const real *restrict inp, const real *restrict gain, const real *restrict rho,
                      int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *x = inp + (size_t)t * (size_t)C, *d = dout + (size_t)t * (size_t)C;
        real *dx = dinp + (size_t)t * (size_t)C;
        real r = rho[t], pull = row_pull(row_dot_gained(x, d, gain, C), r, C);
#pragma omp simd
        for (int c = 0; c < C; c++) dx[c] += r * gain[c] * d[c] - pull * x[c];
    }
    rmsnorm_backward_gain(dgain, dout, inp, rho, N, C);
}
