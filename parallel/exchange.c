// Exchanges of rows of reals. A row is an MPI datatype, so that counts and places are rows and fit
// MPI's int. Sums are formed by the owner of a piece in rank order and then gathered: reproducible,
// and of the volume of a ring.
#include <string.h>

#include "base/clock.h"
#include "parallel/internal.h"
#include "tensor/threads.h"

enum {
    TAG_SHIFT = TAG_EXCHANGE + 1,
    TAG_ROWS = TAG_EXCHANGE + 2,
    SUM_BLOCK = 1 << 22  // elements summed at a time: bounds the scratch
};

static Pending *pending_begin(Comm *c, CommUse use, double bytes) {
    ASSERT(c->pending_count < MAX_PENDING);
    Pending *p = &c->pending[c->pending_count++];
    p->use = use;
    p->bytes = bytes;
    p->since = clock_s();
    p->request_count = 0;
    progress__exchange(c, true);
    return p;
}

void comm_poll(Comm *c) {
    int done;
    for (int i = 0; i < c->pending_count; i++) {
        MPI_Testall(c->pending[i].request_count, c->pending[i].requests, &done,
                    MPI_STATUSES_IGNORE);
    }
}

// What a poll finds complete still counts as under way until somebody wants it: the end of an
// exchange that was polled to its end is not known better.
void comm_finish(Comm *c) {
    for (int i = 0; i < c->pending_count; i++) {
        Pending *p = &c->pending[i];
        double exposed = clock_s();
        MPI_Waitall(p->request_count, p->requests, MPI_STATUSES_IGNORE);
        comm__book(p->use, p->bytes, p->since, exposed);
    }
    c->pending_count = 0;
    progress__exchange(c, false);
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
    Pending *p = pending_begin(c, use, (double)own * sizeof(real) * (c->size - 1));
    int *places = fill_places(c->counts, rows, c->size);
    MPI_Datatype row = row_type(width);
    MPI_Iallgatherv(mine, rows[c->rank], row, all, c->counts, places, row, c->handle,
                    &p->requests[0]);
    MPI_Type_free(&row);
    p->request_count = 1;
}

// Messages of our own: in Open MPI 4.1 a rank that neither sends nor receives in a non-blocking
// all-to-all does not advance the communicator's tag, and the next collective waits forever. A halo
// has such ranks.
void comm_alltoall_rows(Comm *c, CommUse use, const real *send, const int *send_rows, real *recv,
                        const int *recv_rows, int width) {
    comm__enter(c, comm_use_text(use), (uint64_t)width);
    MPI_Datatype row = row_type(width);
    Pending *pending = pending_begin(c, use, 0);
    int n = 0;
    for (int p = 0; p < c->size; p++) {
        size_t in = (size_t)recv_rows[p] * (size_t)width,
               out = (size_t)send_rows[p] * (size_t)width;
        if (p == c->rank) {
            ASSERT(in == out);
            if (in > 0) memcpy(recv, send, in * sizeof *recv);
        } else {
            MPI_Request *at = pending->requests;
            pending->bytes += (double)out * sizeof(real);
            if (in > 0) MPI_Irecv(recv, recv_rows[p], row, p, TAG_ROWS, c->handle, &at[n++]);
            if (out > 0) MPI_Isend(send, send_rows[p], row, p, TAG_ROWS, c->handle, &at[n++]);
        }
        recv += in;
        send += out;
    }
    pending->request_count = n;
    MPI_Type_free(&row);
}

void comm_shift(Comm *c, CommUse use, const real *send, int send_rows, int to, real *recv,
                int recv_rows, int from, int width) {
    double bytes = to < 0 ? 0 : (double)send_rows * (double)width * sizeof(real);
    Pending *p = pending_begin(c, use, bytes);
    MPI_Datatype row = row_type(width);
    MPI_Irecv(recv, recv_rows, row, from < 0 ? MPI_PROC_NULL : from, TAG_SHIFT, c->handle,
              &p->requests[0]);
    MPI_Isend(send, send_rows, row, to < 0 ? MPI_PROC_NULL : to, TAG_SHIFT, c->handle,
              &p->requests[1]);
    MPI_Type_free(&row);
    p->request_count = 2;
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
#pragma omp parallel for schedule(static) if (feeds_threads((size_t)own))
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

void comm_gather_doubles(Comm *c, CommUse use, const double *mine, double *all, int count) {
    comm__enter(c, comm_use_text(use), (uint64_t)count);
    double since = clock_s();
    MPI_Allgather(mine, count, MPI_DOUBLE, all, count, MPI_DOUBLE, c->handle);
    comm__book(use, (double)count * sizeof *mine * (c->size - 1), since, since);
}
