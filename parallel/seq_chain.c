// The CHAIN driver: layers whose state is no linear function of the one before, over sequences that
// several ranks share. Chunk r needs what chunk r - 1 leaves, so states are handed on from rank to
// rank, and their gradients back. Nothing of a rank waits for a later one: while rank 1 does a
// layer, rank 0 does the next, and the rows of a batch travel one by one, so that rank 1 begins
// when the first of them has come (docs/parallelism.md).
#include <string.h>

#include "parallel/internal.h"
#include "parallel/ops.h"

// Records of `size` reals, one a row of the batch: each comes from the rank before (`in`) and, once
// it was worked on, goes to the one after (`out`); backward the other way round.
typedef struct Chain {
    Comm *comm;
    CommUse use;
    int from, to, rows;
    size_t size;
    real *in, *out;  // (rows, size)
} Chain;

static Chain chain_open(const Mesh *mesh, bool backward, int rows, size_t size, real *in,
                        real *out) {
    int before = mesh->sp_rank - 1, after = mesh->sp_rank + 1 < mesh->sp ? mesh->sp_rank + 1 : -1;
    ASSERT(size < INT32_MAX);
    return (Chain){.comm = mesh->sp_axis,
                   .use = backward ? COMM_DSTATE : COMM_STATE,
                   .from = backward ? after : before,
                   .to = backward ? before : after,
                   .rows = rows,
                   .size = size,
                   .in = in,
                   .out = out};
}

static void chain_expect(const Chain *c, int row) {
    if (c->from < 0 || row >= c->rows) return;
    comm_shift(c->comm, c->use, NULL, 0, -1, c->in + (size_t)row * c->size, 1, c->from,
               (int)c->size);
}

// Row by row: take waits for the record and asks for the next one, give sends it on.
static void chain_start(const Chain *c) {
    comm__enter(c->comm, comm_use_text(c->use), (uint64_t)c->size);
    chain_expect(c, 0);
}
static void chain_take(const Chain *c, int row) {
    comm_finish(c->comm);
    chain_expect(c, row + 1);
}
static void chain_give(const Chain *c, int row) {
    if (c->to < 0) return;
    comm_shift(c->comm, c->use, c->out + (size_t)row * c->size, 1, c->to, NULL, 0, -1,
               (int)c->size);
}
static void chain_end(const Chain *c) {
    comm_finish(c->comm);
}

// ---- neural memory -----------------------------------------------------------------------------

typedef struct MemoryChain {
    const Mesh *mesh;
    MemoryDims dims;
} MemoryChain;

static MemoryDims one_row(const MemoryDims *d, int row) {
    MemoryDims one = *d;
    one.B = 1;
    one.pos += (size_t)row * (size_t)d->T;
    if (d->start != NULL) one.start += (size_t)row * (size_t)d->T;
    return one;
}

static size_t row_state(const MemoryDims *d) {
    MemoryDims one = one_row(d, 0);
    return memory_state_reals(&one);
}

static size_t row_store(const MemoryDims *d) {
    MemoryDims one = one_row(d, 0);
    return memory_store_reals(&one);
}

static MemoryInputs row_inputs(const MemoryInputs *in, const MemoryDims *d, int row) {
    MemoryInputs one = *in;
    size_t first = (size_t)row * (size_t)d->T;
    one.q += first * (size_t)d->ld_q;
    one.k += first * (size_t)d->ld_k;
    one.v += first * (size_t)d->ld_v;
    one.gates += first * (size_t)d->ld_g;
    return one;
}

static MemoryGradients row_gradients(const MemoryGradients *g, const MemoryDims *d, int row) {
    MemoryGradients one = *g;
    size_t first = (size_t)row * (size_t)d->T;
    one.dq += first * (size_t)g->ld_q;
    one.dk += first * (size_t)g->ld_k;
    one.dv += first * (size_t)g->ld_v;
    one.dgates += first * (size_t)g->ld_g;
    return one;
}

static void memory_chain_node(Tape *tp, const Node *n) {
    const MemoryChain *m = n->info;
    const MemoryDims *d = &m->dims;
    MemoryGradients g = memory_gradients(tp, n->in);
    size_t size = row_state(d);
    real *dstate = tape_scratch(tp, (size_t)d->B * size);
    real *scratch = tape_scratch(tp, memory_scratch_all(d));
    if (tape_is_dry(tp)) return;
    MemoryInputs in = memory_inputs(n->in);
    Chain chain = chain_open(m->mesh, true, d->B, size, dstate, dstate);
    memset(dstate, 0, (size_t)d->B * size * sizeof *dstate);
    chain_start(&chain);
    for (int b = 0; b < d->B; b++) {
        MemoryDims one = one_row(d, b);
        MemoryInputs inputs = row_inputs(&in, d, b);
        MemoryGradients grads = row_gradients(&g, d, b);
        real *mine = dstate + (size_t)b * size;
        chain_take(&chain, b);
        memory_backward(&grads, mine, n->out[0]->grad + (size_t)b * (size_t)(d->T * d->ld_o),
                        n->saved[0] + (size_t)b * row_store(d), &inputs, scratch, &one);
        if (chain.to < 0) memory_begins_backward(g.dinit, mine, &one);
        chain_give(&chain, b);
    }
    chain_end(&chain);
}

// known: what comes in has come before, and what goes out has gone.
static void memory_chain_forward(const MemoryChain *m, Tensor *out, Tensor *const in[8],
                                 real *enter, real *leave, real *store, real *scratch, bool known) {
    const MemoryDims *d = &m->dims;
    size_t size = row_state(d);
    MemoryInputs all = memory_inputs(in);
    Chain chain = chain_open(m->mesh, false, d->B, size, enter, leave);
    if (chain.from < 0) memory_state_begin(enter, all.init, d);
    if (!known) chain_start(&chain);
    for (int b = 0; b < d->B; b++) {
        MemoryDims one = one_row(d, b);
        MemoryInputs inputs = row_inputs(&all, d, b);
        real *state = leave + (size_t)b * size;
        if (!known) chain_take(&chain, b);
        memcpy(state, enter + (size_t)b * size, size * sizeof *state);
        memory_forward(out->data + (size_t)b * (size_t)(d->T * d->ld_o), state,
                       store != NULL ? store + (size_t)b * row_store(d) : NULL, &inputs, scratch,
                       &one);
        if (!known) chain_give(&chain, b);
    }
    if (!known) chain_end(&chain);
}

Tensor *op_seq_memory(Tape *tp, const Mesh *mesh, Tensor *const in[8], const SeqInfo *seq,
                      const MemoryDims *options, real *state) {
    if (mesh == NULL || mesh->sp == 1 || state != NULL)
        return op_memory(tp, in, seq, options, state);
    MemoryChain m = {mesh, memory_dims(in, seq, options)};
    const MemoryDims *d = &m.dims;
    size_t count = (size_t)d->B * row_state(d);
    bool known;
    Tensor *out = tape_tensor(tp, in[0]->rows, in[0]->cols);
    real *store = tape_records(tp) ? tape_saved(tp, (size_t)d->B * row_store(d)) : NULL;
    real *enter = tape_kept(tp, count, &known);  // never exchanged twice
    real *leave = tape_scratch(tp, count);
    real *scratch = tape_scratch(tp, memory_scratch_all(d));
    if (!tape_is_dry(tp)) memory_chain_forward(&m, out, in, enter, leave, store, scratch, known);
    return tape_push(tp, &(Node){.backward = memory_chain_node,
                                 .out = TENSORS(out),
                                 .in = (Tensor **)(uintptr_t)in,
                                 .saved = {store},
                                 .info = tape_info(tp, &m, sizeof m)});
}

// ---- convolution -------------------------------------------------------------------------------

typedef struct ConvChain {
    const Mesh *mesh;
    ConvDims dims;
} ConvChain;

static size_t tail_reals(const ConvDims *d) {
    return (size_t)d->B * (size_t)(d->K - 1) * (size_t)d->C;
}

// What leaves a chunk as long as the tail does not depend on what enters it: both travel at once.
static bool tail_is_mine(const ConvDims *d) {
    return d->T >= d->K - 1;
}

static void conv_chain_node(Tape *tp, const Node *n) {
    const ConvChain *c = n->info;
    const ConvDims *d = &c->dims;
    Tensor *x = n->in[0], *weight = n->in[1];
    size_t count = tail_reals(d);
    real *dx = tape_grad(tp, x), *dweight = tape_grad(tp, weight);
    real *dnext = tape_scratch(tp, count), *dtail = tape_scratch(tp, count);
    if (tape_is_dry(tp)) return;
    Chain chain = chain_open(c->mesh, true, 1, count, dnext, dtail);
    memset(dnext, 0, count * sizeof *dnext);
    memset(dtail, 0, count * sizeof *dtail);
    chain_start(&chain);
    conv_backward(dx, dweight, dtail, n->out[0]->grad, x->data, weight->data, n->saved[0], d);
    if (tail_is_mine(d)) chain_give(&chain, 0);
    chain_take(&chain, 0);
    conv_tail_backward(dx, dtail, dnext, d);
    if (!tail_is_mine(d)) chain_give(&chain, 0);
    chain_end(&chain);
}

static void tails_exchange(const ConvChain *c, const Tensor *x, real *enter, real *leave) {
    const ConvDims *d = &c->dims;
    Chain chain = chain_open(c->mesh, false, 1, tail_reals(d), enter, leave);
    memset(enter, 0, tail_reals(d) * sizeof *enter);
    chain_start(&chain);
    if (tail_is_mine(d)) {
        conv_tail(leave, NULL, x->data, d);
        chain_give(&chain, 0);
    }
    chain_take(&chain, 0);
    if (!tail_is_mine(d)) {
        conv_tail(leave, enter, x->data, d);
        chain_give(&chain, 0);
    }
    chain_end(&chain);
}

Tensor *op_seq_conv(Tape *tp, const Mesh *mesh, Tensor *x, Tensor *weight, const SeqInfo *seq,
                    real *tail) {
    if (mesh == NULL || mesh->sp == 1 || tail != NULL) return op_conv(tp, x, weight, seq, tail);
    ConvChain c = {mesh, conv_dims(x, weight, seq)};
    bool known;
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    real *enter = tape_kept(tp, tail_reals(&c.dims), &known);
    real *leave = tape_scratch(tp, tail_reals(&c.dims));
    if (!tape_is_dry(tp)) {
        if (!known) tails_exchange(&c, x, enter, leave);
        conv_forward(y->data, x->data, weight->data, enter, &c.dims);
    }
    return tape_push(tp, &(Node){.backward = conv_chain_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x, weight),
                                 .saved = {enter},
                                 .info = tape_info(tp, &c, sizeof c)});
}
