// Collectives and messages of any size. MPI's counts are int: longer ones are cut in
// chunks. Sums are gathered and folded in rank order by every rank, so that all hold the
// same bits (docs/parallelism.md).
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "parallel/internal.h"

enum { FOLD_VALUES = 256 };  // doubles of each rank that are summed at once
static const size_t CHUNK_BYTES = (size_t)1 << 30;

// What this process has exchanged. One thread calls MPI.
static CommStat stats[COMM_USE_COUNT];

void comm__book(CommUse use, double bytes, double since, double exposed) {
    double now = clock_s();
    stats[use].calls++;
    stats[use].bytes += bytes;
    stats[use].wait_s += now - since;
    stats[use].exposed_s += now - exposed;
}

CommStat comm_stat(CommUse use) {
    return stats[use];
}

CommStat comm_stat_all(void) {
    CommStat sum = {0};
    for (int u = 0; u < COMM_USE_COUNT; u++) {
        sum.calls += stats[u].calls;
        sum.bytes += stats[u].bytes;
        sum.wait_s += stats[u].wait_s;
        sum.exposed_s += stats[u].exposed_s;
    }
    return sum;
}

const char *comm_use_text(CommUse use) {
#define COMM_TEXT(name, text) text,
    static const char *const texts[] = {COMM_USES(COMM_TEXT)};
#undef COMM_TEXT
    return texts[use];
}

Comm *comm__open(MPI_Comm handle, const char *axis) {
    Comm *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->handle = handle;
    c->axis = axis;
    MPI_Comm_rank(handle, &c->rank);
    MPI_Comm_size(handle, &c->size);
    c->chunk_bytes = CHUNK_BYTES;
    c->fold = malloc((size_t)c->size * FOLD_VALUES * sizeof *c->fold);
    c->counts = malloc(6 * (size_t)c->size * sizeof *c->counts);
    ASSERT(c->fold != NULL && c->counts != NULL);
    for (int i = 0; i < MAX_PENDING; i++) {
        c->pending[i].requests = malloc(2 * ((size_t)c->size + 1) * sizeof(MPI_Request));
        ASSERT(c->pending[i].requests != NULL);
    }
    c->rows = c->counts + 4 * c->size;
    return c;
}

void comm__close(Comm *c) {
    if (c == NULL) return;
    MPI_Comm_free(&c->handle);
    free(c->fold);
    free(c->counts);
    for (int i = 0; i < MAX_PENDING; i++) free(c->pending[i].requests);
    free(c);
}

int comm_rank(const Comm *c) {
    return c->rank;
}
int comm_size(const Comm *c) {
    return c->size;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

// A blocking exchange in which this rank sent the same bytes to every other rank.
static void book_to_others(const Comm *c, CommUse use, size_t bytes, double since) {
    comm__book(use, (double)bytes * (c->size - 1), since, since);
}

void comm_barrier(Comm *c) {
    comm__enter(c, "comm_barrier", 0);
    double since = clock_s();
    MPI_Barrier(c->handle);
    comm__book(COMM_CONTROL, 0, since, since);
}

void comm_sum_doubles(Comm *c, double *values, int count) {
    comm__enter(c, "comm_sum_doubles", (uint64_t)count);
    double since = clock_s();
    for (int at = 0; at < count; at += FOLD_VALUES) {
        int n = count - at < FOLD_VALUES ? count - at : FOLD_VALUES;
        MPI_Allgather(values + at, n, MPI_DOUBLE, c->fold, n, MPI_DOUBLE, c->handle);
        for (int i = 0; i < n; i++) {
            double sum = c->fold[i];
            for (int r = 1; r < c->size; r++) sum += c->fold[r * n + i];
            values[at + i] = sum;
        }
    }
    book_to_others(c, COMM_SUM, (size_t)count * sizeof *values, since);
}

static void reduce_i64(Comm *c, int64_t *values, int count, MPI_Op op) {
    double since = clock_s();
    MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_INT64_T, op, c->handle);
    book_to_others(c, COMM_SUM, (size_t)count * sizeof *values, since);
}

void comm_max_i64(Comm *c, int64_t *values, int count) {
    comm__enter(c, "comm_max_i64", (uint64_t)count);
    reduce_i64(c, values, count, MPI_MAX);
}

void comm_sum_i64(Comm *c, int64_t *values, int count) {
    comm__enter(c, "comm_sum_i64", (uint64_t)count);
    reduce_i64(c, values, count, MPI_SUM);
}

void comm_bcast(Comm *c, void *data, size_t bytes, int root) {
    comm__enter(c, "comm_bcast", bytes * (uint64_t)c->size + (uint64_t)root);
    char *p = data;
    double since = clock_s();
    for (size_t at = 0; at < bytes; at += c->chunk_bytes) {
        MPI_Bcast(p + at, (int)least(bytes - at, c->chunk_bytes), MPI_BYTE, root, c->handle);
    }
    book_to_others(c, COMM_CONTROL, c->rank == root ? bytes : 0, since);
}

// offsets[size+1]: running sums of the sizes.
static void offsets_fill(size_t *offsets, const uint64_t *sizes, int size) {
    offsets[0] = 0;
    for (int r = 0; r < size; r++) offsets[r + 1] = offsets[r] + (size_t)sizes[r];
}

// Collective: every rank has its buffer, or all return the failure of one that has not.
static Status buffer_new(Comm *c, char **out, size_t bytes) {
    *out = malloc(bytes > 0 ? bytes : 1);
    Status st = OK;
    if (*out == NULL) {
        st = err_set(E_NOMEM, "use more ranks or a machine with more memory",
                     "cannot allocate %zu bytes for data of other ranks", bytes);
    }
    st = agree(st, c);
    if (st != OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

Status comm_allgather_bytes(Comm *c, const void *mine, size_t bytes, char **out, size_t *offsets) {
    comm__enter(c, "comm_allgather_bytes", 0);
    Status st = OK;
    uint64_t size_mine = bytes;
    int *counts = malloc(2 * (size_t)c->size * sizeof *counts);
    uint64_t *sizes = malloc((size_t)c->size * sizeof *sizes);
    ASSERT(counts != NULL && sizes != NULL);
    MPI_Allgather(&size_mine, 1, MPI_UINT64_T, sizes, 1, MPI_UINT64_T, c->handle);
    offsets_fill(offsets, sizes, c->size);
    TRY_GOTO(buffer_new(c, out, offsets[c->size]));

    double since = clock_s();
    if (offsets[c->size] <= c->chunk_bytes) {
        int *places = counts + c->size;
        for (int r = 0; r < c->size; r++) {
            counts[r] = (int)sizes[r];
            places[r] = (int)offsets[r];
        }
        MPI_Allgatherv(mine, (int)bytes, MPI_BYTE, *out, counts, places, MPI_BYTE, c->handle);
        book_to_others(c, COMM_BYTES, bytes, since);
    } else {  // places do not fit MPI's int: one broadcast a rank, which cuts and counts
        if (bytes > 0) memcpy(*out + offsets[c->rank], mine, bytes);
        for (int r = 0; r < c->size; r++) comm_bcast(c, *out + offsets[r], (size_t)sizes[r], r);
    }
done:
    free(counts);
    free(sizes);
    return st;
}

// One send and one receive of any sizes at once, in rounds of one chunk. A side that is done talks
// to nobody; the partners' rounds match because both sides know the size of what goes between them.
static void exchange(Comm *c, const char *send, size_t send_bytes, int to, char *recv,
                     size_t recv_bytes, int from) {
    size_t longest = send_bytes > recv_bytes ? send_bytes : recv_bytes;
    double since = clock_s();
    for (size_t at = 0; at < longest; at += c->chunk_bytes) {
        int n_send = at < send_bytes ? (int)least(send_bytes - at, c->chunk_bytes) : 0;
        int n_recv = at < recv_bytes ? (int)least(recv_bytes - at, c->chunk_bytes) : 0;
        MPI_Sendrecv(n_send > 0 ? send + at : NULL, n_send, MPI_BYTE,
                     n_send > 0 ? to : MPI_PROC_NULL, TAG_EXCHANGE, n_recv > 0 ? recv + at : NULL,
                     n_recv, MPI_BYTE, n_recv > 0 ? from : MPI_PROC_NULL, TAG_EXCHANGE, c->handle,
                     MPI_STATUS_IGNORE);
    }
    comm__book(COMM_BYTES, (double)send_bytes, since, since);
}

Status comm_alltoall_bytes(Comm *c, const char *send, const size_t *offsets, char **out,
                           size_t *recv_offsets) {
    comm__enter(c, "comm_alltoall_bytes", 0);
    Status st = OK;
    size_t size = (size_t)c->size;
    uint64_t *sizes = malloc(2 * size * sizeof *sizes), *theirs;
    ASSERT(sizes != NULL);
    theirs = sizes + size;
    for (size_t r = 0; r < size; r++) sizes[r] = offsets[r + 1] - offsets[r];
    MPI_Alltoall(sizes, 1, MPI_UINT64_T, theirs, 1, MPI_UINT64_T, c->handle);
    offsets_fill(recv_offsets, theirs, c->size);
    TRY_GOTO(buffer_new(c, out, recv_offsets[size]));

    // Pairwise: in round s everyone sends s ranks up and receives from s ranks down.
    if (theirs[c->rank] > 0) {
        memcpy(*out + recv_offsets[c->rank], send + offsets[c->rank], (size_t)theirs[c->rank]);
    }
    for (int s = 1; s < c->size; s++) {
        int to = (c->rank + s) % c->size, from = (c->rank - s + c->size) % c->size;
        const char *part = sizes[to] > 0 ? send + offsets[to] : NULL;  // send may be NULL
        exchange(c, part, (size_t)sizes[to], to, *out + recv_offsets[from], (size_t)theirs[from],
                 from);
    }
done:
    free(sizes);
    return st;
}

void comm_send(Comm *c, const void *data, size_t bytes, int to, int tag) {
    ASSERT(tag >= 0 && tag < TAG_EXCHANGE);
    const char *p = data;
    double since = clock_s();
    size_t at = 0;
    do {  // at least one message: an empty one is still received
        size_t n = least(bytes - at, c->chunk_bytes);
        MPI_Send(p, (int)n, MPI_BYTE, to, tag, c->handle);
        at += n;
        p = n > 0 ? p + n : p;  // no arithmetic on NULL
    } while (at < bytes);
    comm__book(COMM_BYTES, (double)bytes, since, since);
}

void comm_recv(Comm *c, void *data, size_t bytes, int from, int tag) {
    ASSERT(tag >= 0 && tag < TAG_EXCHANGE);
    char *p = data;
    size_t at = 0;
    do {
        size_t n = least(bytes - at, c->chunk_bytes);
        MPI_Status status;
        int got = 0;
        MPI_Recv(p, (int)n, MPI_BYTE, from, tag, c->handle, &status);
        MPI_Get_count(&status, MPI_BYTE, &got);
        ASSERT((size_t)got == n);  // both sides agree on the size
        at += n;
        p = n > 0 ? p + n : p;
    } while (at < bytes);
}
