// Agreement on failures: a rank that fails alone must not leave the others waiting in the next
// collective.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "parallel/internal.h"

enum { MESSAGE_BYTES = 2048, HINT_BYTES = 512 };

typedef struct Report {
    int rank;  // in the world, whatever the ranks that agree
    char message[MESSAGE_BYTES], hint[HINT_BYTES];
} Report;

// A message that some ranks have agreed on before names the culprit already.
static bool names_rank(const char *message) {
    int end = 0;
    return sscanf(message, "rank %*d: %n", &end) == 0 && end > 0;
}

// The culprit's words, on every rank. Its rank is named when others did well.
static void spread_error(Status st, int culprit, bool alone, Comm *comm) {
    Report report = {.rank = parallel_world_rank()};
    if (comm->rank == culprit) {
        const char *message = err_message();
        snprintf(report.message, sizeof report.message, "%s",
                 message[0] != '\0' ? message : status_text(st));
        snprintf(report.hint, sizeof report.hint, "%s", err_hint());
    }
    MPI_Bcast(&report, (int)sizeof report, MPI_BYTE, culprit, comm->handle);
    err_set(st, report.hint, "%s", report.message);
    if (alone && !names_rank(report.message)) err_context(st, "rank %d", report.rank);
}

Status agree(Status mine, Comm *comm) {
    comm__enter(comm, "agree", 0);
    struct {
        int status, rank;
    } worst = {(int)mine, comm->rank};
    double since = clock_s();
    MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_2INT, MPI_MAXLOC, comm->handle);
    comm__book(COMM_CONTROL, (double)sizeof worst * (comm->size - 1), since, since);
    if (worst.status == OK) return OK;

    int failed = mine != OK;
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_SUM, comm->handle);
    spread_error((Status)worst.status, worst.rank, failed < comm->size, comm);
    return (Status)worst.status;
}

// What differs from the first rank's lines, its value first.
static Status compare_lines(Status differs, const char *hint, const char *first, const char *mine) {
    char changes[MESSAGE_BYTES - 256];
    if (config_diff(first, mine, changes, sizeof changes) == 0) return OK;
    FAIL(differs, hint, "not the same as on the first rank (its value -> this one's): %s", changes);
}

Status agree_same(Status differs, const char *hint, const char *lines, Comm *comm) {
    size_t bytes = strlen(lines) + 1;
    comm_bcast(comm, &bytes, sizeof bytes, 0);
    char *first = malloc(bytes);
    ASSERT(first != NULL);  // kilobytes
    if (comm->rank == 0) memcpy(first, lines, bytes);
    comm_bcast(comm, first, bytes, 0);
    Status st = agree(compare_lines(differs, hint, first, lines), comm);
    free(first);
    return st;
}
