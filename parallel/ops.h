// Differentiable collectives: ops of the tape whose forward or backward is an exchange. Collective
// over the axis they name; every rank of it records and differentiates the same ops in the same
// order. mesh NULL, or an axis of one rank: the ops of tensor/ops.h, bit for bit.
#pragma once

#include "parallel/mesh.h"
#include "tensor/ops.h"

// --- seq_state.c, seq_kv.c: mixers over rows shared by the sp axis (docs/parallelism.md) ---
// As op_lightning and op_attention on the whole rows; q, k, v, and the result hold this rank's
// tokens. With a state (generation) rows are whole. window > 0: the halo alone is exchanged.
Tensor *op_seq_lightning(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                         const SeqInfo *seq, const LightningArgs *a);
Tensor *op_seq_attention(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                         const SeqInfo *seq, const AttentionArgs *a);

// --- seq_chain.c: the same for states that are handed on from rank to rank ---
Tensor *op_seq_memory(Tape *tp, const Mesh *mesh, Tensor *const in[8], const SeqInfo *seq,
                      const MemoryDims *options, real *state);
Tensor *op_seq_conv(Tape *tp, const Mesh *mesh, Tensor *x, Tensor *weight, const SeqInfo *seq,
                    real *tail);

// --- tensor_ops.c: the tp axis (Shoeybi et al. 2019, arXiv:1909.08053) ---
// Into a split linear map: y = x; dx = sum over ranks of dy.
Tensor *op_tp_enter(Tape *tp, const Mesh *mesh, Tensor *x);
// Out of one: y = sum over ranks of x; dx = dy. The sum survives recomputation, it is never
// exchanged twice.
Tensor *op_tp_sum(Tape *tp, const Mesh *mesh, Tensor *x);
// W_o (u * srms(o)) from z = W_o (u * o), both of this rank's columns: y = rho sum z, rho =
// 1/sqrt(sum |o|^2 / width
// + eps). The squares travel as one more column of the sum; backward needs no exchange, for rho's
// gradient is y.dy (docs/maths.md 3). width: columns of o over all ranks.
Tensor *op_tp_sum_normed(Tape *tp, const Mesh *mesh, Tensor *z, Tensor *o, int width, real eps);
// Columns of all ranks side by side, shares by split_begin. No gradient.
Tensor *op_tp_gather_cols(Tape *tp, const Mesh *mesh, Tensor *x, int cols);
// How op_loss_head sees the whole vocabulary; NULL without tensor parallelism. `fold` lives as long
// as the tape's use.
const LossFold *tp_loss_fold(Tape *tp, const Mesh *mesh, int vocab);
