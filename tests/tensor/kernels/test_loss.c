// Cross-entropy against its twin, slices of the vocabulary, ignored targets, extreme and broken
// logits, gradients, thread counts.
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

typedef struct LossCase {
    real *logits;
    double *lse, *hit, *want_lse, *want_hit;
    int32_t *targets;
    real *weights;  // every fifth is 0
    size_t n;
    int N, V;
} LossCase;

// Every third target is ignored.
static LossCase loss_case(int N, int V) {
    LossCase c = {.N = N, .V = V, .n = (size_t)N * (size_t)V};
    c.logits = numbers_normal(c.n, 1);
    c.lse = malloc((size_t)N * sizeof(double)), c.want_lse = malloc((size_t)N * sizeof(double));
    c.hit = malloc((size_t)N * sizeof(double)), c.want_hit = malloc((size_t)N * sizeof(double));
    c.targets = malloc((size_t)N * sizeof *c.targets);
    c.weights = malloc((size_t)N * sizeof *c.weights);
    for (int t = 0; t < N; t++) {
        uint64_t draw = rng_u64(9, STREAM_TEST, (uint64_t)t);
        c.targets[t] = t % 3 == 1 ? IGNORE_TARGET : (int32_t)(draw % (uint64_t)V);
        c.weights[t] = t % 5 == 2 ? 0 : (real)(t % 4) - (real)0.75;
        c.lse[t] = c.want_lse[t] = c.hit[t] = c.want_hit[t] = NAN;
    }
    return c;
}

static void loss_free(LossCase *c) {
    free(c->logits), free(c->lse), free(c->want_lse), free(c->hit), free(c->want_hit);
    free(c->targets), free(c->weights);
}

// Columns [first, first+V) of the case, against the twin, forward and backward.
static void compare_with_twin(LossCase *c, int first) {
    cross_entropy_forward(c->lse, c->hit, c->logits, c->targets, first, c->N, c->V);
    ref_cross_entropy_forward(c->want_lse, c->want_hit, c->logits, c->targets, first, c->N, c->V);
    for (int t = 0; t < c->N; t++) {
        double scale = fmax(1, fabs(c->want_lse[t]));
        cr_assert_leq(fabs(c->lse[t] - c->want_lse[t]), TWIN_TOLERANCE * scale, "row %d", t);
        cr_assert_eq(c->hit[t], c->want_hit[t], "row %d", t);
        c->want_lse[t] = fmax(c->want_lse[t], 0);  // of an empty slice: that of others
    }
    real *want = numbers_copy(c->logits, c->n);
    cross_entropy_backward(c->logits, c->want_lse, c->targets, c->weights, 3, first, c->N, c->V);
    ref_cross_entropy_backward(want, c->want_lse, c->targets, c->weights, 3, first, c->N, c->V);
    cr_assert_leq(numbers_distance(c->logits, want, c->n), TWIN_TOLERANCE);
    free(want);
}

Test(loss, agrees_with_its_twin_for_odd_sizes) {
    const int sizes[][2] = {{0, 3}, {1, 1}, {3, 7}, {7, 3}, {5, 16}, {9, 65}, {4, 1031}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        LossCase c = loss_case(sizes[i][0], sizes[i][1]);
        compare_with_twin(&c, 0);
        loss_free(&c);
    }
}

Test(loss, a_slice_agrees_with_its_twin) {
    for (int first = 0; first <= 20; first += 5) {
        LossCase c = loss_case(17, 7);
        for (int t = 0; t < c.N; t++)
            if (c.targets[t] != IGNORE_TARGET) c.targets[t] = t;
        compare_with_twin(&c, first);
        loss_free(&c);
    }
    LossCase empty = loss_case(5, 3);
    empty.V = 0, empty.n = 0;
    compare_with_twin(&empty, 4);
    cr_assert_eq(empty.lse[2], -1e300);
    loss_free(&empty);
}

// Columns of the case as a case of their own: same targets.
static LossCase slice_of(const LossCase *whole, int first, int V) {
    LossCase c = loss_case(whole->N, whole->V);
    c.V = V, c.n = (size_t)c.N * (size_t)V;
    for (int t = 0; t < c.N; t++)
        for (int v = 0; v < V; v++) c.logits[t * V + v] = whole->logits[t * whole->V + first + v];
    return c;
}

// What ranks would agree on: adds a slice's lse and hit to those of earlier slices.
static void fold(double *lse, double *hit, const LossCase *slice) {
    for (int t = 0; t < slice->N; t++) {
        double a = lse[t], b = slice->lse[t], most = a > b ? a : b;
        lse[t] = most + log(exp(a - most) + exp(b - most));
        hit[t] += slice->hit[t];
    }
}

// Slices of these lengths (ends with -1) against the whole.
static void check_slices(LossCase *whole, const int *lengths) {
    LossCase slice[4];
    double *lse = malloc((size_t)whole->N * 8), *hit = calloc((size_t)whole->N, 8);
    for (int t = 0; t < whole->N; t++) lse[t] = -1e300;
    for (int n = 0, at = 0; lengths[n] >= 0; at += lengths[n++]) {
        slice[n] = slice_of(whole, at, lengths[n]);
        cross_entropy_forward(slice[n].lse, slice[n].hit, slice[n].logits, slice[n].targets, at,
                              whole->N, lengths[n]);
        fold(lse, hit, &slice[n]);
    }
    for (int t = 0; t < whole->N; t++) {
        cr_assert_float_eq(lse[t], whole->lse[t], TWIN_TOLERANCE, "row %d", t);
        cr_assert_eq(hit[t], whole->hit[t], "row %d", t);
    }
    real *grad = numbers_copy(whole->logits, whole->n), *got = numbers_poison(whole->n);
    cross_entropy_backward(grad, whole->lse, whole->targets, NULL, 2, 0, whole->N, whole->V);
    for (int n = 0, at = 0; lengths[n] >= 0; at += lengths[n++]) {
        cross_entropy_backward(slice[n].logits, lse, whole->targets, NULL, 2, at, whole->N,
                               lengths[n]);
        for (int t = 0; t < whole->N; t++)
            memcpy(got + t * whole->V + at, slice[n].logits + t * lengths[n],
                   (size_t)lengths[n] * sizeof *got);
        loss_free(&slice[n]);
    }
    cr_assert_leq(numbers_distance(got, grad, whole->n), TWIN_TOLERANCE);
    free(lse), free(hit), free(grad), free(got);
}

Test(loss, slices_of_the_vocabulary_fold_to_the_whole) {
    const int cuts[][5] = {{83, -1},    {40, 43, -1},    {1, 82, -1},
                           {0, 83, -1}, {30, 0, 53, -1}, {17, 16, 49, 1, -1}};
    LossCase c = loss_case(19, 83);
    cross_entropy_forward(c.lse, c.hit, c.logits, c.targets, 0, c.N, c.V);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) check_slices(&c, cuts[i]);
    loss_free(&c);
}

// -Inf in a slice without the target must not pass for a small probability.
Test(loss, one_broken_logit_in_any_slice_shows_after_folding) {
    const real broken[3] = {(real)NAN, (real)INFINITY, (real)-INFINITY};
    for (int i = 0; i < 6; i++) {
        LossCase a = loss_case(1, 7), b = loss_case(1, 7);
        LossCase *bad = i < 3 ? &a : &b;
        bad->logits[4] = broken[i % 3];
        cross_entropy_forward(a.lse, a.hit, a.logits, a.targets, 0, 1, 7);
        cross_entropy_forward(b.lse, b.hit, b.logits, a.targets, 7, 1, 7);
        cr_assert(isnan(bad->lse[0]) && isnan(bad->lse[0] - bad->hit[0]));
        fold(a.lse, a.hit, &b);
        cr_assert(isnan(a.lse[0] - a.hit[0]), "case %d", i);
        loss_free(&a), loss_free(&b);
    }
}

Test(loss, an_ignored_row_has_no_hit_and_no_gradient_but_a_sum) {
    real logits[3] = {1, 2, 3};
    const int32_t target = IGNORE_TARGET;
    double lse = NAN, hit = NAN;
    cross_entropy_forward(&lse, &hit, logits, &target, 0, 1, 3);
    cr_assert_eq(hit, 0);
    cr_assert_float_eq(lse, log(exp(1) + exp(2) + exp(3)), 1e-6);
    cross_entropy_backward(logits, &lse, &target, NULL, 1, 0, 1, 3);
    for (int v = 0; v < 3; v++) cr_assert_eq(logits[v], 0);
}

Test(loss, large_logits_do_not_overflow) {
    const real logits[4] = {10000, 9999, -10000, 0};
    const int32_t target = 1;
    double lse = NAN, hit = NAN;
    cross_entropy_forward(&lse, &hit, logits, &target, 0, 1, 4);
    cr_assert_float_eq(lse - hit, 1 + log1p(exp(-1)), 1e-6);
}

// Wherever it stands: among whole lanes, in the rest, at the target or elsewhere.
Test(loss, one_logit_that_is_not_finite_makes_the_loss_nan) {
    enum { V = 37 };
    const real broken[3] = {(real)NAN, (real)INFINITY, (real)-INFINITY};
    for (int kind = 0; kind < 3; kind++) {
        for (int v = 0; v < V; v++) {
            real logits[V] = {0};
            const int32_t target = 5;
            double lse = 0, hit = 0;
            logits[v] = broken[kind];
            cross_entropy_forward(&lse, &hit, logits, &target, 0, 1, V);
            cr_assert(isnan(lse - hit), "kind %d at %d", kind, v);
            cross_entropy_backward(logits, &lse, &target, NULL, 1, 0, 1, V);
            cr_assert(isnan(logits[0]));
        }
    }
}

Test(loss, a_wide_row_of_equal_logits_loses_no_digits) {
    enum { V = 100003 };
    real *logits = calloc(V, sizeof(real));
    const int32_t target = V - 1;
    double lse = 0, hit = 0;
    cross_entropy_forward(&lse, &hit, logits, &target, 0, 1, V);
    cr_assert_float_eq(lse - hit, log(V), 1e-9);
    free(logits);
}

// Losses, then the gradients.
static void run_both(void *ctx, real *out) {
    LossCase *c = ctx;
    cross_entropy_forward(c->lse, c->hit, c->logits, c->targets, 3, c->N, c->V);
    for (int t = 0; t < c->N; t++) out[t] = (real)(c->lse[t] - c->hit[t]);
    real *logits = out + c->N;
    for (size_t i = 0; i < c->n; i++) logits[i] = c->logits[i];
    cross_entropy_backward(logits, c->lse, c->targets, NULL, 1, 3, c->N, c->V);
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
    cross_entropy_forward(c->lse, c->hit, c->logits, c->targets, 0, c->N, c->V);
    for (int t = 0; t < c->N; t++)
        if (c->targets[t] != IGNORE_TARGET) sum += c->weights[t] * (c->lse[t] - c->hit[t]);
    return sum / c->N;
}

Test(loss, gradient_matches_differences) {
    LossCase c = loss_case(7, 13);
    mean_loss(&c);
    real *grad = numbers_copy(c.logits, c.n);
    cross_entropy_backward(grad, c.lse, c.targets, c.weights, 1.0 / c.N, 0, c.N, c.V);
    cr_assert_leq(gradcheck("loss", mean_loss, &c, c.logits, grad, c.n), GRADCHECK_TOLERANCE);
    free(grad);
    loss_free(&c);
}
#endif
