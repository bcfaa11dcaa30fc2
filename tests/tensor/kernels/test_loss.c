// Cross-entropy against its twin, ignored targets, extreme and broken logits, gradients, thread
// counts.
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

typedef struct LossCase {
    real *logits, *lse, *want_lse;
    double *loss, *want_loss;
    int32_t *targets;
    size_t n;
    int N, V;
} LossCase;

// Every third target is ignored.
static LossCase loss_case(int N, int V) {
    LossCase c = {.N = N, .V = V, .n = (size_t)N * (size_t)V};
    c.logits = numbers_normal(c.n, 1);
    c.lse = numbers_poison((size_t)N), c.want_lse = numbers_poison((size_t)N);
    c.loss = malloc((size_t)N * sizeof(double)), c.want_loss = malloc((size_t)N * sizeof(double));
    c.targets = malloc((size_t)N * sizeof *c.targets);
    for (int t = 0; t < N; t++) {
        uint64_t draw = rng_u64(9, STREAM_TEST, (uint64_t)t);
        c.targets[t] = t % 3 == 1 ? IGNORE_TARGET : (int32_t)(draw % (uint64_t)V);
        c.loss[t] = c.want_loss[t] = NAN;
    }
    return c;
}

static void loss_free(LossCase *c) {
    free(c->logits), free(c->lse), free(c->want_lse), free(c->loss), free(c->want_loss);
    free(c->targets);
}

Test(loss, agrees_with_its_twin_for_odd_sizes) {
    const int sizes[][2] = {{0, 3}, {1, 1}, {3, 7}, {7, 3}, {5, 16}, {9, 65}, {4, 1031}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        LossCase c = loss_case(sizes[i][0], sizes[i][1]);
        cross_entropy_forward(c.loss, c.lse, c.logits, c.targets, c.N, c.V);
        ref_cross_entropy_forward(c.want_loss, c.want_lse, c.logits, c.targets, c.N, c.V);
        cr_assert_leq(numbers_distance(c.lse, c.want_lse, (size_t)c.N), TWIN_TOLERANCE);
        for (int t = 0; t < c.N; t++) {
            cr_assert_float_eq(c.loss[t], c.want_loss[t], TWIN_TOLERANCE * 10, "row %d", t);
        }

        real *want = numbers_copy(c.logits, c.n);
        cross_entropy_backward(c.logits, c.want_lse, c.targets, 3, c.N, c.V);
        ref_cross_entropy_backward(want, c.want_lse, c.targets, 3, c.N, c.V);
        cr_assert_leq(numbers_distance(c.logits, want, c.n), TWIN_TOLERANCE);
        free(want);
        loss_free(&c);
    }
}

Test(loss, an_ignored_row_has_no_loss_and_no_gradient_but_a_sum) {
    real logits[3] = {1, 2, 3}, lse = (real)NAN;
    const int32_t target = IGNORE_TARGET;
    double loss = NAN;
    cross_entropy_forward(&loss, &lse, logits, &target, 1, 3);
    cr_assert_eq(loss, 0);
    cr_assert_float_eq((double)lse, log(exp(1) + exp(2) + exp(3)), 1e-6);
    cross_entropy_backward(logits, &lse, &target, 1, 1, 3);
    for (int v = 0; v < 3; v++) cr_assert_eq(logits[v], 0);
}

Test(loss, large_logits_do_not_overflow) {
    const real logits[4] = {10000, 9999, -10000, 0};
    const int32_t target = 1;
    real lse = (real)NAN;
    double loss = NAN;
    cross_entropy_forward(&loss, &lse, logits, &target, 1, 4);
    cr_assert_float_eq(loss, 1 + log1p(exp(-1)), 1e-6);
}

// Wherever it stands: among whole lanes, in the rest, at the target or elsewhere.
Test(loss, one_logit_that_is_not_finite_makes_the_loss_nan) {
    enum { V = 37 };
    const real broken[3] = {(real)NAN, (real)INFINITY, (real)-INFINITY};
    for (int kind = 0; kind < 3; kind++) {
        for (int v = 0; v < V; v++) {
            real logits[V] = {0}, lse = 0;
            const int32_t target = 5;
            double loss = 0;
            logits[v] = broken[kind];
            cross_entropy_forward(&loss, &lse, logits, &target, 1, V);
            cr_assert(isnan(loss), "kind %d at %d", kind, v);
            cross_entropy_backward(logits, &lse, &target, 1, 1, V);
            cr_assert(isnan(logits[0]));
        }
    }
}

Test(loss, a_wide_row_of_equal_logits_loses_no_digits) {
    enum { V = 100003 };
    real *logits = calloc(V, sizeof(real)), lse = 0;
    const int32_t target = V - 1;
    double loss = 0;
    cross_entropy_forward(&loss, &lse, logits, &target, 1, V);
    cr_assert_float_eq(loss, log(V), 1e-9);
    free(logits);
}

// lse, then the gradients.
static void run_both(void *ctx, real *out) {
    LossCase *c = ctx;
    cross_entropy_forward(c->loss, out, c->logits, c->targets, c->N, c->V);
    real *logits = out + c->N;
    for (size_t i = 0; i < c->n; i++) logits[i] = c->logits[i];
    cross_entropy_backward(logits, out, c->targets, 1, c->N, c->V);
}

Test(loss, has_the_same_bits_on_any_number_of_threads) {
    LossCase c = loss_case(97, 401);
    cr_assert(same_bits_on_any_threads(run_both, &c, c.n + (size_t)c.N));
    loss_free(&c);
}

#if GRADCHECK_RUNS
static double mean_loss(void *ctx) {
    LossCase *c = ctx;
    double sum = 0;
    cross_entropy_forward(c->loss, c->lse, c->logits, c->targets, c->N, c->V);
    for (int t = 0; t < c->N; t++) sum += c->loss[t];
    return sum / c->N;
}

Test(loss, gradient_matches_differences) {
    LossCase c = loss_case(7, 13);
    mean_loss(&c);
    real *grad = numbers_copy(c.logits, c.n);
    cross_entropy_backward(grad, c.lse, c.targets, 1.0 / c.N, c.N, c.V);
    cr_assert_leq(gradcheck("loss", mean_loss, &c, c.logits, grad, c.n), GRADCHECK_TOLERANCE);
    free(grad);
    loss_free(&c);
}
#endif
