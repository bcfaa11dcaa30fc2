// Are all ranks doing the same thing? One reduction answers, all ranks learn it, and one explains.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
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
    comm__enter(comm, what, 0);
    double since = clock_s();
    if (!same_everywhere(comm, hash)) panic_on_first(comm, hash, what);
    comm__book(COMM_CONTROL, 2.0 * sizeof hash * (comm->size - 1), since, since);
}

#ifdef __SANITIZE_ADDRESS__

enum { CALL_BYTES = 64 };

// What a rank says when it enters a collective.
typedef struct Entry {
    char call[CALL_BYTES], axis[16];
    uint64_t same, number;  // `same` and the running number within the communicator must agree
    int inside;             // 1 while it waits for the others
} Entry;

// Where the ranks of a node write their last call: memory of all, so that a rank that is stuck
// elsewhere can be asked.
static Entry *board, *board_mine;
static int board_size;
static MPI_Comm board_comm = MPI_COMM_NULL;
static MPI_Win board_window;
static double patience_s = 120;

void check__set_patience(double seconds) {
    patience_s = seconds;
}

void check__begin(void) {
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &board_comm);
    int rank, unit;
    MPI_Aint bytes;
    MPI_Comm_rank(board_comm, &rank);
    MPI_Comm_size(board_comm, &board_size);
    MPI_Win_allocate_shared(sizeof *board, sizeof *board, MPI_INFO_NULL, board_comm, &board_mine,
                            &board_window);
    memset(board_mine, 0, sizeof *board_mine);
    MPI_Win_shared_query(board_window, 0, &bytes, &unit, &board);
    MPI_Barrier(board_comm);
}

void check__end(void) {
    if (board == NULL) return;  // refused before
    MPI_Win_free(&board_window);
    MPI_Comm_free(&board_comm);
    board = board_mine = NULL;
}

static void entry_print(char *dst, size_t capacity, int rank, const Entry *e) {
    snprintf(dst, capacity, "\n  rank %d %s %s(%" PRIu64 "), number %" PRIu64 " of axis %s", rank,
             e->inside ? "waits in" : "was last in", e->call[0] == '\0' ? "nothing" : e->call,
             e->same, e->number, e->axis);
}

// The text of every rank's entry behind `text`. Ranks are those of the node, or of a communicator.
static _Noreturn void panic_with(const char *what, const Entry *entries, int count) {
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", what);
    for (int r = 0; r < count && n + 256 < sizeof text; r++) {
        entry_print(text + n, sizeof text - n, r, &entries[r]);
        n += strlen(text + n);
    }
    panic(__FILE__, __LINE__, text);
}

// All ranks' entries, or a panic when somebody does not come.
static void entries_gather(Comm *comm, const Entry *mine, Entry *all) {
    MPI_Request request;
    int done = 0;
    MPI_Iallgather(mine, sizeof *mine, MPI_BYTE, all, sizeof *mine, MPI_BYTE, comm->handle,
                   &request);
    double since = clock_s();
    while (!done) {
        MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        if (!done && clock_s() - since > patience_s) {
            panic_with("a collective call that not all ranks make; of this node:", board,
                       board_size);
        }
    }
}

static bool entries_agree(const Entry *all, int count) {
    for (int r = 1; r < count; r++) {
        if (strcmp(all[r].call, all[0].call) != 0 || all[r].same != all[0].same ||
            all[r].number != all[0].number)
            return false;
    }
    return true;
}

void comm__enter(Comm *comm, const char *call, uint64_t same) {
    if (board == NULL || comm->size == 1) return;
    Entry mine = {.same = same, .number = ++comm->sequence, .inside = 1};
    snprintf(mine.call, sizeof mine.call, "%s", call);
    snprintf(mine.axis, sizeof mine.axis, "%s", comm->axis);
    *board_mine = mine;
    Entry *all = malloc((size_t)comm->size * sizeof *all);
    ASSERT(all != NULL);
    entries_gather(comm, &mine, all);
    if (!entries_agree(all, comm->size)) {
        if (comm->rank > 0) MPI_Barrier(comm->handle);  // one message; rank 0 takes all down
        panic_with("ranks differ in a collective call:", all, comm->size);
    }
    board_mine->inside = 0;
    free(all);
}
#endif
