// The tape: gradients reach their owners, hooks fire when they should, a live run fits the memory
// of the dry run, and recomputation saves memory without changing a bit.
#include "tensor/tape.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/ops.h"
#include "tensor/progress.h"
#include "tests/gradcheck.h"

enum { N = 7, C = 6, V = 9, LAYERS = 4 };

// ---- a small network: embedding, blocks of a gated product, a head that may be the embedding
// -----

typedef struct Net {
    ParamSet ps;
    int embed, head, weight[LAYERS];
    bool recompute;
    int32_t tokens[N], targets[N];
    Batch b;
} Net;

static void net_open_with(Net *net, bool tied, bool recompute, bool gradients) {
    *net = (Net){.recompute = recompute};
    net->embed = params_add(&net->ps, "embed", 2, (int[]){V, C}, INIT_NORMAL, 0.5);
    for (int l = 0; l < LAYERS; l++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", l);
        net->weight[l] = params_add(&net->ps, name, 2, (int[]){2 * C, C}, INIT_NORMAL, 0.5);
    }
    net->head =
        tied ? net->embed : params_add(&net->ps, "head", 2, (int[]){V, C}, INIT_NORMAL, 0.5);
    cr_assert_eq(params_reserve(&net->ps, gradients), OK);
    params_init(&net->ps, 3);
    for (int i = 0; i < N; i++) {
        net->tokens[i] = (i * 5) % V;
        net->targets[i] = (i * 7 + 1) % V;
    }
    net->b = (Batch){.seq = {.B = 1, .T = N}, .tokens = net->tokens, .targets = net->targets};
}

static void net_open(Net *net, bool tied, bool recompute) {
    net_open_with(net, tied, recompute, true);
}

typedef struct BlockArgs {
    Net *net;
    int layer;
} BlockArgs;

// x + a * b, where a and b are the two halves of one product.
static Tensor *block(Tape *tp, Tensor *x, const void *args) {
    const BlockArgs *a = args;
    Param *w = &a->net->ps.rows[a->net->weight[a->layer]];
    Tensor *y = op_linear(tp, op_srms(tp, x, (real)1e-6), tape_param(tp, w));
    Tensor *product = op_mul(tp, tape_cols(tp, y, 0, C), tape_cols(tp, y, C, C));
    tape_site(tp, SITE_MIXER_OUT, a->layer, product);
    return op_add(tp, x, product);
}

static Tensor *net_hidden(Tape *tp, Net *net) {
    Tensor *x = op_embed(tp, tape_param(tp, &net->ps.rows[net->embed]), &net->b, 1, -1, 0);
    for (int l = 0; l < LAYERS; l++) {
        BlockArgs args = {net, l};
        x = net->recompute ? tape_checkpoint(tp, block, x, &args, sizeof args)
                           : block(tp, x, &args);
    }
    return x;
}

static Tensor *net_log_probs(Tape *tp, Net *net) {
    Tensor *x = net_hidden(tp, net), *head = tape_param(tp, &net->ps.rows[net->head]);
    return op_log_probs(tp, x, head, &net->b, &(LogProbArgs){.temperature = 1}, NULL);
}

static Tensor *net_loss(Tape *tp, Net *net) {
    Tensor *x = net_hidden(tp, net);
    return op_loss_head(tp, x, tape_param(tp, &net->ps.rows[net->head]), &net->b, NULL, NULL);
}

static Tape *net_tape(Net *net, bool record) {
    Tape *tp = tape_new();
    tape_dry(tp, record);
    Tensor *loss = net_loss(tp, net);
    if (record) tape_backward(tp, loss);
    cr_assert_eq(tape_reserve(tp), OK);
    return tp;
}

static double net_train(Tape *tp, Net *net) {
    tape_begin(tp, true);
    params_zero_grad(&net->ps);
    Tensor *loss = net_loss(tp, net);
    tape_backward(tp, loss);
    return tensor_item(loss);
}

// ---- hooks -------------------------------------------------------------------------------------

typedef struct Seen {
    Net *net;
    int ready[LAYERS + 2];
    int order[LAYERS + 2], count;  // rows in the order they were said to be ready
    real *at_ready[LAYERS + 2];    // the gradient when the parameter was said to be ready
} Seen;

static void on_ready(Param *p, void *user) {
    Seen *s = user;
    int row = (int)(p - s->net->ps.rows);
    s->ready[row]++;
    s->order[s->count++ % (LAYERS + 2)] = row;
    free(s->at_ready[row]);
    s->at_ready[row] = numbers_copy(p->grad, p->count);
}

static int progressed;
static void on_progress(void) {
    progressed++;
}

static void check_ready(bool tied, bool recompute) {
    Net net;
    net_open(&net, tied, recompute);
    Tape *tp = net_tape(&net, true);
    Seen seen = {.net = &net};
    tape_on_ready(tp, on_ready, &seen);
    progress_set(on_progress);
    for (int pass = 1; pass <= 2; pass++) {
        net_train(tp, &net);
        for (int i = 0; i < net.ps.count; i++) {
            const Param *p = &net.ps.rows[i];
            cr_expect_eq(seen.ready[i], pass, "tied=%d recompute=%d: %s is ready %d times", tied,
                         recompute, p->name, seen.ready[i]);
            cr_assert_not_null(seen.at_ready[i]);
            cr_expect_eq(memcmp(seen.at_ready[i], p->grad, p->count * sizeof(real)), 0,
                         "%s changes after it was said to be ready", p->name);
            cr_expect_eq(p->uses, 0);
        }
    }
    cr_expect_gt(progressed, 2 * LAYERS);
    for (int i = 0; i < net.ps.count; i++) free(seen.at_ready[i]);
    tape_free(tp);
    params_free(&net.ps);
}

Test(tape, says_once_that_a_parameter_is_ready_and_then_leaves_it_alone) {
    for (int i = 0; i < 4; i++) check_ready(i & 1, i & 2);
}

// A late weight is ready after the embedding, whose gradient backward otherwise finds last; inside
// of segments it is not late. The bits are those of the weight that is not late.
static void check_late(bool recompute) {
    Net net;
    net_open(&net, false, recompute);
    Tape *plain = net_tape(&net, true);
    net_train(plain, &net);
    real *expected = numbers_copy(net.ps.grad, net.ps.total);
    net.ps.rows[net.weight[0]].late = true;
    Tape *tp = net_tape(&net, true);
    cr_expect_eq(tape_bytes(tp), tape_bytes(plain), "a late part of the last layer costs memory");
    Seen seen = {.net = &net};
    tape_on_ready(tp, on_ready, &seen);
    for (int pass = 1; pass <= 2; pass++) {
        net_train(tp, &net);
        cr_expect_eq(memcmp(net.ps.grad, expected, net.ps.total * sizeof(real)), 0);
        cr_expect_eq(seen.order[net.ps.count - 1], recompute ? net.embed : net.weight[0]);
        cr_expect_eq(seen.order[net.ps.count - 2], recompute ? net.weight[0] : net.embed);
        for (int i = 0; i < net.ps.count; i++) cr_expect_eq(seen.ready[i], pass);
        seen.count = 0;
    }
    for (int i = 0; i < net.ps.count; i++) free(seen.at_ready[i]);
    free(expected);
    tape_free(plain);
    tape_free(tp);
    params_free(&net.ps);
}

Test(tape, leaves_a_late_weight_for_after_the_walk) {
    check_late(false);
    check_late(true);
}

// A pass that was begun and dropped leaves no use behind.
Test(tape, forgets_uses_of_a_dropped_pass) {
    Net net;
    net_open(&net, true, false);
    Tape *tp = net_tape(&net, true);
    Seen seen = {.net = &net};
    tape_begin(tp, true);
    net_loss(tp, &net);  // no backward
    tape_on_ready(tp, on_ready, &seen);
    net_train(tp, &net);
    for (int i = 0; i < net.ps.count; i++) {
        cr_expect_eq(seen.ready[i], 1, "%s: %d", net.ps.rows[i].name, seen.ready[i]);
        free(seen.at_ready[i]);
    }
    tape_free(tp);
    params_free(&net.ps);
}

static void zero_product(Site site, int layer, Tensor *x, void *user) {
    cr_assert_eq(site, SITE_MIXER_OUT);
    if (layer != *(int *)user) return;
    memset(x->data, 0, (size_t)x->rows * (size_t)x->cols * sizeof(real));
}

// A block whose product is silenced is a block whose weights are zero.
Test(tape, lets_a_site_hook_change_a_tensor) {
    Net net;
    int layer = 2;
    net_open(&net, true, false);
    Tape *tp = net_tape(&net, false);
    tape_begin(tp, false);
    double plain = tensor_item(net_loss(tp, &net));
    tape_at_sites(tp, zero_product, &layer);
    tape_begin(tp, false);
    double silenced = tensor_item(net_loss(tp, &net));
    tape_at_sites(tp, NULL, NULL);
    Param *w = &net.ps.rows[net.weight[layer]];
    memset(w->data, 0, w->count * sizeof(real));
    tape_begin(tp, false);
    double without = tensor_item(net_loss(tp, &net));
    cr_assert_eq(silenced, without);
    cr_assert_neq(silenced, plain);
    tape_free(tp);
    params_free(&net.ps);
}

// ---- gradients ---------------------------------------------------------------------------------

// Columns used by several ops, a view of a view, and columns nobody uses.
Test(tape, adds_gradients_of_column_views_into_the_owner) {
    real data[N * C], grad[N * 2], got[N * C];
    for (int i = 0; i < N * C; i++) data[i] = (real)(i % 11) - 5;
    for (int i = 0; i < N * 2; i++) grad[i] = (real)(i + 1);
    Tape *tp = tape_new();
    for (int dry = 1; dry >= 0; dry--) {
        if (dry)
            tape_dry(tp, true);
        else
            tape_begin(tp, true);
        Tensor *x = tape_leaf(tp, data, N, C);
        Tensor *inner = tape_cols(tp, tape_cols(tp, x, 1, 4), 2, 2);  // columns 3, 4
        cr_assert(inner->base == x && inner->col == 3 && inner->ld == C);
        Tensor *y = op_mul(tp, tape_cols(tp, x, 0, 2), inner);
        Tensor *z = op_mul(tp, tape_cols(tp, x, 0, 2), tape_cols(tp, x, 1, 2));
        Tensor *sum = op_add(tp, y, z);
        tape_backward_from(tp, sum, grad);
        if (dry) {
            cr_assert_eq(tape_reserve(tp), OK);
        } else {
            memcpy(got, tape_grad(tp, x), sizeof got);
        }
    }
    for (int i = 0; i < N; i++) {
        const real *a = data + i * C, *g = grad + i * 2;
        real wanted[C] = {g[0] * (a[3] + a[1]), g[1] * (a[4] + a[2]) + g[0] * a[0],
                          g[1] * a[1],          g[0] * a[0],
                          g[1] * a[1],          0};
        for (int c = 0; c < C; c++) cr_assert_eq(got[i * C + c], wanted[c], "row %d col %d", i, c);
    }
    tape_free(tp);
}

// Rows of columns, of a leaf and of a parameter.
Test(tape, adds_gradients_of_row_views_into_the_owner) {
    enum { R = 4, W = 3 };
    real data[R * W], grad[2] = {10, 100}, got[R * W];
    for (int i = 0; i < R * W; i++) data[i] = (real)(i + 1);
    ParamSet ps = {0};
    params_add(&ps, "p", 2, (int[]){R, W}, INIT_ONE, 0);
    cr_assert_eq(params_reserve(&ps, true), OK);
    params_init(&ps, 1);
    Tape *tp = tape_new();
    for (int dry = 1; dry >= 0; dry--) {
        dry ? tape_dry(tp, true) : tape_begin(tp, true);
        params_zero_grad(&ps);
        Tensor *x = tape_leaf(tp, data, R, W), *p = tape_param(tp, &ps.rows[0]);
        Tensor *a = tape_cols(tp, tape_rows(tp, tape_rows(tp, x, 1, 3), 1, 2), 2, 1);
        Tensor *b = tape_rows(tp, tape_cols(tp, p, 1, 1), 0, 2);
        cr_assert(a->base == x && a->row == 2 && a->col == 2 && a->ld == W && b->base == p);
        Tensor *y = op_mul(tp, a, b);
        cr_assert_eq(ps.rows[0].uses, 1);
        tape_backward_from(tp, y, grad);
        if (dry) cr_assert_eq(tape_reserve(tp), OK);
        if (!dry) memcpy(got, tape_grad(tp, x), sizeof got);
    }
    for (int i = 0; i < R * W; i++) {
        cr_assert_eq(got[i], (real)(i == 8 ? 10 : i == 11 ? 100 : 0), "element %d", i);
        cr_assert_eq(ps.rows[0].grad[i], (real)(i == 1 ? 90 : i == 4 ? 1200 : 0), "element %d", i);
    }
    tape_free(tp);
    params_free(&ps);
}

// Pieces that are views, and one that is used twice.
Test(tape, concatenates_rows_and_columns) {
    real a[6] = {1, 2, 3, 4, 5, 6}, b[3] = {7, 8, 9}, da[6], db[3];
    static const real below[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, beside[8] = {2, 3, 2, 8, 5, 6, 5, 8};
    real grad[8];
    for (int i = 0; i < 8; i++) grad[i] = (real)(1 << i);
    Tape *tp = tape_new();
    for (int dry = 1; dry >= 0; dry--) {
        dry ? tape_dry(tp, true) : tape_begin(tp, true);
        Tensor *x = tape_leaf(tp, a, 2, 3), *y = tape_leaf(tp, b, 1, 3);
        Tensor *all = op_concat_rows(tp, TENSORS(x, y));
        if (!dry) cr_assert_arr_eq(all->data, below, sizeof below);
        Tensor *eight = tape_rows(tp, tape_cols(tp, y, 1, 1), 0, 1);
        Tensor *two = op_concat_rows(tp, TENSORS(eight, eight));
        Tensor *wide =
            op_concat_cols(tp, TENSORS(tape_cols(tp, x, 1, 2), tape_cols(tp, x, 1, 1), two));
        if (!dry) cr_assert_arr_eq(wide->data, beside, sizeof beside);
        tape_backward_from(tp, wide, grad);
        if (!dry) memcpy(da, tape_grad(tp, x), sizeof da);
        if (!dry) memcpy(db, tape_grad(tp, y), sizeof db);
        if (dry) cr_assert_eq(tape_reserve(tp), OK);
    }
    const real want_a[6] = {0, 1 + 4, 2, 0, 16 + 64, 32}, want_b[3] = {0, 8 + 128, 0};
    cr_assert_arr_eq(da, want_a, sizeof da);
    cr_assert_arr_eq(db, want_b, sizeof db);
    tape_free(tp);
}

// Sum and difference of many tensors, as one node.
static void split_node(Tape *tp, const Node *n) {
    for (int i = 0; n->in[i] != NULL; i++) {
        real *dx = tape_grad(tp, n->in[i]);
        if (tape_is_dry(tp)) continue;
        if (n->out[0]->grad != NULL) dx[0] += n->out[0]->grad[0];
        if (n->out[1]->grad != NULL) dx[0] += i % 2 == 0 ? n->out[1]->grad[0] : -n->out[1]->grad[0];
    }
}

static void sum_and_difference(Tape *tp, Tensor **in, Tensor *out[2]) {
    for (int i = 0; i < 2; i++) out[i] = tape_tensor(tp, 1, 1);
    tape_push(tp, &(Node){.backward = split_node, .out = TENSORS(out[0], out[1]), .in = in});
    if (tape_is_dry(tp)) return;
    out[0]->data[0] = out[1]->data[0] = 0;
    for (int i = 0; in[i] != NULL; i++) {
        out[0]->data[0] += in[i]->data[0];
        out[1]->data[0] += i % 2 == 0 ? in[i]->data[0] : -in[i]->data[0];
    }
}

Test(tape, takes_nodes_of_several_outputs_and_many_inputs) {
    enum { MANY = 40 };
    static const real ONE = 1;
    real data[MANY], got[2][MANY];
    for (int i = 0; i < MANY; i++) data[i] = (real)i;
    for (int both = 0; both < 2; both++) {  // else one output has no use
        Tape *tp = tape_new();
        for (int dry = 1; dry >= 0; dry--) {
            Tensor *in[MANY + 1] = {NULL}, *out[2];
            dry ? tape_dry(tp, true) : tape_begin(tp, true);
            for (int i = 0; i < MANY; i++) in[i] = tape_leaf(tp, data + i, 1, 1);
            sum_and_difference(tp, in, out);
            Tensor *y = both ? op_mul(tp, out[0], out[1]) : op_silu(tp, out[1]);
            if (!dry) cr_assert(out[0]->data[0] == 780 && out[1]->data[0] == -20);
            tape_backward_from(tp, y, &ONE);
            for (int i = 0; i < MANY && !dry; i++) got[both][i] = tape_grad(tp, in[i])[0];
            if (dry) cr_assert_eq(tape_reserve(tp), OK);
        }
        tape_free(tp);
    }
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(got[1][i], (real)(-20 + (i % 2 == 0 ? 780 : -780)));
        cr_assert_eq(got[0][i], i % 2 == 0 ? got[0][0] : -got[0][0]);
    }
}

// Each pass has late weights of its own.
Test(tape, holds_two_passes_of_a_model) {
    enum { PASSES = 3 };
    Net net;
    net_open(&net, false, false);
    for (int l = 0; l < LAYERS; l++) net.ps.rows[net.weight[l]].late = true;
    Tape *once = net_tape(&net, true), *tp = tape_new();
    net_train(once, &net);
    real *expected = numbers_copy(net.ps.grad, net.ps.total);
    for (int dry = 1; dry >= 0; dry--) {
        dry ? tape_dry(tp, true) : tape_begin(tp, true);
        params_zero_grad(&net.ps);
        Tensor *sum = NULL;
        for (int i = 0; i < PASSES; i++) {
            Tensor *loss = net_loss(tp, &net);
            sum = sum == NULL ? loss : op_loss_sum(tp, sum, 1, loss, 1);
        }
        tape_backward(tp, sum);
        if (dry) cr_assert_eq(tape_reserve(tp), OK);
    }
    for (size_t i = 0; i < net.ps.total; i++)
        cr_assert_float_eq(net.ps.grad[i], PASSES * expected[i], TWIN_TOLERANCE);
    free(expected);
    tape_free(once);
    tape_free(tp);
    params_free(&net.ps);
}

// sum of log p of `net` times what `other`, which has no gradients, says of the same targets.
static Tensor *paused_loss(Tape *tp, Net *net, Net *other) {
    bool was = tape_record(tp, false);
    cr_assert(was && !tape_records(tp));
    Tensor *constant = net_log_probs(tp, other);
    cr_assert_not(tape_record(tp, was));
    return op_loss_total(tp, op_mul(tp, net_log_probs(tp, net), constant), NULL);
}

// As if the other model's numbers had been given.
Test(tape, pauses_for_models_that_are_not_trained) {
    Net net, other;
    net_open(&net, true, false);
    net_open_with(&other, false, true, false);
    Tape *tp = tape_new();
    real weights[N];
    for (int dry = 1; dry >= 0; dry--) {
        dry ? tape_dry(tp, true) : tape_begin(tp, true);
        params_zero_grad(&net.ps);
        tape_backward(tp, paused_loss(tp, &net, &other));
        if (dry) cr_assert_eq(tape_reserve(tp), OK);
    }
    real *got = numbers_copy(net.ps.grad, net.ps.total);
    for (int i = 0; i < other.ps.count; i++) cr_assert_eq(other.ps.rows[i].uses, 0);

    tape_begin(tp, false);
    memcpy(weights, net_log_probs(tp, &other)->data, sizeof weights);
    tape_begin(tp, true);
    params_zero_grad(&net.ps);
    tape_backward(tp, op_loss_total(tp, net_log_probs(tp, &net), weights));
    cr_assert_eq(memcmp(got, net.ps.grad, net.ps.total * sizeof(real)), 0);
    free(got);
    tape_free(tp);
    params_free(&net.ps);
    params_free(&other.ps);
}

Test(tape, recomputes_the_same_bits_in_less_memory) {
    Net kept, again;
    net_open(&kept, true, false);
    net_open(&again, true, true);
    Tape *a = net_tape(&kept, true), *b = net_tape(&again, true);
    cr_assert_eq(net_train(a, &kept), net_train(b, &again));
    cr_assert_eq(memcmp(kept.ps.grad, again.ps.grad, kept.ps.total * sizeof(real)), 0);
    cr_assert_lt(tape_bytes(b), tape_bytes(a));
    // A second pass on the same tapes, with poisoned leftovers of the first.
    cr_assert_eq(net_train(a, &kept), net_train(b, &again));
    cr_assert_eq(memcmp(kept.ps.grad, again.ps.grad, kept.ps.total * sizeof(real)), 0);
    tape_free(a);
    tape_free(b);
    params_free(&kept.ps);
    params_free(&again.ps);
}

Test(tape, needs_less_memory_for_evaluation_in_segments) {
    Net kept, again;
    net_open(&kept, false, false);
    net_open(&again, false, true);
    Tape *a = net_tape(&kept, false), *b = net_tape(&again, false), *c = net_tape(&kept, true);
    cr_assert_lt(tape_bytes(b), tape_bytes(a));
    cr_assert_lt(tape_bytes(a), tape_bytes(c));
    tape_begin(a, false);
    tape_begin(b, false);
    double loss = tensor_item(net_loss(a, &kept));
    cr_assert_eq(loss, tensor_item(net_loss(b, &again)));
    cr_assert_float_eq(loss, net_train(c, &kept), 1e-5 * loss, "evaluated and trained");
    tape_free(a);
    tape_free(b);
    tape_free(c);
    params_free(&kept.ps);
    params_free(&again.ps);
}

// ---- memory ------------------------------------------------------------------------------------

// An arena that is too small is a failed assertion: passes of any measured shape, in any order, are
// the test. The largest of several dry runs counts.
Test(tape, fits_every_measured_shape_in_the_memory_of_the_largest) {
    Net net;
    net_open(&net, true, true);
    Tape *tp = tape_new();
    const int rows[] = {3, N, 1, 0, 5};
    for (int i = 0; i < 5; i++) {
        net.b.seq.T = rows[i];
        tape_dry(tp, true);
        cr_assert(tape_is_dry(tp));
        tape_backward(tp, net_loss(tp, &net));
        tape_dry(tp, false);
        net_loss(tp, &net);
    }
    cr_assert_eq(tape_reserve(tp), OK);
    cr_assert_not(tape_is_dry(tp));
    size_t bytes = tape_bytes(tp);
    for (int i = 4; i >= 0; i--) {
        net.b.seq.T = rows[i];
        net_train(tp, &net);
        tape_begin(tp, false);
        net_loss(tp, &net);
        cr_assert_eq(tape_bytes(tp), bytes);
    }
    net.b.seq.T = N;
    Tape *alone = net_tape(&net, true);
    cr_assert_eq(bytes, tape_bytes(alone));
    tape_free(alone);
    tape_free(tp);
    params_free(&net.ps);
}

Test(tape, touches_no_numbers_while_dry) {
    Net net;
    net_open(&net, true, true);
    uint64_t before = params_hash(&net.ps);
    Seen seen = {.net = &net};
    Tape *tp = tape_new();
    tape_on_ready(tp, on_ready, &seen);
    progress_set(on_progress);
    tape_dry(tp, true);
    Tensor *loss = net_loss(tp, &net);
    cr_assert_null(loss->data);
    tape_backward(tp, loss);
    cr_assert_eq(params_hash(&net.ps), before);
    for (size_t i = 0; i < net.ps.total; i++) cr_assert_eq(net.ps.grad[i], 0);
    cr_assert_eq(progressed, 0);
    for (int i = 0; i < net.ps.count; i++) cr_assert_eq(seen.ready[i], 0);
    tape_free(tp);
    params_free(&net.ps);
}
