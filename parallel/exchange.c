// Exchanges of rows of reals. A row is an MPI datatype, so that counts and places are rows and fit
// MPI's int. Sums are formed by the owner of a piece in rank order and then gathered: reproducible,
// and of the volume of a ring.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "parallel/internal.h"

enum {
    TAG_SHIFT = TAG_EXCHANGE + 1,
    TAG_ROWS = TAG_EXCHANGE + 2,
    SUM_BLOCK = 1 << 22  // elements summed at a time: bounds the scratch
};

static void pending_begin(Comm *c, CommUse use, double bytes) {
    ASSERT(!c->is_pending);
    c->is_pending = true;
    c->pending_use = use;
    c->pending_bytes = bytes;
    c->pending_since = clock_s();
}

void comm_poll(Comm *c) {
    int done;
    if (c->pending_count > 0)
        MPI_Testall(c->pending_count, c->pending, &done, MPI_STATUSES_IGNORE);
}

// What a poll finds complete still counts as under way until somebody wants it: the end of an
// exchange that was polled to its end is not known better.
void comm_finish(Comm *c) {
    double exposed = clock_s();
    if (!c->is_pending) return;
    MPI_Waitall(c->pending_count, c->pending, MPI_STATUSES_IGNORE);
    c->pending_count = 0;
    c->is_pending = false;
    comm__book(c->pending_use, c->pending_bytes, c->pending_since, exposed);
}

static MPI_Datatype row_type(int width) {
    MPI_Datatype type;
    MPI_Type_contiguous(width, MPI_REAL_TYPE, &type);
    MPI_Type_commit(&type);
    return type;
}

// counts, then places: running sums.
static int *fill_places(int *counts, const int *rows, int size) {
    int *places = counts + size, at = 0;
    for (int r = 0; r < size; r++) {
        counts[r] = rows[r];
        places[r] = at;
        at += rows[r];
    }
    return places;
}

void comm_gather_rows(Comm *c, CommUse use, const real *mine, real *all, const int *rows,
                      int width) {
    size_t own = (size_t)rows[c->rank] * (size_t)width;
    if (c->size == 1) {
        if (own > 0) memcpy(all, mine, own * sizeof *all);
        return;
    }
    comm__enter(c, comm_use_text(use), (uint64_t)width);
    pending_begin(c, use, (double)own * sizeof(real) * (c->size - 1));
    int *places = fill_places(c->counts, rows, c->size);
    MPI_Datatype row = row_type(width);
    MPI_Iallgatherv(mine, rows[c->rank], row, all, c->counts, places, row, c->handle,
                    &c->pending[0]);
    MPI_Type_free(&row);
    c->pending_count = 1;
}

// Messages of our own: in Open MPI 4.1 a rank that neither sends nor receives in a non-blocking
// all-to-all does not advance the communicator's tag, and the next collective waits forever. A halo
// has such ranks.
void comm_alltoall_rows(Comm *c, CommUse use, const real *send, const int *send_rows, real *recv,
                        const int *recv_rows, int width) {
    comm__enter(c, comm_use_text(use), (uint64_t)width);
    MPI_Datatype row = row_type(width);
    double rows = 0;
    int count = 0;
    for (int p = 0; p < c->size; p++) {
        size_t in = (size_t)recv_rows[p] * (size_t)width, out = (size_t)send_rows[p] * (size_t)width;
        if (p == c->rank) {
            ASSERT(in == out);
            if (in > 0) memcpy(recv, send, in * sizeof *recv);
        } else {
            rows += send_rows[p];
            if (in > 0)
                MPI_Irecv(recv, recv_rows[p], row, p, TAG_ROWS, c->handle, &c->pending[count++]);
            if (out > 0)
                MPI_Isend(send, send_rows[p], row, p, TAG_ROWS, c->handle, &c->pending[count++]);
        }
        recv += in;
        send += out;
    }
    MPI_Type_free(&row);
    pending_begin(c, use, rows * (double)width * sizeof(real));
    c->pending_count = count;
}

// Longer messages than MPI's int are made of larger elements.
void comm_shift(Comm *c, CommUse use, const real *send, size_t send_count, int to, real *recv,
                size_t recv_count, int from) {
    ASSERT(send_count < INT32_MAX && recv_count < INT32_MAX);
    pending_begin(c, use, to < 0 ? 0 : (double)send_count * sizeof(real));
    MPI_Irecv(recv, (int)recv_count, MPI_REAL_TYPE, from < 0 ? MPI_PROC_NULL : from, TAG_SHIFT,
              c->handle, &c->pending[0]);
    MPI_Isend(send, (int)send_count, MPI_REAL_TYPE, to < 0 ? MPI_PROC_NULL : to, TAG_SHIFT,
              c->handle, &c->pending[1]);
    c->pending_count = 2;
}

size_t comm_sum_scratch(int size, size_t count) {
    size_t block = count < SUM_BLOCK ? count : SUM_BLOCK;
    return size == 1 ? 0 : split_count(block, size, 0) * (size_t)size;
}

// One block: every piece goes to its owner, is added up in rank order, and goes to all.
static void sum_block(Comm *c, real *x, size_t n, real *scratch) {
    int size = c->size, *counts = c->counts, *places = counts + size;
    int *in_counts = places + size, *in_places = in_counts + size;
    int own = (int)split_count(n, size, c->rank);
    for (int r = 0; r < size; r++) {
        counts[r] = (int)split_count(n, size, r);
        places[r] = (int)split_begin(n, size, r);
        in_counts[r] = own;
        in_places[r] = r * own;
    }
    MPI_Alltoallv(x, counts, places, MPI_REAL_TYPE, scratch, in_counts, in_places, MPI_REAL_TYPE,
                  c->handle);
    real *piece = x + places[c->rank];
    memcpy(piece, scratch, (size_t)own * sizeof *piece);
    for (int r = 1; r < size; r++) {
        const real *part = scratch + (size_t)r * (size_t)own;
        for (int i = 0; i < own; i++) piece[i] += part[i];
    }
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x, counts, places, MPI_REAL_TYPE, c->handle);
}

void comm_sum_reals(Comm *c, CommUse use, real *x, size_t count, real *scratch) {
    if (c->size == 1 || count == 0) return;
    comm__enter(c, comm_use_text(use), (uint64_t)count);
    for (size_t at = 0; at < count; at += SUM_BLOCK) {
        size_t n = count - at < SUM_BLOCK ? count - at : SUM_BLOCK;
        size_t own = split_count(n, c->size, c->rank);
        double since = clock_s();
        sum_block(c, x + at, n, scratch);
        double sent = (double)(n - own) + (double)own * (c->size - 1);
        comm__book(use, sent * sizeof(real), since, since);
    }
}

// Grows once to the largest block of rows.
static void gathered_grow(Comm *c, size_t count) {
    if (count <= c->gathered_count) return;
    free(c->gathered);
    c->gathered = malloc(count * sizeof *c->gathered);
    ASSERT(c->gathered != NULL);
    c->gathered_count = count;
}

double *comm_gather_doubles(Comm *c, CommUse use, const double *lse, const double *hit, int n) {
    size_t size = (size_t)c->size, count = 2 * (size_t)n;
    comm__enter(c, comm_use_text(use), (uint64_t)n);
    gathered_grow(c, (size + 1) * count);
    double since = clock_s(), *mine = c->gathered + size * count;
    memcpy(mine, lse, (size_t)n * sizeof *mine);
    memcpy(mine + n, hit, (size_t)n * sizeof *mine);
    MPI_Allgather(mine, (int)count, MPI_DOUBLE, c->gathered, (int)count, MPI_DOUBLE, c->handle);
    comm__book(use, (double)(count * sizeof *mine * (size - 1)), since, since);
    return c->gathered;
}
