// What the files of the neural memory share: gates and the fast-weight primitive (memory_gates.c),
// and the small network that is trained while the sequence is read (memory_net.c), on one piece of
// a chunk of one head of one row. memory.c walks through the pieces. Formulas: docs/maths.md 17.
// Nobody else includes this.
//
// A piece is the part of a chunk that lies in one row: n tokens. Row vectors: a token is a row, a
// weight acts on the right. Matrices are dense unless a leading dimension is given.
#pragma once

#include <stdbool.h>

#include "tensor/kernels/kernels.h"

// The next `count` reals of a room.
static inline real *memory__take(real **room, size_t count) {
    real *at = *room;
    *room += count;
    return at;
}

// Gates of one layer of the network, and what follows from them inside a piece. With a = 1 - alpha:
//   E[t,i] = prod eta over (i,t]      e0[t] = prod eta over [0,t]      a0 the same of a
//   P[t,i] = a_t P[t-1,i] + E[t,i]    p0[t] = a_t p0[t-1] + e0[t]      L[t,i] = P[t,i] theta_i
// so that W_t = a0[t] W + p0[t] S - sum_i L[t,i] g_i and S_t = e0[t] S - sum_i E[t,i] theta_i g_i,
// where g_i is the gradient of token i.
typedef struct MemoryGates {
    int n;
    real *a, *eta, *theta;  // (n) theta: after the cap
    real *cap;              // (n) what is left of each theta, a constant to gradients
    real *E, *P, *L;        // (n,n), 0 above the diagonal
    real *e0, *a0, *p0;     // (n)
} MemoryGates;

// The weights of one layer: at the start of the chunk, where gradients are taken, and at the start
// of the piece; and its momentum. (p,q) each.
typedef struct FastWeight {
    int p, q;
    real *W0, *W, *S;
} FastWeight;

size_t memory__gates_reals(int n);
// Columns of the gates of one head and layer: alpha, eta and theta at gates[t * ld + offset[k]].
// *spent: theta used so far in this chunk, for the cap; budget 0: none.
void memory__gates(MemoryGates *g, real *room, int n, const real *gates, int ld,
                   const int offset[3], double budget, double *spent);
// What flows into L, a0, p0 (all of them), e0[n-1] and the last row of E times theta, as sums over
// their uses; and from there into the gates, +=.
typedef struct MemoryGateGrads {
    real *L, *a0, *p0, *ls;  // (n,n) (n) (n) (n)
    double e0;
} MemoryGateGrads;
size_t memory__gate_grads_reals(int n);
void memory__gate_grads(MemoryGateGrads *d, real *room, int n);  // all zero
void memory__gates_backward(const MemoryGates *g, MemoryGateGrads *d, real *room, real *dgates,
                            int ld, const int offset[3]);

// O (n,q) = row t: x_t W_t, or x_t W_{t-1} where strict. X (n,p), Z (n,p) keys written, D (n,q)
// their errors. For backward: M (n,n): L * (X Z^T), X W and X S (n,q).
void memory__read(real *O, real *M, real *XW, real *XS, const real *X, const real *Z, const real *D,
                  const FastWeight *w, const MemoryGates *g, bool strict);
// to (n,q) = rows of D times their weights.
void memory__scale_rows(real *to, const real *D, const real *weights, int n, int q);
// W and S to the end of the piece, in place. room (n,q).
void memory__write(FastWeight *w, real *room, const real *Z, const real *D, const MemoryGates *g);
// Backward of both, at the weights before the piece. dW, dS (p,q): in, of the end; out, of the
// start. dX (n,p) =; dZ, dD +=. M, XW, XS as read left them. room: memory__fast_reals(n, p, q).
size_t memory__fast_reals(int n, int p, int q);
void memory__fast_backward(real *dX, real *dZ, real *dD, real *dW, real *dS, MemoryGateGrads *dg,
                           real *room, const real *dO, const real *M, const real *XW,
                           const real *XS, const real *X, const real *Z, const real *D,
                           const FastWeight *w, const MemoryGates *g, bool strict);

// ---- memory_net.c ------------------------------------------------------------------------------

// One piece of one head: inputs, and all that a forward pass of it leaves. Index 0 of layers is the
// first.
typedef struct MemoryPiece {
    const MemoryDims *d;
    int n;
    real *q, *k, *v;           // (n,D)
    const real *gain, *shift;  // (D) of the inner norm; NULL: no norm
    FastWeight w[MEMORY_LAYERS];
    MemoryGates g[MEMORY_LAYERS];
    real *gates[MEMORY_LAYERS];                 // their room
    real *x[MEMORY_LAYERS], *z[MEMORY_LAYERS];  // what a layer takes from k, and gives
    real *slope[MEMORY_LAYERS], *curve[MEMORY_LAYERS],
        *slope_q[MEMORY_LAYERS];  // of the activation at z, and its slope at r
    real *err[MEMORY_LAYERS],
        *keep[MEMORY_LAYERS];                   // errors of its outputs; (n) what clipping leaves
    real *norm[MEMORY_LAYERS];                  // (n) of gradients, before
    real *clipped[MEMORY_LAYERS];               // keep * err
    real *back[MEMORY_LAYERS];                  // err W0^T, before the activation's slope
    real *a[MEMORY_LAYERS], *r[MEMORY_LAYERS];  // what a layer takes from q, and gives
    real *M[MEMORY_LAYERS], *aW[MEMORY_LAYERS], *aS[MEMORY_LAYERS];  // (n,n); a W and a S
    real *diff;                           // (n,D) derivative of the loss by f(k)
    real *hat, *scale, *hat_q, *scale_q;  // (n,D) (n): LayerNorm of the network's outputs
    real *y;                              // (n,D)
    real *room;                           // what one step needs and leaves to the next
} MemoryPiece;
size_t memory__piece_reals(const MemoryDims *d);  // of a piece of a whole chunk, all buffers
void memory__piece_open(MemoryPiece *p, const MemoryDims *d, real *scratch);
void memory__inner(MemoryPiece *p);   // x, z, err: the gradient of each token at W0
void memory__answer(MemoryPiece *p);  // y, from q; leaves w as it is
void memory__learn(MemoryPiece *p);   // w to the end of the piece
// Gradients of a piece; those of weights as memory__fast_backward has them, dW0 +=.
typedef struct MemoryPieceGrads {
    real *dq, *dk, *dv, *dgain, *dshift;  // += (n,D) (D)
    real *dW0[MEMORY_LAYERS], *dW[MEMORY_LAYERS], *dS[MEMORY_LAYERS];
    MemoryGateGrads g[MEMORY_LAYERS];
} MemoryPieceGrads;
size_t memory__backward_reals(const MemoryDims *d);  // room of the next
void memory__piece_backward(MemoryPieceGrads *d, const MemoryPiece *p, const real *dy, real *room);
