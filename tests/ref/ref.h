// Naive twins of the kernels: scalar loops in double that follow the formulas, the specification
// that the fast kernels are tested against. Same contracts as in tensor/kernels/kernels.h.
#pragma once

#include "tensor/kernels/kernels.h"

void ref_embed_forward(real *out, const real *table, const int32_t *tokens, real scale, int first,
                       int rows, int N, int C);
void ref_embed_backward(real *dtable, const real *dout, const int32_t *tokens, real scale, int pad,
                        int first, int rows, int N, int C);

void ref_srms_forward(real *out, real *rho, const real *inp, real eps, int N, int C);
void ref_srms_backward(real *dinp, const real *dout, const real *inp, const real *rho, int N,
                       int C);
void ref_rmsnorm_forward(real *out, real *rho, const real *inp, const real *gain, real eps, int N,
                         int C);
void ref_rmsnorm_backward(real *dinp, real *dgain, const real *dout, const real *inp,
                          const real *gain, const real *rho, int N, int C);

void ref_silu_forward(real *out, int ld_out, const real *inp, int ld_inp, int N, int C);
void ref_silu_backward(real *dinp, int ld_dinp, const real *dout, int ld_dout, const real *inp,
                       int ld_inp, int N, int C);
void ref_mul_forward(real *out, const real *a, int ld_a, const real *b, int ld_b, int N, int C);
void ref_mul_backward(real *da, int ld_da, real *db, int ld_db, const real *dout, const real *a,
                      int ld_a, const real *b, int ld_b, int N, int C);
void ref_swiglu_forward(real *out, const real *a, const real *b, int N, int F);
void ref_swiglu_backward(real *da, real *db, const real *dout, const real *a, const real *b, int N,
                         int F);
void ref_add_forward(real *out, const real *a, const real *b, size_t count);
void ref_add_backward(real *da, real *db, const real *dout, size_t count);

void ref_lrpe_angles(real *cosine, real *sine, const real *theta, const int64_t *pos, int N, int C);
void ref_lrpe_forward(real *out, const real *inp, int ld_inp, const real *cosine, const real *sine,
                      int N, int H, int D);
void ref_lrpe_backward(real *dinp, int ld_dinp, real *dtheta, const real *dout, const real *inp,
                       int ld_inp, const real *cosine, const real *sine, const int64_t *pos, int N,
                       int H, int D);
void ref_rope_forward(real *out, const real *inp, int ld_inp, const int64_t *pos, double base,
                      int N, int H, int D);
void ref_rope_backward(real *dinp, int ld_dinp, const real *dout, const int64_t *pos, double base,
                       int N, int H, int D);

void ref_cross_entropy_forward(double *lse, double *hit, const real *logits, const int32_t *targets,
                               int first, int N, int V);
void ref_cross_entropy_backward(real *logits, const double *lse, const int32_t *targets,
                                const real *weights, real scale, int first, int N, int V);

void ref_adamw_update(real *param, real *m, real *v, const real *grad, const AdamW *a,
                      size_t count);
double ref_sum_squares(const real *x, size_t count);

void ref_memory_forward(real *out, real *state, const MemoryInputs *in, const MemoryDims *d);
