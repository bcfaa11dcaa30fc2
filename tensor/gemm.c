// Matrix products over OpenBLAS.
//
// Small products (inside kernels) go straight to cblas. The large ones of linear layers are cut
// into panels of the output, one serial cblas call a thread: inside an OpenMP region OpenBLAS's
// OpenMP build runs serially, so panels cost no synchronisation, which also keeps them fast when
// ranks share cores, and the cut is ours: results depend on shape and thread count alone. Measured
// equal to OpenBLAS's own threading at the sizes of a training step (98-100 %), and 2-5 times
// faster at one to eight rows (generation).
#include "tensor/gemm.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

#include "base/status.h"
#include "tensor/kernels/kernels.h"
#include "tensor/progress.h"
#include "tensor/threads.h"

#ifdef STERNA_F64
#define CBLAS_GEMM cblas_dgemm
#else
#define CBLAS_GEMM cblas_sgemm
#endif

enum {
    PANEL_UNIT = 16,  // panels start at multiples of the microkernels' widest register block
    MIN_ROWS = 64     // rows a thread below which the longer side of the output is cut instead
};

// One product; the operands keep their order through the helpers below.
typedef struct Product {
    GemmOp opa, opb;
    int M, N, K;
    const real *A, *B;
    real *C;
    int lda, ldb, ldc;
    real beta;
} Product;

// The process's count of multiply-adds. An integer, so that the order of threads cannot change the
// sum.
static uint64_t multiply_adds;

static void count_product(int M, int N, int K) {
    uint64_t count = (uint64_t)M * (uint64_t)N * (uint64_t)K;
#pragma omp atomic
    multiply_adds += count;
}

double gemm_flops(void) {
    uint64_t count;
#pragma omp atomic read
    count = multiply_adds;
    return 2.0 * (double)count;
}

const char *gemm_library(void) {
    static _Thread_local char text[256];
    snprintf(text, sizeof text, "%s, %s kernels", openblas_get_config(), openblas_get_corename());
    return text;
}

const char *gemm_fitting_kernels(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bf16")) return "Cooperlake";
    if (__builtin_cpu_supports("avx512bw")) return "SkylakeX";
    if (__builtin_cpu_supports("avx2")) return "Haswell";
#endif
    return NULL;
}

bool gemm_choose_kernels(void) {
    const char *fitting = gemm_fitting_kernels();
    bool fell_back = strcmp(openblas_get_corename(), "Prescott") == 0;
    if (!fell_back || fitting == NULL || getenv("OPENBLAS_CORETYPE") != NULL) return false;
    setenv("OPENBLAS_CORETYPE", fitting, 1);
    return true;
}

// C = beta * C. As in BLAS, beta = 0 overwrites, whatever C holds.
static void scale_rows(int M, int N, real beta, real *C, int ldc) {
    if (beta == 1) return;
    for (int i = 0; i < M; i++) {
        real *row = C + (size_t)i * (size_t)ldc;
        if (beta == 0)
            memset(row, 0, (size_t)N * sizeof(real));
        else
            for (int j = 0; j < N; j++) row[j] *= beta;
    }
}

// On one thread, unless it is worth all: OpenBLAS takes them for less, and its threads wait for one
// another more often than panels do.
static int threads_begin(double work) {
    int threads = omp_get_max_threads();
    bool alone = threads > 1 && !omp_in_parallel() && !products_feed_threads(work);
    if (alone) omp_set_num_threads(1);
    return alone ? threads : 0;
}

static void threads_end(int threads) {
    if (threads > 0) omp_set_num_threads(threads);
}

void gemm(GemmOp opa, GemmOp opb, int M, int N, int K, real alpha, const real *A, int lda,
          const real *B, int ldb, real beta, real *C, int ldc) {
    ASSERT(M >= 0 && N >= 0 && K >= 0);
    if (M == 0 || N == 0) return;
    if (K == 0) {
        scale_rows(M, N, beta, C, ldc);
        return;
    }
    int threads = threads_begin((double)M * N * K);
    CBLAS_GEMM(CblasRowMajor, opa == GEMM_T ? CblasTrans : CblasNoTrans,
               opb == GEMM_T ? CblasTrans : CblasNoTrans, M, N, K, alpha, A, lda, B, ldb, beta, C,
               ldc);
    threads_end(threads);
    count_product(M, N, K);
}

// The part [begin, end) of rows, or of columns, of a product.
static void product_panel(const Product *p, bool by_rows, int begin, int end) {
    size_t at = (size_t)begin;
    if (begin >= end) return;
    if (by_rows) {
        const real *A = p->A + (p->opa == GEMM_T ? at : at * (size_t)p->lda);
        gemm(p->opa, p->opb, end - begin, p->N, p->K, 1, A, p->lda, p->B, p->ldb, p->beta,
             p->C + at * (size_t)p->ldc, p->ldc);
    } else {
        const real *B = p->B + (p->opb == GEMM_T ? at * (size_t)p->ldb : at);
        gemm(p->opa, p->opb, p->M, end - begin, p->K, 1, p->A, p->lda, B, p->ldb, p->beta,
             p->C + at, p->ldc);
    }
}

// On all threads. Rows are cut where there are enough of them: every thread then streams its own
// rows and shares the packed right operand's cache lines with nobody.
static void product_threaded(const Product *p) {
    ASSERT(p->M >= 0 && p->N >= 0 && p->K >= 0);
    int threads = omp_in_parallel() ? 1 : threads_chosen();
    progress();
    if (threads == 1 || !products_feed_threads((double)p->M * p->N * p->K)) {
        product_panel(p, true, 0, p->M);
        return;
    }
    bool by_rows = p->M / threads >= MIN_ROWS || p->M >= p->N;
    int side = by_rows ? p->M : p->N;
    int units = (side + PANEL_UNIT - 1) / PANEL_UNIT;
#pragma omp parallel num_threads(threads)
    {
        int64_t t = omp_get_thread_num(), n = omp_get_num_threads();
        int begin = (int)(units * t / n) * PANEL_UNIT;
        int end = t + 1 == n ? side : (int)(units * (t + 1) / n) * PANEL_UNIT;
        product_panel(p, by_rows, begin, end);
    }
}

void linear_forward(real *out, int ld_out, const real *inp, int ld_inp, const real *weight, int N,
                    int C, int O) {
    if (N == 1) {
        matvec_forward(out, weight, inp, O, C);
        count_product(1, O, C);
        return;
    }
    Product p = {GEMM_N, GEMM_T, N, O, C, inp, weight, out, ld_inp, C, ld_out, 0};
    product_threaded(&p);
}

void linear_backward(real *dinp, int ld_dinp, bool store, real *dweight, const real *dout,
                     int ld_dout, const real *inp, int ld_inp, const real *weight, int N, int C,
                     int O) {
    if (dinp != NULL) {
        Product p = {GEMM_N, GEMM_N, N, C, O, dout, weight, dinp, ld_dout, C, ld_dinp, !store};
        product_threaded(&p);
    }
    if (dweight != NULL) {
        Product p = {GEMM_T, GEMM_N, O, C, N, dout, inp, dweight, ld_dout, ld_inp, C, 1};
        product_threaded(&p);
    }
}
