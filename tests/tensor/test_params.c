// The table of parameters: layout, initial values that depend on (seed, row, element) alone, and
// what identifies weights.
#include "tensor/params.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static int add(ParamSet *ps, const char *name, int rows, int cols) {
    return params_add(ps, name, 2, (int[]){rows, cols}, INIT_NORMAL, 0.02);
}

static void made(ParamSet *ps, uint64_t seed) {
    *ps = (ParamSet){0};
    add(ps, "a", 3, 7);
    params_add(ps, "gain", 1, (int[]){5}, INIT_ONE, 0);
    params_add(ps, "theta", 3, (int[]){2, 1, 4}, INIT_LRPE, 0);
    ps->rows[add(ps, "embed", 9, 3)].zero_row = 2;
    add(ps, "one", 1, 1);
    cr_assert_eq(params_reserve(ps, true), OK);
    params_init(ps, seed);
}

Test(params, lie_apart_on_lines_of_their_own) {
    ParamSet ps;
    made(&ps, 1);
    size_t end = 0;
    for (int i = 0; i < ps.count; i++) {
        const Param *p = &ps.rows[i];
        cr_assert(p->offset >= end && p->offset % 16 == 0, "%s at %zu", p->name, p->offset);
        cr_assert(p->data == ps.data + p->offset && p->grad == ps.grad + p->offset);
        end = p->offset + p->count;
    }
    cr_assert_geq(ps.total, end);
    cr_assert_eq(params_elements(&ps), 21 + 5 + 8 + 27 + 1);
    cr_assert_eq(params_find(&ps, "theta"), &ps.rows[2]);
    cr_assert_null(params_find(&ps, "thet"));
    cr_assert_null(params_find(&ps, ""));
    params_free(&ps);
    cr_assert(ps.count == 0 && ps.data == NULL);
}

Test(params, can_do_without_gradients) {
    ParamSet ps = {0};
    add(&ps, "a", 2, 2);
    cr_assert_eq(params_reserve(&ps, false), OK);
    cr_assert(ps.grad == NULL && ps.rows[0].grad == NULL && ps.rows[0].data != NULL);
    params_free(&ps);
}

Test(params, decay_if_they_are_matrices) {
    ParamSet ps;
    made(&ps, 1);
    for (int i = 0; i < ps.count; i++) cr_assert_eq(ps.rows[i].decay, ps.rows[i].ndim == 2);
    for (int i = 0; i < ps.count; i++) cr_assert_eq(ps.rows[i].tp_axis, -1);
    params_free(&ps);
}

Test(params, start_as_their_rule_says) {
    ParamSet ps;
    made(&ps, 1);
    const Param *gain = params_find(&ps, "gain"), *theta = params_find(&ps, "theta");
    for (size_t i = 0; i < gain->count; i++) cr_assert_eq(gain->data[i], 1);
    // 10000^(-2c/C) over all heads: from 1 down to nearly 1e-8.
    cr_assert_eq(theta->data[0], 1);
    cr_assert_float_eq((double)theta->data[1], 0.1, 1e-7);
    cr_assert_float_eq((double)theta->data[4], 1e-4, 1e-10);
    cr_assert_float_eq((double)theta->data[7], 1e-7, 1e-13);
    const Param *embed = params_find(&ps, "embed");
    for (size_t i = 0; i < embed->count; i++) {
        cr_assert_eq(embed->data[i] == 0, i / 3 == 2, "only row 2 is zero: element %zu", i);
    }
    params_free(&ps);
}

Test(params, normal_values_have_the_deviation_asked_for) {
    ParamSet ps = {0};
    params_add(&ps, "w", 2, (int[]){100, 200}, INIT_NORMAL, 0.5);
    cr_assert_eq(params_reserve(&ps, false), OK);
    params_init(&ps, 4);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < ps.rows[0].count; i++) {
        sum += (double)ps.rows[0].data[i];
        squares += (double)ps.rows[0].data[i] * (double)ps.rows[0].data[i];
    }
    cr_assert_lt(fabs(sum / 20000), 0.02);
    cr_assert_float_eq(sqrt(squares / 20000), 0.5, 0.01);
    params_free(&ps);
}

// What precedes a row may have any shape: its values stay. Another seed or row gives others.
Test(params, start_values_depend_on_seed_row_and_element_alone) {
    ParamSet a, b = {0};
    made(&a, 5);
    add(&b, "other", 50, 2);
    add(&b, "shapes", 1, 3);
    add(&b, "before", 2, 2);
    add(&b, "wider", 18, 3);
    cr_assert_eq(params_reserve(&b, false), OK);
    params_init(&b, 5);
    const Param *embed = params_find(&a, "embed"), *wider = params_find(&b, "wider");
    cr_assert_eq(memcmp(embed->data, wider->data, 6 * sizeof(real)), 0);  // up to the zero row
    cr_assert_eq(memcmp(embed->data + 9, wider->data + 9, 18 * sizeof(real)), 0);
    cr_assert_neq(a.rows[0].data[0], embed->data[0]);
    real kept = embed->data[0];
    params_init(&a, 6);
    cr_assert_neq(embed->data[0], kept);
    params_init(&a, 5);
    cr_assert_eq(embed->data[0], kept);
    params_free(&a);
    params_free(&b);
}

Test(params, hash_tells_one_bit_apart) {
    ParamSet a, b;
    made(&a, 5);
    made(&b, 5);
    cr_assert_eq(params_hash(&a), params_hash(&b));
    a.grad[0] = 1;
    cr_assert_eq(params_hash(&a), params_hash(&b), "gradients are not weights");
    real *last = &a.rows[a.count - 1].data[0];
    *last = (real)nextafter((double)*last, 1) == *last ? -*last : (real)nextafter((double)*last, 1);
    cr_assert_neq(params_hash(&a), params_hash(&b));
    params_free(&a);
    params_free(&b);
}

Test(params, gradients_go_to_zero_together) {
    ParamSet ps;
    made(&ps, 1);
    for (size_t i = 0; i < ps.total; i++) ps.grad[i] = 3;
    params_zero_grad(&ps);
    for (size_t i = 0; i < ps.total; i++) cr_assert_eq(ps.grad[i], 0);
    params_free(&ps);
}

Test(params, too_many_for_memory_are_an_error_and_no_crash) {
    ParamSet ps = {0};
    for (int i = 0; i < 64; i++) add(&ps, "huge", 1 << 24, 1 << 20);
    cr_assert_eq(params_reserve(&ps, true), E_NOMEM);
    cr_assert(err_message()[0] != '\0');
    params_free(&ps);
}

// Shares of all ranks hold every element of a split row once, with the values of the whole one.
static void check_shares(int ndim, const int *dim, int axis, int sections, int tp) {
    ParamSet whole = {0};
    params_add(&whole, "first", 1, (int[]){3}, INIT_ONE, 0);
    int pad = axis == 0 && sections == 1 ? 2 : -1;
    whole.rows[params_add(&whole, "w", ndim, dim, INIT_NORMAL, 1)].zero_row = pad;
    cr_assert_eq(params_reserve(&whole, false), OK);
    params_init(&whole, 5);
    size_t held = 0;
    for (int r = 0; r < tp; r++) {
        ParamSet ps = {.tp = tp, .tp_rank = r};
        params_add(&ps, "first", 1, (int[]){3}, INIT_ONE, 0);
        Param *p = &ps.rows[params_add_split(&ps, "w", ndim, dim, INIT_NORMAL, 1, axis, sections)];
        p->zero_row = pad;
        cr_assert_eq(params_reserve(&ps, false), OK);
        params_init(&ps, 5);
        held += p->count;
        for (size_t i = 0; i < p->count; i++) {
            size_t g = p->share.begin + i / p->share.run * p->share.stride + i % p->share.run;
            cr_assert(g < p->whole && p->data[i] == whole.rows[1].data[g]);
        }
        params_free(&ps);
    }
    cr_assert_eq(held, whole.rows[1].count);
    params_free(&whole);
}

Test(params, are_shared_out_by_tensor_parallelism) {
    for (int tp = 2; tp <= 4; tp++) {
        check_shares(2, (int[]){7, 5}, 0, 1, tp);   // rows, uneven
        check_shares(2, (int[]){24, 5}, 0, 4, tp);  // rows of sections
        check_shares(2, (int[]){5, 7}, 1, 1, tp);   // columns, uneven
        check_shares(3, (int[]){3, 1, 4}, 0, 1, tp);
    }
}
