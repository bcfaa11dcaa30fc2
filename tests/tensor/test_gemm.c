// Matrix products against three loops in double: shapes that are odd, empty or strided, and
// threads.
#include <criterion/criterion.h>

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/gemm.h"

#ifdef STERNA_F64
#define TOLERANCE 1e-13
#else
#define TOLERANCE 2e-6
#endif

static real *random_reals(size_t count, unsigned seed) {
    real *x = malloc((count + 1) * sizeof(real));
    uint32_t s = seed * 2654435761u + 1;
    for (size_t i = 0; i < count; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (real)((double)(s >> 8) / 8388608.0 - 1.0);
    }
    return x;
}

static real element(const real *x, GemmOp op, int ld, int i, int j) {
    return op == GEMM_T ? x[(size_t)j * (size_t)ld + (size_t)i]
                        : x[(size_t)i * (size_t)ld + (size_t)j];
}

// Largest |got - want| relative to the size of the sums.
static double product_error(GemmOp opa, GemmOp opb, const int *dims, const int *ld, real alpha,
                            real beta) {
    int M = dims[0], N = dims[1], K = dims[2];
    real *A = random_reals((size_t)(opa == GEMM_T ? K : M) * (size_t)ld[0], 1);
    real *B = random_reals((size_t)(opb == GEMM_T ? N : K) * (size_t)ld[1], 2);
    real *C = random_reals((size_t)M * (size_t)ld[2], 3);
    real *before = random_reals((size_t)M * (size_t)ld[2], 3);
    gemm(opa, opb, M, N, K, alpha, A, ld[0], B, ld[1], beta, C, ld[2]);
    double worst = 0;
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < ld[2]; j++) {
            size_t at = (size_t)i * (size_t)ld[2] + (size_t)j;
            double want = before[at], size = 1;
            if (j < N) {
                double sum = 0;
                for (int k = 0; k < K; k++)
                    sum += (double)element(A, opa, ld[0], i, k) * element(B, opb, ld[1], k, j);
                want = (double)alpha * sum + (double)beta * want;
                size = sqrt(K + 1.0);
            }
            worst = fmax(worst, fabs(C[at] - want) / size);
        }
    }
    free(A), free(B), free(C), free(before);
    return worst;
}

Test(gemm, matches_loops_for_every_orientation_and_odd_strides) {
    const int shapes[][3] = {{1, 1, 1},  {3, 5, 7},    {17, 1, 33},
                             {1, 65, 9}, {64, 64, 64}, {31, 129, 5}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int orient = 0; orient < 4; orient++) {
            const int *d = shapes[s];
            GemmOp opa = orient & 1 ? GEMM_T : GEMM_N, opb = orient & 2 ? GEMM_T : GEMM_N;
            int ld[3] = {(opa ? d[0] : d[2]) + 3, (opb ? d[2] : d[1]) + 1, d[1] + 2};
            double e = product_error(opa, opb, d, ld, (real)0.5, orient % 2 ? 1 : (real)-2);
            cr_assert(e < TOLERANCE, "(%d,%d,%d) orientation %d: error %g", d[0], d[1], d[2],
                      orient, e);
        }
    }
}

Test(gemm, beta_zero_overwrites_not_a_number) {
    real A[2] = {1, 2}, B[2] = {3, 4}, C[1] = {NAN};
    gemm(GEMM_N, GEMM_T, 1, 1, 2, 1, A, 2, B, 2, 0, C, 1);
    cr_assert_eq(C[0], 11);
    C[0] = NAN;
    gemm(GEMM_N, GEMM_N, 1, 1, 0, 1, A, 0, B, 1, 0, C, 1);
    cr_assert_eq(C[0], 0);
}

Test(gemm, empty_sides_touch_nothing_and_empty_sum_scales) {
    real C[6] = {1, 2, 3, 4, 5, 6};
    gemm(GEMM_N, GEMM_N, 0, 3, 2, 1, NULL, 2, C, 3, 0, C, 3);
    gemm(GEMM_N, GEMM_N, 2, 0, 2, 1, C, 2, NULL, 0, 0, C, 3);
    cr_assert_eq(C[0], 1);
    cr_assert_eq(C[5], 6);
    gemm(GEMM_N, GEMM_N, 2, 2, 0, 1, NULL, 0, NULL, 2, 2, C, 3);
    const real want[6] = {2, 4, 3, 8, 10, 6};
    cr_assert_arr_eq(C, want, sizeof want);
}

Test(gemm, counts_two_operations_a_multiply_add) {
    double before = gemm_flops();
    real A[6] = {0}, B[8] = {0}, C[12] = {0};
    gemm(GEMM_N, GEMM_N, 3, 4, 2, 1, A, 2, B, 4, 0, C, 4);
    cr_assert_float_eq(gemm_flops() - before, 48, 0);
}

Test(gemm, names_the_openmp_build) {
    cr_assert_not_null(strstr(gemm_library(), "USE_OPENMP"), "%s", gemm_library());
}

// Forward and both gradients of a strided layer against gemm on one thread.
static double linear_error(int N, int C, int O, int threads, bool store) {
    int ld_inp = C + 5, ld_out = O + 3;
    size_t in_count = (size_t)N * (size_t)ld_inp, out_count = (size_t)N * (size_t)ld_out;
    size_t w_count = (size_t)O * (size_t)C;
    real *inp = random_reals(in_count, 4), *dout = random_reals(out_count, 5);
    real *w = random_reals(w_count, 6);
    real *out[2], *dinp[2], *dw[2];
    for (int i = 0; i < 2; i++) {
        out[i] = random_reals(out_count, 7);
        dinp[i] = random_reals(in_count, 8);
        dw[i] = random_reals(w_count, 9);
    }
    omp_set_num_threads(threads);
    linear_forward(out[0], ld_out, inp, ld_inp, w, N, C, O);
    linear_backward(dinp[0], ld_inp, store, dw[0], dout, ld_out, inp, ld_inp, w, N, C, O);
    omp_set_num_threads(1);
    gemm(GEMM_N, GEMM_T, N, O, C, 1, inp, ld_inp, w, C, 0, out[1], ld_out);
    gemm(GEMM_N, GEMM_N, N, C, O, 1, dout, ld_out, w, C, !store, dinp[1], ld_inp);
    gemm(GEMM_T, GEMM_N, O, C, N, 1, dout, ld_out, inp, ld_inp, 1, dw[1], C);
    double worst = 0;
    for (size_t i = 0; i < out_count; i++) worst = fmax(worst, fabs(out[0][i] - out[1][i]));
    for (size_t i = 0; i < in_count; i++) worst = fmax(worst, fabs(dinp[0][i] - dinp[1][i]));
    for (size_t i = 0; i < w_count; i++) worst = fmax(worst, fabs(dw[0][i] - dw[1][i]));
    for (int i = 0; i < 2; i++) free(out[i]), free(dinp[i]), free(dw[i]);
    free(inp), free(dout), free(w);
    return worst / sqrt(N + C + O);
}

Test(linear, panels_of_any_thread_count_give_the_product) {
    const int shapes[][3] = {{0, 3, 5},      {1, 96, 1000}, {7, 70, 700},
                             {33, 130, 257}, {400, 17, 90}, {301, 64, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int threads = 1; threads <= 5; threads += 2) {
            const int *d = shapes[s];
            double e = linear_error(d[0], d[1], d[2], threads, s % 2 == 0);
            cr_assert(e < TOLERANCE, "N %d C %d O %d, %d threads: %g", d[0], d[1], d[2], threads,
                      e);
        }
    }
}

Test(linear, either_gradient_may_be_absent_and_both_accumulate) {
    const real inp[2] = {1, 2}, w[2] = {3, 4}, dout[1] = {10};
    real dinp[2] = {100, 200}, dw[2] = {7, 8};
    linear_backward(NULL, 0, false, dw, dout, 1, inp, 2, w, 1, 2, 1);
    cr_assert(dw[0] == 17 && dw[1] == 28);
    linear_backward(dinp, 2, false, NULL, dout, 1, inp, 2, w, 1, 2, 1);
    cr_assert(dinp[0] == 130 && dinp[1] == 240);
    dinp[0] = dinp[1] = NAN;
    linear_backward(dinp, 2, true, NULL, dout, 1, inp, 2, w, 1, 2, 1);
    cr_assert(dinp[0] == 30 && dinp[1] == 40);
}

Test(linear, repeats_bit_for_bit) {
    enum { N = 130, C = 65, O = 129 };
    real *inp = random_reals(N * C, 1), *w = random_reals(O * C, 2);
    real *a = random_reals(N * O, 3), *b = random_reals(N * O, 4);
    omp_set_num_threads(3);
    linear_forward(a, O, inp, C, w, N, C, O);
    for (int i = 0; i < 5; i++) {
        linear_forward(b, O, inp, C, w, N, C, O);
        cr_assert_arr_eq(a, b, N * O * sizeof(real));
    }
    free(inp), free(w), free(a), free(b);
}
