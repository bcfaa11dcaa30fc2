// Twin of tensor/kernels/norm.c. Backward applies the chain rule to y_c = x_c rho gain_c in two
// parts, the path through x_c and the one through rho, whose derivative by x_c is -rho^3 x_c / C.
#include "tests/ref/ref.h"

#include <math.h>

void ref_rmsnorm_forward(real *out, real *rho, const real *inp, const real *gain, real eps, int N,
                         int C) {
    for (int t = 0; t < N; t++) {
        double squares = 0;
        for (int c = 0; c < C; c++) squares += (double)inp[t * C + c] * (double)inp[t * C + c];
        double r = 1 / sqrt((C > 0 ? squares / C : 0) + (double)eps);
        rho[t] = (real)r;
        for (int c = 0; c < C; c++)
            out[t * C + c] = (real)((double)inp[t * C + c] * r * (gain ? (double)gain[c] : 1));
    }
}

void ref_rmsnorm_backward(real *dinp, real *dgain, const real *dout, const real *inp,
                          const real *gain, const real *rho, int N, int C) {
    for (int t = 0; t < N; t++) {
        double r = (double)rho[t], drho = 0;
        for (int c = 0; c < C; c++) {
            double x = (double)inp[t * C + c], d = (double)dout[t * C + c];
            drho += d * x * (gain ? (double)gain[c] : 1);
            if (dgain) dgain[c] += (real)(d * x * r);
        }
        for (int c = 0; c < C; c++) {
            double x = (double)inp[t * C + c], d = (double)dout[t * C + c];
            dinp[t * C + c] +=
                (real)(d * (gain ? (double)gain[c] : 1) * r - drho * r * r * r * x / C);
        }
    }
}

void ref_srms_forward(real *out, real *rho, const real *inp, real eps, int N, int C) {
    ref_rmsnorm_forward(out, rho, inp, NULL, eps, N, C);
}

void ref_srms_backward(real *dinp, const real *dout, const real *inp, const real *rho, int N,
                       int C) {
    ref_rmsnorm_backward(dinp, NULL, dout, inp, NULL, rho, N, C);
}
