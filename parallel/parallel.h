// The only floor that calls MPI. Meshes, agreement on failures, exchanges, and the reduction of gradients.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/split.h"
#include "base/status.h"
#include "tensor/optim.h"
#include "tensor/params.h"

// How linear layers pass states between the ranks that share a sequence (seq_state.c).
typedef enum { SP_LASP2, SP_LASP2_SCAN, SP_LASP } SpLinear;
// How softmax layers pass keys and values (seq_kv.c). Sliding windows exchange a halo whatever is chosen.
typedef enum { SP_LASP2H, SP_RING, SP_ULYSSES } SpSoftmax;

typedef struct ParallelConfig {
    int dp, sp, tp;  // dp 0: whatever the ranks leave; sp, tp 0: 1
    Text sp_linear, sp_softmax;
    bool zero;       // optimiser state sharded over dp x sp (ZeRO-1)
} ParallelConfig;
extern const Field PARALLEL_FIELDS[];
extern const int PARALLEL_FIELD_COUNT;

// Communicators are MPI handles behind an opaque type, so that no other floor includes mpi.h.
typedef struct Comm Comm;
// rank = (dp_rank * sp + sp_rank) * tp + tp_rank: the axis that talks most stays within a node.
typedef struct Mesh {
    int rank, size;                // world
    int dp, sp, tp;                // extents, dp * sp * tp == size
    int dp_rank, sp_rank, tp_rank;
    int node_rank, node_size;      // ranks sharing memory
    SpLinear sp_linear;
    SpSoftmax sp_softmax;
    bool zero;
    // All dup'ed. replicas: the dp x sp ranks with the same share of the parameters, whose gradients are partial sums.
    // team: the sp x tp ranks that work on the same rows of a batch.
    Comm *world, *sp_axis, *tp_axis, *replicas, *team, *node;
} Mesh;

// MPI_Init_thread(FUNNELED) once per process; parallel_end frees what is left and finalizes. E_LAUNCH when a launcher's
// processes cannot reach each other or run other builds, E_USAGE when argv[0], the command, differs. Collective(world).
Status parallel_begin(int *argc, char ***argv) CHECKED;
void parallel_end(void);
_Noreturn void parallel_abort(int exit_code);  // MPI_Abort: takes all ranks down with this code
bool parallel_is_on(void);                     // parallel_begin has run
int parallel_world_rank(void);                 // 0 before parallel_begin
bool parallel_is_launched(void);               // by mpirun, or as one of several tasks: before parallel_begin
// E_LAUNCH when a launcher started the sub-command `what`, which never calls MPI, beside other ranks: they would wait for it, for
// ever where it ends with 0. Not collective.
Status parallel_check_single(const char *what) CHECKED;
// agree() over the world before there is a mesh (command line, configuration). Collective(world).
Status parallel_agree(Status mine) CHECKED;
// The same, then agree_same(E_USAGE): all ranks were told the same.
Status parallel_agree_told(Status mine, const char *lines) CHECKED;
Status parallel_agree_config(Status mine, const Config *c) CHECKED;  // no key may differ

// Collective(world). Wrong product: E_LAUNCH with the equation.
Status mesh_open(Mesh *mesh, const ParallelConfig *cfg) CHECKED;
// The extents and places of `rank` among `size` ranks, without communicators: for plans. Not collective.
Status mesh_plan(Mesh *mesh, const ParallelConfig *cfg, int size, int rank) CHECKED;
void mesh_close(Mesh *mesh);  // Collective(world)

// Collective. All ranks return OK or all return the same failure: the highest status, and of the ranks that have it the
// lowest one's message ("rank 3: ..." with its number in the world, unless all ranks failed) and hint.
Status agree(Status mine, Comm *comm) CHECKED;
// All ranks have the same lines "key: value" as the first one, or all return `differs`: with the lowest other rank, the
// keys and both values. Collective.
Status agree_same(Status differs, const char *hint, const char *lines, Comm *comm) CHECKED;

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

// --- Accounting: what every exchange is for ---
#define COMM_USES(X)                                                                               \
    X(COMM_CONTROL, "agreement, barriers, broadcasts")                                             \
    X(COMM_SUM, "sums of a step, counters")                                                        \
    X(COMM_BYTES, "text, checkpoints")                                                             \
    X(COMM_GRADIENTS, "gradients, reduced over dp x sp")                                           \
    X(COMM_WEIGHTS, "updated weights, gathered over dp x sp")                                      \
    X(COMM_STATE, "states of linear layers, forward (sp)")                                         \
    X(COMM_DSTATE, "states of linear layers, backward (sp)")                                       \
    X(COMM_KV, "keys and values, forward (sp)")                                                    \
    X(COMM_KV_AGAIN, "keys and values, gathered again in backward (sp)")                           \
    X(COMM_DKV, "gradients of keys and values (sp)")                                               \
    X(COMM_TP, "activations, forward (tp)")                                                        \
    X(COMM_DTP, "activations, backward (tp)")                                                      \
    X(COMM_LOSS, "softmax over the vocabulary (tp)")
#define COMM_ENUM(use, text) use,
typedef enum { COMM_USES(COMM_ENUM) COMM_USE_COUNT } CommUse;
#undef COMM_ENUM
typedef struct CommStat {
    int64_t calls;       // exchanges this rank took part in
    double bytes;        // payload this rank sent to others, times receivers, whatever the library's algorithm
    double wait_s;       // from the start of each exchange to its end
    double exposed_s;    // the part of it in which this rank did nothing else
} CommStat;
const char *comm_use_text(CommUse use);
CommStat comm_stat(CommUse use);  // of this process, since the start
CommStat comm_stat_all(void);     // over all uses

// --- exchange.c: rows of reals between the ranks of one communicator, booked under a purpose. Collective(comm). ---
// At most two at a time in a communicator: start, any number of polls (Open MPI moves data only inside its calls; the
// hook of tensor/progress.h polls, too), finish, which waits for both.
// Nothing happens where the communicator has one rank, except that the own rows are copied.
// Everyone's rows at every rank, in rank order: `rows` (size) counts of rows of `width` reals each.
void comm_gather_rows(Comm *comm, CommUse use, const real *mine, real *all, const int *rows, int width);
// send_rows[p] rows to rank p, densely in rank order; the same for what comes in.
void comm_alltoall_rows(Comm *comm, CommUse use, const real *send, const int *send_rows, real *recv,
                        const int *recv_rows, int width);
// Point to point: rows to rank `to`, rows from rank `from`; -1: nobody. Messages of one use arrive in order.
void comm_shift(Comm *comm, CommUse use, const real *send, int send_rows, int to, real *recv,
                int recv_rows, int from, int width);
void comm_poll(Comm *comm);
void comm_finish(Comm *comm);
// Everyone's values at every rank: (size, count). Blocking.
void comm_gather_doubles(Comm *comm, CommUse use, const double *mine, double *all, int count);
// x <- sum over ranks, in rank order: the same bits at every rank and in every run. Blocking. Each rank sends
// 2 (size-1)/size of count. scratch: comm_sum_scratch(comm, count) reals.
void comm_sum_reals(Comm *comm, CommUse use, real *x, size_t count, real *scratch);
size_t comm_sum_scratch(int size, size_t count);

// --- reduce.c: reduction of gradients over the replicas of the parameters (dp x sp) with ZeRO-1 ownership ---
// Buckets are runs of the flat arrays in fixed order (last rows first). Each bucket is cut in as many pieces as there
// are replicas; rank r owns piece r of every bucket. A bucket starts when all its parameters are ready, in bucket order on all
// ranks, as a non-blocking all-to-all; the owner folds the pieces in rank order: bitwise reproducible.
typedef struct Reducer Reducer;
Status reducer_open(Reducer **r, const Mesh *mesh, ParamSet *ps, size_t bucket_bytes) CHECKED;  // not collective
void reducer_close(Reducer *r);
size_t reducer_arena_bytes(const Reducer *r);
// For plans, without a reducer: the bytes that reducer_open would reserve, and the elements whose moments the first rank
// (which has the largest pieces) would keep with ZeRO-1.
void reducer_plan(const ParamSet *ps, int replicas, size_t bucket_bytes, size_t *arena_bytes, size_t *owned);
// The flat ranges this rank folds (its shard of the sum), and those it updates: the same with ZeRO-1, all without.
const Range *reducer_shard(const Reducer *r, int *count);
const Range *reducer_ranges(const Reducer *r, int *count);
// Squared norm of this rank's shard of the sum, in double. Rows that tensor parallelism replicates count on its rank
// 0 alone, so that the sum over the world counts every element once.
double reducer_sqnorm(const Reducer *r);
// Call order in a step: begin, (ready* while backward runs, progress* at will), finish. Collective(replicas). One reducer of a
// mesh at a time. Outside begin..finish ready and progress do nothing: hooks may stay set in earlier micro-batches.
// A parameter is reported once a step, or never (unused): finish starts what was not.
void reducer_begin(Reducer *r);
void reducer_ready(Reducer *r, const Param *p);
void reducer_progress(Reducer *r);
void reducer_finish(Reducer *r);  // starts what is left, waits, folds: the shard of ps->grad holds the sum
// Without ZeRO-1, before the update: every rank gets every shard of the sum. Collective(replicas).
void reducer_share(Reducer *r);
// With ZeRO-1, after the update of the owned ranges: every rank gets everyone's weights. Collective(replicas).
void reducer_gather_weights(Reducer *r);
