// Token-local ops: embedding, linear maps, norms, gates.
#include <string.h>

#include "tensor/gemm.h"
#include "tensor/kernels/kernels.h"
#include "tensor/ops.h"

typedef struct EmbedInfo {
    const int32_t *tokens;
    real scale;
    int pad, first;
} EmbedInfo;

static void embed_node(Tape *tp, const Node *n) {
    const EmbedInfo *e = n->info;
    real *dtable = tape_grad(tp, n->in[0]);
    if (tape_is_dry(tp)) return;
    embed_backward(dtable, n->out[0]->grad, e->tokens, e->scale, e->pad, e->first, n->in[0]->rows,
                   n->out[0]->rows, n->out[0]->cols);
}

Tensor *op_embed(Tape *tp, Tensor *table, const Batch *b, real scale, int pad, int first) {
    EmbedInfo e = {b->tokens, scale, pad, first};
    Tensor *y = tape_tensor(tp, b->seq.B * b->seq.T, table->cols);
    if (!tape_is_dry(tp)) {
        embed_forward(y->data, table->data, e.tokens, scale, first, table->rows, y->rows, y->cols);
    }
    return tape_push(tp, &(Node){.backward = embed_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(table),
                                 .info = tape_info(tp, &e, sizeof e)});
}

static void linear_node(Tape *tp, const Node *n) {
    Tensor *x = n->in[0], *w = n->in[1];
    bool first;
    real *dx = tape_grad_first(tp, x, &first), *dw = n->late == NULL ? tape_grad(tp, w) : NULL;
    if (tape_is_dry(tp)) return;
    linear_backward(dx, tape_grad_ld(x), first, dw, n->out[0]->grad, n->out[0]->cols, x->data,
                    x->ld, w->data, x->rows, x->cols, n->out[0]->cols);
}

// The gradient of the weight, in slices of its rows: a message that starts now needs several polls
// to get under way.
static void linear_late(Tape *tp, const Node *n) {
    enum { SLICE = 512 };
    Tensor *x = n->in[0], *w = n->in[1], *y = n->out[0];
    real *dw = tape_grad(tp, w);
    if (tape_is_dry(tp)) return;
    for (int at = 0; at < y->cols; at += SLICE) {
        int rows = y->cols - at < SLICE ? y->cols - at : SLICE;
        linear_backward(NULL, 0, false, dw + (size_t)at * (size_t)x->cols, y->grad + at, y->cols,
                        x->data, x->ld, NULL, x->rows, x->cols, rows);
    }
}

Tensor *op_linear(Tape *tp, Tensor *x, Tensor *weight) {
    ASSERT(x->cols == weight->cols);
    bool late = weight->param != NULL && weight->param->late;
    Tensor *y = tape_tensor(tp, x->rows, weight->rows);
    if (!tape_is_dry(tp)) {
        linear_forward(y->data, y->ld, x->data, x->ld, weight->data, x->rows, x->cols, y->cols);
    }
    return tape_push(tp, &(Node){.backward = linear_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x, weight),
                                 .late = late ? linear_late : NULL});
}

static void srms_node(Tape *tp, const Node *n) {
    Tensor *x = n->in[0];
    real *dx = tape_grad(tp, x);
    if (tape_is_dry(tp)) return;
    srms_backward(dx, n->out[0]->grad, x->data, n->saved[0], x->rows, x->cols);
}

Tensor *op_srms(Tape *tp, Tensor *x, real eps) {
    ASSERT(x->base == NULL);
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    real *rho = tape_saved(tp, (size_t)x->rows);
    if (!tape_is_dry(tp)) srms_forward(y->data, rho, x->data, eps, x->rows, x->cols);
    return tape_push(
        tp, &(Node){.backward = srms_node, .out = TENSORS(y), .in = TENSORS(x), .saved = {rho}});
}

static void rmsnorm_node(Tape *tp, const Node *n) {
    Tensor *x = n->in[0], *gain = n->in[1];
    real *dx = tape_grad(tp, x), *dgain = tape_grad(tp, gain);
    if (tape_is_dry(tp)) return;
    rmsnorm_backward(dx, dgain, n->out[0]->grad, x->data, gain->data, n->saved[0], x->rows,
                     x->cols);
}

Tensor *op_rmsnorm(Tape *tp, Tensor *x, Tensor *gain, real eps) {
    ASSERT(x->base == NULL);
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    real *rho = tape_saved(tp, (size_t)x->rows);
    if (!tape_is_dry(tp)) {
        rmsnorm_forward(y->data, rho, x->data, gain->data, eps, x->rows, x->cols);
    }
    return tape_push(tp, &(Node){.backward = rmsnorm_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x, gain),
                                 .saved = {rho}});
}

static void silu_node(Tape *tp, const Node *n) {
    Tensor *x = n->in[0];
    real *dx = tape_grad(tp, x);
    if (tape_is_dry(tp)) return;
    silu_backward(dx, tape_grad_ld(x), n->out[0]->grad, n->out[0]->cols, x->data, x->ld, x->rows,
                  x->cols);
}

Tensor *op_silu(Tape *tp, Tensor *x) {
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    if (!tape_is_dry(tp)) silu_forward(y->data, y->ld, x->data, x->ld, x->rows, x->cols);
    return tape_push(tp, &(Node){.backward = silu_node, .out = TENSORS(y), .in = TENSORS(x)});
}

static void mul_node(Tape *tp, const Node *n) {
    Tensor *a = n->in[0], *b = n->in[1];
    real *da = tape_grad(tp, a), *db = tape_grad(tp, b);
    if (tape_is_dry(tp)) return;
    mul_backward(da, tape_grad_ld(a), db, tape_grad_ld(b), n->out[0]->grad, a->data, a->ld, b->data,
                 b->ld, a->rows, a->cols);
}

Tensor *op_mul(Tape *tp, Tensor *a, Tensor *b) {
    ASSERT(a != b && a->rows == b->rows && a->cols == b->cols);
    Tensor *y = tape_tensor(tp, a->rows, a->cols);
    if (!tape_is_dry(tp)) mul_forward(y->data, a->data, a->ld, b->data, b->ld, a->rows, a->cols);
    return tape_push(tp, &(Node){.backward = mul_node, .out = TENSORS(y), .in = TENSORS(a, b)});
}

static void swiglu_node(Tape *tp, const Node *n) {
    Tensor *a = n->in[0], *b = n->in[1];
    real *da = tape_grad(tp, a), *db = tape_grad(tp, b);
    if (tape_is_dry(tp)) return;
    swiglu_backward(da, db, n->out[0]->grad, a->data, b->data, a->rows, a->cols);
}

Tensor *op_swiglu(Tape *tp, Tensor *a, Tensor *b) {
    ASSERT(a != b && a->base == NULL && b->base == NULL);
    ASSERT(a->rows == b->rows && a->cols == b->cols);
    Tensor *y = tape_tensor(tp, a->rows, a->cols);
    if (!tape_is_dry(tp)) swiglu_forward(y->data, a->data, b->data, a->rows, a->cols);
    return tape_push(tp, &(Node){.backward = swiglu_node, .out = TENSORS(y), .in = TENSORS(a, b)});
}

static void sigmul_node(Tape *tp, const Node *n) {
    Tensor *a = n->in[0], *b = n->in[1];
    real *da = tape_grad(tp, a), *db = tape_grad(tp, b);
    if (tape_is_dry(tp)) return;
    sigmul_backward(da, db, n->out[0]->grad, a->data, b->data, (size_t)a->rows * (size_t)a->cols);
}

Tensor *op_sigmul(Tape *tp, Tensor *a, Tensor *b) {
    ASSERT(a != b && a->base == NULL && b->base == NULL);
    ASSERT(a->rows == b->rows && a->cols == b->cols);
    Tensor *y = tape_tensor(tp, a->rows, a->cols);
    if (!tape_is_dry(tp))
        sigmul_forward(y->data, a->data, b->data, (size_t)a->rows * (size_t)a->cols);
    return tape_push(tp, &(Node){.backward = sigmul_node, .out = TENSORS(y), .in = TENSORS(a, b)});
}

static void add_node(Tape *tp, const Node *n) {
    Tensor *a = n->in[0], *b = n->in[1];
    real *da = tape_grad(tp, a), *db = tape_grad(tp, b);
    if (tape_is_dry(tp)) return;
    add_backward(da, db, n->out[0]->grad, (size_t)a->rows * (size_t)a->cols);
}

Tensor *op_add(Tape *tp, Tensor *a, Tensor *b) {
    ASSERT(a != b && a->base == NULL && b->base == NULL);
    ASSERT(a->rows == b->rows && a->cols == b->cols);
    Tensor *y = tape_tensor(tp, a->rows, a->cols);
    if (!tape_is_dry(tp)) {
        add_forward(y->data, a->data, b->data, (size_t)a->rows * (size_t)a->cols);
    }
    return tape_push(tp, &(Node){.backward = add_node, .out = TENSORS(y), .in = TENSORS(a, b)});
}

// ---- concatenation -----------------------------------------------------------------------------

static void rows_copy(real *to, int ld_to, const real *from, int ld_from, int rows, int cols) {
    for (int r = 0; r < rows; r++)
        memcpy(to + (size_t)r * (size_t)ld_to, from + (size_t)r * (size_t)ld_from,
               (size_t)cols * sizeof *to);
}

static void rows_add(real *to, int ld_to, const real *from, int ld_from, int rows, int cols) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            to[(size_t)r * (size_t)ld_to + (size_t)c] +=
                from[(size_t)r * (size_t)ld_from + (size_t)c];
}

// Where in the whole, whose rows have `ld` elements, the next piece begins.
static size_t piece_step(const Tensor *piece, bool below, int ld) {
    return below ? (size_t)piece->rows * (size_t)ld : (size_t)piece->cols;
}

static void concat_node(Tape *tp, const Node *n) {
    const Tensor *y = n->out[0];
    const bool *below = n->info;
    size_t at = 0;
    for (int i = 0; n->in[i] != NULL; i++) {
        Tensor *x = n->in[i];
        real *dx = tape_grad(tp, x);
        if (!tape_is_dry(tp))
            rows_add(dx, tape_grad_ld(x), y->grad + at, y->cols, x->rows, x->cols);
        at += piece_step(x, *below, y->cols);
    }
}

static Tensor *concat(Tape *tp, Tensor **list, bool below) {
    int rows = below ? 0 : list[0]->rows, cols = below ? list[0]->cols : 0;
    for (int i = 0; list[i] != NULL; i++) {
        ASSERT(below ? list[i]->cols == cols : list[i]->rows == rows);
        *(below ? &rows : &cols) += below ? list[i]->rows : list[i]->cols;
    }
    Tensor *y = tape_tensor(tp, rows, cols);
    size_t at = 0;
    for (int i = 0; list[i] != NULL; i++) {
        const Tensor *x = list[i];
        if (!tape_is_dry(tp)) rows_copy(y->data + at, cols, x->data, x->ld, x->rows, x->cols);
        at += piece_step(x, below, cols);
    }
    return tape_push(tp, &(Node){.backward = concat_node,
                                 .out = TENSORS(y),
                                 .in = list,
                                 .info = tape_info(tp, &below, sizeof below)});
}

Tensor *op_concat_rows(Tape *tp, Tensor **list) {
    return concat(tp, list, true);
}
Tensor *op_concat_cols(Tape *tp, Tensor **list) {
    return concat(tp, list, false);
}
