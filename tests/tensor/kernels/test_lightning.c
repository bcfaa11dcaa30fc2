// Lightning attention: the block form against its definition, for every block size, rate,
// raggedness and document layout; gradients; causality and document walls bit by bit; generation;
// threads.
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

enum { PAD = 3 };  // columns between the operands inside one wide matrix

// A problem and what the kernel made of it. q, k, v are columns of one matrix `qkv`; so are their
// gradients.
typedef struct Problem {
    LightningDims d;
    size_t N, states;
    real *qkv, *dout, *state, *dstate;  // given: states before, gradients after
    uint8_t *start;
    real *out, *state_after, *store, *scratch;  // results
    real *dqkv, *dstate_before;
} Problem;

static const double RATES[] = {0.5, 0.25, 1.0 / 256, 4e-8, 0};

static real *reals(size_t count) {
    return calloc(count + 1, sizeof(real));
}

static void randomize(real *x, size_t count, uint32_t seed) {
    uint32_t s = seed * 2654435761u + 12345;
    for (size_t i = 0; i < count; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (real)((double)(s >> 8) / 8388608.0 - 1.0);
    }
}

static real *queries(const Problem *p, real *x) {
    (void)p;
    return x;
}
static real *keys(const Problem *p, real *x) {
    return x + p->d.H * p->d.A + PAD;
}
static real *values(const Problem *p, real *x) {
    return x + 2 * (p->d.H * p->d.A + PAD);
}

// Scratch and store follow the block size and thread count of the moment.
static void problem_reserve(Problem *p, int block) {
    p->d.block = block;
    free(p->store), free(p->scratch);
    p->store = reals(lightning_store_reals(&p->d));
    p->scratch = reals(lightning_scratch_reals(&p->d, omp_get_max_threads()));
}

static Problem problem_new(int B, int T, int H, int A, int E, int block) {
    Problem p = {.d = {.B = B, .T = T, .H = H, .A = A, .E = E, .decay = RATES}};
    int ld = 2 * (H * A + PAD) + H * E + 1;
    p.d.ld_q = p.d.ld_k = p.d.ld_v = p.d.ld_dq = p.d.ld_dk = p.d.ld_dv = ld;
    p.d.ld_o = H * E + 2;
    p.d.ld_do = H * E + 5;
    p.N = (size_t)B * (size_t)T;
    p.states = (size_t)B * (size_t)H * (size_t)A * (size_t)E;
    p.qkv = reals(p.N * (size_t)ld), p.dqkv = reals(p.N * (size_t)ld);
    p.dout = reals(p.N * (size_t)p.d.ld_do), p.out = reals(p.N * (size_t)p.d.ld_o);
    p.state = reals(p.states), p.dstate = reals(p.states);
    p.state_after = reals(p.states), p.dstate_before = reals(p.states);
    p.start = calloc(p.N + 1, 1);
    randomize(p.qkv, p.N * (size_t)ld, 1);
    randomize(p.dout, p.N * (size_t)p.d.ld_do, 2);
    randomize(p.state, p.states, 3);
    randomize(p.dstate, p.states, 4);
    problem_reserve(&p, block);
    return p;
}

static void problem_free(Problem *p) {
    free(p->qkv), free(p->dqkv), free(p->dout), free(p->out), free(p->state), free(p->dstate);
    free(p->state_after), free(p->dstate_before), free(p->start), free(p->store), free(p->scratch);
}

static void problem_forward(Problem *p) {
    memcpy(p->state_after, p->state, p->states * sizeof(real));
    lightning_forward(p->out, p->state_after, p->store, queries(p, p->qkv), keys(p, p->qkv),
                      values(p, p->qkv), p->scratch, &p->d);
}

static void problem_backward(Problem *p) {
    memset(p->dqkv, 0, p->N * (size_t)p->d.ld_dq * sizeof(real));
    memcpy(p->dstate_before, p->dstate, p->states * sizeof(real));
    lightning_backward(queries(p, p->dqkv), keys(p, p->dqkv), values(p, p->dqkv), p->dstate_before,
                       p->dout, queries(p, p->qkv), keys(p, p->qkv), values(p, p->qkv), p->store,
                       p->scratch, &p->d);
}

// Max-norm of (got - want) over that of want.
static double distance(const real *got, int ld, const double *want, size_t rows, int cols) {
    double worst = 0, size = 1e-30;
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < (size_t)cols; c++) {
            double w = want[i * (size_t)cols + c];
            worst = fmax(worst, fabs((double)got[i * (size_t)ld + c] - w));
            if (!isfinite((double)got[i * (size_t)ld + c])) return INFINITY;
            size = fmax(size, fabs(w));
        }
    }
    return worst / size;
}

static RefLightning ref_new(const Problem *p) {
    size_t qk = p->N * (size_t)(p->d.H * p->d.A) + 1, v = p->N * (size_t)(p->d.H * p->d.E) + 1;
    return (RefLightning){calloc(v, 8), calloc(p->states + 1, 8), calloc(qk, 8), calloc(qk, 8),
                          calloc(v, 8), calloc(p->states + 1, 8)};
}

static void ref_free(RefLightning *r) {
    free(r->out), free(r->state), free(r->dq), free(r->dk), free(r->dv), free(r->dstate);
}

static double forward_distance(const Problem *p, const RefLightning *r) {
    double e = distance(p->out, p->d.ld_o, r->out, p->N, p->d.H * p->d.E);
    return fmax(e, distance(p->state_after, 1, r->state, p->states, 1));
}

static double backward_distance(const Problem *p, const RefLightning *r) {
    int HA = p->d.H * p->d.A, HE = p->d.H * p->d.E, ld = p->d.ld_dq;
    double e = distance(queries(p, p->dqkv), ld, r->dq, p->N, HA);
    e = fmax(e, distance(keys(p, p->dqkv), ld, r->dk, p->N, HA));
    e = fmax(e, distance(values(p, p->dqkv), ld, r->dv, p->N, HE));
    return fmax(e, distance(p->dstate_before, 1, r->dstate, p->states, 1));
}

// Forward against both twins and backward against the analytic gradient, for many block sizes.
static void check_blocks(Problem *p, double close, const char *what) {
    const int blocks[] = {1, 7, 16, 64, 100, p->d.T > 0 ? p->d.T : 1, p->d.T + 5};
    RefLightning quad = ref_new(p), rec = ref_new(p);
    const real *q = queries(p, p->qkv), *k = keys(p, p->qkv), *v = values(p, p->qkv);
    ref_lightning_quadratic(&quad, p->state, q, k, v, &p->d);
    ref_lightning_recurrent(&rec, p->state, q, k, v, &p->d);
    ref_lightning_backward(&quad, p->dout, p->dstate, p->state, q, k, v, &p->d);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        problem_reserve(p, blocks[i]);
        problem_forward(p);
        problem_backward(p);
        double e = forward_distance(p, &quad), f = forward_distance(p, &rec),
               g = backward_distance(p, &quad);
        cr_assert(e <= close, "%s, block %d: %g from quadratic", what, blocks[i], e);
        cr_assert(f <= close, "%s, block %d: %g from recurrent", what, blocks[i], f);
        cr_assert(g <= close, "%s, block %d: gradients %g off", what, blocks[i], g);
    }
    ref_free(&quad), ref_free(&rec);
}

Test(lightning, equals_quadratic_and_recurrent_form_at_every_rate) {
    for (size_t r = 0; r < sizeof RATES / sizeof *RATES; r++) {
        Problem p = problem_new(1, 193, 1, 8, 8, 1);
        p.d.decay = RATES + r;
        p.d.start = NULL;
        check_blocks(&p, CLOSE, "one head");
        problem_free(&p);
    }
}

Test(lightning, equals_both_forms_with_rows_heads_and_unequal_widths) {
    Problem wide = problem_new(2, 67, 5, 6, 3, 1), narrow = problem_new(3, 65, 3, 1, 7, 1);
    check_blocks(&wide, CLOSE, "A 6 E 3");
    check_blocks(&narrow, CLOSE, "A 1 E 7");
    problem_free(&wide), problem_free(&narrow);
}

Test(lightning, documents_reset_anywhere) {
    const int starts[][6] = {{0, -1},
                             {1, -1},
                             {192, -1},
                             {0, 64, 128, -1},
                             {63, 65, 130, 131, -1},
                             {7, 14, 16, 100, 101, -1}};
    for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        Problem p = problem_new(2, 193, 3, 5, 4, 1);
        for (int i = 0; i < 6 && starts[s][i] >= 0; i++) p.start[193 + starts[s][i]] = 1;
        p.start[50] = 1;
        p.d.start = p.start;
        check_blocks(&p, CLOSE, "documents");
        problem_free(&p);
    }
}

Test(lightning, every_token_its_own_document) {
    Problem p = problem_new(1, 70, 2, 4, 3, 1);
    memset(p.start, 1, p.N);
    p.d.start = p.start;
    check_blocks(&p, CLOSE, "single tokens");
    problem_free(&p);
}

Test(lightning, no_tokens_leave_the_state) {
    Problem p = problem_new(2, 0, 2, 3, 4, 16);
    check_blocks(&p, 0, "T 0");
    cr_assert_arr_eq(p.state_after, p.state, p.states * sizeof(real));
    problem_free(&p);
    Problem none = problem_new(0, 5, 2, 3, 4, 16);
    check_blocks(&none, 0, "B 0");
    problem_free(&none);
}

Test(lightning, gradients_accumulate) {
    Problem p = problem_new(1, 20, 2, 3, 4, 7);
    problem_forward(&p);
    problem_backward(&p);
    real once = values(&p, p.dqkv)[9];
    memcpy(p.dstate_before, p.dstate, p.states * sizeof(real));
    lightning_backward(queries(&p, p.dqkv), keys(&p, p.dqkv), values(&p, p.dqkv), p.dstate_before,
                       p.dout, queries(&p, p.qkv), keys(&p, p.qkv), values(&p, p.qkv), p.store,
                       p.scratch, &p.d);
    cr_assert_float_eq(values(&p, p.dqkv)[9], 2 * once, 1e-5);
    problem_free(&p);
}

#ifdef STERNA_F64
// The scalar that gradients are of: products with dout and dstate.
static double objective(Problem *p) {
    double sum = 0;
    problem_forward(p);
    for (size_t i = 0; i < p->N; i++)
        for (size_t c = 0; c < (size_t)(p->d.H * p->d.E); c++)
            sum += p->out[i * (size_t)p->d.ld_o + c] * p->dout[i * (size_t)p->d.ld_do + c];
    for (size_t i = 0; i < p->states; i++) sum += p->state_after[i] * p->dstate[i];
    return sum;
}

// Central differences at a sample of entries of `x`, whose gradient is `dx`.
static double difference_error(Problem *p, real *x, const real *dx, size_t count) {
    const double h = 1e-5;
    double worst = 0, size = 1e-30;
    for (size_t i = 0; i < count; i++) size = fmax(size, fabs(dx[i]));
    for (size_t i = 0; i < count; i += count / 150 + 1) {
        double keep = x[i];
        x[i] = keep + h;
        double above = objective(p);
        x[i] = keep - h;
        double below = objective(p);
        x[i] = keep;
        worst = fmax(worst, fabs((above - below) / (2 * h) - dx[i]));
    }
    return worst / size;
}

Test(lightning, gradients_match_central_differences) {
    Problem p = problem_new(2, 45, 4, 5, 3, 16);
    p.start[0] = p.start[45 + 16] = p.start[45 + 20] = 1;
    p.d.start = p.start;
    problem_forward(&p);
    problem_backward(&p);
    double e = difference_error(&p, p.qkv, p.dqkv, p.N * (size_t)p.d.ld_q);
    cr_assert(e <= 1e-6, "q, k, v: %g", e);
    e = difference_error(&p, p.state, p.dstate_before, p.states);
    cr_assert(e <= 1e-6, "initial state: %g", e);
    problem_free(&p);
}
#endif

Test(lightning, single_precision_stays_near_double_over_4096_tokens) {
    Problem p = problem_new(1, 4096, 1, 64, 64, 128);
    const double rates[] = {1.0 / 256, 4e-8};
    RefLightning r = ref_new(&p);
    const real *q = queries(&p, p.qkv), *k = keys(&p, p.qkv), *v = values(&p, p.qkv);
    for (int i = 0; i < 2; i++) {
        p.d.decay = rates + i;
        ref_lightning_quadratic(&r, p.state, q, k, v, &p.d);
        ref_lightning_backward(&r, p.dout, p.dstate, p.state, q, k, v, &p.d);
        problem_forward(&p);
        problem_backward(&p);
        double e = forward_distance(&p, &r), g = backward_distance(&p, &r);
        cr_assert(e <= 5e-6 && g <= 1e-5, "rate %g: forward %g, gradients %g", rates[i], e, g);
    }
    ref_free(&r);
    problem_free(&p);
}

// What tokens [begin, end) of row 0 gave, compared bit by bit with `before`.
static bool same_bits(const Problem *p, const real *before, int begin, int end) {
    for (int t = begin; t < end; t++) {
        size_t at = (size_t)t * (size_t)p->d.ld_o;
        if (memcmp(p->out + at, before + at, (size_t)(p->d.H * p->d.E) * sizeof(real)) != 0)
            return false;
    }
    return true;
}

static void perturb(Problem *p, int token) {
    randomize(p->qkv + (size_t)token * (size_t)p->d.ld_q, (size_t)p->d.ld_q, 77);
}

Test(lightning, a_token_changes_nothing_before_it) {
    const int tokens[] = {1, 63, 64, 65, 100, 149};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        Problem p = problem_new(1, 150, 3, 16, 8, 128);
        size_t count = p.N * (size_t)p.d.ld_o;
        problem_forward(&p);
        real *before = memcpy(reals(count), p.out, count * sizeof(real));
        perturb(&p, tokens[i]);
        problem_forward(&p);
        cr_assert(same_bits(&p, before, 0, tokens[i]), "token %d", tokens[i]);
        cr_assert_not(same_bits(&p, before, tokens[i], tokens[i] + 1));
        free(before);
        problem_free(&p);
    }
}

Test(lightning, nothing_crosses_a_document_start) {
    const int starts[] = {1, 31, 32, 70, 96};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        Problem p = problem_new(1, 150, 3, 16, 8, 32);
        size_t count = p.N * (size_t)p.d.ld_o;
        p.start[starts[i]] = 1;
        p.d.start = p.start;
        problem_forward(&p);
        real *before = memcpy(reals(count), p.out, count * sizeof(real));
        for (int t = 0; t < starts[i]; t++) perturb(&p, t);
        randomize(p.state, p.states, 99);
        problem_forward(&p);
        cr_assert(same_bits(&p, before, starts[i], 150), "start %d", starts[i]);
        cr_assert_not(same_bits(&p, before, 0, starts[i]));
        free(before);
        problem_free(&p);
    }
}

// Tokens [begin, end) of the problem, from the running state.
static void continue_from(Problem *p, real *out, real *state, int begin, int end) {
    LightningDims d = p->d;
    size_t at = (size_t)begin * (size_t)d.ld_q;
    d.T = end - begin;
    lightning_forward(out + (size_t)begin * (size_t)d.ld_o, state, NULL, queries(p, p->qkv) + at,
                      keys(p, p->qkv) + at, values(p, p->qkv) + at, p->scratch, &d);
}

Test(lightning, prefill_then_single_tokens_equal_the_whole) {
    Problem p = problem_new(1, 90, 5, 8, 6, 16);
    RefLightning r = ref_new(&p);
    ref_lightning_quadratic(&r, p.state, queries(&p, p.qkv), keys(&p, p.qkv), values(&p, p.qkv),
                            &p.d);
    memcpy(p.state_after, p.state, p.states * sizeof(real));
    continue_from(&p, p.out, p.state_after, 0, 53);
    for (int t = 53; t < 90; t++) continue_from(&p, p.out, p.state_after, t, t + 1);
    double e = forward_distance(&p, &r);
    cr_assert(e <= CLOSE, "%g", e);
    ref_free(&r);
    problem_free(&p);
}

// With rate 0, one feature and unit queries and keys, outputs are running sums: exact in small
// integers.
Test(lightning, zero_rate_is_a_running_sum) {
    static const double none[] = {0};
    for (int block = 1; block <= 64; block += 21) {
        Problem p = problem_new(1, 150, 1, 1, 1, block);
        p.d.decay = none;
        p.state[0] = 0;
        for (int t = 0; t < 150; t++) {
            size_t at = (size_t)t * (size_t)p.d.ld_q;
            queries(&p, p.qkv)[at] = keys(&p, p.qkv)[at] = 1;
            values(&p, p.qkv)[at] = (real)(t % 7 - 2);
        }
        problem_forward(&p);
        double sum = 0;
        for (int t = 0; t < 150; t++) {
            sum += t % 7 - 2;
            cr_assert_eq((double)p.out[(size_t)t * (size_t)p.d.ld_o], sum, "block %d token %d",
                         block, t);
        }
        cr_assert_eq((double)p.state_after[0], sum);
        problem_free(&p);
    }
}

Test(lightning, same_bits_for_any_number_of_threads) {
    Problem p = problem_new(1, 200, 3, 128, 128, 128);
    real *out = NULL, *dqkv = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        problem_reserve(&p, 128);
        problem_forward(&p);
        problem_backward(&p);
        size_t n = p.N * (size_t)p.d.ld_o, g = p.N * (size_t)p.d.ld_dq;
        if (threads == 1) {
            out = memcpy(reals(n), p.out, n * sizeof(real));
            dqkv = memcpy(reals(g), p.dqkv, g * sizeof(real));
        }
        cr_assert(memcmp(out, p.out, n * sizeof(real)) == 0, "%d threads: outputs", threads);
        cr_assert(memcmp(dqkv, p.dqkv, g * sizeof(real)) == 0, "%d threads: gradients", threads);
    }
    free(out), free(dqkv);
    problem_free(&p);
}

// A state that is only decayed, by silent keys, must reach 0 rather than stay denormal.
Test(lightning, forgotten_states_become_zero) {
    static const double fast[] = {0.5};
    for (int block = 1; block <= 16; block += 15) {
        Problem p = problem_new(1, 400, 1, 4, 4, block);
        p.d.decay = fast;
        memset(p.qkv, 0, p.N * (size_t)p.d.ld_q * sizeof(real));
        problem_forward(&p);
        for (size_t i = 0; i < p.states; i++) cr_assert_eq(p.state_after[i], 0, "block %d", block);
        problem_free(&p);
    }
}
