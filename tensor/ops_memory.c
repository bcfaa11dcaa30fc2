// The neural memory as an op: a state for each row that begins with the learned weights.
#include <string.h>

#include "tensor/kernels/kernels.h"
#include "tensor/ops.h"
#include "tensor/threads.h"

enum { IN_Q, IN_K, IN_V, IN_GATES, IN_INIT, IN_GAIN, IN_SHIFT, IN_COUNT };

static MemoryInputs inputs_of(Tensor *const *in) {
    MemoryInputs m = {.q = in[IN_Q]->data,
                      .k = in[IN_K]->data,
                      .v = in[IN_V]->data,
                      .gates = in[IN_GATES]->data,
                      .init = in[IN_INIT]->data};
    if (in[IN_GAIN] != NULL) m.gain = in[IN_GAIN]->data;
    if (in[IN_GAIN] != NULL) m.shift = in[IN_SHIFT]->data;
    return m;
}

static size_t scratch_reals(const MemoryDims *d) {
    return (size_t)threads_chosen() * memory_scratch_reals(d);
}

// Rows that did not begin with a document began with the learned weights all the same.
static void begins_backward(real *dinit, const real *dstate, const MemoryDims *d) {
    MemoryDims task = *d;
    task.B = task.H = 1;
    size_t weights = memory_weights(d), one = memory_state_reals(&task);
    for (int i = 0; i < d->B * d->H; i++) {
        const real *dW0 = dstate + (size_t)i * one, *dW = dW0 + weights;
        real *to = dinit + (size_t)(i % d->H) * weights;
        for (size_t j = 0; j < weights; j++) to[j] += dW0[j] + dW[j];
    }
}

static void memory_node(Tape *tp, const Node *n) {
    const MemoryDims *d = n->info;
    Tensor **in = n->in;
    MemoryGradients g = {.ld_q = tape_grad_ld(in[IN_Q]),
                         .ld_k = tape_grad_ld(in[IN_K]),
                         .ld_v = tape_grad_ld(in[IN_V]),
                         .ld_g = tape_grad_ld(in[IN_GATES])};
    real **const to[] = {&g.dq, &g.dk, &g.dv, &g.dgates, &g.dinit, &g.dgain, &g.dshift};
    for (int i = 0; i < IN_COUNT && in[i] != NULL; i++) *to[i] = tape_grad(tp, in[i]);
    real *dstate = tape_scratch(tp, memory_state_reals(d));
    real *scratch = tape_scratch(tp, scratch_reals(d));
    if (tape_is_dry(tp)) return;
    MemoryInputs inputs = inputs_of(in);
    memset(dstate, 0, memory_state_reals(d) * sizeof *dstate);
    memory_backward(&g, dstate, n->out[0]->grad, n->saved[0], &inputs, scratch, d);
    begins_backward(g.dinit, dstate, d);
}

Tensor *op_memory(Tape *tp, Tensor *const in[8], const SeqInfo *s, const MemoryDims *options,
                  real *state) {
    MemoryDims d = *options;
    Tensor *out = tape_tensor(tp, in[IN_Q]->rows, in[IN_Q]->cols);
    d.B = s->B, d.T = s->T;
    d.ld_q = in[IN_Q]->ld, d.ld_k = in[IN_K]->ld, d.ld_v = in[IN_V]->ld;
    d.ld_g = in[IN_GATES]->ld, d.ld_o = out->ld;
    d.pos = s->pos, d.start = s->start;
    real *store = tape_records(tp) ? tape_saved(tp, memory_store_reals(&d)) : NULL;
    real *at = state != NULL ? state : tape_scratch(tp, memory_state_reals(&d));
    real *scratch = tape_scratch(tp, scratch_reals(&d));
    if (!tape_is_dry(tp)) {
        MemoryInputs inputs = inputs_of(in);
        if (state == NULL) memory_state_begin(at, inputs.init, &d);
        memory_forward(out->data, at, store, &inputs, scratch, &d);
    }
    return tape_push(tp, &(Node){.backward = memory_node,
                                 .out = TENSORS(out),
                                 .in = (Tensor **)(uintptr_t)in,
                                 .saved = {store},
                                 .info = tape_info(tp, &d, sizeof d)});
}
