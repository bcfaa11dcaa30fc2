// Matrix products: the only callers of BLAS. Row-major; ld = elements between rows.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/real.h"

typedef enum { GEMM_N = 0, GEMM_T = 1 } GemmOp;

// C(M,N) = alpha * op(A)(M,K) * op(B)(K,N) + beta * C. Threaded outside of OpenMP regions
// where it is worth it. M, N or K may be 0 (K = 0: C = beta * C).
void gemm(GemmOp opa, GemmOp opb, int M, int N, int K, real alpha, const real *A, int lda,
          const real *B, int ldb, real beta, real *C, int ldc);

// Large products on all threads, whatever the shape: the output is cut into row or column panels.
// out(N,O) = inp(N,C) weight(O,C)^T
void linear_forward(real *out, int ld_out, const real *inp, int ld_inp, const real *weight, int N,
                    int C, int O);
// dinp(N,C) += dout weight, or = if store; dweight(O,C) += dout^T inp. Either gradient may be NULL.
void linear_backward(real *dinp, int ld_dinp, bool store, real *dweight, const real *dout,
                     int ld_dout, const real *inp, int ld_inp, const real *weight, int N, int C,
                     int O);

// OpenBLAS takes kernels of 2004 ("Prescott") for Intel processors younger than itself, ten times
// slower than those that fit. It decides when it is loaded, by OPENBLAS_CORETYPE: where it has
// fallen back and nobody has set that, this sets it. True: the program must start again.
bool gemm_choose_kernels(void);
const char *
gemm_fitting_kernels(void);  // the family for this processor's instructions, NULL: unknown
// Floating-point operations of every product so far on this rank (2 per multiply-add).
double gemm_flops(void);
const char *
gemm_library(void);  // library, its build options and the kernel family chosen for this processor
