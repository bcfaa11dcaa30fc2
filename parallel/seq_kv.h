// Shared by the ways to bring keys to queries: seq_kv.c, seq_ring.c, seq_ulysses.c.
#pragma once

#include "parallel/internal.h"
#include "parallel/mesh.h"
#include "parallel/ops.h"
#include "tensor/kernels/kernels.h"

typedef struct KvInfo {
    const Mesh *mesh;
    SeqInfo seq;
    AttentionDims dims;  // of the own chunk: Tq tokens; keys are filled in by each way
} KvInfo;

// Gradients of the own keys and values.
typedef struct KvGrads {
    real *dk, *dv;
    int ld_dk, ld_dv;
    int width;  // of a row [dk | dv]
} KvGrads;

static inline int chunk_tokens(const KvInfo *i, int rank) {
    return i->seq.bound[rank + 1] - i->seq.bound[rank];
}
size_t kv_width(const AttentionDims *d);                                // of a row [k | v]
void kv_pack(real *restrict out, const Tensor *k, const Tensor *v);     // (N, width)
void kv_add(const KvGrads *g, const real *rows, int first, int count);  // to tokens first..

Tensor *kv__ring(Tape *tp, const KvInfo *i, Tensor *q, Tensor *k, Tensor *v);
Tensor *kv__ulysses(Tape *tp, const KvInfo *i, Tensor *q, Tensor *k, Tensor *v);
