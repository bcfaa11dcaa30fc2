// Open MPI moves data only inside its calls. While exchanges are under way, the tape, products and
// kernels call here between pieces of work.
#include <string.h>

#include "parallel/internal.h"
#include "tensor/progress.h"

// Axes of the mesh (an exchange is started and finished by one op), and reducers of the models that
// are trained together.
enum { WATCHED_MOST = 16 };
typedef struct Watched {
    Comm *comm;  // one of the two
    Reducer *reducer;
} Watched;
static Watched watched[WATCHED_MOST];
static int watched_count;

static void poll_all(void) {
    for (int i = 0; i < watched_count; i++) {
        if (watched[i].comm != NULL) comm_poll(watched[i].comm);
        if (watched[i].reducer != NULL) reducer_progress(watched[i].reducer);
    }
}

static void watch(Watched what, bool on) {
    int at = 0;
    while (at < watched_count && memcmp(&watched[at], &what, sizeof what) != 0) at++;
    if (on && at == watched_count) {
        ASSERT(watched_count < WATCHED_MOST);
        watched[watched_count++] = what;
    } else if (!on && at < watched_count) {
        watched_count--;
        for (; at < watched_count; at++) watched[at] = watched[at + 1];  // the order stays
    }
    progress_set(watched_count > 0 ? poll_all : NULL);
}

void progress__exchange(Comm *comm, bool on) {
    watch((Watched){.comm = comm}, on);
}

void progress__reducer(Reducer *r, bool on) {
    watch((Watched){.reducer = r}, on);
}
