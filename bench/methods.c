// The table of methods, and the two calls of the model that go through it.
#include "bench/methods.h"

#include <string.h>

const Method METHODS[] = {
    {"lasp2", {"model.pattern=L", "parallel.sp_linear=lasp2"}, NULL, NULL},
    {"lasp2_scan", {"model.pattern=L", "parallel.sp_linear=lasp2_scan"}, NULL, NULL},
    {"lasp", {"model.pattern=L", "parallel.sp_linear=lasp"}, NULL, NULL},
    {"ring_linear", {"model.pattern=L"}, op_ring_linear, NULL},
    {"lasp2h", {"model.pattern=N", "parallel.sp_softmax=lasp2h"}, NULL, NULL},
    {"ulysses", {"model.pattern=N", "parallel.sp_softmax=ulysses"}, NULL, NULL},
    {"ring", {"model.pattern=N", "parallel.sp_softmax=ring"}, NULL, NULL},
    {"rsa", {"model.pattern=N"}, NULL, op_rsa},
    {.name = NULL},
};

const Method *method_find(const char *name) {
    for (const Method *m = METHODS; m->name != NULL; m++) {
        if (strcmp(m->name, name) == 0) return m;
    }
    return NULL;
}

// A wrapped call has the product's arguments and no room for a choice.
static Method chosen;

void method_use(const Method *m) {
    chosen = *m;
}

// Names are the linker's: what the model calls, and the product's op behind it.
LinearOp __wrap_op_seq_lightning, __real_op_seq_lightning;
SoftmaxOp __wrap_op_seq_attention, __real_op_seq_attention;

Tensor *__wrap_op_seq_lightning(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                                const SeqInfo *seq, const LightningArgs *a) {
    LinearOp *op = chosen.linear != NULL ? chosen.linear : __real_op_seq_lightning;
    return op(tp, mesh, q, k, v, seq, a);
}

Tensor *__wrap_op_seq_attention(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                                const SeqInfo *seq, const AttentionArgs *a) {
    SoftmaxOp *op = chosen.softmax != NULL ? chosen.softmax : __real_op_seq_attention;
    return op(tp, mesh, q, k, v, seq, a);
}
