// AdamW against its twin and by hand, the sum of squares, thread counts.
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

static AdamW adamw_at(int step) {
    return (AdamW){.lr = 1e-2,
                   .beta1 = 0.9,
                   .beta2 = 0.95,
                   .eps = 1e-8,
                   .decay = 0.1,
                   .correct1 = 1 - pow(0.9, step),
                   .correct2 = 1 - pow(0.95, step),
                   .grad_scale = 0.25};
}

Test(adamw, follows_its_twin_over_several_steps) {
    const size_t counts[] = {0, 1, 3, 7, 33, 16385};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t n = counts[i];
        real *p = numbers_normal(n, 1), *want_p = numbers_copy(p, n);
        real *m = calloc(n + 1, sizeof(real)), *v = calloc(n + 1, sizeof(real));
        real *want_m = calloc(n + 1, sizeof(real)), *want_v = calloc(n + 1, sizeof(real));
        for (int step = 1; step <= 5; step++) {
            real *grad = numbers_normal(n, 10 + (uint64_t)step);
            AdamW a = adamw_at(step);
            adamw_update(p, m, v, grad, &a, n);
            ref_adamw_update(want_p, want_m, want_v, grad, &a, n);
            free(grad);
        }
        cr_assert_leq(numbers_distance(p, want_p, n), TWIN_TOLERANCE);
        cr_assert_leq(numbers_distance(m, want_m, n), TWIN_TOLERANCE);
        cr_assert_leq(numbers_distance(v, want_v, n), TWIN_TOLERANCE);
        cr_assert(m[n] == 0 && v[n] == 0, "wrote beyond the end");
        free(p), free(want_p), free(m), free(v), free(want_m), free(want_v);
    }
}

// With bias correction the first step is lr * sign(gradient), whatever the gradient's size.
Test(adamw, the_first_step_has_the_length_of_the_learning_rate) {
    real p[3] = {1, 1, 1}, m[3] = {0}, v[3] = {0};
    const real grad[3] = {100, (real)-1e-3, 0};
    AdamW a = adamw_at(1);
    a.decay = 0;
    adamw_update(p, m, v, grad, &a, 3);
    cr_assert_float_eq((double)p[0], 0.99, 1e-6);
    cr_assert_float_eq((double)p[1], 1.01, 1e-6);
    cr_assert_eq(p[2], 1);
}

Test(adamw, decay_shrinks_weights_apart_from_the_gradient) {
    real p = 2, m = 0, v = 0;
    const real grad = 0;
    AdamW a = adamw_at(3);
    adamw_update(&p, &m, &v, &grad, &a, 1);
    cr_assert_float_eq((double)p, 2 * (1 - 1e-2 * 0.1), 1e-6);
}

// Inside the root a gradient of 1e-9 would be drowned differently: 1e-9 / (1e-9 + 1e-8).
Test(adamw, eps_stands_outside_the_root) {
    real p = 0, m = 0, v = 0;
    const real grad = (real)4e-9;
    AdamW a = adamw_at(1);
    adamw_update(&p, &m, &v, &grad, &a, 1);
    cr_assert_float_eq((double)p, -1e-2 / 11, 1e-6);
}

Test(adamw, a_broken_gradient_is_not_hidden) {
    real p[2] = {1, 1}, m[2] = {0}, v[2] = {0};
    const real grad[2] = {(real)NAN, 0};
    AdamW a = adamw_at(1);
    adamw_update(p, m, v, grad, &a, 2);
    cr_assert(isnan(p[0]));
    cr_assert(isfinite(p[1]));
    cr_assert(isnan(sum_squares(grad, 2)));
}

Test(adamw, sum_of_squares_takes_any_count) {
    const size_t counts[] = {0, 1, 3, 7, 16383, 16384, 16385, 100003};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        real *x = numbers_normal(counts[i], 1);
        double want = ref_sum_squares(x, counts[i]);
        cr_assert_float_eq(sum_squares(x, counts[i]), want, 1e-12 * (want + 1));
        free(x);
    }
}

// A float sum would stop growing at 2^24; more pieces than wait to be folded at once.
Test(adamw, sum_of_squares_keeps_counting) {
    size_t count = ((size_t)1 << 24) + 5;
    real *x = malloc(count * sizeof(real));
    for (size_t i = 0; i < count; i++) x[i] = 1;
    cr_assert_eq(sum_squares(x, count), (double)count);
    free(x);
}

typedef struct ThreadCase {
    real *grad;
    size_t count;
} ThreadCase;

static void run_update(void *ctx, real *out) {
    ThreadCase *c = ctx;
    size_t n = c->count;
    real *p = out, *m = out + n, *v = out + 2 * n;
    AdamW a = adamw_at(2);
    adamw_update(p, m, v, c->grad, &a, n);
    out[3 * n] = (real)sum_squares(p, n);
    // The digits that a float drops.
    out[3 * n + 1] = (real)(sum_squares(p, n) - (double)out[3 * n]);
}

Test(adamw, has_the_same_bits_on_any_number_of_threads) {
    ThreadCase c = {.count = 100003};
    c.grad = numbers_normal(c.count, 1);
    cr_assert(same_bits_on_any_threads(run_update, &c, 3 * c.count + 2));
    free(c.grad);
}
