// LRPE and RoPE against their twins, far positions, the frozen frequencies, gradients, thread
// counts.
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

static const double BASE = 10000;

// H heads of width D; z is columns of a wider matrix.
typedef struct PositionCase {
    real *z, *dz, *want_dz;              // (N,ld)
    real *theta, *dtheta, *want_dtheta;  // (H*D)
    real *cosine, *sine;                 // (N,H*D)
    real *out, *want, *dout;             // (N,H*2D), RoPE uses the first half
    int64_t *pos;                        // (N)
    size_t n, wide, C;
    int N, H, D, ld;
} PositionCase;

static PositionCase position_case(int N, int H, int D, int64_t first) {
    PositionCase c = {.N = N, .H = H, .D = D, .ld = H * D + 5};
    c.C = (size_t)H * (size_t)D;
    c.n = (size_t)N * c.C;
    c.wide = (size_t)N * (size_t)c.ld;
    c.z = numbers_normal(c.wide, 1), c.dz = numbers_normal(c.wide, 2);
    c.want_dz = numbers_copy(c.dz, c.wide);
    c.theta = numbers_normal(c.C, 3), c.dtheta = numbers_normal(c.C, 4);
    c.want_dtheta = numbers_copy(c.dtheta, c.C);
    c.cosine = numbers_poison(c.n), c.sine = numbers_poison(c.n);
    c.out = numbers_poison(2 * c.n), c.want = numbers_poison(2 * c.n);
    c.dout = numbers_normal(2 * c.n, 5);
    c.pos = malloc((size_t)N * sizeof *c.pos);
    for (int t = 0; t < N; t++) c.pos[t] = first + t;
    lrpe_angles(c.cosine, c.sine, c.theta, c.pos, N, (int)c.C);
    return c;
}

static void position_free(PositionCase *c) {
    free(c->z), free(c->dz), free(c->want_dz), free(c->theta), free(c->dtheta);
    free(c->want_dtheta), free(c->cosine), free(c->sine), free(c->out), free(c->want);
    free(c->dout), free(c->pos);
}

Test(position, lrpe_agrees_with_its_twin_for_odd_sizes) {
    const int sizes[][3] = {{0, 1, 3},  {1, 1, 1},   {3, 2, 7},   {7, 3, 1},
                            {5, 2, 65}, {4, 3, 131}, {3, 2, 517}, {3, 19, 40}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        PositionCase c = position_case(sizes[i][0], sizes[i][1], sizes[i][2], 3);
        lrpe_forward(c.out, c.z, c.ld, c.cosine, c.sine, c.N, c.H, c.D);
        ref_lrpe_forward(c.want, c.z, c.ld, c.cosine, c.sine, c.N, c.H, c.D);
        cr_assert_leq(numbers_distance(c.out, c.want, 2 * c.n), TWIN_TOLERANCE, "out %zu", i);

        lrpe_backward(c.dz, c.ld, c.dtheta, c.dout, c.z, c.ld, c.cosine, c.sine, c.pos, c.N, c.H,
                      c.D);
        ref_lrpe_backward(c.want_dz, c.ld, c.want_dtheta, c.dout, c.z, c.ld, c.cosine, c.sine,
                          c.pos, c.N, c.H, c.D);
        cr_assert_leq(numbers_distance(c.dz, c.want_dz, c.wide), TWIN_TOLERANCE, "dz %zu", i);
        cr_assert_leq(numbers_distance(c.dtheta, c.want_dtheta, c.C), TWIN_TOLERANCE, "%zu", i);
        position_free(&c);
    }
}

// The last start is odd and beyond what a float can count.
Test(position, angles_are_right_at_position_two_million_and_beyond) {
    const int64_t starts[3] = {0, 2000000, 33554433};
    for (int i = 0; i < 3; i++) {
        PositionCase c = position_case(37, 1, 67, starts[i]);
        real *cosine = numbers_poison(c.n), *sine = numbers_poison(c.n);
        ref_lrpe_angles(cosine, sine, c.theta, c.pos, c.N, (int)c.C);
        cr_assert_lt(numbers_distance(c.cosine, cosine, c.n), 2e-7);
        cr_assert_lt(numbers_distance(c.sine, sine, c.n), 2e-7);
        free(cosine), free(sine);
        position_free(&c);
    }
}

// sum_c z_c z'_c cos(theta_c (n - n')), whatever n is.
Test(position, products_of_lrpe_codes_depend_on_the_distance_alone) {
    enum { D = 9 };
    real products[3];
    const int64_t starts[3] = {0, 1000, 130000};
    for (int i = 0; i < 3; i++) {
        PositionCase c = position_case(2, 1, D, starts[i]);
        c.pos[1] = starts[i] + 5;
        lrpe_angles(c.cosine, c.sine, c.theta, c.pos, 2, D);
        lrpe_forward(c.out, c.z, c.ld, c.cosine, c.sine, 2, 1, D);
        products[i] = 0;
        for (int k = 0; k < 2 * D; k++) products[i] += c.out[k] * c.out[2 * D + k];
        position_free(&c);
    }
    cr_assert_float_eq((double)products[1], (double)products[0], 1e-5);
    cr_assert_float_eq((double)products[2], (double)products[0], 1e-5);
}

Test(position, frequencies_get_no_gradient_from_far_positions) {
    PositionCase c = position_case(2, 1, 3, LRPE_FROZEN_POS);
    lrpe_backward(c.dz, c.ld, c.dtheta, c.dout, c.z, c.ld, c.cosine, c.sine, c.pos, 2, 1, 3);
    cr_assert_eq(numbers_distance(c.dtheta, c.want_dtheta, 3), 0);
    c.pos[0] = LRPE_FROZEN_POS - 1;
    lrpe_backward(c.dz, c.ld, c.dtheta, c.dout, c.z, c.ld, c.cosine, c.sine, c.pos, 2, 1, 3);
    cr_assert_gt(numbers_distance(c.dtheta, c.want_dtheta, 3), 1e-3);
    position_free(&c);
}

Test(position, rope_agrees_with_its_twin_near_and_far) {
    const int sizes[][3] = {{0, 1, 2}, {1, 1, 2}, {3, 2, 6}, {7, 1, 30}, {3, 1, 514}, {2, 1, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int64_t first = 0; first <= 2000000; first += 1999999) {
            PositionCase c = position_case(sizes[i][0], sizes[i][1], sizes[i][2], first);
            rope_forward(c.out, c.z, c.ld, c.pos, BASE, c.N, c.H, c.D);
            ref_rope_forward(c.want, c.z, c.ld, c.pos, BASE, c.N, c.H, c.D);
            cr_assert_leq(numbers_distance(c.out, c.want, c.n), TWIN_TOLERANCE, "out %zu", i);
            rope_backward(c.dz, c.ld, c.dout, c.pos, BASE, c.N, c.H, c.D);
            ref_rope_backward(c.want_dz, c.ld, c.dout, c.pos, BASE, c.N, c.H, c.D);
            cr_assert_leq(numbers_distance(c.dz, c.want_dz, c.wide), TWIN_TOLERANCE, "dz %zu", i);
            position_free(&c);
        }
    }
}

Test(position, rope_turns_the_first_pair_by_the_position) {
    const real inp[4] = {1, 5, 0, 0};
    const int64_t pos = 2;
    real out[4] = {NAN, NAN, NAN, NAN};
    rope_forward(out, inp, 4, &pos, BASE, 1, 1, 4);
    cr_assert_float_eq((double)out[0], cos(2.0), 1e-6);
    cr_assert_float_eq((double)out[2], sin(2.0), 1e-6);
    cr_assert_float_eq((double)out[1], 5 * cos(0.02), 1e-6);
    cr_assert_float_eq((double)out[3], 5 * sin(0.02), 1e-6);
}

static void run_all(void *ctx, real *out) {
    PositionCase *c = ctx;
    size_t n = c->n;
    real *cosine = out, *sine = out + n, *y = out + 2 * n, *r = out + 4 * n;
    lrpe_angles(cosine, sine, c->theta, c->pos, c->N, (int)c->C);
    lrpe_forward(y, c->z, c->ld, cosine, sine, c->N, c->H, c->D);
    rope_forward(r, c->z, c->ld, c->pos, BASE, c->N, c->H, c->D);
    real *dz = out + 5 * n, *dtheta = out + 6 * n;
    lrpe_backward(dz, (int)c->C, dtheta, c->dout, c->z, c->ld, cosine, sine, c->pos, c->N, c->H,
                  c->D);
    rope_backward(dz, (int)c->C, c->dout, c->pos, BASE, c->N, c->H, c->D);
}

Test(position, has_the_same_bits_on_any_number_of_threads) {
    PositionCase c = position_case(193, 3, 70, 11);
    cr_assert(same_bits_on_any_threads(run_all, &c, 6 * c.n + c.C));
    position_free(&c);
}

#if GRADCHECK_RUNS
static double lrpe_loss(void *ctx) {
    PositionCase *c = ctx;
    lrpe_angles(c->cosine, c->sine, c->theta, c->pos, c->N, (int)c->C);
    lrpe_forward(c->out, c->z, c->ld, c->cosine, c->sine, c->N, c->H, c->D);
    return weighted_sum(c->out, c->dout, 2 * c->n);
}

static double rope_loss(void *ctx) {
    PositionCase *c = ctx;
    rope_forward(c->out, c->z, c->ld, c->pos, BASE, c->N, c->H, c->D);
    return weighted_sum(c->out, c->dout, c->n);
}

Test(position, lrpe_gradients_match_differences) {
    PositionCase c = position_case(9, 2, 5, 0);
    real *dz = calloc(c.wide, sizeof(real)), *dtheta = calloc(c.C, sizeof(real));
    lrpe_backward(dz, c.ld, dtheta, c.dout, c.z, c.ld, c.cosine, c.sine, c.pos, c.N, c.H, c.D);
    cr_assert_leq(gradcheck("lrpe z", lrpe_loss, &c, c.z, dz, c.wide), GRADCHECK_TOLERANCE);
    cr_assert_leq(gradcheck("lrpe theta", lrpe_loss, &c, c.theta, dtheta, c.C),
                  GRADCHECK_TOLERANCE);
    free(dz), free(dtheta);
    position_free(&c);
}

Test(position, rope_gradient_matches_differences) {
    PositionCase c = position_case(9, 2, 6, 100);
    real *dz = calloc(c.wide, sizeof(real));
    rope_backward(dz, c.ld, c.dout, c.pos, BASE, c.N, c.H, c.D);
    cr_assert_leq(gradcheck("rope", rope_loss, &c, c.z, dz, c.wide), GRADCHECK_TOLERANCE);
    free(dz);
    position_free(&c);
}
#endif
