// Open MPI moves data only inside its calls. While exchanges are under way, the tape, products and
// kernels call here between pieces of work.
#include "parallel/internal.h"
#include "tensor/progress.h"

enum { MAX_COMMS = 4 };  // sp, tp and their like: an exchange is started and finished by one op
static Comm *comms[MAX_COMMS];
static int comm_count;
static Reducer *reducer;

static void poll_all(void) {
    for (int i = 0; i < comm_count; i++) comm_poll(comms[i]);
    if (reducer != NULL) reducer_progress(reducer);
}

static void hook_update(void) {
    progress_set(comm_count > 0 || reducer != NULL ? poll_all : NULL);
}

void progress__exchange(Comm *comm, bool on) {
    int at = 0;
    while (at < comm_count && comms[at] != comm) at++;
    if (on && at == comm_count) {
        ASSERT(comm_count < MAX_COMMS);
        comms[comm_count++] = comm;
    } else if (!on && at < comm_count) {
        comms[at] = comms[--comm_count];
    }
    hook_update();
}

void progress__reducer(Reducer *r) {
    reducer = r;
    hook_update();
}
