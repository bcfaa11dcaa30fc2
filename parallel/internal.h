// Shared by the files of this folder and its tests: what a communicator is, and the bookkeeping
// every exchange does.
#pragma once

#include <mpi.h>

#include "parallel/agree.h"
#include "parallel/exchange.h"
#include "parallel/reduce.h"
#include "parallel/world.h"

#ifdef STERNA_F64
#define MPI_REAL_TYPE MPI_DOUBLE
#else
#define MPI_REAL_TYPE MPI_FLOAT
#endif

// Tags of point-to-point messages: callers of comm_send use those below TAG_EXCHANGE.
enum { TAG_EXCHANGE = 32000 };

// An exchange that was started and not yet waited for.
typedef struct Pending {
    CommUse use;
    double bytes, since;
    int request_count;
    MPI_Request *requests;  // (2 size)
} Pending;
enum { MAX_PENDING = 2 };

struct Comm {
    MPI_Comm handle;
    const char *axis;  // for messages
    int rank, size;
    size_t chunk_bytes;            // no MPI call moves more between two ranks; tests shrink it
    double *fold;                  // (size, FOLD_VALUES) what comm_sum_doubles gathers
    Pending pending[MAX_PENDING];  // exchanges of exchange.c that are under way
    int pending_count;
    int *counts;        // (4, size) counts and places of an exchange
    int *rows;          // (2, size) for callers of exchange.c
    uint64_t sequence;  // collectives so far, for the checks of debug builds
};

// --- progress.c: what the hook of tensor/progress.h looks after ---
void progress__exchange(Comm *comm, bool on);  // comm has exchanges under way, or none any more
void progress__reducer(Reducer *r, bool on);   // r has buckets under way, or none any more

// --- launch.c ---
long launch__number(const char *variable);  // of the environment; 0 when it is not there
// Whether the launcher left word of something that connects processes. Open MPI's MPI_Init ends the
// process in a Slurm step without it.
bool launch__has_manager(void);
// E_LAUNCH when a launcher started more processes and this one is not connected to them.
Status launch__check_alone(bool connected) CHECKED;
// The first exchange of all: E_LAUNCH when ranks run other builds, E_USAGE when they were given
// other commands, with the same words on every rank. Collective(world).
Status launch__check_same(const char *build, const char *command) CHECKED;

Comm *comm__open(MPI_Comm handle, const char *axis);  // takes over `handle`
void comm__close(Comm *comm);                         // Collective
// Books an exchange that started at clock `since` and for which this rank did nothing else since
// clock `exposed`, up to now. `bytes` it sent to others.
void comm__book(CommUse use, double bytes, double since, double exposed);

// In debug builds (those with the address sanitizer) every collective first checks, by a
// non-blocking exchange with a deadline, that all ranks make the same call: `same` is what must
// agree besides the name (a count, a root). A mismatch, or a rank that does not come, panics with
// the last call of each rank.
#ifdef __SANITIZE_ADDRESS__
void comm__enter(Comm *comm, const char *call, uint64_t same);
void check__begin(void);  // Collective(world)
void check__end(void);
void check__set_patience(double seconds);  // how long one waits for the others before it says so
#else
static inline void check__begin(void) {}
static inline void check__end(void) {}
static inline void comm__enter(Comm *comm, const char *call, uint64_t same) {
    (void)comm, (void)call, (void)same;
}
#endif

// --- reduce.c, for tests ---
// reducer_open with a limit on the elements of a bucket (a multiple of 16): longer runs are cut, so
// that counts fit MPI's int.
Status reducer__open(Reducer **r, const Mesh *mesh, ParamSet *ps, size_t bucket_bytes,
                     size_t bucket_limit) CHECKED;
