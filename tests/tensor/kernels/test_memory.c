// Neural memory: the chunk form against the token recurrence, for every option, chunk length,
// document layout and cut; gradients; causality bit by bit; threads.
#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/ops.h"
#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

#ifdef STERNA_F64
#define CLOSE 1e-12
#else
#define CLOSE 3e-5
#endif

enum { ROWS = 2, TOKENS = 29, HEADS = 2, WIDTH = 5, HIDDEN = 7, N = ROWS * TOKENS, PAD = 3 };
enum { LD = HEADS * WIDTH + PAD, GATES = 3 * MEMORY_LAYERS * HEADS + PAD };

// One problem: inputs, what flows in from behind, and room for all that comes out.
typedef struct Problem {
    MemoryDims d;
    int64_t pos[N];
    uint8_t start[N];
    real qkv[3][N * LD], gates[N * GATES], dout[N * LD];
    real *init, gain[HEADS * WIDTH], shift[HEADS * WIDTH];
    real *state, *dstate;  // before the first token; of the state after the last one
    size_t states, weights;
    MemoryInputs in;
} Problem;

static void fill(real *x, size_t count, uint64_t seed, double scale, double shift) {
    real *normal = numbers_normal(count, seed);
    for (size_t i = 0; i < count; i++) x[i] = (real)(shift + scale * (double)normal[i]);
    free(normal);
}

// Keys and queries of norm 1.
static void unit(real *x) {
    for (int i = 0; i < N * HEADS; i++) {
        real *at = x + i / HEADS * LD + i % HEADS * WIDTH;
        double norm = 0;
        for (int j = 0; j < WIDTH; j++) norm += (double)(at[j] * at[j]);
        for (int j = 0; j < WIDTH; j++) at[j] = (real)((double)at[j] / sqrt(norm));
    }
}

// Documents start at tokens of `starts`, ended by -1; the first row goes on with one.
static void documents(Problem *p, const int *starts, int first_pos) {
    for (int r = 0; r < ROWS; r++) {
        int64_t pos = r == 0 ? first_pos : 0;
        for (int t = 0; t < TOKENS; t++, pos++) {
            bool start = (r > 0 || first_pos == 0) && t == 0;
            for (const int *s = starts; *s >= 0; s++) start = start || *s == t;
            if (start) pos = 0;
            p->pos[r * TOKENS + t] = pos;
            p->start[r * TOKENS + t] = start;
        }
    }
}

static void problem_open(Problem *p, MemoryDims options) {
    static const int STARTS[] = {11, 12, 20, -1};
    *p = (Problem){.d = options};
    MemoryDims *d = &p->d;
    d->B = ROWS, d->T = TOKENS, d->H = HEADS, d->D = WIDTH, d->hidden = HIDDEN;
    d->ld_q = d->ld_k = d->ld_v = d->ld_o = LD;
    d->ld_g = GATES;
    d->pos = p->pos, d->start = p->start;
    documents(p, STARTS, 4);
    for (int i = 0; i < 3; i++) fill(p->qkv[i], N * LD, 10 + (uint64_t)i, 1, 0);
    unit(p->qkv[0]), unit(p->qkv[1]);
    fill(p->gates, N * GATES, 20, 1, 0);
    int kind = d->layers * HEADS;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < 3 * kind; j++) {
            double s = 1 / (1 + exp(-(double)p->gates[i * GATES + j]));
            p->gates[i * GATES + j] = (real)(j < kind ? 0.2 * s : j < 2 * kind ? 0.9 * s : 0.1 * s);
        }
    }
    fill(p->dout, N * LD, 30, 1, 0);
    p->weights = memory_weights(d);
    p->init = calloc(HEADS * p->weights, sizeof(real));
    fill(p->init, HEADS * p->weights, 40, 0.4, 0);
    fill(p->gain, HEADS * WIDTH, 50, 0.2, 1);
    fill(p->shift, HEADS * WIDTH, 60, 0.1, 0);
    p->states = memory_state_reals(d);
    p->state = calloc(p->states, sizeof(real));
    p->dstate = calloc(p->states, sizeof(real));
    fill(p->state, p->states, 70, 0.3, 0);
    size_t one = p->states / (ROWS * HEADS);
    for (int i = 0; i < ROWS * HEADS; i++)
        for (int l = 0; l < d->layers; l++) p->state[(size_t)(i + 1) * one - 1 - (size_t)l] = 0;
    fill(p->dstate, p->states, 80, 1, 0);
    p->in = (MemoryInputs){p->qkv[0], p->qkv[1], p->qkv[2], p->gates, p->init, p->gain, p->shift};
}

static void problem_close(Problem *p) {
    free(p->init), free(p->state), free(p->dstate);
}

static real *scratch_of(const MemoryDims *d) {
    return numbers_poison((size_t)omp_get_max_threads() * memory_scratch_reals(d));
}

// out (N, LD) and the state after it.
static void run(const Problem *p, real *out, real *state, real *store) {
    real *scratch = scratch_of(&p->d);
    memcpy(state, p->state, p->states * sizeof(real));
    memory_forward(out, state, store, &p->in, scratch, &p->d);
    free(scratch);
}

// Every option there is, one after another.
static const MemoryDims OPTIONS[] = {
    {.layers = 1, .chunk = 1},
    {.layers = 1, .chunk = 4},
    {.layers = 1, .chunk = 7, .loss = MEMORY_HEBBIAN},
    {.layers = 1, .chunk = 100, .strict = true},
    {.layers = 1, .chunk = 5, .normed = true},
    {.layers = 2, .chunk = 1, .normed = true},
    {.layers = 2, .chunk = 4},
    {.layers = 2, .chunk = 4, .normed = true},
    {.layers = 2, .chunk = 5, .normed = true, .activation = MEMORY_SILU, .strict = true},
    {.layers = 2, .chunk = 6, .normed = true, .loss = MEMORY_HUBER, .huber = (real)0.4},
    {.layers = 2, .chunk = 6, .normed = true, .loss = MEMORY_HEBBIAN},
    {.layers = 3, .chunk = 4, .normed = true},
    {.layers = 4, .chunk = 3, .activation = MEMORY_SILU},
    {.layers = 2, .chunk = 29, .normed = true},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

static double compare(const Problem *p) {
    real *out = calloc(N * LD, sizeof(real)), *wanted = calloc(N * LD, sizeof(real));
    real *state = numbers_copy(p->state, p->states), *after = numbers_copy(p->state, p->states);
    run(p, out, state, NULL);
    ref_memory_forward(wanted, after, &p->in, &p->d);
    double worst =
        fmax(numbers_distance(out, wanted, N * LD), numbers_distance(state, after, p->states));
    free(out), free(wanted), free(state), free(after);
    return worst;
}

Test(memory, in_chunks_is_the_token_recurrence) {
    static Problem p;
    for (int i = 0; i < OPTION_COUNT; i++) {
        problem_open(&p, OPTIONS[i]);
        cr_expect_leq(compare(&p), CLOSE, "option %d: off by %g", i, compare(&p));
        problem_close(&p);
    }
}

Test(memory, clips_and_caps_as_written) {
    static Problem p;
    MemoryDims clipped = {.layers = 2, .chunk = 5, .normed = true, .clip = (real)0.3};
    MemoryDims capped = {.layers = 2, .chunk = 5, .normed = true, .budget = 0.35};
    MemoryDims damped = {.layers = 2, .chunk = 5, .normed = true, .damped = true};
    MemoryDims all = {.layers = 3, .chunk = 4, .damped = true, .clip = (real)0.3, .budget = 0.35};
    const MemoryDims options[] = {clipped, capped, damped, all};
    for (int i = 0; i < 4; i++) {
        problem_open(&p, options[i]);
        cr_expect_leq(compare(&p), CLOSE, "option %d: off by %g", i, compare(&p));
        problem_close(&p);
    }
}

// Another chunk length is another function: gradients are those of the chunk's start.
Test(memory, depends_on_the_chunk) {
    static Problem p, other;
    static real a[N * LD], b[N * LD];
    problem_open(&p, (MemoryDims){.layers = 2, .chunk = 4, .normed = true});
    problem_open(&other, (MemoryDims){.layers = 2, .chunk = 8, .normed = true});
    real *state = numbers_copy(p.state, p.states);
    run(&p, a, state, NULL);
    run(&other, b, state, NULL);
    cr_expect_gt(numbers_distance(a, b, N * LD), 1e-3);
    free(state);
    problem_close(&p), problem_close(&other);
}

// Rows cut in two, at any token, also inside of a chunk: the state carries all.
Test(memory, goes_on_from_a_state) {
    static Problem p;
    static real whole[N * LD], part[N * LD];
    for (int i = 0; i < OPTION_COUNT; i++) {
        problem_open(&p, OPTIONS[i]);
        p.d.budget = 0.9;
        real *state = numbers_copy(p.state, p.states), *cut = numbers_copy(p.state, p.states);
        real *scratch = scratch_of(&p.d);
        run(&p, whole, state, NULL);
        for (int at = 0; at < TOKENS;) {
            int n = at % 5 + 1 < TOKENS - at ? at % 5 + 1 : TOKENS - at;
            for (int r = 0; r < ROWS; r++) {  // one row at a time: rows lie apart
                size_t from = (size_t)(r * TOKENS + at);
                MemoryDims d = p.d;
                d.B = 1, d.T = n;
                d.pos += from, d.start += from;
                MemoryInputs in = {p.qkv[0] + from * LD,
                                   p.qkv[1] + from * LD,
                                   p.qkv[2] + from * LD,
                                   p.gates + from * GATES,
                                   p.init,
                                   p.gain,
                                   p.shift};
                memory_forward(part + from * LD, cut + (size_t)r * p.states / ROWS, NULL, &in,
                               scratch, &d);
            }
            at += n;
        }
        double d =
            fmax(numbers_distance(part, whole, N * LD), numbers_distance(cut, state, p.states));
        cr_expect_leq(d, CLOSE, "option %d: off by %g", i, d);
        free(state), free(cut), free(scratch);
        problem_close(&p);
    }
}

// ---- gradients ---------------------------------------------------------------------------------

typedef struct Gradients {
    real qkv[3][N * LD], gates[N * GATES], *init, gain[HEADS * WIDTH], shift[HEADS * WIDTH];
    real *state;
} Gradients;

static void differentiate(const Problem *p, Gradients *g) {
    real *out = calloc(N * LD, sizeof(real)), *scratch = scratch_of(&p->d);
    real *store = numbers_poison(memory_store_reals(&p->d)),
         *state = numbers_copy(p->state, p->states);
    memset(g->qkv, 0, sizeof g->qkv);
    memset(g->gates, 0, sizeof g->gates);
    memset(g->gain, 0, sizeof g->gain);
    memset(g->shift, 0, sizeof g->shift);
    g->init = calloc(HEADS * p->weights, sizeof(real));
    g->state = numbers_copy(p->dstate, p->states);
    run(p, out, state, store);
    MemoryGradients to = {g->qkv[0], g->qkv[1], g->qkv[2], g->gates, g->init, g->gain,
                          g->shift,  LD,        LD,        LD,       GATES};
    memory_backward(&to, g->state, p->dout, store, &p->in, scratch, &p->d);
    free(out), free(scratch), free(store), free(state);
}

static void gradients_close(Gradients *g) {
    free(g->init), free(g->state);
}

#if GRADCHECK_RUNS
// Weighted sum of all that comes out but what the budget used.
static double loss(void *ctx) {
    const Problem *p = ctx;
    real *out = calloc(N * LD, sizeof(real)), *state = numbers_copy(p->state, p->states);
    run(p, out, state, NULL);
    double sum = weighted_sum(out, p->dout, N * LD);
    size_t one = p->states / (ROWS * HEADS), used = one - (size_t)p->d.layers;
    for (int i = 0; i < ROWS * HEADS; i++)
        sum += weighted_sum(state + (size_t)i * one, p->dstate + (size_t)i * one, used);
    free(out), free(state);
    return sum;
}

Test(memory, has_the_gradients_of_differences) {
    static Problem p;
    static Gradients g;
    for (int i = 0; i < OPTION_COUNT; i++) {
        problem_open(&p, OPTIONS[i]);
        differentiate(&p, &g);
        const struct {
            const char *name;
            real *x, *dx;
            size_t count;
            bool there;
        } all[] = {{"q", p.qkv[0], g.qkv[0], N * LD, true},
                   {"k", p.qkv[1], g.qkv[1], N * LD, true},
                   {"v", p.qkv[2], g.qkv[2], N * LD, true},
                   {"gates", p.gates, g.gates, N * GATES, true},
                   {"init", p.init, g.init, HEADS * p.weights, true},
                   {"state", p.state, g.state, p.states / 2, true},
                   {"gain", p.gain, g.gain, HEADS * WIDTH, p.d.normed},
                   {"shift", p.shift, g.shift, HEADS * WIDTH, p.d.normed}};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++) {
            if (!all[j].there) continue;
            double error = gradcheck(all[j].name, loss, &p, all[j].x, all[j].dx, all[j].count);
            cr_expect_leq(error, GRADCHECK_TOLERANCE, "option %d: %s is off by %g", i, all[j].name,
                          error);
        }
        gradients_close(&g);
        problem_close(&p);
    }
}
#endif

// ---- what it is in special cases -----------------------------------------------------------

// Hebbian, without momentum, with one forgetting rate and steps of 1: linear attention with decay.
Test(memory, that_only_adds_is_lightning_attention) {
    static const double RATES[HEADS] = {0.05, 0.3};
    static Problem p;
    static real out[N * LD], wanted[N * LD];
    problem_open(&p, (MemoryDims){.layers = 1, .chunk = 6, .loss = MEMORY_HEBBIAN});
    memset(p.init, 0, HEADS * p.weights * sizeof(real));
    memset(p.state, 0, p.states * sizeof(real));
    for (int i = 0; i < N * HEADS; i++) {
        real *gate = p.gates + i / HEADS * GATES + i % HEADS;
        gate[0] = (real)-expm1(-RATES[i % HEADS]), gate[HEADS] = 0, gate[2 * HEADS] = 1;
    }
    real *state = numbers_copy(p.state, p.states);
    run(&p, out, state, NULL);
    LightningDims d = {.B = ROWS, .T = TOKENS, .H = HEADS, .A = WIDTH, .E = WIDTH, .block = 8};
    d.ld_q = d.ld_k = d.ld_v = d.ld_o = LD, d.decay = RATES, d.start = p.start;
    real *scratch = numbers_poison(lightning_scratch_reals(&d, omp_get_max_threads()));
    real *S = calloc(ROWS * HEADS * WIDTH * WIDTH, sizeof(real));
    lightning_forward(wanted, S, NULL, p.qkv[0], p.qkv[1], p.qkv[2], scratch, &d);
    cr_expect_leq(numbers_distance(out, wanted, N * LD), CLOSE);
    free(state), free(scratch), free(S);
    problem_close(&p);
}

// c = 1, no momentum, nothing forgotten: the delta rule, W <- W - theta k^T (k W - v).
Test(memory, of_single_tokens_is_the_delta_rule) {
    static Problem p;
    static real out[N * LD], wanted[N * LD];
    problem_open(&p, (MemoryDims){.layers = 1, .chunk = 1});
    for (int i = 0; i < N * 2 * HEADS; i++) p.gates[i / (2 * HEADS) * GATES + i % (2 * HEADS)] = 0;
    real *state = numbers_copy(p.state, p.states);
    run(&p, out, state, NULL);
    for (int task = 0; task < ROWS * HEADS; task++) {
        int row = task / HEADS, head = task % HEADS;
        double W[WIDTH][WIDTH];
        const real *from = p.state + (size_t)task * p.states / (ROWS * HEADS) + p.weights;
        for (int i = 0; i < WIDTH * WIDTH; i++) W[i / WIDTH][i % WIDTH] = (double)from[i];
        for (int t = row * TOKENS; t < (row + 1) * TOKENS; t++) {
            const real *k = p.qkv[1] + t * LD + head * WIDTH, *q = k - p.qkv[1] + p.qkv[0];
            double theta = (double)p.gates[t * GATES + 2 * HEADS + head], error[WIDTH];
            for (int i = 0; i < WIDTH * WIDTH && p.start[t]; i++)
                W[i / WIDTH][i % WIDTH] = (double)p.init[(size_t)head * p.weights + (size_t)i];
            for (int j = 0; j < WIDTH; j++) {
                error[j] = -(double)p.qkv[2][t * LD + head * WIDTH + j];
                for (int i = 0; i < WIDTH; i++) error[j] += (double)k[i] * W[i][j];
            }
            for (int j = 0; j < WIDTH; j++) {
                double y = 0;
                for (int i = 0; i < WIDTH; i++) {
                    W[i][j] -= theta * (double)k[i] * error[j];
                    y += (double)q[i] * W[i][j];
                }
                wanted[t * LD + head * WIDTH + j] = (real)y;
            }
        }
    }
    cr_expect_leq(numbers_distance(out, wanted, N * LD), CLOSE);
    free(state);
    problem_close(&p);
}

// ---- the op ------------------------------------------------------------------------------------

// A copy of `heads` heads without the columns between tokens.
static real *dense(const real *x, int ld, int columns) {
    real *out = calloc((size_t)(N * columns), sizeof(real));
    for (int i = 0; i < N * columns; i++) out[i] = x[i / columns * ld + i % columns];
    return out;
}

// On a tape it is the kernel, from the learned weights on; what flows into them comes from every
// row.
Test(memory, as_an_op_begins_each_row_with_the_learned_weights) {
    static Problem p;
    static Gradients g;
    problem_open(&p, (MemoryDims){.layers = 2, .chunk = 4, .normed = true});
    memory_state_begin(p.state, p.init, &p.d);
    memset(p.dstate, 0, p.states * sizeof(real));
    differentiate(&p, &g);
    size_t one = p.states / (ROWS * HEADS);
    for (int i = 0; i < ROWS * HEADS; i++)
        for (size_t j = 0; j < p.weights; j++)
            g.init[(size_t)(i % HEADS) * p.weights + j] +=
                g.state[(size_t)i * one + j] + g.state[(size_t)i * one + p.weights + j];
    int C = HEADS * WIDTH, columns = 6 * HEADS;
    real *data[] = {dense(p.qkv[0], LD, C), dense(p.qkv[1], LD, C), dense(p.qkv[2], LD, C),
                    dense(p.gates, GATES, columns), dense(p.dout, LD, C)};
    SeqInfo s = {.B = ROWS, .T = TOKENS, .pos = p.pos, .start = p.start};
    MemoryDims options = {.H = HEADS, .D = WIDTH, .layers = 2, .hidden = HIDDEN, .chunk = 4};
    options.normed = true;
    Tape *tp = tape_new();
    Tensor *in[8] = {NULL};
    for (int dry = 1; dry >= 0; dry--) {
        dry ? tape_dry(tp, true) : tape_begin(tp, true);
        for (int i = 0; i < 4; i++) in[i] = tape_leaf(tp, data[i], N, i < 3 ? C : columns);
        in[4] = tape_leaf(tp, p.init, 1, HEADS * (int)p.weights);
        in[5] = tape_leaf(tp, p.gain, 1, C);
        in[6] = tape_leaf(tp, p.shift, 1, C);
        tape_backward_from(tp, op_memory(tp, in, &s, &options, NULL), data[4]);
        if (dry) cr_assert_eq(tape_reserve(tp), OK);
    }
    for (int i = 0; i < 3; i++) {
        real *wanted = dense(g.qkv[i], LD, C);
        cr_expect_leq(numbers_distance(in[i]->grad, wanted, (size_t)(N * C)), CLOSE, "input %d", i);
        free(wanted);
    }
    cr_expect_leq(numbers_distance(in[4]->grad, g.init, HEADS * p.weights), CLOSE);
    cr_expect_leq(numbers_distance(in[5]->grad, g.gain, (size_t)C), CLOSE);
    tape_free(tp);
    for (int i = 0; i < 5; i++) free(data[i]);
    gradients_close(&g);
    problem_close(&p);
}

// ---- order and threads -------------------------------------------------------------------------

Test(memory, never_sees_a_later_token_or_another_document) {
    static Problem p;
    static real before[N * LD], after[N * LD];
    for (int i = 0; i < OPTION_COUNT; i++) {
        problem_open(&p, OPTIONS[i]);
        p.d.budget = 0.5, p.d.clip = (real)0.5, p.d.damped = true;
        real *state = numbers_copy(p.state, p.states);
        run(&p, before, state, NULL);
        for (int t = 0; t < TOKENS; t++) {
            for (int j = 0; j < LD; j++) p.qkv[1][t * LD + j] += 1, p.qkv[2][t * LD + j] += 1;
            for (int j = 0; j < GATES; j++) p.gates[t * GATES + j] /= 2;
            run(&p, after, state, NULL);
            cr_expect_eq(memcmp(before, after, (size_t)(t * LD) * sizeof(real)), 0,
                         "option %d: token %d is seen earlier", i, t);
            int end = t + 1;
            while (end < TOKENS && !p.start[end]) end++;
            cr_expect_eq(memcmp(before + end * LD, after + end * LD,
                                (size_t)((N - end) * LD) * sizeof(real)),
                         0, "option %d: token %d leaks into another document", i, t);
            memcpy(before, after, sizeof before);
        }
        free(state);
        problem_close(&p);
    }
}

static void run_backward(void *ctx, real *out) {
    Gradients g;
    const Problem *p = ctx;
    differentiate(p, &g);
    memcpy(out, g.qkv, sizeof g.qkv);
    memcpy(out + 3 * N * LD, g.init, HEADS * p->weights * sizeof(real));
    gradients_close(&g);
}

Test(memory, gives_the_same_bits_on_any_number_of_threads) {
    static Problem p;
    problem_open(&p, (MemoryDims){.layers = 2, .chunk = 4, .normed = true});
    cr_expect(same_bits_on_any_threads(run_backward, &p, 3 * N * LD + HEADS * p.weights));
    problem_close(&p);
}
