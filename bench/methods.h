// The ways to share a sequence that bench/sp compares. The product's own are chosen by its
// configuration; two reference methods exist here only. All run the product's model: the linker
// sends the model's calls of op_seq_lightning and op_seq_attention through methods.c (--wrap in
// CMakeLists.txt), so that no hook for benchmarks is left in the product and every method has the
// same projections, norms and loss around it.
#pragma once

#include "parallel/mesh.h"
#include "parallel/ops.h"

typedef Tensor *LinearOp(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                         const SeqInfo *seq, const LightningArgs *a);
typedef Tensor *SoftmaxOp(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                          const SeqInfo *seq, const AttentionArgs *a);

typedef struct Method {
    const char *name;
    char pattern;        // model.pattern: L or N
    SpLinear sp_linear;  // of the mesh
    SpSoftmax sp_softmax;
    LinearOp *linear;  // replaces the product's op, NULL: does not
    SoftmaxOp *softmax;
} Method;

extern const Method METHODS[];                // ended by a row without a name
const Method *method_find(const char *name);  // NULL: unknown
void method_use(const Method *m);             // for all models of this process from now on

// ring_linear.c, rsa.c. As op_seq_lightning and op_seq_attention; documents and uneven chunks are
// supported, decode states, windows and grouped keys are not.
LinearOp op_ring_linear;
SoftmaxOp op_rsa;
