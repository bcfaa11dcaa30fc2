// Every kernel pair. A kernel is a pure function on raw pointers: no allocation, I/O, MPI or
// failure. Long ones call progress() between pieces of work.
//
//   B rows   T tokens a row   N = B*T   C channels   H heads   Hk key/value heads   D head size
//   A feature size of q,k in lightning attention   E feature size of v   F ffn   V vocabulary
//   ld_x: elements between consecutive tokens of x (columns of a wider matrix are used in place)
//
// `dx` is the gradient of `x`. Gradients are accumulated (+=); the caller zeroes. Outputs of
// forward are overwritten. Threads split fixed pieces and fold partial results in order: the same
// bits for any number of threads. Sizes of 0 are legal.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "tensor/batch.h"

// ---- embed.c: out_t = scale * table[token_t] ---------------------------------------------------
// The table holds tokens first..first+rows-1: the vocabulary, or a slice of it. Other tokens give 0
// and receive nothing; that a token is in no slice at all is for the caller to rule out.
void embed_forward(real *restrict out, const real *restrict table,  // (N,C), (rows,C)
                   const int32_t *restrict tokens, real scale, int first, int rows, int N, int C);
// The token `pad` (-1: none) receives no gradient through the lookup.
void embed_backward(real *restrict dtable, const real *restrict dout,  // += (rows,C), (N,C)
                    const int32_t *restrict tokens, real scale, int pad, int first, int rows, int N,
                    int C);

// ---- norm.c ------------------------------------------------------------------------------------
// SimpleRMSNorm: y = x * rho, rho = 1/sqrt(mean(x^2) + eps). docs/maths.md 2
void srms_forward(real *restrict out, real *restrict rho,
                  const real *restrict inp,  // (N,C) (N) (N,C)
                  real eps, int N, int C);
void srms_backward(real *restrict dinp, const real *restrict dout, const real *restrict inp,
                   const real *restrict rho, int N, int C);
// RMSNorm with a learned gain (C): y = x * rho * gain
void rmsnorm_forward(real *restrict out, real *restrict rho, const real *restrict inp,
                     const real *restrict gain, real eps, int N, int C);
void rmsnorm_backward(real *restrict dinp, real *restrict dgain, const real *restrict dout,
                      const real *restrict inp, const real *restrict gain, const real *restrict rho,
                      int N, int C);

// ---- matvec.c: y = W x, read once, for generation ----------------------------------------------
void matvec_forward(real *restrict y, const real *restrict W, const real *restrict x, int O,
                    int C);  // (O), (O,C), (C)

// ---- glu.c: activations and gated products -----------------------------------------------------
// silu(z) = z * sigmoid(z)
void silu_forward(real *restrict out, int ld_out, const real *restrict inp, int ld_inp, int N,
                  int C);
void silu_backward(real *restrict dinp, int ld_dinp, const real *restrict dout, int ld_dout,
                   const real *restrict inp, int ld_inp, int N, int C);
// out = a * b (SGLU, and the linear gate of GLA)
void mul_forward(real *restrict out, const real *restrict a, int ld_a, const real *restrict b,
                 int ld_b, int N, int C);
void mul_backward(real *restrict da, int ld_da, real *restrict db, int ld_db,
                  const real *restrict dout, const real *restrict a, int ld_a,
                  const real *restrict b, int ld_b, int N, int C);
// out = silu(a) * b (SwiGLU)
void swiglu_forward(real *restrict out, const real *restrict a, const real *restrict b, int N,
                    int F);
void swiglu_backward(real *restrict da, real *restrict db, const real *restrict dout,
                     const real *restrict a, const real *restrict b, int N, int F);
// out = a * sigmoid(b)
void sigmul_forward(real *restrict out, const real *restrict a, const real *restrict b,
                    size_t count);
void sigmul_backward(real *restrict da, real *restrict db, const real *restrict dout,
                     const real *restrict a, const real *restrict b, size_t count);
// out = a + b
void add_forward(real *restrict out, const real *restrict a, const real *restrict b, size_t count);
void add_backward(real *restrict da, real *restrict db, const real *restrict dout, size_t count);

// ---- position.c: LRPE and RoPE, docs/maths.md 4 and
// 8------------------------------------------------ cos and sin of pos_t * theta_c, the angle
// formed and reduced in double: right at position 2 million.
void lrpe_angles(real *restrict cosine, real *restrict sine,               // (N,C), (N,C)
                 const real *restrict theta, const int64_t *restrict pos,  // (C), (N)
                 int N, int C);
// Head h of out: [ z_h * cos | z_h * sin ], width 2D. out (N, H*2D), inp (N, H*D) with ld,
// cosine/sine (N, H*D)
void lrpe_forward(real *restrict out, const real *restrict inp, int ld_inp,
                  const real *restrict cosine, const real *restrict sine, int N, int H, int D);
// dtheta (H*D) accumulates in double over tokens; tokens at pos >= LRPE_FROZEN_POS give it nothing
// (docs/maths.md 4).
enum { LRPE_FROZEN_POS = 131072 };
void lrpe_backward(real *restrict dinp, int ld_dinp, real *restrict dtheta,
                   const real *restrict dout, const real *restrict inp, int ld_inp,
                   const real *restrict cosine, const real *restrict sine,
                   const int64_t *restrict pos, int N, int H, int D);
// RoPE, half-split pairs (c, c + D/2), angle pos * base^(-2c/D). In-place is not allowed. backward
// rotates by -angle.
void rope_forward(real *restrict out, const real *restrict inp, int ld_inp,
                  const int64_t *restrict pos, double base, int N, int H, int D);  // out (N,H*D)
void rope_backward(real *restrict dinp, int ld_dinp, const real *restrict dout,
                   const int64_t *restrict pos, double base, int N, int H, int D);

// ---- lightning.c: lightning attention, docs/maths.md
// 6-------------------------------------------- o_t = sum_{t'<=t, same document} exp(-s_h (t-t'))
// (q_t . k_t') v_t', no scale, no denominator.
typedef struct LightningDims {
    int B, T, H, A, E;           // q,k: (B*T, H*A)   v,o: (B*T, H*E)   head-major columns
    int block;                   // tokens a block; any value >= 1
    int ld_q, ld_k, ld_v, ld_o;  // of the forward operands
    int ld_dq, ld_dk, ld_dv, ld_do;
    const double *decay;   // (H) rates s >= 0
    const uint8_t *start;  // (B,T) document starts, or NULL: none
} LightningDims;

int lightning_default_block(int A, int E);  // the fastest measured
size_t
lightning_store_reals(const LightningDims *d);  // reals of `store`: one state a block, head and row
size_t lightning_scratch_reals(const LightningDims *d,
                               int threads);  // of `scratch`, forward and backward alike
// state (B,H,A,E): in = S before the first token (the caller zeroes it where there is none), out =
// S after the last one ("post" convention). store: NULL, or the state before each block, for
// backward.
void lightning_forward(real *restrict out, real *restrict state, real *restrict store,
                       const real *restrict q, const real *restrict k, const real *restrict v,
                       real *restrict scratch, const LightningDims *d);
// dstate (B,H,A,E): in = dL/dS after the last token, out = dL/dS before the first. dq,dk,dv
// accumulate.
void lightning_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                        real *restrict dstate, const real *restrict dout, const real *restrict q,
                        const real *restrict k, const real *restrict v, const real *restrict store,
                        real *restrict scratch, const LightningDims *d);

// ---- lightning_parts.c: the same for one chunk of a row cut over ranks
// --------------------------- T is the chunk's; `start` its own. In order: states, states_enter,
// inside, across; dstates, dstates_leave, inside_backward, across_backward. inside* need no states
// and may run any time. store, dstore: lightning_store_reals. scratch: lightning_scratch_reals.
// Chunks of 0 tokens are legal.

// store: the state before every block, from zero before the chunk. state (B,H,A,E): after its last
// token.
void lightning_states(real *restrict store, real *restrict state, const real *restrict k,
                      const real *restrict v, real *restrict scratch, const LightningDims *d);
// Adds to store what `enter` (B,H,A,E), the state before the chunk's first token, has left before
// each block: exp(-s t) enter after t tokens, nothing after a document start.
void lightning_states_enter(real *restrict store, const real *restrict enter,
                            const LightningDims *d);
// dstore: dL/dS after every block, with zero after the chunk. dstate (B,H,A,E): before its first
// token.
void lightning_dstates(real *restrict dstore, real *restrict dstate, const real *restrict dout,
                       const real *restrict q, real *restrict scratch, const LightningDims *d);
// Adds to dstore what `leave` (B,H,A,E), dL/dS after the chunk's last token, gives to the state
// after each block.
void lightning_dstates_leave(real *restrict dstore, const real *restrict leave,
                             const LightningDims *d);
// Within blocks: out = A V, overwritten; docs/maths.md (6.7) and the first terms of (6.8) to
// (6.10).
void lightning_inside(real *restrict out, const real *restrict q, const real *restrict k,
                      const real *restrict v, real *restrict scratch, const LightningDims *d);
void lightning_inside_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                               const real *restrict dout, const real *restrict q,
                               const real *restrict k, const real *restrict v,
                               real *restrict scratch, const LightningDims *d);
// Between blocks: out += diag(win) Q S of each block; the second terms.
void lightning_across(real *restrict out, const real *restrict q, const real *restrict store,
                      real *restrict scratch, const LightningDims *d);
void lightning_across_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                               const real *restrict dout, const real *restrict k,
                               const real *restrict v, const real *restrict store,
                               const real *restrict dstore, real *restrict scratch,
                               const LightningDims *d);

// ---- attention.c: tiled causal softmax attention -----------------------------------------------
// Exact, never a T x T matrix. Query i stands at row index n = offset+i, key j at row index m =
// key_begin+j: it is seen iff m <= n, m > n-window (window > 0), m >= first[i]. H a multiple of Hk
// (grouped queries). The state of a partial result is the triple (max, sum, values); an empty tile
// is (-1e30, 0, 0).
typedef struct AttentionDims {
    int B, Tq, Tk;
    int offset, key_begin;  // row index of the first query and of the first key given
    int H, Hk, D;           // q,o: (B*Tq, H*D)   k,v: (B*Tk, Hk*D)
    int ld_q, ld_k, ld_v;   // o and dout are dense (ld = H*D)
    int ld_dq, ld_dk, ld_dv;
    int window;        // 0: unlimited
    real scale;        // 1/sqrt(D)
    const int *first;  // (B,Tq) row index of the first visible key by document, or NULL: 0
} AttentionDims;

size_t attention_scratch_reals(const AttentionDims *d, int threads);
// lse (B,H,Tq): log of the sum of exponentials, for backward and merging; -1e30 where no key is
// seen.
void attention_forward(real *restrict out, real *restrict lse, const real *restrict q,
                       const real *restrict k, const real *restrict v, real *restrict scratch,
                       const AttentionDims *d);
// out and lse: over all keys of the row, also when only a part of them is given here.
void attention_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                        const real *restrict dout, const real *restrict out,
                        const real *restrict lse, const real *restrict q, const real *restrict k,
                        const real *restrict v, real *restrict scratch, const AttentionDims *d);
// Over a part of the keys out and lse are a partial result. Merging those of disjoint parts, in any
// order, gives that of all; updates (out, lse) in place. Empty: out 0, lse -1e30. out (B*T,H*D),
// lse (B,H,T).
void attention_merge(real *restrict out, real *restrict lse, const real *restrict part_out,
                     const real *restrict part_lse, int B, int T, int H, int D);

// ---- loss.c: cross-entropy of rows of logits ---------------------------------------------------
// Columns are tokens first..first+V-1: the vocabulary, or a slice of it. loss_t = lse_t - hit_t, 0
// where ignored, with lse_t of the whole vocabulary and hit_t summed over its slices. lse_t: log
// sum exp(logits_t) over these columns; NaN when a logit is not finite, -1e300 when V = 0 (adds
// nothing to a sum of exponentials). hit_t: the target's logit, 0 when it is ignored or not in the
// slice.
void cross_entropy_forward(double *restrict lse, double *restrict hit,  // (N), (N)
                           const real *restrict logits,
                           const int32_t *restrict targets,  // (N,V), (N)
                           int first, int N, int V);
// Turns logits into their gradient in place: scale * weight * (softmax - onehot), 0 where ignored.
// lse: of the whole vocabulary. weights (N); NULL: 1 each.
void cross_entropy_backward(real *restrict logits, const double *restrict lse,
                            const int32_t *restrict targets, const real *restrict weights,
                            real scale, int first, int N, int V);

// What makes a model's logits those of the distribution that tokens are drawn from: x /
// temperature; a banned token's becomes LOGIT_BANNED, whose exponential is 0. banned (V): of these
// columns; NULL: none is.
#define LOGIT_BANNED ((real)-1e30)
void logits_shape(real *restrict logits, double temperature, const uint8_t *restrict banned, int N,
                  int V);
// mean_t: this slice's part of sum_v p_tv x_tv, p = exp(x - lse). The entropy of a row is lse - the
// sum over slices.
void logits_mean(double *restrict mean, const real *restrict logits, const double *restrict lse,
                 int N, int V);
// Turns logits into the gradient of sum_t dlogp_t log p_t[target] + dentropy_t H_t for the logits
// before logits_shape, in place: (dlogp_t (onehot - p) - dentropy_t p (log p + H)) / temperature;
// dlogp counts where there is a target. lse and entropy: of the whole vocabulary. dlogp, dentropy:
// (N), NULL: 0.
void log_prob_backward(real *restrict logits, const double *restrict lse,
                       const double *restrict entropy, const int32_t *restrict targets,
                       const real *restrict dlogp, const real *restrict dentropy,
                       double temperature, int first, int N, int V);

// ---- adamw.c (Loshchilov & Hutter 2019) --------------------------------------------------------
typedef struct AdamW {
    double lr, beta1, beta2, eps, decay;  // decay 0 for rows that are not decayed
    double correct1, correct2;            // 1 - beta^t, in double
    double grad_scale;                    // clip / global tokens, applied to the gradient first
} AdamW;
void adamw_update(real *restrict param, real *restrict m, real *restrict v,
                  const real *restrict grad, const AdamW *a, size_t count);
// Sum of squares in double, fixed pieces folded in order.
double sum_squares(const real *x, size_t count);

// ---- head_norm.c: norms of each head's channels -------------------------------------------------
// y_c = gain_c x_c / sqrt(mean of x^2 + eps) over the D channels of a head (RMSNorm); gain NULL:
// x_c / sqrt(sum of x^2 + eps), so that heads have length 1.
typedef struct HeadNormDims {
    int N, H, D;
    int ld_inp, ld_dinp;
    real eps;
} HeadNormDims;
void head_norm_forward(real *restrict out, real *restrict rho,               // (N,H*D), (N,H)
                       const real *restrict inp, const real *restrict gain,  // (N,H*D), (H*D)
                       const HeadNormDims *d);
void head_norm_backward(real *restrict dinp, real *restrict dgain, const real *restrict dout,
                        const real *restrict inp, const real *restrict gain,
                        const real *restrict rho, const HeadNormDims *d);

// ---- gates.c: sigmoids with a bias, each third of the G columns up to a limit of its own --------
enum { GATE_KINDS = 3 };
void gates_forward(real *restrict out, const real *restrict inp, const real *restrict bias,
                   const double most[GATE_KINDS], int N, int G);  // (N,G) (N,G) (G)
void gates_backward(real *restrict dinp, real *restrict dbias, const real *restrict dout,
                    const real *restrict out, const double most[GATE_KINDS], int N, int G);

// ---- conv.c: causal depthwise convolution along time -------------------------------------------
// out_t = sum over j < K of weight[.][j] * inp_{t-j}, of the same document.
typedef struct ConvDims {
    int B, T, C, K;
    int ld_inp, ld_dinp;
    const int64_t *pos;  // (B,T) place in the document
} ConvDims;
// tail (B,K-1,C): the inputs before each row, the oldest first, where rows go on with a document;
// NULL: zeros.
void conv_forward(real *restrict out, const real *restrict inp,  // (N,C), (N,C)
                  const real *restrict weight,                   // (C,K)
                  const real *restrict tail, const ConvDims *d);
void conv_backward(real *restrict dinp, real *restrict dweight, real *restrict dtail,  // or NULL
                   const real *restrict dout, const real *restrict inp, const real *restrict weight,
                   const real *restrict tail, const ConvDims *d);
// next (B,K-1,C): the tail of rows that go on after these; may be tail itself. backward adds.
void conv_tail(real *next, const real *tail, const real *restrict inp, const ConvDims *d);
void conv_tail_backward(real *restrict dinp, real *restrict dtail, const real *restrict dnext,
                        const ConvDims *d);

// ---- memory.c: a neural memory, weights that learn while the sequence is read ------------------
// Titans (Behrouz et al. 2025, arXiv:2501.00663); docs/maths.md 17. A network f of each row and
// head, D -> hidden -> ... -> D, is trained by one step of gradient descent a token, with momentum
// and forgetting, on ½|f(k_t) - v_t|^2, and asked for f(q_t):
//     S_t = eta_t S_{t-1} - theta_t g_t     W_t = (1 - alpha_t) W_{t-1} + S_t     y_t = f(q_t; W_t)
// g_t is the gradient at the weights of the start of t's chunk. Chunks count from the first token
// of each document.
enum { MEMORY_LAYERS = 4 };
typedef enum { MEMORY_GELU, MEMORY_SILU } MemoryActivation;                // between layers
typedef enum { MEMORY_SQUARED, MEMORY_HEBBIAN, MEMORY_HUBER } MemoryLoss;  // Hebbian: -<f(k), v>
typedef struct MemoryDims {
    int B, T, H, D;
    int layers, hidden;  // of f, at most MEMORY_LAYERS; hidden: between layers
    int chunk;
    MemoryActivation activation;
    MemoryLoss loss;
    bool normed;  // f(x) = x + gain * LayerNorm(net(x)) + shift; else net(x)
    bool strict;  // y_t = f(q_t; W_{t-1})
    real huber;   // each |f(k) - v| beyond it counts as this much
    bool damped;  // gradients are divided by what a step of 1 would change of their error, if more
                  // than 1. A constant to gradients
    real clip;    // of the norm of a token's gradient of a layer, 0: off. A constant to gradients
    double
        budget;  // what the thetas of a chunk may add up to, 0: anything. A constant to gradients
    int ld_q, ld_k, ld_v, ld_o, ld_g;
    const int64_t *pos;    // (B,T) place in the document
    const uint8_t *start;  // (B,T) 1: a document starts here, weights are the initial ones; or NULL
} MemoryDims;
// Columns of the gates: those of alpha, eta and theta are [kind][layer][head], 3 * layers * H.
// init: (H, weights of f): of each head its layers' matrices, (in, out) each. gain, shift: (H*D),
// or NULL where not normed.
typedef struct MemoryInputs {
    const real *q, *k, *v, *gates, *init, *gain, *shift;
} MemoryInputs;
size_t memory_weights(const MemoryDims *d);  // of f
// A state is (B,H) times: weights at the chunk's start, weights, momentum, 3 * memory_weights.
size_t memory_state_reals(const MemoryDims *d);
void memory_state_begin(real *state, const real *init, const MemoryDims *d);  // before a document
size_t memory_store_reals(const MemoryDims *d);    // what forward leaves for backward
size_t memory_scratch_reals(const MemoryDims *d);  // of one thread
// state: in and out. store NULL: nothing to come back to. scratch: one part a thread.
void memory_forward(real *restrict out, real *restrict state, real *restrict store,
                    const MemoryInputs *in, real *restrict scratch, const MemoryDims *d);
// dstate: in, of the state after the last token; out, of that before the first. The weights of a
// document that starts here flow into init.
typedef struct MemoryGradients {
    real *dq, *dk, *dv, *dgates, *dinit, *dgain, *dshift;  // +=
    int ld_q, ld_k, ld_v, ld_g;                            // of the first four
} MemoryGradients;
void memory_backward(const MemoryGradients *g, real *restrict dstate, const real *restrict dout,
                     const real *restrict store, const MemoryInputs *in, real *restrict scratch,
                     const MemoryDims *d);
