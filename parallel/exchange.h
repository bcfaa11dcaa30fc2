// Rows of reals between the ranks of one communicator, booked under a purpose.
#pragma once

#include "base/real.h"
#include "parallel/comm.h"

// Collective(comm).
// At most two at a time in a communicator: start, any number of polls (Open MPI moves data only
// inside its calls; the hook of tensor/progress.h polls, too), finish, which waits for both.
// Nothing happens where the communicator has one rank, except that the own rows are copied.
// Everyone's rows at every rank, in rank order: `rows` (size) counts of rows of `width` reals each.
void comm_gather_rows(Comm *comm, CommUse use, const real *mine, real *all, const int *rows,
                      int width);
// send_rows[p] rows to rank p, densely in rank order; the same for what comes in.
void comm_alltoall_rows(Comm *comm, CommUse use, const real *send, const int *send_rows, real *recv,
                        const int *recv_rows, int width);
// Point to point: rows to rank `to`, rows from rank `from`; -1: nobody. Messages of one use arrive
// in order.
void comm_shift(Comm *comm, CommUse use, const real *send, int send_rows, int to, real *recv,
                int recv_rows, int from, int width);
void comm_poll(Comm *comm);
void comm_finish(Comm *comm);
// Everyone's values at every rank: (size, count). Blocking.
void comm_gather_doubles(Comm *comm, CommUse use, const double *mine, double *all, int count);
// x <- sum over ranks, in rank order: the same bits at every rank and in every run. Blocking. Each
// rank sends 2 (size-1)/size of count. scratch: comm_sum_scratch(comm, count) reals.
void comm_sum_reals(Comm *comm, CommUse use, real *x, size_t count, real *scratch);
size_t comm_sum_scratch(int size, size_t count);
