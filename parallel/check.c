// Are all ranks doing the same thing? One reduction answers, all ranks learn it, and one explains.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "parallel/internal.h"

// All values are equal iff their maximum is the complement of the maximum of their complements.
static bool same_everywhere(Comm *comm, uint64_t value) {
    uint64_t v[2] = {value, ~value};
    MPI_Allreduce(MPI_IN_PLACE, v, 2, MPI_UINT64_T, MPI_MAX, comm->handle);
    return v[0] == ~v[1];
}

// Panics on the lowest rank that differs from rank 0; the others wait to be taken down, so that one
// message is seen.
static _Noreturn void panic_on_first(Comm *comm, uint64_t value, const char *what) {
    struct {
        int differs, rank;
    } first = {0, comm->rank};
    uint64_t of_root = value;
    MPI_Bcast(&of_root, 1, MPI_UINT64_T, 0, comm->handle);
    first.differs = value != of_root;
    MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_2INT, MPI_MAXLOC, comm->handle);
    if (comm->rank != first.rank)
        MPI_Barrier(comm->handle);  // never passed: that rank does not enter
    char text[512];
    snprintf(text, sizeof text, "%s: rank %d has %016" PRIx64 ", rank 0 has %016" PRIx64, what,
             comm->rank, value, of_root);
    panic(__FILE__, __LINE__, text);
}

void comm_check_same(Comm *comm, uint64_t hash, const char *what) {
    double since = clock_s();
    if (!same_everywhere(comm, hash)) panic_on_first(comm, hash, what);
    comm__book(COMM_CONTROL, 2.0 * sizeof hash * (comm->size - 1), since, since);
}

#ifdef __SANITIZE_ADDRESS__
// FNV-1a: a mark of what is being called, not a checksum.
static uint64_t mark(uint64_t h, const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return h;
}

void comm__enter(Comm *comm, const char *call, uint64_t same) {
    comm->sequence++;
    uint64_t h = mark(0xcbf29ce484222325u, call, strlen(call));
    h = mark(h, &same, sizeof same);
    h = mark(h, &comm->sequence, sizeof comm->sequence);
    if (same_everywhere(comm, h)) return;
    char text[256];
    snprintf(text, sizeof text,
             "ranks differ at collective number %" PRIu64 ": this one calls %s(%" PRIu64 "): mark",
             comm->sequence, call, same);
    panic_on_first(comm, h, text);
}
#endif
