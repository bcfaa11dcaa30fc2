// The mesh of ranks: how many share data, sequences and tensors, and who shares what with whom.
#pragma once

#include "base/config.h"
#include "base/split.h"
#include "parallel/comm.h"

// How linear layers pass states between the ranks that share a sequence (seq_state.c).
typedef enum { SP_LASP2, SP_LASP2_SCAN, SP_LASP } SpLinear;
// How softmax layers pass keys and values (seq_kv.c). Sliding windows exchange a halo whatever is
// chosen.
typedef enum { SP_LASP2H, SP_RING, SP_ULYSSES } SpSoftmax;

typedef struct ParallelConfig {
    int dp, sp, tp;  // dp 0: whatever the ranks leave; sp, tp 0: 1
    Text sp_linear, sp_softmax;
    bool zero;  // optimiser state sharded over dp x sp (ZeRO-1)
} ParallelConfig;
extern const Field PARALLEL_FIELDS[];
extern const int PARALLEL_FIELD_COUNT;

// rank = (dp_rank * sp + sp_rank) * tp + tp_rank: the axis that talks most stays within a node.
typedef struct Mesh {
    int rank, size;  // world
    int dp, sp, tp;  // extents, dp * sp * tp == size
    int dp_rank, sp_rank, tp_rank;
    int node_rank, node_size;  // ranks sharing memory
    SpLinear sp_linear;
    SpSoftmax sp_softmax;
    bool zero;
    // All dup'ed. replicas: the dp x sp ranks with the same share of the parameters, whose
    // gradients are partial sums. team: the sp x tp ranks that work on the same rows of a batch.
    Comm *world, *sp_axis, *tp_axis, *replicas, *team, *node;
} Mesh;

// Collective(world). Wrong product: E_LAUNCH with the equation.
Status mesh_open(Mesh *mesh, const ParallelConfig *cfg) CHECKED;
// The extents and places of `rank` among `size` ranks, without communicators: for plans. Not
// collective.
Status mesh_plan(Mesh *mesh, const ParallelConfig *cfg, int size, int rank) CHECKED;
void mesh_close(Mesh *mesh);  // Collective(world)
