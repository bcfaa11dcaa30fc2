// What feeds a neural memory: norms of heads, gates, gated products, and the inputs that a
// convolution hands on, against their definitions and differences.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

enum { N = 11, H = 3, D = 7, C = H * D, LD = C + 4 };

// ---- norms of heads ----------------------------------------------------------------------------

typedef struct Norm {
    HeadNormDims d;
    real *inp, *gain, *dout, *out, *rho;
} Norm;

static void norm_open(Norm *p, bool gained) {
    *p = (Norm){.d = {.N = N, .H = H, .D = D, .ld_inp = LD, .ld_dinp = LD, .eps = (real)1e-3}};
    p->inp = numbers_normal(N * LD, 1);
    p->gain = gained ? numbers_normal(C, 2) : NULL;
    p->dout = numbers_normal(N * C, 3);
    p->out = numbers_poison(N * C);
    p->rho = numbers_poison(N * H);
    memset(p->inp + 2 * LD, 0, D * sizeof(real));  // a head of zeros
}

static void norm_close(Norm *p) {
    free(p->inp), free(p->gain), free(p->dout), free(p->out), free(p->rho);
}

static double norm_loss(void *user) {
    Norm *p = user;
    head_norm_forward(p->out, p->rho, p->inp, p->gain, &p->d);
    return weighted_sum(p->out, p->dout, N * C);
}

Test(head_norm, is_its_definition) {
    for (int gained = 0; gained < 2; gained++) {
        Norm p;
        norm_open(&p, gained == 1);
        norm_loss(&p);
        for (int i = 0; i < N * C; i++) {
            int t = i / C, h = i % C / D;
            const real *x = p.inp + t * LD + h * D;
            double sum = 0;
            for (int c = 0; c < D; c++) sum += (double)x[c] * (double)x[c];
            double y = (double)x[i % D] / sqrt((gained ? sum / D : sum) + 1e-3);
            if (gained) y *= (double)p.gain[i % C];
            cr_assert_float_eq(p.out[i], y, 10 * TWIN_TOLERANCE, "token %d, channel %d", t, i % C);
        }
        norm_close(&p);
    }
}

#if GRADCHECK_RUNS
Test(head_norm, has_the_gradients_of_differences) {
    for (int gained = 0; gained < 2; gained++) {
        Norm p;
        norm_open(&p, gained == 1);
        real *dinp = calloc(N * LD, sizeof(real)), *dgain = calloc(C, sizeof(real));
        norm_loss(&p);
        head_norm_backward(dinp, dgain, p.dout, p.inp, p.gain, p.rho, &p.d);
        cr_expect_leq(gradcheck("x", norm_loss, &p, p.inp, dinp, N * LD), GRADCHECK_TOLERANCE);
        if (gained)
            cr_expect_leq(gradcheck("gain", norm_loss, &p, p.gain, dgain, C), GRADCHECK_TOLERANCE);
        free(dinp), free(dgain);
        norm_close(&p);
    }
}
#endif

static void norm_run(void *user, real *out) {
    Norm *p = user;
    head_norm_forward(p->out, p->rho, p->inp, p->gain, &p->d);
    memcpy(out, p->out, N * C * sizeof(real));
    head_norm_backward(out + N * C, out + N * C + N * LD, p->dout, p->inp, p->gain, p->rho, &p->d);
}

Test(head_norm, has_the_same_bits_on_any_threads) {
    Norm p;
    norm_open(&p, true);
    cr_assert(same_bits_on_any_threads(norm_run, &p, N * C + N * LD + C));
    norm_close(&p);
}

// ---- gates -------------------------------------------------------------------------------------

enum { G = 6 };

typedef struct Gates {
    double most[GATE_KINDS];
    real *inp, *bias, *dout, *out;
} Gates;

static double gates_loss(void *user) {
    Gates *p = user;
    gates_forward(p->out, p->inp, p->bias, p->most, N, G);
    return weighted_sum(p->out, p->dout, N * G);
}

Test(gates, are_sigmoids_up_to_a_limit_of_each_kind) {
    Gates p = {.most = {1, 0, 0.25}};
    p.inp = numbers_normal(N * G, 1), p.bias = numbers_normal(G, 2);
    p.dout = numbers_normal(N * G, 3), p.out = numbers_poison(N * G);
    real *dinp = calloc(N * G, sizeof(real)), *dbias = calloc(G, sizeof(real));
    gates_loss(&p);
    for (int i = 0; i < N * G; i++) {
        double z = (double)p.inp[i] + (double)p.bias[i % G];
        cr_assert_float_eq(p.out[i], p.most[i % G / 2] / (1 + exp(-z)), TWIN_TOLERANCE);
    }
    gates_backward(dinp, dbias, p.dout, p.out, p.most, N, G);
    for (int t = 0; t < N; t++) cr_assert_eq(dinp[t * G + 2], 0, "a gate without room");
#if GRADCHECK_RUNS
    cr_expect_leq(gradcheck("x", gates_loss, &p, p.inp, dinp, N * G), GRADCHECK_TOLERANCE);
    cr_expect_leq(gradcheck("bias", gates_loss, &p, p.bias, dbias, G), GRADCHECK_TOLERANCE);
#endif
    free(p.inp), free(p.bias), free(p.dout), free(p.out), free(dinp), free(dbias);
}

// ---- a * sigmoid(b) ----------------------------------------------------------------------------

typedef struct Product {
    real *a, *b, *dout, *out;
} Product;

static double product_loss(void *user) {
    Product *p = user;
    sigmul_forward(p->out, p->a, p->b, N * C);
    return weighted_sum(p->out, p->dout, N * C);
}

Test(sigmul, is_its_definition) {
    Product p = {numbers_normal(N * C, 1), numbers_normal(N * C, 2), numbers_normal(N * C, 3),
                 numbers_poison(N * C)};
    real *da = calloc(N * C, sizeof(real)), *db = calloc(N * C, sizeof(real));
    product_loss(&p);
    sigmul_backward(da, db, p.dout, p.a, p.b, N * C);
    for (int i = 0; i < N * C; i++) {
        double a = (double)p.a[i], s = 1 / (1 + exp(-(double)p.b[i])), d = (double)p.dout[i];
        cr_assert_float_eq(p.out[i], a * s, 5 * TWIN_TOLERANCE);
        cr_assert_float_eq(da[i], d * s, 5 * TWIN_TOLERANCE);
        cr_assert_float_eq(db[i], d * a * s * (1 - s), 5 * TWIN_TOLERANCE);
    }
    free(p.a), free(p.b), free(p.dout), free(p.out), free(da), free(db);
}

// ---- what a convolution hands on ---------------------------------------------------------------

enum { ROWS = 2, K = 4, WIDTH = 5 };

// Rows read in pieces, each with the tail that the piece before has left, give what they give
// whole.
Test(conv_tail, goes_on_where_a_row_was_cut) {
    const int piece[] = {1, 2, 7, 0, 3, 1};
    enum { T = 14 };
    real *inp = numbers_normal(ROWS * T * WIDTH, 1), *weight = numbers_normal(WIDTH * K, 2);
    real *whole = numbers_poison(ROWS * T * WIDTH),
         *tail = calloc(ROWS * (K - 1) * WIDTH, sizeof(real));
    int64_t pos[ROWS * T];
    for (int i = 0; i < ROWS * T; i++) pos[i] = i % T;
    ConvDims d = {
        .B = ROWS, .T = T, .C = WIDTH, .K = K, .ld_inp = WIDTH, .ld_dinp = WIDTH, .pos = pos};
    conv_forward(whole, inp, weight, NULL, &d);
    for (int p = 0, at = 0; p < 6; at += piece[p++]) {
        real part[ROWS * T * WIDTH], out[ROWS * T * WIDTH];
        int64_t part_pos[ROWS * T];
        d.T = piece[p], d.pos = part_pos;
        for (int r = 0; r < ROWS; r++) {
            for (int t = 0; t < d.T; t++) part_pos[r * d.T + t] = at + t;
            memcpy(part + r * d.T * WIDTH, inp + (r * T + at) * WIDTH,
                   (size_t)(d.T * WIDTH) * sizeof(real));
        }
        conv_forward(out, part, weight, tail, &d);
        conv_tail(tail, tail, part, &d);
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < d.T * WIDTH; i++)
                cr_assert_eq(out[r * d.T * WIDTH + i], whole[(r * T + at) * WIDTH + i],
                             "piece %d, row %d", p, r);
    }
    free(inp), free(weight), free(whole), free(tail);
}

// The map is linear: <next, g> = <inp, dinp> + <tail, dtail>.
Test(conv_tail, has_the_transposed_map_for_its_gradient) {
    for (int T = 0; T < 6; T++) {
        enum { TAIL = ROWS * (K - 1) * WIDTH };
        size_t count = (size_t)(ROWS * T * WIDTH);
        real *inp = numbers_normal(count, 1), *tail = numbers_normal(TAIL, 2);
        real *next = numbers_poison(TAIL), *g = numbers_normal(TAIL, 3);
        real *dinp = calloc(count + 1, sizeof(real)), *dtail = calloc(TAIL, sizeof(real));
        ConvDims d = {.B = ROWS, .T = T, .C = WIDTH, .K = K, .ld_inp = WIDTH, .ld_dinp = WIDTH};
        conv_tail(next, tail, inp, &d);
        conv_tail_backward(dinp, dtail, g, &d);
        double there = weighted_sum(next, g, TAIL);
        double back = weighted_sum(inp, dinp, count) + weighted_sum(tail, dtail, TAIL);
        cr_assert_float_eq(there, back, 1e-5, "%d tokens", T);
        free(inp), free(tail), free(next), free(g), free(dinp), free(dtail);
    }
}
