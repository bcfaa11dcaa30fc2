// The table of methods, and the two calls of the model that go through it.
#include "bench/methods.h"
#include "parallel/mesh.h"

#include <string.h>

const Method METHODS[] = {
    {"lasp2", 'L', SP_LASP2, SP_LASP2H, NULL, NULL},
    {"lasp2_scan", 'L', SP_LASP2_SCAN, SP_LASP2H, NULL, NULL},
    {"lasp", 'L', SP_LASP, SP_LASP2H, NULL, NULL},
    {"ring_linear", 'L', SP_LASP2, SP_LASP2H, op_ring_linear, NULL},
    {"lasp2h", 'N', SP_LASP2, SP_LASP2H, NULL, NULL},
    {"ulysses", 'N', SP_LASP2, SP_ULYSSES, NULL, NULL},
    {"ring", 'N', SP_LASP2, SP_RING, NULL, NULL},
    {"rsa", 'N', SP_LASP2, SP_LASP2H, NULL, op_rsa},
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
