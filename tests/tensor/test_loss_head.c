// The loss head over a vocabulary that is cut over ranks: slices and a fold give the loss, the
// losses of tokens and the gradients of the whole, in the same blocks everywhere.
#include <criterion/criterion.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/ops.h"
#include "tests/gradcheck.h"

// Three blocks of rows: 64 is the least a block has, and what a vocabulary of WIDEST columns gets.
enum { N = 150, C = 6, V = 23, BLOCKS = 3, WIDEST = 1 << 20, SLICES = 4 };

typedef struct Head {
    real *x, *w;  // (N,C), (V,C)
    int32_t targets[N];
    Batch batch;
} Head;

typedef struct Result {
    double loss, losses[N];
    real dx[N * C], dw[V * C];
} Result;

// Ranks run one after another here, so every slice runs twice: the first time it leaves its lse and
// hit, the second time it gets those of all slices.
typedef struct Ranks {
    double lse[SLICES][N], hit[SLICES][N];
    int count, rank, row, calls;
    bool deaf;  // the first time
} Ranks;

static void head_open(Head *h) {
    h->x = numbers_normal(N * C, 1), h->w = numbers_normal(V * C, 2);
    for (int t = 0; t < N; t++) h->targets[t] = t % 7 == 3 ? IGNORE_TARGET : t * 5 % V;
    h->batch = (Batch){.seq = {.B = 1, .T = N}, .targets = h->targets};
}

static void head_free(Head *h) {
    free(h->x), free(h->w);
}

static void fold(double *lse, double *hit, int n, double *room, void *user) {
    for (int i = 0; i < 2 * n; i++) room[i] = 0;
    Ranks *r = user;
    r->calls++;
    for (int i = 0, t = r->row; i < n && r->deaf; i++, t++) {
        r->lse[r->rank][t] = lse[i];
        r->hit[r->rank][t] = hit[i];
    }
    for (int i = 0, t = r->row; i < n && !r->deaf; i++, t++) {
        double most = -1e300, sum = 0;
        for (int s = 0; s < r->count; s++) most = fmax(most, r->lse[s][t]);
        hit[i] = 0;
        for (int s = 0; s < r->count; s++) {
            sum += exp(r->lse[s][t] - most);
            hit[i] += r->hit[s][t];
        }
        lse[i] = most + log(sum);
    }
    r->row += n;
}

// Rows [first, first+rows) of the head; gradients where the tape records.
static void run(const Head *h, Result *out, int first, int rows, const LossFold *f, bool record) {
    Tape *tp = tape_new();
    for (int dry = 1; dry >= 0; dry--) {
        dry ? tape_dry(tp, record) : tape_begin(tp, record);
        Tensor *x = tape_leaf(tp, h->x, h->batch.seq.T, C);
        Tensor *w = tape_leaf(tp, h->w + first * C, rows, C);
        Tensor *loss = op_loss_head(tp, x, w, &h->batch, out->losses, f);
        if (record) tape_backward(tp, loss);
        if (dry) {
            cr_assert_eq(tape_reserve(tp), OK);
            continue;
        }
        out->loss = tensor_item(loss);
        if (!record) continue;
        memcpy(out->dx, tape_grad(tp, x), (size_t)h->batch.seq.T * C * sizeof(real));
        memcpy(out->dw + first * C, tape_grad(tp, w), (size_t)(rows * C) * sizeof(real));
    }
    tape_free(tp);
}

// One slice, as rank `rank`.
static void run_slice(const Head *h, Result *out, Ranks *r, int first, int rows, bool record) {
    LossFold f = {.first = first, .columns_most = WIDEST, .fold = fold, .ranks = 1, .user = r};
    r->row = r->calls = 0;
    run(h, out, first, rows, &f, record);
    cr_assert_eq(r->calls, h->batch.seq.T > 0 ? BLOCKS : 0, "%d blocks", r->calls);
}

static void compare_loss(const Result *got, const Result *want) {
    cr_assert_leq(fabs(got->loss / want->loss - 1), TWIN_TOLERANCE);
    for (int t = 0; t < N; t++)
        cr_assert_leq(fabs(got->losses[t] - want->losses[t]), 10 * TWIN_TOLERANCE, "token %d", t);
}

static void check(const Head *h, const Result *want, const int *lengths, bool record) {
    static Ranks r;
    static Result got;
    real dx[N * C] = {0};
    r.count = 0;
    while (lengths[r.count] >= 0) r.count++;
    for (int pass = 0; pass < 2; pass++) {
        r.deaf = pass == 0;
        r.rank = 0;
        for (int first = 0; r.rank < r.count; first += lengths[r.rank++]) {
            run_slice(h, &got, &r, first, lengths[r.rank], record);
            if (r.deaf) continue;
            compare_loss(&got, want);
            for (int i = 0; i < N * C && record; i++) dx[i] += got.dx[i];
        }
    }
    if (!record) return;
    cr_assert_leq(numbers_distance(dx, want->dx, N * C), TWIN_TOLERANCE);
    cr_assert_leq(numbers_distance(got.dw, want->dw, V * C), TWIN_TOLERANCE);
}

Test(loss_head, slices_of_the_vocabulary_fold_to_the_whole) {
    const int cuts[][SLICES + 1] = {{23, -1},       {12, 11, -1},   {0, 23, -1},
                                    {1, 21, 1, -1}, {9, 0, 14, -1}, {3, 4, 15, 1, -1}};
    static Result trained, evaluated;
    Head h;
    head_open(&h);
    run(&h, &trained, 0, V, NULL, true);
    run(&h, &evaluated, 0, V, NULL, false);
    cr_assert_eq(trained.loss, evaluated.loss);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        check(&h, &trained, cuts[i], true);
        check(&h, &evaluated, cuts[i], false);
    }
    head_free(&h);
}

Test(loss_head, a_batch_without_tokens_folds_nothing) {
    static Ranks r;
    static Result out;
    Head h;
    head_open(&h);
    h.batch.seq.T = 0;
    run_slice(&h, &out, &r, 5, 9, true);
    run_slice(&h, &out, &r, 5, 9, false);
    cr_assert_eq(out.loss, 0);
    head_free(&h);
}

// A broken logit of one slice must end the run on every rank.
Test(loss_head, a_logit_that_is_not_finite_in_one_slice_makes_the_loss_nan) {
    static Ranks r;
    static Result out;
    Head h;
    head_open(&h);
    h.w[20 * C] = (real)INFINITY;
    r.count = 1;
    for (int pass = 0; pass < 2; pass++) {
        r.deaf = pass == 0;
        run_slice(&h, &out, &r, 12, 11, false);
    }
    cr_assert(isnan(out.loss));
    head_free(&h);
}
