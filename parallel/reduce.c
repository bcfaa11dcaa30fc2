// Reduction of gradients, overlapped with the backward pass, and the gathering of
// updated weights. The ranks that hold the same share of the parameters (dp x sp: their gradients
// are partial sums) each own a piece of every bucket and of the optimiser's state: ZeRO-1
// (Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
// arXiv:1910.02054).
//
//     flat arrays | row 0 | row 1 | row 2   | row 3 | row 4 |
//     buckets     |    bucket 1   |        bucket 0         |  from the last rows to the first:
//     pieces      |  r0   |  r1   |     r0     |     r1     |  backward reaches the last rows first
//
// A bucket's exchange is an all-to-all of its pieces: the volume of a ring reduce-scatter, and the
// owner, holding every rank's piece, adds them in rank order, so that the sum has the same bits in
// every run and with any timing. (Open MPI's non-blocking reduce-scatter funnels through rank 0 and
// leaves the order of additions to the library.) The plan of buckets is in buckets.c; here is what
// happens in a step.
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/clock.h"
#include "parallel/buckets.h"
#include "tensor/kernels/kernels.h"

enum { FOLD_BLOCK = 1024 };  // elements folded at once: they stay in the first-level cache
static const size_t BUCKET_LIMIT = (size_t)1 << 28;  // elements: counts and places fit MPI's int

struct Reducer {
    ParamSet *ps;
    Comm *comm;
    // Of the same ranks, for the exchanges of this reducer alone: the order of collectives must
    // agree on all ranks within a communicator, and these start when a rank gets there.
    MPI_Comm background;
    BucketPlan plan;
    MPI_Request *requests;  // by bucket
    bool *ready;            // by row, in this step
    int *missing;           // by bucket: its rows that are not ready in this step
    double *since;          // by bucket: clock at its start
    Range *shard;           // the pieces this rank folds
    int shard_count;
    Range whole;  // what it updates without ZeRO-1
    bool zero;
    bool counts_replicated;  // in the norm: tp_rank 0
    Arena arena;
    real *window;         // received pieces
    int started, folded;  // buckets, in order: folded <= started
    bool active;          // between begin and finish
    bool compared;        // the layout is known to be the same on all ranks
};

static int by_begin(const void *a, const void *b) {
    size_t x = ((const Range *)a)->begin, y = ((const Range *)b)->begin;
    return (x > y) - (x < y);
}

// The pieces, ascending. Neighbours are joined, so that a rank alone has one range.
static void shard_fill(Reducer *r) {
    int pieces = 0;
    for (int b = 0; b < r->plan.count; b++) {
        Range piece = bucket_piece(&r->plan, b, r->comm->rank);
        if (piece.count > 0) r->shard[pieces++] = piece;
    }
    qsort(r->shard, (size_t)pieces, sizeof *r->shard, by_begin);
    for (int i = 0; i < pieces; i++) {
        Range *last = r->shard_count > 0 ? &r->shard[r->shard_count - 1] : NULL;
        if (last != NULL && last->begin + last->count == r->shard[i].begin) {
            last->count += r->shard[i].count;
        } else {
            r->shard[r->shard_count++] = r->shard[i];
        }
    }
}

Status reducer__open(Reducer **out, const Mesh *mesh, ParamSet *ps, size_t bucket_bytes,
                     size_t bucket_limit) {
    Reducer *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    *out = r;
    r->ps = ps;
    r->comm = mesh->replicas;
    MPI_Comm_dup(r->comm->handle, &r->background);
    r->zero = mesh->zero || r->comm->size == 1;
    r->counts_replicated = mesh->tp_rank == 0;
    r->whole = (Range){0, ps->total};
    plan_open(&r->plan, ps, r->comm, bucket_bytes / sizeof(real), bucket_limit);
    size_t count = (size_t)r->plan.count;
    r->requests = malloc((count + 1) * sizeof *r->requests);
    r->missing = malloc((count + 1) * sizeof *r->missing);
    r->since = malloc((count + 1) * sizeof *r->since);
    r->shard = malloc((count + 1) * sizeof *r->shard);
    r->ready = calloc((size_t)ps->count + 1, sizeof *r->ready);
    ASSERT(r->requests != NULL && r->missing != NULL && r->since != NULL && r->shard != NULL &&
           r->ready != NULL);
    shard_fill(r);

    Status st = arena_open(&r->arena, r->plan.window * sizeof(real));
    if (st != OK) return err_context(st, "exchange of gradients");
    r->window = arena_reals(&r->arena, r->plan.window);
    return OK;
}

Status reducer_open(Reducer **r, const Mesh *mesh, ParamSet *ps, size_t bucket_bytes) {
    return reducer__open(r, mesh, ps, bucket_bytes, BUCKET_LIMIT);
}

size_t reducer_arena_bytes(const Reducer *r) {
    return r->arena.peak;
}

void reducer_plan(const ParamSet *ps, int replicas, size_t bucket_bytes, size_t *arena_bytes,
                  size_t *owned) {
    BucketPlan plan;
    Arena arena = {0};
    plan_open(&plan, ps, &(Comm){.size = replicas}, bucket_bytes / sizeof(real), BUCKET_LIMIT);
    arena_reals(&arena, plan.window);
    *arena_bytes = arena.peak;
    *owned = 0;
    for (int b = 0; b < plan.count; b++) *owned += bucket_piece(&plan, b, 0).count;
    plan_close(&plan);
}

void reducer_close(Reducer *r) {
    if (r == NULL) return;
    ASSERT(!r->active);
    MPI_Comm_free(&r->background);
    arena_close(&r->arena);
    plan_close(&r->plan);
    free(r->requests);
    free(r->missing);
    free(r->since);
    free(r->shard);
    free(r->ready);
    free(r);
}

const Range *reducer_shard(const Reducer *r, int *count) {
    *count = r->shard_count;
    return r->shard;
}

const Range *reducer_ranges(const Reducer *r, int *count) {
    *count = r->zero ? r->shard_count : 1;
    return r->zero ? r->shard : &r->whole;
}

// Padding between rows holds zeros, but a row's class decides whether it counts.
static double range_sqnorm(const Reducer *r, Range range) {
    double sum = 0;
    size_t end = range.begin + range.count;
    for (int i = 0; i < r->ps->count; i++) {
        const Param *p = &r->ps->rows[i];
        size_t from = p->offset > range.begin ? p->offset : range.begin;
        size_t to = p->offset + p->count < end ? p->offset + p->count : end;
        if (from >= to || (p->tp_axis < 0 && !r->counts_replicated)) continue;
        sum += sum_squares(r->ps->grad + from, to - from);
    }
    return sum;
}

double reducer_sqnorm(const Reducer *r) {
    double sum = 0;
    for (int i = 0; i < r->shard_count; i++) sum += range_sqnorm(r, r->shard[i]);
    return sum;
}

void reducer_begin(Reducer *r) {
    ASSERT(!r->active);
    r->active = true;
    r->started = r->folded = 0;
    if (r->comm->size > 1) progress__reducer(r, true);
    memset(r->ready, 0, (size_t)r->ps->count * sizeof *r->ready);
    for (int b = 0; b < r->plan.count; b++) {
        r->missing[b] = r->plan.buckets[b].last_row - r->plan.buckets[b].first_row + 1;
    }
    if (!r->compared)
        comm_check_same(r->comm, plan_hash(&r->plan), "the layout of gradient buckets");
    r->compared = true;
}

static void bucket_start(Reducer *r, int b) {
    const Bucket *k = &r->plan.buckets[b];
    int size = r->comm->size;
    const int *send_counts = k->counts, *send_places = send_counts + size;
    const int *recv_counts = send_places + size, *recv_places = recv_counts + size;
    MPI_Ialltoallv(r->ps->grad + k->begin, send_counts, send_places, MPI_REAL_TYPE,
                   r->window + k->window, recv_counts, recv_places, MPI_REAL_TYPE, r->background,
                   &r->requests[b]);
    r->since[b] = clock_s();
}

// Bucket b has arrived; this rank has waited for it since clock `exposed`.
static void bucket_book(const Reducer *r, int b, double exposed) {
    size_t own = bucket_piece(&r->plan, b, r->comm->rank).count;
    size_t sent = r->plan.buckets[b].count - own;
    comm__book(COMM_GRADIENTS, (double)sent * sizeof(real), r->since[b], exposed);
}

// own piece of the gradient = sum over ranks, in rank order; the own summand stands where the sum
// goes.
static void bucket_fold(Reducer *r, int b) {
    const Bucket *k = &r->plan.buckets[b];
    int size = r->comm->size, rank = r->comm->rank;
    const int *recv_places = k->counts + 3 * size;
    Range piece = bucket_piece(&r->plan, b, rank);
    real *own = r->ps->grad + piece.begin, sum[FOLD_BLOCK];
    for (size_t at = 0; at < piece.count; at += FOLD_BLOCK) {
        size_t n = piece.count - at < FOLD_BLOCK ? piece.count - at : FOLD_BLOCK;
        for (int from = 0; from < size; from++) {
            const real *part =
                (from == rank ? own : r->window + k->window + recv_places[from]) + at;
            if (from == 0) {
                memcpy(sum, part, n * sizeof *sum);
            } else {
                for (size_t i = 0; i < n; i++) sum[i] += part[i];
            }
        }
        memcpy(own + at, sum, n * sizeof *sum);
    }
}

// Starts, in bucket order, what may start: rows ready (or nothing more to come), and the place in
// the window free.
static void start_possible(Reducer *r, bool all_ready) {
    while (r->started < r->plan.count) {
        int b = r->started;
        if ((r->missing[b] > 0 && !all_ready) || r->folded <= r->plan.buckets[b].after) return;
        bucket_start(r, b);
        r->started++;
    }
}

void reducer_ready(Reducer *r, const Param *p) {
    if (!r->active || r->comm->size == 1) return;
    ASSERT(p >= r->ps->rows && p < r->ps->rows + r->ps->count);
    int row = (int)(p - r->ps->rows);
    ASSERT(!r->ready[row]);  // a second report would mean that an unfinished gradient is on its way
    r->ready[row] = true;
    for (int b = 0; b < r->plan.count; b++) {
        const Bucket *k = &r->plan.buckets[b];
        if (k->first_row <= row && row <= k->last_row) r->missing[b]--;
    }
    start_possible(r, false);
}

void reducer_progress(Reducer *r) {
    if (!r->active || r->comm->size == 1) return;
    // Testing one request moves the data of all: asking for the oldest is enough.
    while (r->folded < r->started) {
        int done = 0;
        MPI_Test(&r->requests[r->folded], &done, MPI_STATUS_IGNORE);
        if (!done) break;
        bucket_book(r, r->folded, clock_s());
        bucket_fold(r, r->folded++);
    }
    start_possible(r, false);
}

void reducer_finish(Reducer *r) {
    ASSERT(r->active);
    while (r->comm->size > 1 && r->folded < r->plan.count) {
        start_possible(r, true);  // one is always under way: a bucket waits only for earlier ones
        double begin = clock_s();
        MPI_Wait(&r->requests[r->folded], MPI_STATUS_IGNORE);
        bucket_book(r, r->folded, begin);
        bucket_fold(r, r->folded++);
    }
    progress__reducer(r, false);
    r->active = false;
}

// The mirror image: every piece goes from its owner to all, into the same place.
static void pieces_gather(Reducer *r, real *flat, CommUse use) {
    ASSERT(!r->active);
    int size = r->comm->size;
    for (int b = 0; b < r->plan.count && size > 1; b++) {
        const Bucket *k = &r->plan.buckets[b];
        comm__enter(r->comm, comm_use_text(use), k->begin);
        double since = clock_s();
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, flat + k->begin, k->piece_counts,
                       k->counts + size, MPI_REAL_TYPE, r->comm->handle);
        size_t own = bucket_piece(&r->plan, b, r->comm->rank).count;
        comm__book(use, (double)own * sizeof(real) * (size - 1), since, since);
    }
}

void reducer_share(Reducer *r) {
    if (!r->zero) pieces_gather(r, r->ps->grad, COMM_GRADIENTS);
}

void reducer_gather_weights(Reducer *r) {
    if (!r->zero) return;
    pieces_gather(r, r->ps->data, COMM_WEIGHTS);
    params_changed(r->ps);
}
