// The only floor that calls MPI. Meshes, agreement on failures, exchanges, and the reduction of gradients.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/split.h"
#include "base/status.h"
#include "tensor/optim.h"
#include "tensor/params.h"

typedef struct MeshConfig {
    int dp, sp, tp;  // dp 0: whatever the ranks leave
} MeshConfig;
extern const Field MESH_FIELDS[];
extern const int MESH_FIELD_COUNT;

// Communicators are MPI handles behind an opaque type, so that no other floor includes mpi.h.
typedef struct Comm Comm;
typedef struct Mesh {
    int rank, size;                // world
    int dp, sp, tp;                // extents, dp * sp * tp == size
    int dp_rank, sp_rank, tp_rank;
    int node_rank, node_size;      // ranks sharing memory
    Comm *world, *dp_axis, *sp_axis, *tp_axis, *node;  // all dup'ed
} Mesh;

// MPI_Init_thread(FUNNELED) once per process; parallel_end frees what is left and finalizes.
Status parallel_begin(int *argc, char ***argv) CHECKED;
void parallel_end(void);
_Noreturn void parallel_abort(int exit_code);  // MPI_Abort: takes all ranks down with this code
bool parallel_is_on(void);                     // parallel_begin has run
int parallel_world_rank(void);                 // 0 before parallel_begin
// agree() over the world before there is a mesh (command line, configuration). Collective(world).
Status parallel_agree(Status mine) CHECKED;

// Collective(world). Wrong product: E_LAUNCH with the equation. sp and tp other than 1: E_USAGE (a later version).
Status mesh_open(Mesh *mesh, const MeshConfig *cfg) CHECKED;
void mesh_close(Mesh *mesh);  // Collective(world)

// Collective. All ranks return OK or all return the same failure: the highest status, and of the ranks that have it the
// lowest one's message ("rank 3: ..." unless all ranks failed) and hint.
Status agree(Status mine, Comm *comm) CHECKED;

// Collective(comm) unless said otherwise. Counts may exceed INT_MAX.
void comm_barrier(Comm *comm);
void comm_sum_doubles(Comm *comm, double *values, int count);       // folded in rank order on every rank: same bits
void comm_max_i64(Comm *comm, int64_t *values, int count);
void comm_sum_i64(Comm *comm, int64_t *values, int count);
void comm_bcast(Comm *comm, void *data, size_t bytes, int root);
// Everyone's bytes in rank order at every rank: *out malloc'ed, offsets[size+1] filled by the callee.
Status comm_allgather_bytes(Comm *comm, const void *mine, size_t bytes, char **out, size_t *offsets) CHECKED;
// Rank r gets send[offsets[r] .. offsets[r+1]) of everyone: *out malloc'ed, in rank order, recv_offsets[size+1] filled.
Status comm_alltoall_bytes(Comm *comm, const char *send, const size_t *offsets, char **out,
                           size_t *recv_offsets) CHECKED;
// Point to point, blocking, any size. Not collective.
void comm_send(Comm *comm, const void *data, size_t bytes, int to, int tag);
void comm_recv(Comm *comm, void *data, size_t bytes, int from, int tag);
int comm_rank(const Comm *comm);
int comm_size(const Comm *comm);
// Panics with a description unless `hash` is the same on every rank (layout mistakes, diverged weights).
void comm_check_same(Comm *comm, uint64_t hash, const char *what);
// Bytes this rank has sent to other ranks, and messages, since the start: payload times receivers, whatever the
// algorithm of the library.
void comm_counters(double *bytes, double *messages);

// --- reduce.c: data-parallel gradient reduction with ZeRO-1 ownership ---
// Buckets are runs of the flat arrays in fixed order (last rows first). Each bucket is cut in dp-size pieces;
// rank r owns piece r of every bucket. A bucket starts when all its parameters are ready, in bucket order on all
// ranks, as a non-blocking all-to-all; the owner folds the pieces in rank order: bitwise reproducible.
typedef struct Reducer Reducer;
Status reducer_open(Reducer **r, const Mesh *mesh, ParamSet *ps, size_t bucket_bytes) CHECKED;  // not collective
void reducer_close(Reducer *r);
size_t reducer_bytes(const ParamSet *ps, int dp, size_t bucket_bytes);  // that reducer_open would reserve on a rank
const Range *reducer_ranges(const Reducer *r, int *count);  // the flat ranges this rank owns, ascending
// Call order in a step: begin, (ready* while backward runs, progress* at will), finish. Collective(dp). One reducer of a
// mesh at a time. Outside begin..finish ready and progress do nothing: hooks may stay set in earlier micro-batches.
// A parameter is reported once a step, or never (unused): finish starts what was not.
void reducer_begin(Reducer *r);
void reducer_ready(Reducer *r, const Param *p);
void reducer_progress(Reducer *r);
void reducer_finish(Reducer *r);  // starts what is left, waits, folds: owned ranges of ps->grad hold the sum
// After the update of the owned ranges: every rank gets everyone's weights. Collective(dp).
void reducer_gather_weights(Reducer *r);
double reducer_wait_s(const Reducer *r);  // seconds blocked in finish and gather since open
