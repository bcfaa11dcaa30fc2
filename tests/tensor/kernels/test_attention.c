// Tiled softmax attention against its definition: grouped heads, windows, documents, cached keys,
// odd sizes; gradients; causality and document walls bit by bit; extreme scores; threads.
#include <criterion/criterion.h>

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_attention.h"

#ifdef STERNA_F64
#define CLOSE 1e-12
#else
#define CLOSE 5e-6
#endif

// A problem and what the kernel made of it. Operands and gradients have odd leading dimensions.
typedef struct Problem {
    AttentionDims d;
    size_t Nq, Nk;
    real *q, *k, *v, *dout;
    int *first;
    real *out, *lse, *dq, *dk, *dv, *scratch;
} Problem;

static real *reals(size_t count) {
    return calloc(count + 1, sizeof(real));
}

static real *random_reals(size_t count, uint32_t seed) {
    real *x = reals(count);
    uint32_t s = seed * 2654435761u + 12345;
    for (size_t i = 0; i < count; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (real)((double)(s >> 8) / 8388608.0 - 1.0) * 2;
    }
    return x;
}

// B rows of Tq queries; offset keys stand before the first of them.
static Problem problem_new(int B, int Tq, int offset, int H, int Hk, int D) {
    Problem p = {
        .d = {.B = B, .Tq = Tq, .Tk = offset + Tq, .offset = offset, .H = H, .Hk = Hk, .D = D}};
    p.d.scale = (real)(1 / sqrt(D));
    p.d.ld_q = H * D + 3, p.d.ld_k = Hk * D + 1, p.d.ld_v = Hk * D + 2;
    p.d.ld_dq = H * D + 2, p.d.ld_dk = Hk * D + 3, p.d.ld_dv = Hk * D;
    p.Nq = (size_t)B * (size_t)Tq, p.Nk = (size_t)B * (size_t)p.d.Tk;
    p.q = random_reals(p.Nq * (size_t)p.d.ld_q, 1);
    p.k = random_reals(p.Nk * (size_t)p.d.ld_k, 2);
    p.v = random_reals(p.Nk * (size_t)p.d.ld_v, 3);
    p.dout = random_reals(p.Nq * (size_t)(H * D), 4);
    p.first = calloc(p.Nq + 1, sizeof(int));
    p.out = reals(p.Nq * (size_t)(H * D)), p.lse = reals(p.Nq * (size_t)H);
    p.dq = reals(p.Nq * (size_t)p.d.ld_dq);
    p.dk = reals(p.Nk * (size_t)p.d.ld_dk), p.dv = reals(p.Nk * (size_t)p.d.ld_dv);
    p.scratch = reals(attention_scratch_reals(&p.d, omp_get_max_threads()));
    return p;
}

static void problem_free(Problem *p) {
    free(p->q), free(p->k), free(p->v), free(p->dout), free(p->first), free(p->out), free(p->lse);
    free(p->dq), free(p->dk), free(p->dv), free(p->scratch);
}

static void problem_forward(Problem *p) {
    attention_forward(p->out, p->lse, p->q, p->k, p->v, p->scratch, &p->d);
}

static void problem_backward(Problem *p) {
    memset(p->dq, 0, p->Nq * (size_t)p->d.ld_dq * sizeof(real));
    memset(p->dk, 0, p->Nk * (size_t)p->d.ld_dk * sizeof(real));
    memset(p->dv, 0, p->Nk * (size_t)p->d.ld_dv * sizeof(real));
    attention_backward(p->dq, p->dk, p->dv, p->dout, p->out, p->lse, p->q, p->k, p->v, p->scratch,
                       &p->d);
}

// Documents of row b start at the tokens of `starts` (ends with -1).
static void problem_documents(Problem *p, int b, const int *starts) {
    for (int i = 0, first = 0; i < p->d.Tq; i++) {
        for (const int *s = starts; *s >= 0; s++)
            if (*s == p->d.offset + i) first = *s;
        p->first[(size_t)b * (size_t)p->d.Tq + (size_t)i] = first;
    }
    p->d.first = p->first;
}

// Max-norm of (got - want) over that of want, or over 1: a single visible key has gradients of
// exactly 0.
static double distance(const real *got, int ld, const double *want, size_t rows, int cols) {
    double worst = 0, size = 1;
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < (size_t)cols; c++) {
            double w = want[i * (size_t)cols + c], g = (double)got[i * (size_t)ld + c];
            if (!isfinite(g)) return INFINITY;
            worst = fmax(worst, fabs(g - w));
            size = fmax(size, fabs(w));
        }
    }
    return worst / size;
}

// Forward, lse and all gradients against the definition.
static void check(Problem *p, const char *what) {
    int HD = p->d.H * p->d.D, KD = p->d.Hk * p->d.D;
    RefAttention r = {calloc(p->Nq * (size_t)HD + 1, 8), calloc(p->Nq * (size_t)p->d.H + 1, 8),
                      calloc(p->Nq * (size_t)HD + 1, 8), calloc(p->Nk * (size_t)KD + 1, 8),
                      calloc(p->Nk * (size_t)KD + 1, 8)};
    ref_attention_forward(&r, p->q, p->k, p->v, &p->d);
    ref_attention_backward(&r, p->dout, p->q, p->k, p->v, &p->d);
    problem_forward(p);
    problem_backward(p);
    double e = distance(p->out, HD, r.out, p->Nq, HD);
    double l = distance(p->lse, 1, r.lse, p->Nq * (size_t)p->d.H, 1);
    double g = distance(p->dq, p->d.ld_dq, r.dq, p->Nq, HD);
    g = fmax(g, distance(p->dk, p->d.ld_dk, r.dk, p->Nk, KD));
    g = fmax(g, distance(p->dv, p->d.ld_dv, r.dv, p->Nk, KD));
    cr_assert(e <= CLOSE && l <= CLOSE, "%s: outputs %g, lse %g", what, e, l);
    cr_assert(g <= 2 * CLOSE, "%s: gradients %g", what, g);
    free(r.out), free(r.lse), free(r.dq), free(r.dk), free(r.dv);
}

Test(attention, equals_the_definition_at_odd_sizes) {
    const int lengths[] = {1, 2, 7, 63, 64, 65, 129, 193};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        Problem p = problem_new(2, lengths[i], 0, 3, 3, 5);
        check(&p, "plain");
        problem_free(&p);
    }
}

Test(attention, query_heads_share_key_heads) {
    const int heads[][2] = {{4, 1}, {6, 2}, {6, 3}, {5, 5}};
    for (size_t i = 0; i < 4; i++) {
        Problem p = problem_new(2, 70, 0, heads[i][0], heads[i][1], 7);
        check(&p, "grouped");
        problem_free(&p);
    }
}

Test(attention, window_limits_keys) {
    const int windows[] = {1, 2, 63, 64, 100, 300, 1000};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        Problem p = problem_new(1, 301, 0, 2, 1, 4);
        p.d.window = windows[i];
        check(&p, "window");
        problem_free(&p);
    }
}

Test(attention, documents_limit_keys) {
    const int starts[][5] = {{0, -1}, {1, 2, -1}, {64, 128, 192, -1}, {10, 63, 65, 290, -1}};
    for (size_t i = 0; i < 4; i++) {
        Problem p = problem_new(2, 301, 0, 2, 2, 4);
        problem_documents(&p, 0, (const int[]){150, -1});
        problem_documents(&p, 1, starts[i]);
        check(&p, "documents");
        p.d.window = 40;
        check(&p, "documents and window");
        problem_free(&p);
    }
}

Test(attention, cached_keys_stand_before_the_queries) {
    const int cases[][2] = {{1, 1}, {1, 300}, {3, 77}, {130, 129}};
    for (size_t i = 0; i < 4; i++) {
        Problem p = problem_new(2, cases[i][0], cases[i][1], 4, 2, 6);
        check(&p, "offset");
        p.d.window = 50;
        check(&p, "offset and window");
        problem_documents(&p, 1, (const int[]){cases[i][1], -1});
        check(&p, "offset, window, document");
        problem_free(&p);
    }
}

Test(attention, nothing_to_do_is_legal) {
    Problem rows = problem_new(0, 9, 0, 2, 1, 4), tokens = problem_new(2, 0, 5, 2, 1, 4);
    check(&rows, "B 0");
    check(&tokens, "Tq 0");
    problem_free(&rows), problem_free(&tokens);
}

// Queries beyond all keys, before the first, or of a document that starts later: output 0, no
// gradient.
Test(attention, a_query_that_sees_no_key_gives_zero) {
    Problem p = problem_new(1, 70, 0, 2, 1, 4);
    p.d.first = p.first;
    for (int i = 0; i < 70; i += 3) p.first[i] = i + 1;
    p.first[4] = 1000;
    check(&p, "some blind");
    for (int c = 0; c < 8; c++) cr_assert(p.out[3 * 8 + c] == 0 && p.out[4 * 8 + c] == 0);
    cr_assert_eq(p.lse[3], (real)-1e30);
    cr_assert_eq(p.dq[3 * p.d.ld_dq], 0);
    p.d.offset = -30;
    check(&p, "before all keys");
    p.d.first = NULL;
    p.d.Tk = 0;
    p.Nk = 0;
    check(&p, "no keys");
    cr_assert_eq(p.out[69 * 8], 0);
    problem_free(&p);
}

Test(attention, huge_scores_stay_finite) {
    Problem p = problem_new(1, 150, 0, 1, 1, 4);
    for (size_t i = 0; i < p.Nq * (size_t)p.d.ld_q; i++) p.q[i] *= 1000;
    problem_forward(&p);
    problem_backward(&p);
    for (size_t i = 0; i < p.Nq * 4; i++) cr_assert(fabs((double)p.out[i]) <= 2.0001);
    for (size_t i = 0; i < p.Nk * (size_t)p.d.ld_dk; i++) cr_assert(isfinite((double)p.dk[i]));
    problem_free(&p);
}

Test(attention, not_a_number_is_not_hidden) {
    Problem p = problem_new(1, 10, 0, 1, 1, 4);
    p.k[5 * p.d.ld_k] = NAN;
    problem_forward(&p);
    cr_assert(isfinite((double)p.out[4 * 4]) && isnan((double)p.out[5 * 4]) &&
              isnan((double)p.out[9 * 4]));
    problem_free(&p);
}

Test(attention, gradients_accumulate) {
    Problem p = problem_new(1, 20, 0, 2, 1, 3);
    problem_forward(&p);
    problem_backward(&p);
    real once[3] = {p.dq[8], p.dk[7], p.dv[5]};
    attention_backward(p.dq, p.dk, p.dv, p.dout, p.out, p.lse, p.q, p.k, p.v, p.scratch, &p.d);
    cr_assert_float_eq(p.dq[8], 2 * once[0], 1e-5);
    cr_assert_float_eq(p.dk[7], 2 * once[1], 1e-5);
    cr_assert_float_eq(p.dv[5], 2 * once[2], 1e-5);
    problem_free(&p);
}

#ifdef STERNA_F64
static double objective(Problem *p) {
    double sum = 0;
    problem_forward(p);
    for (size_t i = 0; i < p->Nq * (size_t)(p->d.H * p->d.D); i++) sum += p->out[i] * p->dout[i];
    return sum;
}

// Central differences at a sample of entries of `x` (rows, cols), whose gradient is `dx`.
static double difference_error(Problem *p, real *x, int ld, const real *dx, int ld_dx,
                               const int *shape) {
    const double h = 1e-5;
    double worst = 0, size = 1e-30;
    int count = shape[0] * shape[1];
    for (int i = 0; i < count; i++)
        size = fmax(size, fabs(dx[i / shape[1] * ld_dx + i % shape[1]]));
    for (int i = 0; i < count; i += count / 60 + 1) {
        real *at = x + i / shape[1] * ld + i % shape[1], keep = *at;
        *at = keep + h;
        double above = objective(p);
        *at = keep - h;
        double below = objective(p);
        *at = keep;
        worst =
            fmax(worst, fabs((above - below) / (2 * h) - dx[i / shape[1] * ld_dx + i % shape[1]]));
    }
    return worst / size;
}

Test(attention, gradients_match_central_differences) {
    Problem p = problem_new(2, 80, 3, 4, 2, 5);
    p.d.window = 60;
    problem_documents(&p, 1, (const int[]){30, 31, -1});
    problem_forward(&p);
    problem_backward(&p);
    double e = difference_error(&p, p.q, p.d.ld_q, p.dq, p.d.ld_dq, (const int[]){160, 20});
    double f = difference_error(&p, p.k, p.d.ld_k, p.dk, p.d.ld_dk, (const int[]){166, 10});
    double g = difference_error(&p, p.v, p.d.ld_v, p.dv, p.d.ld_dv, (const int[]){166, 10});
    cr_assert(e <= 1e-6 && f <= 1e-6 && g <= 1e-6, "q %g, k %g, v %g", e, f, g);
    problem_free(&p);
}
#endif

static void perturb(Problem *p, int token) {
    real *noise = random_reals((size_t)p->d.ld_q, 77);
    memcpy(p->q + token * p->d.ld_q, noise, (size_t)(p->d.H * p->d.D) * sizeof(real));
    memcpy(p->k + token * p->d.ld_k, noise, (size_t)(p->d.Hk * p->d.D) * sizeof(real));
    memcpy(p->v + token * p->d.ld_v, noise, (size_t)(p->d.Hk * p->d.D) * sizeof(real));
    free(noise);
}

Test(attention, a_token_changes_nothing_before_it) {
    const int tokens[] = {1, 63, 64, 100, 128, 149};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        Problem p = problem_new(1, 150, 0, 2, 1, 8);
        size_t bytes = 150 * 16 * sizeof(real), kept = (size_t)tokens[i] * 16 * sizeof(real);
        problem_forward(&p);
        real *before = memcpy(malloc(bytes), p.out, bytes);
        perturb(&p, tokens[i]);
        problem_forward(&p);
        cr_assert(memcmp(before, p.out, kept) == 0, "token %d", tokens[i]);
        cr_assert(memcmp(before, p.out, bytes) != 0);
        free(before);
        problem_free(&p);
    }
}

Test(attention, nothing_crosses_a_document_start) {
    const int starts[] = {1, 63, 64, 70, 128};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        Problem p = problem_new(1, 150, 0, 2, 1, 8);
        size_t bytes = 150 * 16 * sizeof(real), at = (size_t)starts[i] * 16;
        problem_documents(&p, 0, (const int[]){starts[i], -1});
        problem_forward(&p);
        real *before = memcpy(malloc(bytes), p.out, bytes);
        for (int t = 0; t < starts[i]; t++) perturb(&p, t);
        problem_forward(&p);
        cr_assert(memcmp(before + at, p.out + at, bytes - at * sizeof(real)) == 0, "start %d",
                  starts[i]);
        cr_assert(memcmp(before, p.out, bytes) != 0);
        free(before);
        problem_free(&p);
    }
}

Test(attention, same_bits_for_any_number_of_threads) {
    Problem p = problem_new(1, 260, 0, 4, 2, 64);
    size_t n = p.Nq * (size_t)(p.d.H * p.d.D), g = p.Nk * (size_t)p.d.ld_dk,
           h = p.Nq * (size_t)p.d.ld_dq;
    real *out = reals(n), *dk = reals(g), *dq = reals(h);
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        free(p.scratch);
        p.scratch = reals(attention_scratch_reals(&p.d, threads));
        problem_forward(&p);
        problem_backward(&p);
        if (threads == 1) {
            memcpy(out, p.out, n * sizeof(real));
            memcpy(dk, p.dk, g * sizeof(real));
            memcpy(dq, p.dq, h * sizeof(real));
        }
        cr_assert(memcmp(out, p.out, n * sizeof(real)) == 0, "%d threads: outputs", threads);
        cr_assert(memcmp(dk, p.dk, g * sizeof(real)) == 0, "%d threads: dk", threads);
        cr_assert(memcmp(dq, p.dq, h * sizeof(real)) == 0, "%d threads: dq", threads);
    }
    free(out), free(dk), free(dq);
    problem_free(&p);
}
