// The optimiser over ranges of the flat arrays: cut anywhere, it computes the same; decay follows
// the row; the first step by hand.
#include "tensor/optim.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"

static const OptimConfig CONFIG = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

static void made(ParamSet *ps) {
    *ps = (ParamSet){0};
    params_add(ps, "a", 2, (int[]){3, 7}, INIT_NORMAL, 0.5);
    params_add(ps, "gain", 1, (int[]){37}, INIT_ONE, 0);
    params_add(ps, "b", 2, (int[]){5, 13}, INIT_NORMAL, 0.5);
    params_add(ps, "theta", 3, (int[]){1, 1, 3}, INIT_LRPE, 0);
    cr_assert_eq(params_reserve(ps, true), OK);
    params_init(ps, 2);
}

static void made_grad(ParamSet *ps, int64_t step) {
    for (int i = 0; i < ps->count; i++) {
        Param *p = &ps->rows[i];
        rng_fill_normal(p->grad, p->count, 0, 1, (uint64_t)step, STREAM_TEST + (uint64_t)i * 64);
    }
}

// The weights after five steps over the given ranges.
static void run(ParamSet *ps, const Range *ranges, int count) {
    made(ps);
    Optim o;
    cr_assert_eq(optim_open(&o, &CONFIG, ranges, count), OK);
    for (int64_t step = 1; step <= 5; step++) {
        made_grad(ps, step);
        optim_update(&o, ps, step, 1e-2, 0.5);
    }
    optim_close(&o);
    cr_assert(o.m == NULL && o.owned == 0);
}

Test(optim, cut_ranges_give_the_bits_of_the_whole) {
    ParamSet whole, cut;
    made(&cut);
    size_t total = cut.total;
    params_free(&cut);
    run(&whole, &(Range){0, total}, 1);
    // Cuts inside rows, at their borders, inside padding, and an empty range.
    for (size_t at = 1; at < total; at += 3) {
        Range two[] = {{0, at}, {at, 0}, {at, total - at}};
        run(&cut, two, 3);
        cr_expect_eq(params_hash(&cut), params_hash(&whole), "cut at %zu", at);
        params_free(&cut);
    }
    params_free(&whole);
}

Test(optim, touches_only_what_it_owns) {
    ParamSet before, after;
    made(&before);
    Range owned = {10, 50};
    run(&after, &owned, 1);
    for (int i = 0; i < after.count; i++) {
        const Param *p = &after.rows[i];
        for (size_t j = p->offset; j < p->offset + p->count; j++) {
            bool inside = j >= owned.begin && j < owned.begin + owned.count;
            cr_assert_eq(before.data[j] != after.data[j], inside, "element %zu", j);
        }
    }
    params_free(&before);
    params_free(&after);
}

Test(optim, owning_nothing_is_legal) {
    ParamSet before, after;
    made(&before);
    run(&after, NULL, 0);
    cr_assert_eq(params_hash(&before), params_hash(&after));
    params_free(&before);
    params_free(&after);
}

// m = (1-b1) g, v = (1-b2) g^2; corrected both are g and g^2, so the step is lr * sign(g), and
// matrices shrink by lr * decay first.
Test(optim, first_step_by_hand) {
    ParamSet ps, old;
    made(&ps);
    made(&old);
    made_grad(&ps, 1);
    Range all = {0, ps.total};
    Optim o;
    cr_assert_eq(optim_open(&o, &CONFIG, &all, 1), OK);
    cr_assert_eq(o.owned, ps.total);
    optim_update(&o, &ps, 1, 0.25, 2);
    for (int i = 0; i < ps.count; i++) {
        const Param *p = &ps.rows[i];
        for (size_t j = p->offset; j < p->offset + p->count; j++) {
            double g = 2 * (double)ps.grad[j], w = (double)old.data[j];
            double wanted = w - (p->ndim == 2 ? 0.25 * 0.1 * w : 0) - 0.25 * g / (fabs(g) + 1e-8);
            cr_assert_float_eq((double)ps.data[j], wanted, 1e-6, "%s: %g", p->name, wanted);
            cr_assert_float_eq((double)o.m[j], 0.1 * g, 1e-6);
            cr_assert_float_eq((double)o.v[j], 0.05 * g * g, 1e-6);
        }
    }
    optim_close(&o);
    params_free(&ps);
    params_free(&old);
}

// 1 - beta^t of a late step is 1: no overflow of the counter, no division by zero.
Test(optim, late_steps_need_no_correction) {
    ParamSet ps;
    made(&ps);
    made_grad(&ps, 1);
    Range all = {0, ps.total};
    Optim o;
    cr_assert_eq(optim_open(&o, &CONFIG, &all, 1), OK);
    real old = ps.data[0];
    optim_update(&o, &ps, (int64_t)1 << 40, 0.25, 1);
    double g = (double)ps.grad[0];
    double wanted = (double)old * (1 - 0.025) - 0.25 * 0.1 * g / (sqrt(0.05) * fabs(g) + 1e-8);
    cr_assert_float_eq((double)ps.data[0], wanted, 1e-6);
    optim_close(&o);
    params_free(&ps);
}
