// Communicators and what ranks of one say to each other: sums, broadcasts, bytes; and the account
// of every exchange.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

// MPI handles behind an opaque type, so that no other floor includes mpi.h.
typedef struct Comm Comm;

// Collective(comm) unless said otherwise. Counts may exceed INT_MAX.
void comm_barrier(Comm *comm);
void comm_sum_doubles(Comm *comm, double *values,
                      int count);  // folded in rank order on every rank: same bits
void comm_max_i64(Comm *comm, int64_t *values, int count);
void comm_sum_i64(Comm *comm, int64_t *values, int count);
void comm_bcast(Comm *comm, void *data, size_t bytes, int root);
// Everyone's bytes in rank order at every rank: *out malloc'ed, offsets[size+1] filled by the
// callee.
Status comm_allgather_bytes(Comm *comm, const void *mine, size_t bytes, char **out,
                            size_t *offsets) CHECKED;
// Rank r gets send[offsets[r] .. offsets[r+1]) of everyone: *out malloc'ed, in rank order,
// recv_offsets[size+1] filled.
Status comm_alltoall_bytes(Comm *comm, const char *send, const size_t *offsets, char **out,
                           size_t *recv_offsets) CHECKED;
// Point to point, blocking, any size. Not collective.
void comm_send(Comm *comm, const void *data, size_t bytes, int to, int tag);
void comm_recv(Comm *comm, void *data, size_t bytes, int from, int tag);
int comm_rank(const Comm *comm);
int comm_size(const Comm *comm);
// Panics with a description unless `hash` is the same on every rank (layout mistakes, diverged
// weights).
void comm_check_same(Comm *comm, uint64_t hash, const char *what);

// --- Accounting: what every exchange is for ---
#define COMM_USES(X)                                                                               \
    X(COMM_CONTROL, "agreement, barriers, broadcasts")                                             \
    X(COMM_SUM, "sums of a step, counters")                                                        \
    X(COMM_BYTES, "text, checkpoints")                                                             \
    X(COMM_GRADIENTS, "gradients, reduced over dp x sp")                                           \
    X(COMM_WEIGHTS, "updated weights, gathered over dp x sp")                                      \
    X(COMM_STATE, "states of recurrent layers, forward (sp)")                                      \
    X(COMM_DSTATE, "states of recurrent layers, backward (sp)")                                    \
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
    int64_t calls;     // exchanges this rank took part in
    double bytes;      // payload this rank sent to others, times receivers, whatever the library's
                       // algorithm
    double wait_s;     // from the start of each exchange to its end
    double exposed_s;  // the part of it in which this rank did nothing else
} CommStat;
const char *comm_use_text(CommUse use);
CommStat comm_stat(CommUse use);  // of this process, since the start
CommStat comm_stat_all(void);     // over all uses
