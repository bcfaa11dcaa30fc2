// The neural memory as an op, a state for each row that begins with the learned weights; and what
// its layers feed it with.
#include <string.h>

#include "tensor/kernels/kernels.h"
#include "tensor/ops.h"
#include "tensor/threads.h"

// ---- norms, gates, convolution -----------------------------------------------------------------

static void head_norm_node(Tape *tp, const Node *n) {
    HeadNormDims d = *(const HeadNormDims *)n->info;
    Tensor *x = n->in[0], *gain = n->in[1];
    real *dx = tape_grad(tp, x), *dgain = gain != NULL ? tape_grad(tp, gain) : NULL;
    if (tape_is_dry(tp)) return;
    d.ld_dinp = tape_grad_ld(x);
    head_norm_backward(dx, dgain, n->out[0]->grad, x->data, gain != NULL ? gain->data : NULL,
                       n->saved[0], &d);
}

Tensor *op_head_norm(Tape *tp, Tensor *x, Tensor *gain, int heads, real eps) {
    HeadNormDims d = {.N = x->rows, .H = heads, .D = x->cols / heads, .ld_inp = x->ld, .eps = eps};
    ASSERT(x->cols % heads == 0);
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    real *rho = tape_saved(tp, (size_t)x->rows * (size_t)heads);
    if (!tape_is_dry(tp))
        head_norm_forward(y->data, rho, x->data, gain != NULL ? gain->data : NULL, &d);
    return tape_push(tp, &(Node){.backward = head_norm_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x, gain),
                                 .saved = {rho},
                                 .info = tape_info(tp, &d, sizeof d)});
}

static void gates_node(Tape *tp, const Node *n) {
    Tensor *x = n->in[0], *bias = n->in[1], *y = n->out[0];
    real *dx = tape_grad(tp, x), *dbias = tape_grad(tp, bias);
    if (tape_is_dry(tp)) return;
    gates_backward(dx, dbias, y->grad, y->data, n->info, y->rows, y->cols);
}

Tensor *op_gates(Tape *tp, Tensor *x, Tensor *bias, const double most[GATE_KINDS]) {
    ASSERT(x->base == NULL && x->cols % GATE_KINDS == 0);
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    if (!tape_is_dry(tp)) gates_forward(y->data, x->data, bias->data, most, x->rows, x->cols);
    return tape_push(tp, &(Node){.backward = gates_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x, bias),
                                 .info = tape_info(tp, most, GATE_KINDS * sizeof *most)});
}

ConvDims conv_dims(const Tensor *x, const Tensor *weight, const SeqInfo *s) {
    return (ConvDims){.B = s->B,
                      .T = s->T,
                      .C = x->cols,
                      .K = weight->cols,
                      .ld_inp = x->ld,
                      .ld_dinp = tape_grad_ld(x),
                      .pos = s->pos};
}

static void conv_node(Tape *tp, const Node *n) {
    Tensor *x = n->in[0], *weight = n->in[1];
    real *dx = tape_grad(tp, x), *dweight = tape_grad(tp, weight);
    if (tape_is_dry(tp)) return;
    conv_backward(dx, dweight, NULL, n->out[0]->grad, x->data, weight->data, NULL, n->info);
}

Tensor *op_conv(Tape *tp, Tensor *x, Tensor *weight, const SeqInfo *s, real *tail) {
    ASSERT(tail == NULL || !tape_records(tp));
    ConvDims d = conv_dims(x, weight, s);
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    if (!tape_is_dry(tp)) {
        conv_forward(y->data, x->data, weight->data, tail, &d);
        if (tail != NULL) conv_tail(tail, tail, x->data, &d);
    }
    return tape_push(tp, &(Node){.backward = conv_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x, weight),
                                 .info = tape_info(tp, &d, sizeof d)});
}

// ---- memory ------------------------------------------------------------------------------------

enum { IN_Q, IN_K, IN_V, IN_GATES, IN_INIT, IN_GAIN, IN_SHIFT, IN_COUNT };

MemoryInputs memory_inputs(Tensor *const in[8]) {
    MemoryInputs m = {.q = in[IN_Q]->data,
                      .k = in[IN_K]->data,
                      .v = in[IN_V]->data,
                      .gates = in[IN_GATES]->data,
                      .init = in[IN_INIT]->data};
    if (in[IN_GAIN] != NULL) m.gain = in[IN_GAIN]->data;
    if (in[IN_GAIN] != NULL) m.shift = in[IN_SHIFT]->data;
    return m;
}

size_t memory_scratch_all(const MemoryDims *d) {
    return (size_t)threads_chosen() * memory_scratch_reals(d);
}

void memory_begins_backward(real *dinit, const real *dstate, const MemoryDims *d) {
    MemoryDims task = *d;
    task.B = task.H = 1;
    size_t weights = memory_weights(d), one = memory_state_reals(&task);
    for (int i = 0; i < d->B * d->H; i++) {
        const real *dW0 = dstate + (size_t)i * one, *dW = dW0 + weights;
        real *to = dinit + (size_t)(i % d->H) * weights;
        for (size_t j = 0; j < weights; j++) to[j] += dW0[j] + dW[j];
    }
}

MemoryGradients memory_gradients(Tape *tp, Tensor *const in[8]) {
    MemoryGradients g = {.ld_q = tape_grad_ld(in[IN_Q]),
                         .ld_k = tape_grad_ld(in[IN_K]),
                         .ld_v = tape_grad_ld(in[IN_V]),
                         .ld_g = tape_grad_ld(in[IN_GATES])};
    real **const to[] = {&g.dq, &g.dk, &g.dv, &g.dgates, &g.dinit, &g.dgain, &g.dshift};
    for (int i = 0; i < IN_COUNT && in[i] != NULL; i++) *to[i] = tape_grad(tp, in[i]);
    return g;
}

static void memory_node(Tape *tp, const Node *n) {
    const MemoryDims *d = n->info;
    MemoryGradients g = memory_gradients(tp, n->in);
    real *dstate = tape_scratch(tp, memory_state_reals(d));
    real *scratch = tape_scratch(tp, memory_scratch_all(d));
    if (tape_is_dry(tp)) return;
    MemoryInputs inputs = memory_inputs(n->in);
    memset(dstate, 0, memory_state_reals(d) * sizeof *dstate);
    memory_backward(&g, dstate, n->out[0]->grad, n->saved[0], &inputs, scratch, d);
    memory_begins_backward(g.dinit, dstate, d);
}

MemoryDims memory_dims(Tensor *const in[8], const SeqInfo *s, const MemoryDims *options) {
    MemoryDims d = *options;
    d.B = s->B, d.T = s->T;
    d.ld_q = in[IN_Q]->ld, d.ld_k = in[IN_K]->ld, d.ld_v = in[IN_V]->ld;
    d.ld_g = in[IN_GATES]->ld, d.ld_o = in[IN_Q]->cols;
    d.pos = s->pos, d.start = s->start;
    return d;
}

Tensor *op_memory(Tape *tp, Tensor *const in[8], const SeqInfo *s, const MemoryDims *options,
                  real *state) {
    MemoryDims d = memory_dims(in, s, options);
    Tensor *out = tape_tensor(tp, in[IN_Q]->rows, in[IN_Q]->cols);
    real *store = tape_records(tp) ? tape_saved(tp, memory_store_reals(&d)) : NULL;
    real *at = state != NULL ? state : tape_scratch(tp, memory_state_reals(&d));
    real *scratch = tape_scratch(tp, memory_scratch_all(&d));
    if (!tape_is_dry(tp)) {
        MemoryInputs inputs = memory_inputs(in);
        if (state == NULL) memory_state_begin(at, inputs.init, &d);
        memory_forward(out->data, at, store, &inputs, scratch, &d);
    }
    return tape_push(tp, &(Node){.backward = memory_node,
                                 .out = TENSORS(out),
                                 .in = (Tensor **)(uintptr_t)in,
                                 .saved = {store},
                                 .info = tape_info(tp, &d, sizeof d)});
}
