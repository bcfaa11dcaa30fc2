// Embedding against its twin, slices of the table, repeated tokens, the pad row, gradients, thread
// counts.
#include <criterion/criterion.h>

#include <stdlib.h>

#include "base/rng.h"
#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

enum { VOCAB = 11 };

// Tokens with many repetitions.
static int32_t *tokens_new(int N) {
    int32_t *tokens = malloc((size_t)N * sizeof *tokens);
    for (int t = 0; t < N; t++) {
        tokens[t] = (int32_t)(rng_u64(5, STREAM_TEST, (uint64_t)t) % VOCAB);
    }
    return tokens;
}

static void compare_with_twin(int N, int C) {
    size_t n = (size_t)N * (size_t)C, rows = (size_t)VOCAB * (size_t)C;
    int32_t *tokens = tokens_new(N);
    real *table = numbers_normal(rows, 1), *dout = numbers_normal(n, 2);
    real *out = numbers_poison(n), *want = numbers_poison(n);
    real *dtable = numbers_normal(rows, 3), *want_dtable = numbers_copy(dtable, rows);

    embed_forward(out, table, tokens, (real)3.5, 0, VOCAB, N, C);
    ref_embed_forward(want, table, tokens, (real)3.5, 0, VOCAB, N, C);
    cr_assert_leq(numbers_distance(out, want, n), TWIN_TOLERANCE, "forward %d x %d", N, C);

    embed_backward(dtable, dout, tokens, (real)3.5, 2, 0, VOCAB, N, C);
    ref_embed_backward(want_dtable, dout, tokens, (real)3.5, 2, 0, VOCAB, N, C);
    cr_assert_leq(numbers_distance(dtable, want_dtable, rows), TWIN_TOLERANCE, "backward");

    free(tokens), free(table), free(dout), free(out), free(want), free(dtable), free(want_dtable);
}

Test(embed, agrees_with_its_twin_for_odd_sizes) {
    const int sizes[][2] = {{0, 3}, {3, 0}, {1, 1}, {3, 7}, {7, 3}, {31, 65}, {40, 131}, {5, 1033}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        compare_with_twin(sizes[i][0], sizes[i][1]);
    }
}

// Every slice against its twin; outputs of all slices add up to the whole, gradients are its rows.
static void check_slices(const int *lengths, int pad) {
    enum { N = 40, C = 7 };
    int32_t *tokens = tokens_new(N);
    real *table = numbers_normal(VOCAB * C, 1), *dout = numbers_normal(N * C, 2);
    real *whole = numbers_poison(N * C), *sum = calloc(N * C, sizeof(real));
    real *out = numbers_poison(N * C), *want = numbers_poison(N * C);
    real *dwhole = calloc(VOCAB * C, sizeof(real)), *dslices = calloc(VOCAB * C, sizeof(real));
    embed_forward(whole, table, tokens, 2, 0, VOCAB, N, C);
    embed_backward(dwhole, dout, tokens, 2, pad, 0, VOCAB, N, C);
    for (int n = 0, first = 0; lengths[n] >= 0; first += lengths[n++]) {
        const real *slice = table + first * C;
        embed_forward(out, slice, tokens, 2, first, lengths[n], N, C);
        ref_embed_forward(want, slice, tokens, 2, first, lengths[n], N, C);
        cr_assert_arr_eq(out, want, N * C * sizeof(real));
        for (int i = 0; i < N * C; i++) sum[i] += out[i];
        embed_backward(dslices + first * C, dout, tokens, 2, pad, first, lengths[n], N, C);
    }
    cr_assert_arr_eq(sum, whole, N * C * sizeof(real));
    cr_assert_arr_eq(dslices, dwhole, VOCAB * C * sizeof(real), "pad %d", pad);
    free(tokens), free(table), free(dout), free(whole), free(sum), free(out), free(want);
    free(dwhole), free(dslices);
}

Test(embed, slices_of_the_table_add_up_to_the_whole) {
    const int cuts[][5] = {{11, -1}, {0, 11, -1}, {5, 6, -1}, {1, 9, 1, -1}, {3, 4, 0, 4, -1}};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        check_slices(cuts[i], -1);
        check_slices(cuts[i], 0);
        check_slices(cuts[i], 7);
    }
}

Test(embed, the_pad_row_gets_no_gradient_and_minus_one_means_no_pad) {
    const int32_t tokens[4] = {0, 1, 0, 1};
    const real dout[4] = {1, 2, 3, 4};
    real dtable[2] = {10, 20};
    embed_backward(dtable, dout, tokens, 2, 0, 0, 2, 4, 1);
    cr_assert_eq(dtable[0], 10);
    cr_assert_eq(dtable[1], 20 + 2 * (2 + 4));
    embed_backward(dtable, dout, tokens, 2, -1, 0, 2, 4, 1);
    cr_assert_eq(dtable[0], 10 + 2 * (1 + 3));
}

typedef struct ThreadCase {
    int32_t *tokens;
    real *dout;
    int N, C;
} ThreadCase;

static void run_backward(void *ctx, real *out) {
    ThreadCase *c = ctx;
    embed_backward(out, c->dout, c->tokens, (real)0.7, -1, 0, VOCAB, c->N, c->C);
}

Test(embed, sums_repeated_tokens_alike_on_any_number_of_threads) {
    ThreadCase c = {.N = 301, .C = 203};
    c.tokens = tokens_new(c.N);
    c.dout = numbers_normal((size_t)c.N * (size_t)c.C, 1);
    cr_assert(same_bits_on_any_threads(run_backward, &c, VOCAB * (size_t)c.C));
    free(c.tokens), free(c.dout);
}

#if GRADCHECK_RUNS
typedef struct EmbedCase {
    real *table, *out, *weight;
    int32_t *tokens;
    int N, C;
} EmbedCase;

static double embed_loss(void *ctx) {
    EmbedCase *c = ctx;
    embed_forward(c->out, c->table, c->tokens, 1.5, 0, VOCAB, c->N, c->C);
    return weighted_sum(c->out, c->weight, (size_t)c->N * (size_t)c->C);
}

Test(embed, gradient_matches_differences) {
    EmbedCase c = {.N = 23, .C = 5};
    size_t n = (size_t)c.N * (size_t)c.C, rows = (size_t)VOCAB * (size_t)c.C;
    c.table = numbers_normal(rows, 1), c.weight = numbers_normal(n, 2), c.out = numbers_poison(n);
    c.tokens = tokens_new(c.N);
    real *dtable = calloc(rows, sizeof(real));
    embed_backward(dtable, c.weight, c.tokens, 1.5, -1, 0, VOCAB, c.N, c.C);
    cr_assert_leq(gradcheck("embed", embed_loss, &c, c.table, dtable, rows), GRADCHECK_TOLERANCE);
    free(c.table), free(c.weight), free(c.out), free(c.tokens), free(dtable);
}
#endif
