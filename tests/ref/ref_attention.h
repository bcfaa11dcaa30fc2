// Naive twins of lightning.c and attention.c: quadratic loops with full masks, everything in
// double. They are the definition that the kernels are tested against, so they share no code and no
// idea with them.
#pragma once

#include "tensor/kernels/kernels.h"

// Dense results: q,k (B*T, H*A)  v,o (B*T, H*E)  states (B,H,A,E). Inputs are strided as `d` says.
typedef struct RefLightning {
    double *out, *state;            // forward
    double *dq, *dk, *dv, *dstate;  // backward; NULL where not wanted
} RefLightning;

// Sum over all pairs of tokens, and over the state before the first one.
void ref_lightning_quadratic(RefLightning *r, const real *state, const real *q, const real *k,
                             const real *v, const LightningDims *d);
// Token by token.
void ref_lightning_recurrent(RefLightning *r, const real *state, const real *q, const real *k,
                             const real *v, const LightningDims *d);
// Gradients of the quadratic form, given those of the outputs and of the state after the last
// token.
void ref_lightning_backward(RefLightning *r, const real *dout, const real *dstate,
                            const real *state, const real *q, const real *k, const real *v,
                            const LightningDims *d);

// Softmax attention: out, lse as the kernel's; gradients dense.
typedef struct RefAttention {
    double *out, *lse;     // (B*Tq, H*D), (B,H,Tq)
    double *dq, *dk, *dv;  // (B*Tq, H*D), (B*Tk, Hk*D) twice
} RefAttention;

void ref_attention_forward(RefAttention *r, const real *q, const real *k, const real *v,
                           const AttentionDims *d);
void ref_attention_backward(RefAttention *r, const real *dout, const real *q, const real *k,
                            const real *v, const AttentionDims *d);
