// Ops: a kernel, its output on the tape and a node. The only callers of kernels. Shapes as in
// kernels.h.
#pragma once

#include "tensor/batch.h"
#include "tensor/kernels/kernels.h"
#include "tensor/tape.h"

// (rows,C) -> (N,C). table: tokens first..first+rows-1; other tokens give 0. pad: a token, -1:
// none.
Tensor *op_embed(Tape *tp, Tensor *table, const Batch *b, real scale, int pad, int first);
Tensor *op_linear(Tape *tp, Tensor *x, Tensor *weight);  // (N,C) (O,C) -> (N,O)
Tensor *op_srms(Tape *tp, Tensor *x, real eps);          // (N,C) -> (N,C)
Tensor *op_rmsnorm(Tape *tp, Tensor *x, Tensor *gain, real eps);
Tensor *op_silu(Tape *tp, Tensor *x);            // x may be a column view
Tensor *op_mul(Tape *tp, Tensor *a, Tensor *b);  // may be column views
Tensor *op_swiglu(Tape *tp, Tensor *a, Tensor *b);
Tensor *op_sigmul(Tape *tp, Tensor *a, Tensor *b);  // a * sigmoid(b)
Tensor *op_add(Tape *tp, Tensor *a, Tensor *b);
Tensor *op_concat_rows(Tape *tp, Tensor **list);  // below one another; ends with NULL. Views, too
Tensor *op_concat_cols(Tape *tp, Tensor **list);  // beside one another
Tensor *op_rope(Tape *tp, Tensor *x, const SeqInfo *s, double base, int heads);  // x may be a view
// cos and sin of pos * theta, shared by q and k; theta (H,1,D).
typedef struct LrpeAngles {
    const real *cosine, *sine;  // (N,C)
    const int64_t *pos;         // (N)
} LrpeAngles;
LrpeAngles op_lrpe_angles(Tape *tp, Tensor *theta, const SeqInfo *s);
Tensor *op_lrpe(Tape *tp, Tensor *x, Tensor *theta, const LrpeAngles *a,
                int heads);  // (N,C) -> (N,2C)

// state: NULL (start from zero) or (B,H,A,E) read and overwritten with the final state (generation,
// no gradient).
typedef struct LightningArgs {
    int heads, block;     // block 0: chosen
    const double *decay;  // (heads), must outlive the tape's use
    real *state;
} LightningArgs;
typedef struct LightningDims LightningDims;  // kernels.h
LightningDims lightning_dims(const Tensor *q, const Tensor *k, const Tensor *v, const SeqInfo *s,
                             const LightningArgs *a);
Tensor *op_lightning(Tape *tp, Tensor *q, Tensor *k, Tensor *v, const SeqInfo *s,
                     const LightningArgs *a);  // (N,H*A) (N,H*A) (N,H*E) -> (N,H*E)

typedef struct AttentionArgs {
    int heads, kv_heads, window;
    Tensor *more_keys, *more_values;  // (M, Hk*D) rows that every query sees, too; NULL: none
} AttentionArgs;
typedef struct AttentionDims AttentionDims;  // kernels.h; of rows that are whole on this rank
AttentionDims attention_dims(const Tensor *q, const Tensor *k, const Tensor *v, const SeqInfo *s,
                             const AttentionArgs *a);
Tensor *op_attention(Tape *tp, Tensor *q, Tensor *k, Tensor *v, const SeqInfo *s,
                     const AttentionArgs *a);  // (N,H*D) (N,Hk*D) (N,Hk*D) -> (N,H*D)
// What those rows add to a result over other keys, out and lse as attention_forward leaves them,
// and their backward, from the merged ones. room: attention_more_reals.
size_t attention_more_reals(const AttentionDims *d, const Tensor *keys);
void attention_more(real *out, real *lse, real *room, const real *q, const Tensor *keys,
                    const Tensor *values, const AttentionDims *d);
void attention_more_backward(real *dq, real *dkeys, real *dvalues, real *room, const real *dout,
                             const real *out, const real *lse, const real *q, const Tensor *keys,
                             const Tensor *values, const AttentionDims *d);
// Against cached keys (generation): keys/values (B, capacity, Hk*D); no gradient.
typedef struct CacheView {
    const real *keys, *values;
    int capacity;
    const int *length;  // (B) valid keys of each row, the T new ones included
} CacheView;
Tensor *op_attention_cached(Tape *tp, Tensor *q, const CacheView *c, const SeqInfo *s,
                            const AttentionArgs *a);

// Each head's channels over their root mean square, times a gain (H*D); gain NULL: to length 1.
// x (N,H*D) may be a view.
Tensor *op_head_norm(Tape *tp, Tensor *x, Tensor *gain, int heads, real eps);
// most[i] * sigmoid(x + bias) in the i-th third of the columns; x (N,G), bias (G).
Tensor *op_gates(Tape *tp, Tensor *x, Tensor *bias, const double most[GATE_KINDS]);
// Causal depthwise convolution along time: weight (C,K), x (N,C) may be a view. tail (B,K-1,C): the
// inputs before each row, read and advanced (generation, no gradient); NULL: zeros.
ConvDims conv_dims(const Tensor *x, const Tensor *weight, const SeqInfo *s);
Tensor *op_conv(Tape *tp, Tensor *x, Tensor *weight, const SeqInfo *s, real *tail);
// A neural memory of each head, out (N, H*D). in: q, k, v (N, H*D), gates, initial weights, and
// gain and shift where options->normed, ended by NULL; columns and weights as kernels.h has them.
// options: B, T and what follows from s and the tensors are filled in. state: of
// memory_state_reals, read and advanced; NULL: each row begins with the initial weights.
MemoryDims memory_dims(Tensor *const in[8], const SeqInfo *s, const MemoryDims *options);
MemoryInputs memory_inputs(Tensor *const in[8]);
MemoryGradients memory_gradients(Tape *tp, Tensor *const in[8]);  // in a backward function
size_t memory_scratch_all(const MemoryDims *d);                   // of all threads
// Rows that did not begin with a document began with the initial weights: dinit +=, from dstate.
void memory_begins_backward(real *dinit, const real *dstate, const MemoryDims *d);
Tensor *op_memory(Tape *tp, Tensor *const in[8], const SeqInfo *s, const MemoryDims *options,
                  real *state);
// Sum over valid targets of b->weights * cross-entropy of logits = x weight^T, in row blocks: the
// logits of the batch never exist. Returns (1,1). On a recording tape loss and gradients are
// computed in one pass by tape_backward: read the loss after it. losses: NULL or (N) doubles, the
// cross-entropy of each token. fold: NULL when weight is the whole vocabulary. Otherwise weight is
// a slice of its rows: loss and losses are of the whole vocabulary on every rank, the gradient of x
// is this slice's part of a sum over ranks. Copied.
typedef struct LossFold {
    int first;         // the token of weight's first row
    int columns_most;  // rows of the largest slice on any rank: all make the same blocks from it
    // Combines n tokens over the slices, in place on all ranks: lse <- log sum exp(lse), hit <- sum
    // of hit. NaN must stay NaN; an empty slice's lse, -1e300, counts for nothing. Called once a
    // block, in the same order everywhere, and never for a batch without tokens. room: 2 n (ranks +
    // 1) doubles for it to work in.
    void (*fold)(double *lse, double *hit, int n, double *room, void *user);
    int ranks;
    void *user;
} LossFold;
Tensor *op_loss_head(Tape *tp, Tensor *x, Tensor *weight, const Batch *b, double *losses,
                     const LossFold *fold);
// Log-probabilities of the targets under the distribution that tokens are drawn from, (N,1); 0
// where a target is ignored. Known at once; backward forms each block of logits once more.
// *entropy: NULL, or gets that of each row, (N,1). fold: as op_loss_head.
typedef struct LogProbArgs {
    double temperature;     // > 0, divides the logits
    const uint8_t *banned;  // (V) 1: cannot be drawn, and is no target; NULL: none. Must outlive
                            // the tape's use
    const LossFold *fold;
} LogProbArgs;
Tensor *op_log_probs(Tape *tp, Tensor *x, Tensor *weight, const Batch *b, const LogProbArgs *args,
                     Tensor **entropy);
// a x + b y of two losses (1,1), themselves sums perhaps.
Tensor *op_loss_sum(Tape *tp, Tensor *x, double a, Tensor *y, double b);
// Sum of weights * x as a loss (1,1); x (N,1), perhaps a view. weights: (N), must outlive the
// tape's use; NULL: 1 each.
Tensor *op_loss_total(Tape *tp, Tensor *x, const real *weights);
// The value of a (1,1) loss, whatever computed it. On a recording tape it may be known after
// tape_backward only.
double tensor_item(const Tensor *loss);
