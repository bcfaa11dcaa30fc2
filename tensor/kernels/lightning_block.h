// What the files of lightning attention share: one head of one row cut into blocks, and every
// formula of docs/maths.md 6 on one block. lightning.c runs through all of them, lightning_parts.c
// through some at a time. Nobody else includes this.
#pragma once

#include <stdbool.h>

#include "tensor/kernels/kernels.h"

// What one task, a head of one row, works on: pointers at its first token and column (NULL where a
// part does not need them), and its scratch.
typedef struct LightningTask {
    const LightningDims *d;
    int block;               // tokens a block, at most T
    double rate;             // s
    const uint8_t *start;    // (T) or NULL
    const real *q, *k, *v;   // strided by ld_q, ld_k, ld_v
    real *weights;           // (block+1): exp(-s n) at block - n, so that rows of D are contiguous
    real *scores, *dscores;  // (SUB, block)
    real *scaled;            // (block, max(A,E))
} LightningTask;

// One block of a task.
typedef struct LightningBlock {
    size_t at;  // first token
    int m;      // tokens
    int open;   // rows before the first document start: those that see the state
    int last;   // first row of the last document: those from here on are seen by the next state
} LightningBlock;

// The gradients of one task, and what they flow from: at its first token and column.
typedef struct LightningGradients {
    real *dq, *dk, *dv;
    const real *dout;
} LightningGradients;

size_t lightning__blocks(const LightningDims *d);  // of a row
bool lightning__feeds_threads(
    const LightningDims *d);  // whether the B*H tasks are worth several threads
// The index-th of B*H tasks. Scratch is the calling thread's part of `scratch`.
LightningTask lightning__task(const LightningDims *d, int index, const real *q, const real *k,
                              const real *v, real *scratch);
LightningBlock lightning__block(const LightningTask *t, size_t n);
// From the start of an operand of `width` columns a head to the task's first token and column.
size_t lightning__offset(const LightningDims *d, int index, int ld, int width);
LightningGradients lightning__gradients(const LightningDims *d, int index, real *dq, real *dk,
                                        real *dv, const real *dout);

// Forward. `out` points at the task's first token; state (A,E).
void lightning__inside(const LightningTask *t, const LightningBlock *b, real *out);  // O = A V
void lightning__across(const LightningTask *t, const LightningBlock *b, real *out,
                       const real *state);  // O += diag(win) Q S
void lightning__state(const LightningTask *t, const LightningBlock *b,
                      real *state);  // S <- exp(-s m) S + K^T diag(wout) V

// Backward. dstate (A,E) is dL/dS after the block, except where it says otherwise.
// dA = (dO V^T) * D ;  dQ += dA K ;  dK += dA^T Q ;  dV += A^T dO
void lightning__inside_backward(const LightningTask *t, const LightningBlock *b,
                                const LightningGradients *g);
// dK += diag(wout) V dS^T ;  dV += diag(wout) K dS
void lightning__keys_backward(const LightningTask *t, const LightningBlock *b,
                              const LightningGradients *g, const real *dstate);
// diag(win) dO, in scratch, for the two below. They leave it there.
void lightning__scale_dout(const LightningTask *t, const LightningBlock *b, const real *dout);
// dQ += diag(win) dO S^T, S before the block
void lightning__queries_backward(const LightningTask *t, const LightningBlock *b,
                                 const LightningGradients *g, const real *state);
// dS <- exp(-s m) dS + Q^T diag(win) dO: before the block afterwards
void lightning__dstate(const LightningTask *t, const LightningBlock *b, real *dstate);

// The recurrent form of forward for a block of one token, without products too small for BLAS.
void lightning__token(const LightningTask *t, const LightningBlock *b, real *restrict out,
                      real *restrict state);

// state += exp(-s n) from: what n tokens without a document start leave of an earlier state, or a
// later gradient of one.
void lightning__remains(real *restrict state, const real *restrict from, size_t count, double rate,
                        size_t tokens);
