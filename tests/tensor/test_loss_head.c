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
    real weights[N];
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
    for (int t = 0; t < N; t++) {
        h->targets[t] = t % 7 == 3 ? IGNORE_TARGET : t * 5 % V;
        h->weights[t] = t % 5 == 2 ? 0 : (real)(t % 4) + (real)0.25;
    }
    h->batch = (Batch){.seq = {.B = 1, .T = N}, .targets = h->targets, .weights = h->weights};
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

Test(loss_head, weights_are_of_targets) {
    static Result weighted, plain, ones;
    Head h;
    double want = 0;
    head_open(&h);
    run(&h, &weighted, 0, V, NULL, true);
    h.batch.weights = NULL;
    run(&h, &plain, 0, V, NULL, true);
    for (int t = 0; t < N; t++) {
        want += (double)h.weights[t] * plain.losses[t];
        cr_assert_eq(weighted.losses[t], plain.losses[t]);
        for (int c = 0; c < C; c++)
            cr_assert_leq(fabs(weighted.dx[t * C + c] - h.weights[t] * plain.dx[t * C + c]),
                          TWIN_TOLERANCE);
        h.weights[t] = 1;
    }
    cr_assert_float_eq(weighted.loss, want, 1e-9 * fabs(want));
    h.batch.weights = h.weights;
    run(&h, &ones, 0, V, NULL, true);
    cr_assert(ones.loss == plain.loss && memcmp(ones.dx, plain.dx, sizeof ones.dx) == 0 &&
              memcmp(ones.dw, plain.dw, sizeof ones.dw) == 0);
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

// ---- log-probabilities -------------------------------------------------------------------------

typedef struct LogProbs {
    Head *head;
    double temperature;
    const uint8_t *banned;
    const real *pull, *push;  // (N) weights of log-probabilities and entropies in the loss
    real logp[N], entropy[N], dx[N * C], dw[V * C];
    double loss;
} LogProbs;

static void run_log_probs(LogProbs *p, int first, int rows, const LossFold *f) {
    Tape *tp = tape_new();
    LogProbArgs args = {p->temperature, p->banned, f};
    for (int dry = 1; dry >= 0; dry--) {
        dry ? tape_dry(tp, true) : tape_begin(tp, true);
        Tensor *x = tape_leaf(tp, p->head->x, N, C), *entropy;
        Tensor *w = tape_leaf(tp, p->head->w + first * C, rows, C);
        Tensor *logp = op_log_probs(tp, x, w, &p->head->batch, &args, &entropy);
        Tensor *loss = op_loss_sum(tp, op_loss_total(tp, logp, p->pull), 1,
                                   op_loss_total(tp, entropy, p->push), 0.5);
        if (!dry) {
            memcpy(p->logp, logp->data, sizeof p->logp);
            memcpy(p->entropy, entropy->data, sizeof p->entropy);
        }
        tape_backward(tp, loss);
        if (dry) {
            cr_assert_eq(tape_reserve(tp), OK);
            continue;
        }
        p->loss = tensor_item(loss);
        memcpy(p->dx, tape_grad(tp, x), sizeof p->dx);
        memcpy(p->dw + first * C, tape_grad(tp, w), (size_t)(rows * C) * sizeof(real));
    }
    tape_free(tp);
}

static void log_probs_open(LogProbs *p, Head *h, const uint8_t *banned) {
    static real push[N];
    head_open(h);
    for (int t = 0; t < N; t++) push[t] = (real)(t % 3) - (real)0.5;
    for (int t = 0; t < N && banned != NULL; t++)
        if (h->targets[t] != IGNORE_TARGET && banned[h->targets[t]]) h->targets[t] = IGNORE_TARGET;
    *p = (LogProbs){
        .head = h, .temperature = 0.7, .banned = banned, .pull = h->weights, .push = push};
}

static const uint8_t BANNED[V] = {[0] = 1, [11] = 1, [22] = 1};

// Softmax and entropy by their definitions.
Test(log_probs, are_those_of_the_tempered_distribution_without_banned_tokens) {
    static LogProbs p;
    Head h;
    log_probs_open(&p, &h, BANNED);
    run_log_probs(&p, 0, V, NULL);
    for (int t = 0; t < N; t++) {
        double logit[V], sum = 0, entropy = 0;
        for (int v = 0; v < V; v++) {
            logit[v] = 0;
            for (int c = 0; c < C; c++)
                logit[v] += (double)h.x[t * C + c] * (double)h.w[v * C + c] / p.temperature;
            if (!BANNED[v]) sum += exp(logit[v]);
        }
        for (int v = 0; v < V; v++)
            if (!BANNED[v]) entropy -= exp(logit[v]) / sum * (logit[v] - log(sum));
        double want = h.targets[t] == IGNORE_TARGET ? 0 : logit[h.targets[t]] - log(sum);
        cr_assert_float_eq(p.logp[t], want, 20 * TWIN_TOLERANCE, "token %d", t);
        cr_assert_float_eq(p.entropy[t], entropy, 20 * TWIN_TOLERANCE, "token %d", t);
    }
    head_free(&h);
}

// Minus their sum is the cross-entropy, with its gradients.
Test(log_probs, agree_with_the_loss_head) {
    static LogProbs p;
    static Result want;
    static real zero[N];
    Head h;
    log_probs_open(&p, &h, NULL);
    p.temperature = 1;
    p.push = zero;
    run_log_probs(&p, 0, V, NULL);
    run(&h, &want, 0, V, NULL, true);
    cr_assert_float_eq(-p.loss, want.loss, 1e-5 * want.loss);
    for (int i = 0; i < N * C; i++) p.dx[i] = -p.dx[i];
    for (int i = 0; i < V * C; i++) p.dw[i] = -p.dw[i];
    cr_assert_leq(numbers_distance(p.dx, want.dx, N * C), TWIN_TOLERANCE);
    cr_assert_leq(numbers_distance(p.dw, want.dw, V * C), TWIN_TOLERANCE);
    head_free(&h);
}

// As rank `rank` of two; `deaf`: what it tells is noted, what it hears is its own. A block folds
// twice, lse with hits and lse with mean logits: the second time the lse are all alike.
typedef struct Pair {
    double lse[2][2][N], hit[2][2][N];  // by rank and fold
    int rank, row[2], turn;
    bool deaf[2];
} Pair;

static void fold_pair(double *lse, double *hit, int n, double *room, void *user) {
    (void)room;
    Pair *r = user;
    int which = r->turn++ % 2, *row = &r->row[which];
    for (int i = 0, t = *row; i < n; i++, t++) {
        double(*l)[N] = r->lse[which], (*h)[N] = r->hit[which];
        if (r->deaf[which]) {
            l[r->rank][t] = lse[i];
            h[r->rank][t] = hit[i];
            continue;
        }
        double most = fmax(l[0][t], l[1][t]);
        lse[i] = most + log(exp(l[0][t] - most) + exp(l[1][t] - most));
        hit[i] = h[0][t] + h[1][t];
    }
    *row += n;
}

Test(log_probs, slices_of_the_vocabulary_fold_to_the_whole) {
    static LogProbs whole, part;
    static Pair r;
    static const int CUTS[] = {12, 1, 23};
    Head h, same;
    log_probs_open(&whole, &h, BANNED);
    run_log_probs(&whole, 0, V, NULL);
    for (int cut = 0; cut < 3; cut++) {
        real dx[N * C] = {0};
        log_probs_open(&part, &same, BANNED);
        for (int pass = 0; pass < 3; pass++) {  // first lse and hits become known, then means
            r.deaf[0] = pass == 0;
            r.deaf[1] = pass < 2;
            for (r.rank = 0; r.rank < 2; r.rank++) {
                int first = r.rank == 0 ? 0 : CUTS[cut], rows = r.rank == 0 ? CUTS[cut] : V - first;
                LossFold f = {.first = first,
                              .columns_most = WIDEST,
                              .fold = fold_pair,
                              .ranks = 1,
                              .user = &r};
                r.row[0] = r.row[1] = r.turn = 0;
                run_log_probs(&part, first, rows, &f);
                for (int i = 0; i < N * C && pass == 2; i++) dx[i] += part.dx[i];
            }
        }
        for (int t = 0; t < N; t++) {
            cr_assert_float_eq(part.logp[t], whole.logp[t], 10 * TWIN_TOLERANCE);
            cr_assert_float_eq(part.entropy[t], whole.entropy[t], 10 * TWIN_TOLERANCE);
        }
        cr_assert_leq(numbers_distance(dx, whole.dx, N * C), TWIN_TOLERANCE);
        cr_assert_leq(numbers_distance(part.dw, whole.dw, V * C), TWIN_TOLERANCE);
        head_free(&same);
    }
    head_free(&h);
}

#if GRADCHECK_RUNS
static double log_probs_loss(void *ctx) {
    run_log_probs(ctx, 0, V, NULL);
    return ((LogProbs *)ctx)->loss;
}

Test(log_probs, gradients_match_differences) {
    static LogProbs p;
    Head h;
    log_probs_open(&p, &h, BANNED);
    log_probs_loss(&p);
    real *dx = numbers_copy(p.dx, N * C), *dw = numbers_copy(p.dw, V * C);
    cr_assert_leq(gradcheck("x", log_probs_loss, &p, h.x, dx, N * C), GRADCHECK_TOLERANCE);
    cr_assert_leq(gradcheck("w", log_probs_loss, &p, h.w, dw, V * C), GRADCHECK_TOLERANCE);
    free(dx), free(dw);
    head_free(&h);
}
#endif
