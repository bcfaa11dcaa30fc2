// Softmax attention over a row's keys in pieces: each piece against its definition, pieces merged
// equal the whole, and so does backward, a piece at a time, from the merged outputs.
#include <criterion/criterion.h>

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref_attention.h"

#ifdef STERNA_F64
#define CLOSE 1e-12
#else
#define CLOSE 5e-6
#endif

// Queries, all keys, and results; dense.
typedef struct Problem {
    AttentionDims d;
    real *q, *k, *v, *dout, *out, *lse, *dq, *dk, *dv, *scratch;
    int *first;
} Problem;

static size_t queries(const Problem *p) {
    return (size_t)(p->d.B * p->d.Tq * p->d.H * p->d.D);
}
static size_t keys(const Problem *p) {
    return (size_t)(p->d.B * p->d.Tk * p->d.Hk * p->d.D);
}
static size_t sums(const Problem *p) {
    return (size_t)(p->d.B * p->d.Tq * p->d.H);
}

static Problem problem_new(const AttentionDims *d) {
    Problem p = {.d = *d};
    p.d.ld_q = p.d.ld_dq = d->H * d->D;
    p.d.ld_k = p.d.ld_v = p.d.ld_dk = p.d.ld_dv = d->Hk * d->D;
    p.d.scale = (real)(1 / sqrt(d->D));
    p.q = numbers_normal(queries(&p), 1), p.dout = numbers_normal(queries(&p), 4);
    p.k = numbers_normal(keys(&p), 2), p.v = numbers_normal(keys(&p), 3);
    p.out = numbers_poison(queries(&p)), p.lse = numbers_poison(sums(&p));
    p.dq = calloc(queries(&p) + 1, sizeof(real));
    p.dk = calloc(keys(&p) + 1, sizeof(real)), p.dv = calloc(keys(&p) + 1, sizeof(real));
    p.scratch = numbers_poison(attention_scratch_reals(&p.d, omp_get_max_threads()));
    p.first = calloc((size_t)(d->B * d->Tq) + 1, sizeof(int));
    return p;
}

static void problem_free(Problem *p) {
    free(p->q), free(p->k), free(p->v), free(p->dout), free(p->out), free(p->lse), free(p->dq);
    free(p->dk), free(p->dv), free(p->scratch), free(p->first);
}

static void forward(Problem *p) {
    attention_forward(p->out, p->lse, p->q, p->k, p->v, p->scratch, &p->d);
}

// Adds the gradients of p's keys, given outputs and sums over all keys.
static void backward(Problem *p, const Problem *merged) {
    attention_backward(p->dq, p->dk, p->dv, p->dout, merged->out, merged->lse, p->q, p->k, p->v,
                       p->scratch, &p->d);
}

// Keys [at, at + T) of every row into those of a piece, or back.
static void cut(const Problem *whole, const Problem *p, real *rows, real *piece, bool back) {
    size_t key = (size_t)(p->d.Hk * p->d.D), bytes = (size_t)p->d.Tk * key * sizeof(real);
    int at = p->d.key_begin - whole->d.key_begin;
    for (int b = 0; b < p->d.B; b++) {
        real *r = rows + (size_t)(b * whole->d.Tk + at) * key;
        real *c = piece + (size_t)(b * p->d.Tk) * key;
        memcpy(back ? r : c, back ? c : r, bytes);
    }
}

static Problem piece_new(const Problem *whole, int at, int T) {
    AttentionDims d = whole->d;
    d.key_begin += at, d.Tk = T;
    Problem p = problem_new(&d);
    cut(whole, &p, whole->k, p.k, false);
    cut(whole, &p, whole->v, p.v, false);
    return p;
}

// A piece's forward against the definition.
static void check_piece(const Problem *p) {
    RefAttention r = {.out = calloc(queries(p) + 1, 8), .lse = calloc(sums(p) + 1, 8)};
    double worst = 0;
    ref_attention_forward(&r, p->q, p->k, p->v, &p->d);
    for (size_t i = 0; i < queries(p); i++) worst = fmax(worst, fabs((double)p->out[i] - r.out[i]));
    for (size_t i = 0; i < sums(p); i++)
        worst = fmax(worst, fabs((double)p->lse[i] / r.lse[i] - 1) * fmin(1, fabs(r.lse[i])));
    cr_assert(worst <= CLOSE, "keys %d + %d: %g", p->d.key_begin, p->d.Tk, worst);
    free(r.out), free(r.lse);
}

// The whole by pieces of these lengths (ends with -1): forward and merge, then backward.
static void in_pieces(Problem *whole, const int *lengths) {
    for (size_t i = 0; i < queries(whole); i++) whole->out[i] = 0;
    for (size_t i = 0; i < sums(whole); i++) whole->lse[i] = (real)-1e30;
    for (int n = 0, at = 0; lengths[n] >= 0; at += lengths[n++]) {
        Problem p = piece_new(whole, at, lengths[n]);
        forward(&p);
        check_piece(&p);
        attention_merge(whole->out, whole->lse, p.out, p.lse, p.d.B, p.d.Tq, p.d.H, p.d.D);
        problem_free(&p);
    }
    for (int n = 0, at = 0; lengths[n] >= 0; at += lengths[n++]) {
        Problem p = piece_new(whole, at, lengths[n]);
        backward(&p, whole);
        for (size_t i = 0; i < queries(&p); i++) whole->dq[i] += p.dq[i];
        cut(whole, &p, whole->dk, p.dk, true);
        cut(whole, &p, whole->dv, p.dv, true);
        problem_free(&p);
    }
}

static void check(const AttentionDims *d, const int *first, const char *what) {
    const int cuts[][5] = {{131, -1},       {0, 131, -1},     {64, 67, -1},
                           {1, 129, 1, -1}, {100, 0, 31, -1}, {7, 60, 40, 24, -1}};
    Problem want = problem_new(d);
    want.d.first = first;
    forward(&want);
    backward(&want, &want);
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
        Problem got = problem_new(d);
        got.d.first = first;
        in_pieces(&got, cuts[c]);
        double e = numbers_distance(got.out, want.out, queries(&got));
        double g = numbers_distance(got.dq, want.dq, queries(&got));
        g = fmax(g, numbers_distance(got.dk, want.dk, keys(&got)));
        g = fmax(g, numbers_distance(got.dv, want.dv, keys(&got)));
        for (size_t i = 0; i < sums(&got); i++)
            e = fmax(e, fabs((double)got.lse[i] - (double)want.lse[i]));
        cr_assert(e <= CLOSE && g <= 2 * CLOSE, "%s, cut %zu: forward %g, gradients %g", what, c, e,
                  g);
        problem_free(&got);
    }
    problem_free(&want);
}

static const AttentionDims DIMS = {.B = 2, .Tq = 131, .Tk = 131, .H = 4, .Hk = 2, .D = 5};

Test(attention_merge, pieces_equal_the_whole) {
    AttentionDims d = DIMS;
    check(&d, NULL, "grouped");
    d.Hk = 1;
    check(&d, NULL, "one key head");
    d.Tq = 40, d.offset = 91;
    check(&d, NULL, "the row's last queries");
    d.offset = 30;
    check(&d, NULL, "queries in the middle: later keys are not seen");
}

Test(attention_merge, windows_and_documents_cut_pieces) {
    AttentionDims d = DIMS;
    int *first = calloc((size_t)(d.B * d.Tq), sizeof *first);
    for (int i = 0; i < d.B * d.Tq; i++) first[i] = i % 131 / 50 * 50 + (i >= 131 && i % 50 > 9);
    check(&d, first, "documents");
    d.window = 30;
    check(&d, NULL, "window");
    check(&d, first, "documents and window");
    d.window = 1;
    check(&d, NULL, "only itself");
    free(first);
}

// Row indices are relative to nothing: shifting queries, keys and documents changes no bit.
Test(attention_merge, only_distances_between_row_indices_count) {
    AttentionDims d = DIMS;
    Problem a = problem_new(&d), b = problem_new(&d);
    a.d.window = b.d.window = 70;
    b.d.offset = b.d.key_begin = 1 << 30;
    a.d.first = a.first, b.d.first = b.first;
    for (int i = 0; i < d.B * d.Tq; i++) {
        a.first[i] = i % 131 / 40 * 40;
        b.first[i] = a.first[i] + (1 << 30);
    }
    forward(&a), forward(&b);
    backward(&a, &a), backward(&b, &b);
    cr_assert_arr_eq(a.out, b.out, queries(&a) * sizeof(real));
    cr_assert_arr_eq(a.lse, b.lse, sums(&a) * sizeof(real));
    cr_assert_arr_eq(a.dq, b.dq, queries(&a) * sizeof(real));
    cr_assert_arr_eq(a.dk, b.dk, keys(&a) * sizeof(real));
    problem_free(&a), problem_free(&b);
}

Test(attention_merge, an_empty_partial_changes_no_bit_and_two_are_empty) {
    const real part[3] = {(real)0.1, (real)-7, (real)3e-9}, none[3] = {0};
    const real lse = (real)-13.7, empty = (real)-1e30;
    real out[3] = {0}, sum = empty;
    attention_merge(out, &sum, none, &empty, 1, 1, 1, 3);
    cr_assert(sum == empty && out[0] == 0 && out[2] == 0);
    attention_merge(out, &sum, part, &lse, 1, 1, 1, 3);
    cr_assert(sum == lse);
    cr_assert_arr_eq(out, part, sizeof part);
    attention_merge(out, &sum, none, &empty, 1, 1, 1, 3);
    cr_assert(sum == lse);
    cr_assert_arr_eq(out, part, sizeof part);
}

Test(attention_merge, scores_far_apart_stay_finite_and_nan_stays) {
    real out[2] = {1, 2}, lse = 80000;
    const real part[2] = {3, 4}, low = -80000, nan = (real)NAN;
    attention_merge(out, &lse, part, &low, 1, 1, 1, 2);
    cr_assert(lse == 80000 && out[0] == 1 && out[1] == 2);
    attention_merge(out, &lse, part, &nan, 1, 1, 1, 2);
    cr_assert(isnan((double)lse) && isnan((double)out[0]));
    real finite = 3;
    attention_merge(out, &lse, part, &finite, 1, 1, 1, 2);
    cr_assert(isnan((double)lse) && isnan((double)out[1]));
}

static void run_merge(void *ctx, real *out) {
    Problem *p = ctx;
    forward(p);
    attention_merge(out, out + queries(p), p->out, p->lse, p->d.B, p->d.Tq, p->d.H, p->d.D);
}

Test(attention_merge, same_bits_for_any_number_of_threads) {
    AttentionDims d = DIMS;
    d.D = 64;
    Problem p = problem_new(&d);
    free(p.scratch);
    p.scratch = numbers_poison(attention_scratch_reals(&p.d, 3));
    cr_assert(same_bits_on_any_threads(run_merge, &p, queries(&p) + sums(&p)));
    problem_free(&p);
}

#if GRADCHECK_RUNS
// Two pieces merged, times dout.
static double objective(void *ctx) {
    Problem *p = ctx;
    forward(&p[0]), forward(&p[1]);
    attention_merge(p[0].out, p[0].lse, p[1].out, p[1].lse, p->d.B, p->d.Tq, p->d.H, p->d.D);
    return weighted_sum(p[0].out, p[0].dout, queries(p));
}

Test(attention_merge, gradients_match_central_differences) {
    AttentionDims d = {.B = 1, .Tq = 30, .Tk = 11, .H = 2, .Hk = 1, .D = 3, .window = 25};
    AttentionDims rest = d;
    rest.key_begin = 11, rest.Tk = 19;
    Problem p[2] = {problem_new(&d), problem_new(&rest)};
    objective(p);
    backward(&p[0], &p[0]), backward(&p[1], &p[0]);
    for (int n = 0; n < 2; n++) {
        double e = gradcheck("k", objective, p, p[n].k, p[n].dk, keys(&p[n]));
        e = fmax(e, gradcheck("v", objective, p, p[n].v, p[n].dv, keys(&p[n])));
        e = fmax(e, gradcheck("q", objective, p, p[n].q, p[n].dq, queries(&p[n])));
        cr_assert_leq(e, GRADCHECK_TOLERANCE, "piece %d", n);
    }
    problem_free(&p[0]), problem_free(&p[1]);
}
#endif
