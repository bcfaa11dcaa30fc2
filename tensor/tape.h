// The tape: an append-only list of operations walked once in reverse. It owns activation memory (an arena
// rewound each micro-batch) and lends gradient buffers from a pool. Tensors are 2-D, row-major, (rows, cols).
//
// A dry tape runs the same model code without touching numbers: it measures the arena and the pool, so that
// memory is reserved exactly, once, before the first step (tape_reserve).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "tensor/params.h"

typedef struct Tape Tape;  // opaque

typedef struct Tensor {
    real *data;           // (rows, cols) with ld; NULL on a dry tape
    int rows, cols, ld;
    Param *param;         // a parameter's leaf, else NULL
    struct Tensor *base;  // a column view's owner, else NULL
    int col;              // first column in base
    real *grad;           // lent by the pool, or the parameter's own; dense (ld = cols)
    int grad_block;       // pool block of grad, -1: none yet
    double value;         // of a (1,1) sum, kept in double
} Tensor;

enum { NODE_INPUTS = 4, NODE_SAVED = 4 };
typedef struct Node Node;
typedef void (*BackwardFn)(Tape *tp, const Node *node);
struct Node {
    BackwardFn backward;
    Tensor *out, *in[NODE_INPUTS];  // unused inputs NULL
    real *saved[NODE_SAVED];        // op-private, in the arena
    const void *info;               // op-private constants, tape_info or longer lived
    BackwardFn late;                // the part of backward that no other gradient waits for; NULL: none
};

// Ready: the last use of a parameter has been differentiated.
typedef struct TapeHooks {
    void (*ready)(Param *param, void *user);
    // Named places in a model: to read; on a tape that records nothing also to change. layer is -1 outside of
    // blocks. Once a forward pass: recomputation does not call again.
    void (*site)(const char *name, int layer, Tensor *x, void *user);
    void *user;
} TapeHooks;

Tape *tape_new(void);
void tape_free(Tape *tp);
// Measured by a dry run (tape_dry, model code, tape_backward), then reserved: E_NOMEM. Not collective; train agrees.
void tape_dry(Tape *tp, bool record);           // rewinds and measures one pass; call again for another shape
Status tape_reserve(Tape *tp) CHECKED;          // ends measuring
size_t tape_bytes(const Tape *tp);              // activations, kept results, gradients and scratch, measured peak
// Rewinds for the next micro-batch. record: keep nodes for backward (training) or not (evaluation).
void tape_begin(Tape *tp, bool record);
bool tape_is_dry(const Tape *tp);       // ops and backward functions then skip their kernels
bool tape_records(const Tape *tp);
void tape_set_hooks(Tape *tp, const TapeHooks *hooks);  // copied; NULL: none

Tensor *tape_tensor(Tape *tp, int rows, int cols);              // undefined contents
Tensor *tape_leaf(Tape *tp, real *data, int rows, int cols);    // borrowed data
Tensor *tape_param(Tape *tp, Param *p);                         // this rank's share: (dim0, product of the rest)
Tensor *tape_cols(Tape *tp, Tensor *x, int col, int cols);      // columns of x, no copy, gradient into x's
real *tape_saved(Tape *tp, size_t count);                       // lives until backward has used it
// As tape_saved, for a result that must not be computed twice because all ranks took part in it. The second run of
// a recomputed segment gets the same memory back, in the order of the first, and *filled is true.
real *tape_kept(Tape *tp, size_t count, bool *filled);
Tensor *tape_kept_tensor(Tape *tp, int rows, int cols, bool *filled);
// The values of x under another gradient buffer, no copy: what happens to gradients alone is an op, too.
Tensor *tape_alias(Tape *tp, Tensor *x);
void *tape_info(Tape *tp, const void *bytes, size_t size);      // a copy with the node's life
real *tape_scratch(Tape *tp, size_t count);                     // until tape_push, or backward, returns
Tensor *tape_push(Tape *tp, const Node *node);                  // returns node->out
void tape_site(Tape *tp, const char *name, int layer, Tensor *x);

// In a backward function: the buffer to accumulate x's gradient into (zeroed at first use). ld is x->ld for
// views, x->cols otherwise: tape_grad_ld. On a dry tape returns NULL after counting.
real *tape_grad(Tape *tp, Tensor *x);
int tape_grad_ld(const Tensor *x);

// Walks the list in reverse from `root`, whose gradient is seeded with 1 (root is (1,1)). Late parts come after the
// walk (inside a recomputed segment: at once), so that the gradients it finds last are on their way to other ranks
// meanwhile; the split is that of Qi et al. 2023, "Zero Bubble Pipeline Parallelism", arXiv:2401.10241.
void tape_backward(Tape *tp, Tensor *root);
// As tape_backward, from any tensor with a given gradient (rows*cols values): gradient checks of single ops.
void tape_backward_from(Tape *tp, Tensor *root, const real *grad);

// Activation recomputation: runs fn(x) keeping only x and the result; backward runs fn again. Bitwise the same.
typedef Tensor *(*SegmentFn)(Tape *tp, Tensor *x, const void *args);
Tensor *tape_checkpoint(Tape *tp, SegmentFn fn, Tensor *x, const void *args, size_t args_bytes);
