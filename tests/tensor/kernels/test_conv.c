// Causal convolution along time: against its definition, with documents, and rows cut anywhere.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

enum { B = 2, T = 13, C = 70, K = 4, N = B * T, LD = C + 3, TAIL = B * (K - 1) * C };

typedef struct Problem {
    ConvDims d;
    int64_t pos[N];
    real *inp, *weight, *tail, *dout;
} Problem;

// The first row goes on at place 2 of a document; another one starts at 5, one at 6.
static void problem_open(Problem *p) {
    *p = (Problem){.d = {.B = B, .T = T, .C = C, .K = K, .ld_inp = LD, .ld_dinp = LD}};
    for (int i = 0; i < N; i++) {
        int t = i % T;
        p->pos[i] = t >= 6 ? t - 6 : t == 5 ? 0 : t + (i < T ? 2 : 0);
    }
    p->d.pos = p->pos;
    p->inp = numbers_normal(N * LD, 1);
    p->weight = numbers_normal(C * K, 2);
    p->tail = numbers_normal(TAIL, 3);
    p->dout = numbers_normal(N * C, 4);
}

static void problem_close(Problem *p) {
    free(p->inp), free(p->weight), free(p->tail), free(p->dout);
}

// Input t - j of a row, from its tail where it lies before the row.
static double input(const Problem *p, int row, int t, int j, int c) {
    int at = row * T + t;
    if (p->pos[at] < j) return 0;
    if (t >= j) return (double)p->inp[(at - j) * LD + c];
    return (double)p->tail[(row * (K - 1) + K - 1 + t - j) * C + c];
}

Test(conv, is_its_definition) {
    Problem p;
    problem_open(&p);
    real *out = numbers_poison(N * C), *wanted = calloc(N * C, sizeof(real));
    conv_forward(out, p.inp, p.weight, p.tail, &p.d);
    for (int i = 0; i < N * C; i++) {
        double sum = 0;
        for (int j = 0; j < K; j++)
            sum += (double)p.weight[i % C * K + j] * input(&p, i / C / T, i / C % T, j, i % C);
        wanted[i] = (real)sum;
    }
    cr_expect_leq(numbers_distance(out, wanted, N * C), TWIN_TOLERANCE);
    free(out), free(wanted);
    problem_close(&p);
}

// The gradients of a function that is linear in each of its arguments.
Test(conv, has_the_gradients_of_its_definition) {
    Problem p;
    problem_open(&p);
    real *dinp = calloc(N * LD, sizeof(real)), *dweight = calloc(C * K, sizeof(real));
    real *dtail = calloc(TAIL, sizeof(real)), *inp = calloc(N * LD, sizeof(real));
    real *weight = calloc(C * K, sizeof(real)), *tail = calloc(TAIL, sizeof(real));
    conv_backward(dinp, dweight, dtail, p.dout, p.inp, p.weight, p.tail, &p.d);
    for (int i = 0; i < N * C; i++) {
        int row = i / C / T, t = i / C % T, c = i % C;
        for (int j = 0; j < K; j++) {
            weight[c * K + j] += (real)((double)p.dout[i] * input(&p, row, t, j, c));
            if (p.pos[i / C] < j) continue;
            real *to = t >= j ? &inp[(i / C - j) * LD + c]
                              : &tail[(row * (K - 1) + K - 1 + t - j) * C + c];
            *to += p.dout[i] * p.weight[c * K + j];
        }
    }
    cr_expect_leq(numbers_distance(dinp, inp, N * LD), TWIN_TOLERANCE);
    cr_expect_leq(numbers_distance(dweight, weight, C * K), TWIN_TOLERANCE);
    cr_expect_leq(numbers_distance(dtail, tail, TAIL), TWIN_TOLERANCE);
    free(dinp), free(dweight), free(dtail), free(inp), free(weight), free(tail);
    problem_close(&p);
}

Test(conv, takes_no_tail_as_zeros) {
    Problem p;
    problem_open(&p);
    real *a = numbers_poison(N * C), *b = numbers_poison(N * C);
    memset(p.tail, 0, TAIL * sizeof(real));
    conv_forward(a, p.inp, p.weight, p.tail, &p.d);
    conv_forward(b, p.inp, p.weight, NULL, &p.d);
    cr_expect_eq(memcmp(a, b, N * C * sizeof(real)), 0);
    free(a), free(b);
    problem_close(&p);
}

static void run_backward(void *ctx, real *out) {
    const Problem *p = ctx;
    memset(out, 0, (N * LD + C * K + TAIL) * sizeof(real));
    conv_backward(out, out + N * LD, out + N * LD + C * K, p->dout, p->inp, p->weight, p->tail,
                  &p->d);
}

Test(conv, gives_the_same_bits_on_any_number_of_threads) {
    Problem p;
    problem_open(&p);
    cr_expect(same_bits_on_any_threads(run_backward, &p, N * LD + C * K + TAIL));
    problem_close(&p);
}
