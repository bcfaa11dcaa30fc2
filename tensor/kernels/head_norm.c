// RMSNorm of each head by itself, and rows of length 1:
//
//   rho_th = 1/sqrt(sum_c(x_thc^2) / m + eps)      m = D with a gain, 1 without
//   y_thc = x_thc rho_th [gain_hc]
//   dx_thc = rho_th g_thc - x_thc rho_th^3 sum_k(x_thk g_thk) / m      g = dout [gain]
//   dgain_hc = sum_t dout_thc x_thc rho_th
#include "tensor/kernels/kernels.h"

#include "tensor/kernels/vmath.h"

void head_norm_forward(real *restrict out, real *restrict rho, const real *restrict inp,
                       const real *restrict gain, const HeadNormDims *d) {
    int D = d->D, C = d->H * D;
    double per = gain != NULL ? D : 1;
#pragma omp parallel for schedule(static) if (worth_threads(d->N, C))
    for (int t = 0; t < d->N; t++) {
        for (int h = 0; h < d->H; h++) {
            const real *x = inp + (size_t)t * (size_t)d->ld_inp + (size_t)h * (size_t)D;
            real *y = out + (size_t)t * (size_t)C + (size_t)h * (size_t)D;
            double sum = row_dot(x, x, (size_t)D);
            real r = (real)(1 / sqrt(sum / per + (double)d->eps));
            rho[(size_t)t * (size_t)d->H + (size_t)h] = r;
            for (int c = 0; c < D; c++) y[c] = gain != NULL ? x[c] * r * gain[h * D + c] : x[c] * r;
        }
    }
}

static void inputs_backward(real *restrict dinp, const real *restrict dout,
                            const real *restrict inp, const real *restrict gain,
                            const real *restrict rho, const HeadNormDims *d) {
    int D = d->D, C = d->H * D;
    double per = gain != NULL ? D : 1;
#pragma omp parallel for schedule(static) if (worth_threads(d->N, C))
    for (int t = 0; t < d->N; t++) {
        for (int h = 0; h < d->H; h++) {
            const real *x = inp + (size_t)t * (size_t)d->ld_inp + (size_t)h * (size_t)D;
            const real *dy = dout + (size_t)t * (size_t)C + (size_t)h * (size_t)D;
            const real *g = gain != NULL ? gain + (size_t)h * (size_t)D : NULL;
            real *dx = dinp + (size_t)t * (size_t)d->ld_dinp + (size_t)h * (size_t)D;
            real r = rho[(size_t)t * (size_t)d->H + (size_t)h];
            double sum = 0;
            for (int c = 0; c < D; c++)
                sum += (double)x[c] * (double)(g != NULL ? dy[c] * g[c] : dy[c]);
            real pull = (real)((double)r * (double)r * (double)r * sum / per);
            for (int c = 0; c < D; c++)
                dx[c] += r * (g != NULL ? dy[c] * g[c] : dy[c]) - pull * x[c];
        }
    }
}

void head_norm_backward(real *restrict dinp, real *restrict dgain, const real *restrict dout,
                        const real *restrict inp, const real *restrict gain,
                        const real *restrict rho, const HeadNormDims *d) {
    inputs_backward(dinp, dout, inp, gain, rho, d);
    if (gain == NULL) return;
    int C = d->H * d->D;
#pragma omp parallel for schedule(static) if (worth_threads(d->N, C))
    for (int h = 0; h < d->H; h++) {
        for (int c = h * d->D; c < (h + 1) * d->D; c++) {
            double sum = 0;
            for (int t = 0; t < d->N; t++)
                sum += (double)(dout[(size_t)t * (size_t)C + (size_t)c] *
                                inp[(size_t)t * (size_t)d->ld_inp + (size_t)c] *
                                rho[(size_t)t * (size_t)d->H + (size_t)h]);
            dgain[c] += (real)sum;
        }
    }
}
