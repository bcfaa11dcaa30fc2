// The tape: an append-only list of operations walked once in reverse. It owns activation memory (an
// arena rewound each micro-batch) and lends gradient buffers from a pool. Tensors are 2-D,
// row-major, (rows, cols).
//
// A dry tape runs the same model code without touching numbers: it measures the arena and the pool,
// so that memory is reserved exactly, once, before the first step (tape_reserve).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "tensor/params.h"

typedef struct Tape Tape;  // opaque

typedef struct Tensor {
    real *data;  // (rows, cols) with ld; NULL on a dry tape
    int rows, cols, ld;
    Param *param;         // a parameter's leaf, else NULL
    struct Tensor *base;  // a view's owner, else NULL
    int row, col;         // first row and column in base
    real *grad;           // lent by the pool, or the parameter's own; dense (ld = cols)
    int grad_block;       // pool block of grad, -1: none yet
    double value;         // of a (1,1) loss, kept in double; data is not used: tensor_item
    const struct LossTerms
        *terms;  // of a weighted sum of losses: its value is that of their values
} Tensor;

// An operation. Lists of tensors end with NULL; tape_push copies them.
#define TENSORS(...) ((Tensor *[]){__VA_ARGS__, NULL})
enum { NODE_SAVED = 4 };
typedef struct Node Node;
typedef void (*BackwardFn)(Tape *tp, const Node *node);
struct Node {
    // Called when any output has a gradient. The grad of an output that nobody used is NULL.
    BackwardFn backward;
    Tensor **out, **in;
    real *saved[NODE_SAVED];  // op-private, in the arena
    const void *info;         // op-private constants, tape_info or longer lived
    BackwardFn late;          // the part of backward that no other gradient waits for; NULL: none
};

// Named places in a model, where a hook may read tensors and, on a tape that records nothing, also
// change them.
typedef enum Site {
    SITE_RESIDUAL_IN,
    SITE_QUERY,
    SITE_KEY,
    SITE_VALUE,     // as the mixer's kernel takes them: rotated, with their feature map
    SITE_HEAD_OUT,  // the mixer's output before gate and projection
    SITE_MIXER_OUT,
    SITE_MLP_OUT,
    SITE_RESIDUAL_OUT,
    SITE_LOGITS,  // where they exist whole
    SITE_COUNT
} Site;
const char *site_name(Site site);  // "residual_in"

// The last use of a parameter has been differentiated.
typedef void (*ReadyFn)(Param *param, void *user);
// layer is -1 outside of blocks. Once a forward pass: recomputation does not call again.
typedef void (*SiteFn)(Site site, int layer, Tensor *x, void *user);

Tape *tape_new(void);
void tape_free(Tape *tp);
// Measured by a dry run (tape_dry, model code, tape_backward), then reserved: E_NOMEM. Not
// collective; train agrees.
void tape_dry(Tape *tp,
              bool record);  // rewinds and measures one pass; call again for another shape
Status tape_reserve(Tape *tp) CHECKED;  // ends measuring
size_t
tape_bytes(const Tape *tp);  // activations, kept results, gradients and scratch, measured peak
// Rewinds for the next micro-batch. record: keep nodes for backward (training) or not (evaluation).
void tape_begin(Tape *tp, bool record);
bool tape_is_dry(const Tape *tp);  // ops and backward functions then skip their kernels
bool tape_records(const Tape *tp);
// Pauses recording within a pass, or goes on; returns what was. What runs meanwhile is a constant
// to the rest and keeps no activation of a block: models that are not trained. Not in a segment.
bool tape_record(Tape *tp, bool on);
void tape_on_ready(Tape *tp, ReadyFn ready, void *user);  // NULL: nobody; independent of the next
void tape_at_sites(Tape *tp, SiteFn site, void *user);

Tensor *tape_tensor(Tape *tp, int rows, int cols);            // undefined contents
Tensor *tape_leaf(Tape *tp, real *data, int rows, int cols);  // borrowed data
Tensor *tape_param(Tape *tp, Param *p);  // this rank's share: (dim0, product of the rest)
Tensor *tape_cols(Tape *tp, Tensor *x, int col,
                  int cols);  // columns of x, no copy, gradient into x's
Tensor *tape_rows(Tape *tp, Tensor *x, int row,
                  int rows);  // the same for rows; views of views are views of the owner
real *tape_saved(Tape *tp, size_t count);  // lives until backward has used it
// As tape_saved, for a result that must not be computed twice because all ranks took part in it.
// The second run of a recomputed segment gets the same memory back, in the order of the first, and
// *filled is true.
real *tape_kept(Tape *tp, size_t count, bool *filled);
Tensor *tape_kept_tensor(Tape *tp, int rows, int cols, bool *filled);
// The values of x under another gradient buffer, no copy: what happens to gradients alone is an op,
// too.
Tensor *tape_alias(Tape *tp, Tensor *x);
void *tape_info(Tape *tp, const void *bytes, size_t size);  // a copy with the node's life
real *tape_scratch(Tape *tp, size_t count);                 // until tape_push, or backward, returns
Tensor *tape_push(Tape *tp, const Node *node);              // returns the first output
void tape_site(Tape *tp, Site site, int layer, Tensor *x);

// In a backward function: the buffer to accumulate x's gradient into (zeroed at first use). ld is
// x->ld for views, x->cols otherwise: tape_grad_ld. On a dry tape returns NULL after counting.
real *tape_grad(Tape *tp, Tensor *x);
// The same for a function that can as well store: *first says that nothing was added to it yet, and
// that it must store every element, as the buffer holds anything. Never so for parameters and
// views.
real *tape_grad_first(Tape *tp, Tensor *x, bool *first);
int tape_grad_ld(const Tensor *x);

// Walks the list in reverse from `root`, whose gradient is seeded with 1 (root is (1,1)). Late
// parts come after the walk (inside a recomputed segment: at once), so that the gradients it finds
// last are on their way to other ranks meanwhile; the split is that of Qi et al. 2023, "Zero Bubble
// Pipeline Parallelism", arXiv:2401.10241.
void tape_backward(Tape *tp, Tensor *root);
// As tape_backward, from any tensor with a given gradient (rows*cols values): gradient checks of
// single ops.
void tape_backward_from(Tape *tp, Tensor *root, const real *grad);

// Activation recomputation: runs fn(x) keeping only x and the result; backward runs fn again.
// Bitwise the same.
typedef Tensor *(*SegmentFn)(Tape *tp, Tensor *x, const void *args);
Tensor *tape_checkpoint(Tape *tp, SegmentFn fn, Tensor *x, const void *args, size_t args_bytes);
