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
    double *losses;  // (N) or NULL
    LossFold fold;   // .fold NULL: the whole vocabulary is here
} LossInfo;

// Scratch of one block.
typedef struct LossBlock {
    int rows;  // at most
    real *logits;
    double *lse, *hit, *room;
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

// Logits and losses of rows [row, row+n); returns their sum.
static double block_forward(const LossBlock *b, const Tensor *x, const Tensor *w, const LossInfo *l,
                            int row, int n) {
    const real *inp = x->data + (size_t)row * (size_t)x->ld;
    const int32_t *targets = l->targets + row;
    linear_forward(b->logits, w->rows, inp, x->ld, w->data, n, x->cols, w->rows);
    cross_entropy_forward(b->lse, b->hit, b->logits, targets, l->fold.first, n, w->rows);
    block_fold(b, l, targets, n, w->rows);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double loss = targets[i] == IGNORE_TARGET ? 0 : b->lse[i] - b->hit[i];
        if (l->losses != NULL) l->losses[row + i] = loss;
        sum += loss;
    }
    return sum;
}

static int block_rows(const LossBlock *b, int N, int row) {
    return row + b->rows <= N ? b->rows : N - row;
}

static void loss_node(Tape *tp, const Node *node) {
    const LossInfo *l = node->info;
    Tensor *x = node->in[0], *w = node->in[1];
    real *dx = tape_grad(tp, x), *dw = tape_grad(tp, w);
    LossBlock b = block_take(tp, l, x->rows, w->rows);
    if (tape_is_dry(tp)) return;
    node->out->value = 0;
    for (int row = 0; row < x->rows; row += b.rows) {
        int n = block_rows(&b, x->rows, row);
        node->out->value += block_forward(&b, x, w, l, row, n);
        cross_entropy_backward(b.logits, b.lse, l->targets + row, node->out->grad[0], l->fold.first,
                               n, w->rows);
        linear_backward(dx + (size_t)row * (size_t)tape_grad_ld(x), tape_grad_ld(x), dw, b.logits,
                        w->rows, x->data + (size_t)row * (size_t)x->ld, x->ld, w->data, n, x->cols,
                        w->rows);
    }
}

Tensor *op_loss_head(Tape *tp, Tensor *x, Tensor *weight, const Batch *batch, double *losses,
                     const LossFold *fold) {
    LossInfo l = {batch->targets, losses, fold != NULL ? *fold : (LossFold){0}};
    Tensor *out = tape_tensor(tp, 1, 1);
    if (!tape_records(tp)) {
        LossBlock b = block_take(tp, &l, x->rows, weight->rows);
        for (int row = 0; row < x->rows && !tape_is_dry(tp); row += b.rows) {
            out->value += block_forward(&b, x, weight, &l, row, block_rows(&b, x->rows, row));
        }
    }
    return tape_push(tp, &(Node){.backward = loss_node,
                                 .out = out,
                                 .in = {x, weight},
                                 .info = tape_info(tp, &l, sizeof l)});
}

double tensor_item(const Tensor *loss) {
    return loss->value;
}
