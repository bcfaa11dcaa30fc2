// Activations and gated products, element by element: silu (Elfwing et al., 2017), the plain
// product of SGLU and of the linear gate (Qin et al., TransNormerLLM, 2023), SwiGLU (Shazeer,
// 2020), and the sum.
//
//   silu(z) = z s        silu'(z) = s (1 + z (1 - s))        s = 1/(1 + exp(-z))
//
// Operands with an `ld` may be columns of a wider matrix; the pointers of one call never share
// elements.
#include "tensor/kernels/kernels.h"

#include "tensor/kernels/vmath.h"

// Slope of silu at z, given s = sigmoid(z).
static inline real silu_slope(real z, real s) {
    return s * (1 + z * (1 - s));
}

void silu_forward(real *restrict out, int ld_out, const real *restrict inp, int ld_inp, int N,
                  int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *z = inp + (size_t)t * (size_t)ld_inp;
        real *y = out + (size_t)t * (size_t)ld_out;
#pragma omp simd
        for (int c = 0; c < C; c++) y[c] = z[c] * real_sigmoid(z[c]);
    }
}

void silu_backward(real *restrict dinp, int ld_dinp, const real *restrict dout, int ld_dout,
                   const real *restrict inp, int ld_inp, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *z = inp + (size_t)t * (size_t)ld_inp, *d = dout + (size_t)t * (size_t)ld_dout;
        real *dz = dinp + (size_t)t * (size_t)ld_dinp;
#pragma omp simd
        for (int c = 0; c < C; c++) dz[c] += d[c] * silu_slope(z[c], real_sigmoid(z[c]));
    }
}

void mul_forward(real *restrict out, const real *restrict a, int ld_a, const real *restrict b,
                 int ld_b, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *u = a + (size_t)t * (size_t)ld_a, *v = b + (size_t)t * (size_t)ld_b;
        real *y = out + (size_t)t * (size_t)C;
#pragma omp simd
        for (int c = 0; c < C; c++) y[c] = u[c] * v[c];
    }
}

void mul_backward(real *restrict da, int ld_da, real *restrict db, int ld_db,
                  const real *restrict dout, const real *restrict a, int ld_a,
                  const real *restrict b, int ld_b, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        const real *u = a + (size_t)t * (size_t)ld_a, *v = b + (size_t)t * (size_t)ld_b;
        const real *d = dout + (size_t)t * (size_t)C;
        real *du = da + (size_t)t * (size_t)ld_da, *dv = db + (size_t)t * (size_t)ld_db;
#pragma omp simd
        for (int c = 0; c < C; c++) {
            du[c] += d[c] * v[c];
            dv[c] += d[c] * u[c];
        }
    }
}

void swiglu_forward(real *restrict out, const real *restrict a, const real *restrict b, int N,
                    int F) {
#pragma omp parallel for schedule(static) if (worth_threads(N, F))
    for (int t = 0; t < N; t++) {
        const real *z = a + (size_t)t * (size_t)F, *v = b + (size_t)t * (size_t)F;
        real *y = out + (size_t)t * (size_t)F;
#pragma omp simd
        for (int c = 0; c < F; c++) y[c] = z[c] * real_sigmoid(z[c]) * v[c];
    }
}

void swiglu_backward(real *restrict da, real *restrict db, const real *restrict dout,
                     const real *restrict a, const real *restrict b, int N, int F) {
#pragma omp parallel for schedule(static) if (worth_threads(N, F))
    for (int t = 0; t < N; t++) {
        const real *z = a + (size_t)t * (size_t)F, *v = b + (size_t)t * (size_t)F;
        const real *d = dout + (size_t)t * (size_t)F;
        real *dz = da + (size_t)t * (size_t)F, *dv = db + (size_t)t * (size_t)F;
#pragma omp simd
        for (int c = 0; c < F; c++) {
            real s = real_sigmoid(z[c]);
            dz[c] += d[c] * v[c] * silu_slope(z[c], s);
            dv[c] += d[c] * z[c] * s;
        }
    }
}

void sigmul_forward(real *restrict out, const real *restrict a, const real *restrict b,
                    size_t count) {
#pragma omp parallel for simd schedule(static) if (feeds_threads(count))
    for (size_t i = 0; i < count; i++) out[i] = a[i] * real_sigmoid(b[i]);
}

void sigmul_backward(real *restrict da, real *restrict db, const real *restrict dout,
                     const real *restrict a, const real *restrict b, size_t count) {
#pragma omp parallel for simd schedule(static) if (feeds_threads(count))
    for (size_t i = 0; i < count; i++) {
        real s = real_sigmoid(b[i]);
        da[i] += dout[i] * s;
        db[i] += dout[i] * a[i] * s * (1 - s);
    }
}

void add_forward(real *restrict out, const real *restrict a, const real *restrict b, size_t count) {
#pragma omp parallel for simd schedule(static) if (feeds_threads(count))
    for (size_t i = 0; i < count; i++) out[i] = a[i] + b[i];
}

void add_backward(real *restrict da, real *restrict db, const real *restrict dout, size_t count) {
#pragma omp parallel for simd schedule(static) if (feeds_threads(count))
    for (size_t i = 0; i < count; i++) {
        da[i] += dout[i];
        db[i] += dout[i];
    }
}
