// Norms against their twins, eps, large and small activations, gradients, thread counts.
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

static const real EPS = (real)1e-6;

// Everything a norm of (N,C) reads and writes.
typedef struct NormCase {
    real *x, *gain, *dout;  // inputs
    real *out, *rho;        // outputs, poisoned
    real *dx, *dgain;       // gradients, from arbitrary values
    real *want, *want_rho, *want_dx, *want_dgain;
    size_t n;
    int N, C;
} NormCase;

static NormCase norm_case(int N, int C) {
    NormCase c = {.N = N, .C = C, .n = (size_t)N * (size_t)C};
    size_t rows = (size_t)N, cols = (size_t)C;
    c.x = numbers_normal(c.n, 1), c.dout = numbers_normal(c.n, 2), c.gain = numbers_normal(cols, 3);
    c.out = numbers_poison(c.n), c.rho = numbers_poison(rows);
    c.want = numbers_poison(c.n), c.want_rho = numbers_poison(rows);
    c.dx = numbers_normal(c.n, 4), c.want_dx = numbers_copy(c.dx, c.n);
    c.dgain = numbers_normal(cols, 5), c.want_dgain = numbers_copy(c.dgain, cols);
    return c;
}

static void norm_free(NormCase *c) {
    free(c->x), free(c->gain), free(c->dout), free(c->out), free(c->rho), free(c->dx);
    free(c->dgain), free(c->want), free(c->want_rho), free(c->want_dx), free(c->want_dgain);
}

static void compare(const NormCase *c) {
    cr_assert_leq(numbers_distance(c->out, c->want, c->n), TWIN_TOLERANCE, "out");
    cr_assert_leq(numbers_distance(c->rho, c->want_rho, (size_t)c->N), TWIN_TOLERANCE, "rho");
    cr_assert_leq(numbers_distance(c->dx, c->want_dx, c->n), TWIN_TOLERANCE, "dx");
    cr_assert_leq(numbers_distance(c->dgain, c->want_dgain, (size_t)c->C), TWIN_TOLERANCE, "dgain");
}

static const int SIZES[][2] = {{0, 3},  {3, 0},  {1, 1},   {3, 7},   {7, 3},
                               {5, 16}, {9, 65}, {2, 131}, {3, 1033}};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

Test(norm, srms_agrees_with_its_twin_for_odd_sizes) {
    for (int i = 0; i < SIZE_COUNT; i++) {
        NormCase c = norm_case(SIZES[i][0], SIZES[i][1]);
        srms_forward(c.out, c.rho, c.x, EPS, c.N, c.C);
        ref_srms_forward(c.want, c.want_rho, c.x, EPS, c.N, c.C);
        srms_backward(c.dx, c.dout, c.x, c.want_rho, c.N, c.C);
        ref_srms_backward(c.want_dx, c.dout, c.x, c.want_rho, c.N, c.C);
        compare(&c);
        norm_free(&c);
    }
}

Test(norm, rmsnorm_agrees_with_its_twin_for_odd_sizes) {
    for (int i = 0; i < SIZE_COUNT; i++) {
        NormCase c = norm_case(SIZES[i][0], SIZES[i][1]);
        rmsnorm_forward(c.out, c.rho, c.x, c.gain, EPS, c.N, c.C);
        ref_rmsnorm_forward(c.want, c.want_rho, c.x, c.gain, EPS, c.N, c.C);
        rmsnorm_backward(c.dx, c.dgain, c.dout, c.x, c.gain, c.want_rho, c.N, c.C);
        ref_rmsnorm_backward(c.want_dx, c.want_dgain, c.dout, c.x, c.gain, c.want_rho, c.N, c.C);
        compare(&c);
        norm_free(&c);
    }
}

Test(norm, eps_bounds_what_becomes_of_almost_nothing) {
    const real x[3] = {0, (real)1e-5, (real)-2e-5};
    real out[3] = {NAN, NAN, NAN}, rho = NAN;
    srms_forward(out, &rho, x, EPS, 1, 3);
    cr_assert_float_eq((double)rho, 1 / sqrt(5e-10 / 3 + 1e-6), 1e-3);
    const real zeros[3] = {0};
    srms_forward(out, &rho, zeros, EPS, 1, 3);
    cr_assert_float_eq((double)rho, 1000, 1e-3);
    cr_assert_eq(out[1], 0);
}

Test(norm, large_activations_do_not_overflow_and_nan_shows) {
    real x[2] = {(real)1e30, (real)-1e30}, out[2] = {NAN, NAN}, rho = NAN;
    srms_forward(out, &rho, x, EPS, 1, 2);
    cr_assert_float_eq((double)out[0], 1, 1e-5);
    cr_assert_float_eq((double)out[1], -1, 1e-5);
    x[0] = (real)NAN;
    srms_forward(out, &rho, x, EPS, 1, 2);
    cr_assert(isnan(rho) && isnan(out[0]) && isnan(out[1]));
    x[0] = (real)INFINITY;
    srms_forward(out, &rho, x, EPS, 1, 2);
    cr_assert(isnan(out[0]));
}

static void run_rmsnorm(void *ctx, real *out) {
    NormCase *c = ctx;
    rmsnorm_forward(out, out + c->n, c->x, c->gain, EPS, c->N, c->C);
    real *dx = out + c->n + c->N, *dgain = dx + c->n;
    rmsnorm_backward(dx, dgain, c->dout, c->x, c->gain, out + c->n, c->N, c->C);
    srms_backward(dx, c->dout, c->x, out + c->n, c->N, c->C);
}

Test(norm, has_the_same_bits_on_any_number_of_threads) {
    NormCase c = norm_case(193, 211);
    cr_assert(same_bits_on_any_threads(run_rmsnorm, &c, 2 * c.n + (size_t)(c.N + c.C)));
    norm_free(&c);
}

#if GRADCHECK_RUNS
static double srms_loss(void *ctx) {
    NormCase *c = ctx;
    srms_forward(c->out, c->rho, c->x, EPS, c->N, c->C);
    return weighted_sum(c->out, c->dout, c->n);
}

static double rmsnorm_loss(void *ctx) {
    NormCase *c = ctx;
    rmsnorm_forward(c->out, c->rho, c->x, c->gain, EPS, c->N, c->C);
    return weighted_sum(c->out, c->dout, c->n);
}

Test(norm, gradients_match_differences) {
    NormCase c = norm_case(7, 19);
    real *dx = calloc(c.n, sizeof(real)), *dgain = calloc((size_t)c.C, sizeof(real));
    srms_loss(&c);
    srms_backward(dx, c.dout, c.x, c.rho, c.N, c.C);
    cr_assert_leq(gradcheck("srms", srms_loss, &c, c.x, dx, c.n), GRADCHECK_TOLERANCE);

    for (size_t i = 0; i < c.n; i++) dx[i] = 0;
    rmsnorm_loss(&c);
    rmsnorm_backward(dx, dgain, c.dout, c.x, c.gain, c.rho, c.N, c.C);
    cr_assert_leq(gradcheck("rmsnorm x", rmsnorm_loss, &c, c.x, dx, c.n), GRADCHECK_TOLERANCE);
    cr_assert_leq(gradcheck("rmsnorm gain", rmsnorm_loss, &c, c.gain, dgain, (size_t)c.C),
                  GRADCHECK_TOLERANCE);
    free(dx), free(dgain);
    norm_free(&c);
}

// Where eps outweighs the mean square, as in the first tokens of a document.
Test(norm, gradient_of_a_tiny_row_matches_differences) {
    NormCase c = norm_case(1, 5);
    for (size_t i = 0; i < c.n; i++) c.x[i] *= 3e-3;
    real dx[5] = {0};
    srms_loss(&c);
    srms_backward(dx, c.dout, c.x, c.rho, 1, 5);
    // The function bends on the scale of 1e-3: the quotient's own error is step^2 / 1e-6.
    cr_assert_leq(gradcheck("tiny srms", srms_loss, &c, c.x, dx, c.n), 1e-3);
    norm_free(&c);
}
#endif
