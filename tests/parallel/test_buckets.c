// Pure arithmetic of parallel/buckets.c: the plan of a reduction for meshes that were never
// started.
#include <criterion/criterion.h>

#include "parallel/buckets.h"
#include "parallel/comm.h"

static void rows_add(ParamSet *ps, const int *counts, int rows) {
    for (int i = 0; i < rows; i++) params_add(ps, "row", 1, &counts[i], INIT_ONE, 0);
}

// Runs backwards without gaps; pieces lie in their bucket on whole lines; rows are those that
// overlap.
static void plan_check(const BucketPlan *plan, const ParamSet *ps) {
    size_t end = ps->total;
    for (int b = 0; b < plan->count; b++) {
        const Bucket *k = &plan->buckets[b];
        cr_assert_eq(k->begin + k->count, end);
        size_t at = k->begin;
        for (int r = 0; r < plan->size; r++) {
            Range piece = bucket_piece(plan, b, r);
            cr_assert_eq(piece.begin, at);
            cr_assert_eq(piece.count % 16, 0);
            at += piece.count;
        }
        cr_assert_eq(at, end);
        const Param *first = &ps->rows[k->first_row], *last = &ps->rows[k->last_row];
        cr_assert(first->offset + first->count > k->begin || first->offset >= k->begin);
        cr_assert_lt(last->offset, end);
        cr_assert(k->last_row + 1 == ps->count || ps->rows[k->last_row + 1].offset >= end);
        end = k->begin;
    }
    cr_assert_eq(end, 0);
}

// What is received lies in the window, and buckets that share a place wait for the earlier one.
static void window_check(const BucketPlan *plan) {
    for (int b = 0; b < plan->count; b++) {
        const Bucket *k = &plan->buckets[b];
        size_t to = k->window + bucket_piece(plan, b, 0).count * (size_t)(plan->size - 1);
        cr_assert_leq(to, plan->window);
        cr_assert_lt(k->after, b);
        for (int other = k->after + 1; other < b; other++) {
            const Bucket *o = &plan->buckets[other];
            size_t end = o->window + bucket_piece(plan, other, 0).count * (size_t)(plan->size - 1);
            cr_assert(end <= k->window || to <= o->window, "buckets %d and %d overlap", other, b);
        }
    }
}

Test(buckets, plan_holds_for_every_size_and_limit) {
    const int counts[] = {5000, 16, 1, 900, 17, 3, 20000, 64, 64, 64, 1, 333, 7000, 40, 15, 2000};
    const size_t least[] = {0, 1, 100, 1000, 100000}, limits[] = {16, 1600, (size_t)1 << 28};
    ParamSet ps = {0};
    rows_add(&ps, counts, sizeof counts / sizeof *counts);
    for (int size = 1; size <= 9; size++) {
        for (int k = 0; k < 15; k++) {
            Comm comm = {.size = size, .rank = k % size};
            BucketPlan plan;
            plan_open(&plan, &ps, &comm, least[k % 5], limits[k % 3]);
            plan_check(&plan, &ps);
            window_check(&plan);
            plan_close(&plan);
        }
    }
    params_free(&ps);
}

Test(buckets, are_whole_rows_of_at_least_the_wanted_size) {
    const int counts[] = {16, 160, 32, 32, 64, 16};
    ParamSet ps = {0};
    rows_add(&ps, counts, 6);
    BucketPlan plan;
    plan_open(&plan, &ps, &(Comm){.size = 2}, 64, 1024);
    cr_assert_eq(plan.count, 4);
    const int first[] = {4, 2, 1, 0}, last[] = {5, 3, 1, 0};
    for (int b = 0; b < 4; b++) {
        cr_assert_eq(plan.buckets[b].first_row, first[b]);
        cr_assert_eq(plan.buckets[b].last_row, last[b]);
    }
    plan_close(&plan);
    params_free(&ps);
}

Test(buckets, late_rows_come_last) {
    const int counts[] = {16, 96, 32, 32, 64, 16, 160};
    ParamSet ps = {0};
    rows_add(&ps, counts, 7);
    ps.rows[1].late = ps.rows[3].late = ps.rows[4].late = true;
    BucketPlan plan;
    plan_open(&plan, &ps, &(Comm){.size = 2}, 128, 1024);
    cr_assert_eq(plan.count, 6);
    const int first[] = {6, 5, 2, 0, 3, 1}, last[] = {6, 5, 2, 0, 4, 1};
    for (int b = 0; b < 6; b++) {
        cr_assert_eq(plan.buckets[b].first_row, first[b]);
        cr_assert_eq(plan.buckets[b].last_row, last[b]);
    }
    window_check(&plan);
    plan_close(&plan);
    plan_open(&plan, &ps, &(Comm){.size = 2}, 1024, 1024);
    cr_assert_eq(plan.count, 1);
    plan_close(&plan);
    params_free(&ps);
}

Test(buckets, window_is_small_beside_all_buckets) {
    ParamSet ps = {0};
    for (int i = 0; i < 200; i++) params_add(&ps, "row", 1, &(int){1600}, INIT_ONE, 0);
    BucketPlan plan;
    plan_open(&plan, &ps, &(Comm){.size = 4}, 1600, (size_t)1 << 28);
    cr_assert_eq(plan.count, 200);
    cr_assert_lt(plan.window, ps.total / 10);
    window_check(&plan);
    cr_assert_geq(plan.buckets[199].after, 180);  // the place is used in turn
    plan_close(&plan);
    params_free(&ps);
}

Test(buckets, hash_tells_layouts_apart) {
    const int a[] = {160, 320}, b[] = {320, 160};
    ParamSet one = {0}, two = {0};
    rows_add(&one, a, 2);
    rows_add(&two, b, 2);
    BucketPlan plans[3];
    plan_open(&plans[0], &one, &(Comm){.size = 3, .rank = 0}, 16, 1024);
    plan_open(&plans[1], &one, &(Comm){.size = 3, .rank = 2}, 16, 1024);
    plan_open(&plans[2], &two, &(Comm){.size = 3, .rank = 0}, 16, 1024);
    cr_assert_eq(plan_hash(&plans[0]), plan_hash(&plans[1]));
    cr_assert_neq(plan_hash(&plans[0]), plan_hash(&plans[2]));
    for (int i = 0; i < 3; i++) plan_close(&plans[i]);
    params_free(&one);
    params_free(&two);
}
