// Activations and gated products against their twins, as columns of wider matrices, gradients,
// threads.
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

// Two operands as columns of one matrix of `ld` columns, the first at 0, the second at C.
typedef struct GluCase {
    real *ab, *dab, *want_dab;  // (N,ld)
    real *out, *want, *dout;    // (N,C)
    size_t n, wide;
    int N, C, ld;
} GluCase;

static GluCase glu_case(int N, int C) {
    GluCase c = {.N = N, .C = C, .ld = 2 * C + 3};
    c.n = (size_t)N * (size_t)C;
    c.wide = (size_t)N * (size_t)c.ld;
    c.ab = numbers_normal(c.wide, 1), c.dab = numbers_normal(c.wide, 2);
    c.want_dab = numbers_copy(c.dab, c.wide);
    c.out = numbers_poison(c.n), c.want = numbers_poison(c.n), c.dout = numbers_normal(c.n, 3);
    return c;
}

static void glu_free(GluCase *c) {
    free(c->ab), free(c->dab), free(c->want_dab), free(c->out), free(c->want), free(c->dout);
}

static void compare(const GluCase *c) {
    cr_assert_leq(numbers_distance(c->out, c->want, c->n), TWIN_TOLERANCE, "%dx%d", c->N, c->C);
    cr_assert_leq(numbers_distance(c->dab, c->want_dab, c->wide), TWIN_TOLERANCE, "%dx%d", c->N,
                  c->C);
}

static const int SIZES[][2] = {{0, 3}, {3, 0}, {1, 1}, {3, 7}, {7, 3}, {5, 16}, {9, 65}, {2, 131}};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

Test(glu, silu_of_columns_agrees_with_its_twin) {
    for (int i = 0; i < SIZE_COUNT; i++) {
        GluCase c = glu_case(SIZES[i][0], SIZES[i][1]);
        silu_forward(c.out, c.C, c.ab + c.C, c.ld, c.N, c.C);
        ref_silu_forward(c.want, c.C, c.ab + c.C, c.ld, c.N, c.C);
        silu_backward(c.dab + c.C, c.ld, c.dout, c.C, c.ab + c.C, c.ld, c.N, c.C);
        ref_silu_backward(c.want_dab + c.C, c.ld, c.dout, c.C, c.ab + c.C, c.ld, c.N, c.C);
        compare(&c);
        glu_free(&c);
    }
}

Test(glu, silu_writes_only_its_columns) {
    const real inp[4] = {1, -1, 2, -2};
    real out[6] = {7, 7, 7, 7, 7, 7};
    silu_forward(out, 3, inp, 2, 2, 2);
    cr_assert_eq(out[2], 7);
    cr_assert_eq(out[5], 7);
    cr_assert_float_eq((double)out[0], 0.7310585786300049, 1e-6);
    cr_assert_float_eq((double)out[4], -0.2384058440442351, 1e-6);
}

Test(glu, silu_is_steady_far_out) {
    const real z[4] = {-1000, 1000, -88, 88}, one[4] = {1, 1, 1, 1};
    real out[4], dz[4] = {0};
    silu_forward(out, 4, z, 4, 1, 4);
    silu_backward(dz, 4, one, 4, z, 4, 1, 4);
    cr_assert_eq(out[0], 0);
    cr_assert_eq(out[1], 1000);
    cr_assert_float_eq((double)out[2], 0, 1e-30);
    cr_assert_eq(dz[0], 0);
    cr_assert_eq(dz[1], 1);
    cr_assert_float_eq((double)dz[3], 1, 1e-6);
}

Test(glu, mul_of_columns_agrees_with_its_twin) {
    for (int i = 0; i < SIZE_COUNT; i++) {
        GluCase c = glu_case(SIZES[i][0], SIZES[i][1]);
        mul_forward(c.out, c.ab, c.ld, c.ab + c.C, c.ld, c.N, c.C);
        ref_mul_forward(c.want, c.ab, c.ld, c.ab + c.C, c.ld, c.N, c.C);
        mul_backward(c.dab, c.ld, c.dab + c.C, c.ld, c.dout, c.ab, c.ld, c.ab + c.C, c.ld, c.N,
                     c.C);
        ref_mul_backward(c.want_dab, c.ld, c.want_dab + c.C, c.ld, c.dout, c.ab, c.ld, c.ab + c.C,
                         c.ld, c.N, c.C);
        compare(&c);
        glu_free(&c);
    }
}

Test(glu, swiglu_agrees_with_its_twin) {
    for (int i = 0; i < SIZE_COUNT; i++) {
        GluCase c = glu_case(SIZES[i][0], SIZES[i][1]);
        swiglu_forward(c.out, c.ab, c.ab + c.n, c.N, c.C);
        ref_swiglu_forward(c.want, c.ab, c.ab + c.n, c.N, c.C);
        swiglu_backward(c.dab, c.dab + c.n, c.dout, c.ab, c.ab + c.n, c.N, c.C);
        ref_swiglu_backward(c.want_dab, c.want_dab + c.n, c.dout, c.ab, c.ab + c.n, c.N, c.C);
        compare(&c);
        glu_free(&c);
    }
}

Test(glu, add_agrees_with_its_twin) {
    for (int i = 0; i < SIZE_COUNT; i++) {
        GluCase c = glu_case(SIZES[i][0], SIZES[i][1]);
        add_forward(c.out, c.ab, c.ab + c.n, c.n);
        ref_add_forward(c.want, c.ab, c.ab + c.n, c.n);
        add_backward(c.dab, c.dab + c.n, c.dout, c.n);
        ref_add_backward(c.want_dab, c.want_dab + c.n, c.dout, c.n);
        compare(&c);
        glu_free(&c);
    }
}

static void run_all(void *ctx, real *out) {
    GluCase *c = ctx;
    size_t n = c->n;
    silu_forward(out, c->C, c->ab, c->ld, c->N, c->C);
    mul_forward(out + n, c->ab, c->ld, c->ab + c->C, c->ld, c->N, c->C);
    swiglu_forward(out + 2 * n, c->ab, c->ab + n, c->N, c->C);
    add_forward(out + 3 * n, c->ab, c->ab + n, n);
    real *da = out + 4 * n, *db = out + 5 * n;
    silu_backward(da, c->C, c->dout, c->C, c->ab, c->ld, c->N, c->C);
    mul_backward(da, c->C, db, c->C, c->dout, c->ab, c->ld, c->ab + c->C, c->ld, c->N, c->C);
    swiglu_backward(da, db, c->dout, c->ab, c->ab + n, c->N, c->C);
    add_backward(da, db, c->dout, n);
}

Test(glu, has_the_same_bits_on_any_number_of_threads) {
    GluCase c = glu_case(193, 211);
    cr_assert(same_bits_on_any_threads(run_all, &c, 6 * c.n));
    glu_free(&c);
}

#if GRADCHECK_RUNS
static double silu_loss(void *ctx) {
    GluCase *c = ctx;
    silu_forward(c->out, c->C, c->ab, c->ld, c->N, c->C);
    return weighted_sum(c->out, c->dout, c->n);
}

static double mul_loss(void *ctx) {
    GluCase *c = ctx;
    mul_forward(c->out, c->ab, c->ld, c->ab + c->C, c->ld, c->N, c->C);
    return weighted_sum(c->out, c->dout, c->n);
}

static double swiglu_loss(void *ctx) {
    GluCase *c = ctx;
    swiglu_forward(c->out, c->ab, c->ab + c->n, c->N, c->C);
    return weighted_sum(c->out, c->dout, c->n);
}

Test(glu, silu_gradient_matches_differences) {
    GluCase c = glu_case(5, 7);
    real *d = calloc(c.wide, sizeof(real));
    silu_backward(d, c.ld, c.dout, c.C, c.ab, c.ld, c.N, c.C);
    cr_assert_leq(gradcheck("silu", silu_loss, &c, c.ab, d, c.wide), GRADCHECK_TOLERANCE);
    free(d);
    glu_free(&c);
}

Test(glu, mul_gradient_matches_differences) {
    GluCase c = glu_case(5, 7);
    real *d = calloc(c.wide, sizeof(real));
    mul_backward(d, c.ld, d + c.C, c.ld, c.dout, c.ab, c.ld, c.ab + c.C, c.ld, c.N, c.C);
    cr_assert_leq(gradcheck("mul", mul_loss, &c, c.ab, d, c.wide), GRADCHECK_TOLERANCE);
    free(d);
    glu_free(&c);
}

Test(glu, swiglu_gradient_matches_differences) {
    GluCase c = glu_case(5, 7);
    real *d = calloc(c.wide, sizeof(real));
    swiglu_backward(d, d + c.n, c.dout, c.ab, c.ab + c.n, c.N, c.C);
    cr_assert_leq(gradcheck("swiglu", swiglu_loss, &c, c.ab, d, c.wide), GRADCHECK_TOLERANCE);
    free(d);
    glu_free(&c);
}
#endif
