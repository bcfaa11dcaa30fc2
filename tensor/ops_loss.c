// Cross-entropy fused with the output projection, in row blocks: only one block of logits exists at
// a time. Where the vocabulary is cut over ranks a block is combined over them before it is used.
#include "tensor/gemm.h"
#include "tensor/kernels/kernels.h"
#include "tensor/ops.h"

enum {
    BLOCK_LOGITS = 1 << 22,
    MIN_ROWS = 64
};  // elements of a block of logits; rows it holds at least

typedef struct LossInfo {
    const int32_t *targets;
    const real *weights;  // (N) or NULL: 1 each
    double *losses;       // (N) or NULL
    double temperature;
    const uint8_t *banned;  // (V) of the columns here, or NULL
    LossFold fold;          // .fold NULL: the whole vocabulary is here
} LossInfo;

// Scratch of one block.
typedef struct LossBlock {
    int rows;  // at most
    real *logits;
    double *lse, *hit, *room;
    double *mean, *again;  // of entropies only
} LossBlock;

static double *doubles_take(Tape *tp, int count) {
    return (double *)tape_scratch(tp, (size_t)count * sizeof(double) / sizeof(real));
}

// N tokens against V columns here, `most` on the rank that has most.
static LossBlock block_take(Tape *tp, const LossInfo *l, int N, int V) {
    int most = l->fold.fold != NULL ? l->fold.columns_most : V;
    ASSERT(most >= V && most > 0);
    int rows = BLOCK_LOGITS / most;
    if (rows < MIN_ROWS) rows = MIN_ROWS;
    if (rows > N) rows = N;
    LossBlock b = {.rows = rows};
    b.logits = tape_scratch(tp, (size_t)rows * (size_t)V);
    b.lse = doubles_take(tp, rows);
    b.hit = doubles_take(tp, rows);
    b.room = l->fold.fold != NULL ? doubles_take(tp, 2 * rows * (l->fold.ranks + 1)) : NULL;
    return b;
}

// lse and hit of n tokens to those of the whole vocabulary.
static void block_fold(const LossBlock *b, const LossInfo *l, const int32_t *targets, int n,
                       int V) {
    if (l->fold.fold != NULL) {
        l->fold.fold(b->lse, b->hit, n, b->room, l->fold.user);
        return;
    }
    for (int i = 0; i < n; i++) ASSERT(targets[i] == IGNORE_TARGET || targets[i] < V);
}

static void block_logits(const LossBlock *b, const Tensor *x, const Tensor *w, const LossInfo *l,
                         int row, int n) {
    const real *inp = x->data + (size_t)row * (size_t)x->ld;
    linear_forward(b->logits, w->rows, inp, x->ld, w->data, n, x->cols, w->rows);
    logits_shape(b->logits, l->temperature, l->banned, n, w->rows);
}

// Logits and losses of rows [row, row+n); returns their sum.
static double block_forward(const LossBlock *b, const Tensor *x, const Tensor *w, const LossInfo *l,
                            int row, int n) {
    const int32_t *targets = l->targets + row;
    block_logits(b, x, w, l, row, n);
    cross_entropy_forward(b->lse, b->hit, b->logits, targets, l->fold.first, n, w->rows);
    block_fold(b, l, targets, n, w->rows);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double loss = targets[i] == IGNORE_TARGET ? 0 : b->lse[i] - b->hit[i];
        if (l->losses != NULL) l->losses[row + i] = loss;
        sum += l->weights != NULL ? (double)l->weights[row + i] * loss : loss;
    }
    return sum;
}

static int block_rows(const LossBlock *b, int N, int row) {
    return row + b->rows <= N ? b->rows : N - row;
}

static void loss_node(Tape *tp, const Node *node) {
    const LossInfo *l = node->info;
    Tensor *x = node->in[0], *w = node->in[1];
    bool first;
    real *dx = tape_grad_first(tp, x, &first), *dw = tape_grad(tp, w);
    LossBlock b = block_take(tp, l, x->rows, w->rows);
    if (tape_is_dry(tp)) return;
    node->out[0]->value = 0;
    for (int row = 0; row < x->rows; row += b.rows) {
        int n = block_rows(&b, x->rows, row);
        node->out[0]->value += block_forward(&b, x, w, l, row, n);
        const real *weights = l->weights != NULL ? l->weights + row : NULL;
        cross_entropy_backward(b.logits, b.lse, l->targets + row, weights, node->out[0]->grad[0],
                               l->fold.first, n, w->rows);
        linear_backward(dx + (size_t)row * (size_t)tape_grad_ld(x), tape_grad_ld(x), first, dw,
                        b.logits, w->rows, x->data + (size_t)row * (size_t)x->ld, x->ld, w->data, n,
                        x->cols, w->rows);
    }
}

Tensor *op_loss_head(Tape *tp, Tensor *x, Tensor *weight, const Batch *batch, double *losses,
                     const LossFold *fold) {
    LossInfo l = {.targets = batch->targets,
                  .weights = batch->weights,
                  .losses = losses,
                  .temperature = 1,
                  .fold = fold != NULL ? *fold : (LossFold){0}};
    Tensor *out = tape_tensor(tp, 1, 1);
    if (!tape_records(tp)) {
        LossBlock b = block_take(tp, &l, x->rows, weight->rows);
        for (int row = 0; row < x->rows && !tape_is_dry(tp); row += b.rows) {
            out->value += block_forward(&b, x, weight, &l, row, block_rows(&b, x->rows, row));
        }
    }
    return tape_push(tp, &(Node){.backward = loss_node,
                                 .out = TENSORS(out),
                                 .in = TENSORS(x, weight),
                                 .info = tape_info(tp, &l, sizeof l)});
}

// ---- log-probabilities -------------------------------------------------------------------------

// What backward needs beside the inputs; (N) each.
typedef struct Saved {
    double *lse, *entropy;  // entropy NULL: nobody asked
} Saved;

static double *doubles_saved(Tape *tp, int count) {
    return (double *)tape_saved(tp, (size_t)count * sizeof(double) / sizeof(real));
}

typedef struct LogProbInfo {
    LossInfo head;
    Saved saved;
} LogProbInfo;

static void entropy_take(LossBlock *b, Tape *tp) {
    b->mean = doubles_take(tp, b->rows);
    b->again = doubles_take(tp, b->rows);
}

// lse less the mean logit, which is summed over slices as hits are.
static void block_entropy(const LossBlock *b, const LossInfo *l, double *entropy, int n, int V) {
    logits_mean(b->mean, b->logits, b->lse, n, V);
    for (int i = 0; i < n; i++) b->again[i] = b->lse[i];
    if (l->fold.fold != NULL) l->fold.fold(b->again, b->mean, n, b->room, l->fold.user);
    for (int i = 0; i < n; i++) entropy[i] = b->lse[i] - b->mean[i];
}

static void log_probs_block(const LogProbInfo *p, const LossBlock *b, const Tensor *x,
                            const Tensor *w, int row, int n, real *out) {
    const int32_t *targets = p->head.targets + row;
    block_forward(b, x, w, &p->head, row, n);
    for (int i = 0; i < n; i++) {
        p->saved.lse[row + i] = b->lse[i];
        out[i] = targets[i] == IGNORE_TARGET ? 0 : (real)(b->hit[i] - b->lse[i]);
    }
    if (p->saved.entropy != NULL) block_entropy(b, &p->head, p->saved.entropy + row, n, w->rows);
}

static void log_probs_node(Tape *tp, const Node *node) {
    const LogProbInfo *p = node->info;
    const LossInfo *l = &p->head;
    const bool entropy = p->saved.entropy != NULL;
    Tensor *x = node->in[0], *w = node->in[1];
    bool first;
    real *dx = tape_grad_first(tp, x, &first), *dw = tape_grad(tp, w);
    LossBlock b = block_take(tp, l, x->rows, w->rows);
    if (tape_is_dry(tp)) return;
    const real *dlogp = node->out[0]->grad, *dentropy = entropy ? node->out[1]->grad : NULL;
    for (int row = 0; row < x->rows; row += b.rows) {
        int n = block_rows(&b, x->rows, row);
        block_logits(&b, x, w, l, row, n);
        log_prob_backward(b.logits, p->saved.lse + row, entropy ? p->saved.entropy + row : NULL,
                          l->targets + row, dlogp != NULL ? dlogp + row : NULL,
                          dentropy != NULL ? dentropy + row : NULL, l->temperature, l->fold.first,
                          n, w->rows);
        linear_backward(dx + (size_t)row * (size_t)tape_grad_ld(x), tape_grad_ld(x), first, dw,
                        b.logits, w->rows, x->data + (size_t)row * (size_t)x->ld, x->ld, w->data, n,
                        x->cols, w->rows);
    }
}

Tensor *op_log_probs(Tape *tp, Tensor *x, Tensor *weight, const Batch *batch,
                     const LogProbArgs *args, Tensor **entropy) {
    LogProbInfo p = {.head = {.targets = batch->targets, .temperature = args->temperature}};
    if (args->fold != NULL) p.head.fold = *args->fold;
    if (args->banned != NULL) p.head.banned = args->banned + p.head.fold.first;
    Tensor *out = tape_tensor(tp, x->rows, 1);
    Tensor *spread = entropy != NULL ? tape_tensor(tp, x->rows, 1) : NULL;
    p.saved.lse = doubles_saved(tp, x->rows);
    if (entropy != NULL) p.saved.entropy = doubles_saved(tp, x->rows);
    LossBlock b = block_take(tp, &p.head, x->rows, weight->rows);
    if (entropy != NULL) entropy_take(&b, tp);
    for (int row = 0; row < x->rows && !tape_is_dry(tp); row += b.rows)
        log_probs_block(&p, &b, x, weight, row, block_rows(&b, x->rows, row), out->data + row);
    for (int i = 0; spread != NULL && i < x->rows && !tape_is_dry(tp); i++)
        spread->data[i] = (real)p.saved.entropy[i];
    if (entropy != NULL) *entropy = spread;
    return tape_push(tp, &(Node){.backward = log_probs_node,
                                 .out = TENSORS(out, spread),
                                 .in = TENSORS(x, weight),
                                 .info = tape_info(tp, &p, sizeof p)});
}

// ---- sums of losses ----------------------------------------------------------------------------

typedef struct LossTerms {
    Tensor *x, *y;
    double a, b;
} LossTerms;

static void sum_node(Tape *tp, const Node *node) {
    const LossTerms *t = node->info;
    real *dx = tape_grad(tp, t->x), *dy = tape_grad(tp, t->y);
    if (tape_is_dry(tp)) return;
    dx[0] += (real)t->a * node->out[0]->grad[0];
    dy[0] += (real)t->b * node->out[0]->grad[0];
}

Tensor *op_loss_sum(Tape *tp, Tensor *x, double a, Tensor *y, double b) {
    ASSERT(x->rows == 1 && x->cols == 1 && y->rows == 1 && y->cols == 1);
    LossTerms terms = {x, y, a, b};
    Tensor *sum = tape_tensor(tp, 1, 1);
    sum->terms = tape_info(tp, &terms, sizeof terms);
    return tape_push(tp, &(Node){.backward = sum_node,
                                 .out = TENSORS(sum),
                                 .in = TENSORS(x, y),
                                 .info = sum->terms});
}

static void total_node(Tape *tp, const Node *node) {
    const real *weights = node->info;
    Tensor *x = node->in[0];
    real *dx = tape_grad(tp, x);
    size_t ld = (size_t)tape_grad_ld(x);
    if (tape_is_dry(tp)) return;
    real g = node->out[0]->grad[0];
    for (int i = 0; i < x->rows; i++) dx[(size_t)i * ld] += weights != NULL ? g * weights[i] : g;
}

Tensor *op_loss_total(Tape *tp, Tensor *x, const real *weights) {
    ASSERT(x->cols == 1);
    Tensor *out = tape_tensor(tp, 1, 1);
    for (int i = 0; i < x->rows && !tape_is_dry(tp); i++) {
        double v = (double)x->data[(size_t)i * (size_t)x->ld];
        out->value += weights != NULL ? (double)weights[i] * v : v;
    }
    return tape_push(
        tp,
        &(Node){.backward = total_node, .out = TENSORS(out), .in = TENSORS(x), .info = weights});
}

double tensor_item(const Tensor *loss) {
    const LossTerms *t = loss->terms;
    return t == NULL ? loss->value : t->a * tensor_item(t->x) + t->b * tensor_item(t->y);
}
