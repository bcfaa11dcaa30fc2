// The reduction of gradients over the replicas of the parameters (dp x sp), with ZeRO-1 ownership.
#pragma once

#include "parallel/mesh.h"
#include "tensor/optim.h"
#include "tensor/params.h"

// Buckets are runs of the flat arrays in fixed order (last rows first). Each bucket is cut in as
// many pieces as there are replicas; rank r owns piece r of every bucket. A bucket starts when all
// its parameters are ready, in bucket order on all ranks, as a non-blocking all-to-all; the owner
// folds the pieces in rank order: bitwise reproducible.
typedef struct Reducer Reducer;
// Collective(replicas), also close: a communicator of its own is made. E_NOMEM, on this rank alone:
// *r is left for reducer_close.
Status reducer_open(Reducer **r, const Mesh *mesh, ParamSet *ps, size_t bucket_bytes) CHECKED;
void reducer_close(Reducer *r);
size_t reducer_arena_bytes(const Reducer *r);
// For plans, without a reducer: the bytes that reducer_open would reserve, and the elements whose
// moments the first rank (which has the largest pieces) would keep with ZeRO-1.
void reducer_plan(const ParamSet *ps, int replicas, size_t bucket_bytes, size_t *arena_bytes,
                  size_t *owned);
// The flat ranges this rank folds (its shard of the sum), and those it updates: the same with
// ZeRO-1, all without.
const Range *reducer_shard(const Reducer *r, int *count);
const Range *reducer_ranges(const Reducer *r, int *count);
// Squared norm of this rank's shard of the sum, in double. Rows that tensor parallelism replicates
// count on its rank 0 alone, so that the sum over the world counts every element once.
double reducer_sqnorm(const Reducer *r);
// Call order in a step: begin, (ready* while backward runs, progress* at will), finish.
// Collective(replicas). Several reducers may be at work at a time. Outside begin..finish ready and
// progress do nothing: hooks may stay set in earlier micro-batches. A parameter is reported once a
// step, or never (unused): finish starts what was not.
void reducer_begin(Reducer *r);
void reducer_ready(Reducer *r, const Param *p);
void reducer_progress(Reducer *r);
void reducer_finish(
    Reducer *r);  // starts what is left, waits, folds: the shard of ps->grad holds the sum
// Without ZeRO-1, before the update: every rank gets every shard of the sum. Collective(replicas).
void reducer_share(Reducer *r);
// With ZeRO-1, after the update of the owned ranges: every rank gets everyone's weights.
// Collective(replicas).
void reducer_gather_weights(Reducer *r);
