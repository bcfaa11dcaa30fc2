// Twin of tensor/kernels/glu.c.
#include "tests/ref/ref.h"

#include <math.h>

static double sigmoid(double z) {
    return 1 / (1 + exp(-z));
}

static double silu(double z) {
    return z * sigmoid(z);
}

static double silu_slope(double z) {
    return sigmoid(z) + z * sigmoid(z) * (1 - sigmoid(z));
}

void ref_silu_forward(real *out, int ld_out, const real *inp, int ld_inp, int N, int C) {
    for (int t = 0; t < N; t++)
        for (int c = 0; c < C; c++) out[t * ld_out + c] = (real)silu((double)inp[t * ld_inp + c]);
}

void ref_silu_backward(real *dinp, int ld_dinp, const real *dout, int ld_dout, const real *inp,
                       int ld_inp, int N, int C) {
    for (int t = 0; t < N; t++)
        for (int c = 0; c < C; c++)
            dinp[t * ld_dinp + c] +=
                (real)((double)dout[t * ld_dout + c] * silu_slope((double)inp[t * ld_inp + c]));
}

void ref_mul_forward(real *out, const real *a, int ld_a, const real *b, int ld_b, int N, int C) {
    for (int t = 0; t < N; t++)
        for (int c = 0; c < C; c++) out[t * C + c] = a[t * ld_a + c] * b[t * ld_b + c];
}

void ref_mul_backward(real *da, int ld_da, real *db, int ld_db, const real *dout, const real *a,
                      int ld_a, const real *b, int ld_b, int N, int C) {
    for (int t = 0; t < N; t++) {
        for (int c = 0; c < C; c++) {
            da[t * ld_da + c] += dout[t * C + c] * b[t * ld_b + c];
            db[t * ld_db + c] += dout[t * C + c] * a[t * ld_a + c];
        }
    }
}

void ref_swiglu_forward(real *out, const real *a, const real *b, int N, int F) {
    for (int i = 0; i < N * F; i++) out[i] = (real)(silu((double)a[i]) * (double)b[i]);
}

void ref_swiglu_backward(real *da, real *db, const real *dout, const real *a, const real *b, int N,
                         int F) {
    for (int i = 0; i < N * F; i++) {
        da[i] += (real)((double)dout[i] * (double)b[i] * silu_slope((double)a[i]));
        db[i] += (real)((double)dout[i] * silu((double)a[i]));
    }
}

void ref_add_forward(real *out, const real *a, const real *b, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = a[i] + b[i];
}

void ref_add_backward(real *da, real *db, const real *dout, size_t count) {
    for (size_t i = 0; i < count; i++) da[i] += dout[i];
    for (size_t i = 0; i < count; i++) db[i] += dout[i];
}
