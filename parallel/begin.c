// The life of MPI in this process: start, end, and taking all ranks down.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/build.h"
#include "base/cores.h"
#include "base/log.h"
#include "parallel/internal.h"
#include "tensor/threads.h"

bool parallel_is_on(void) {
    int begun = 0, ended = 0;
    MPI_Initialized(&begun);
    if (begun) MPI_Finalized(&ended);
    return begun && !ended;
}

// Open MPI's waits spin unless it knows that ranks outnumber cores, and it does not know when slots
// were declared (--host h:8, a hostfile, Slurm) or when ranks have threads: then every message
// takes a scheduler's time slice. The launcher's variables are the only way to know before MPI
// starts; what the user has set stays.
static void yield_when_crowded(void) {
    long threads = launch__number("OMP_NUM_THREADS");
    long ranks = launch__number("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (ranks <= 0) ranks = launch__number("SLURM_NTASKS_PER_NODE");
    if (threads <= 0) threads = 1;  // at least: what they then have fits
    if (ranks * threads > cores_of_launch()) setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
}

// Those that share memory share the cores. Collective(world).
static void share_cores(void) {
    MPI_Comm node;
    Cores mine;
    int rank, size;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, &size);
    Cores *all = calloc((size_t)size, sizeof *all);
    ASSERT(all != NULL);
    cores_read(&mine);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, node);
    threads_choose(all, size, rank);
    free(all);
    MPI_Comm_free(&node);
    if (rank == 0 && threads_complaint() != NULL) log_warn("%s", threads_complaint());
}

Status parallel_begin(int *argc, char ***argv) {
    ASSERT(!parallel_is_on());
    int provided = MPI_THREAD_SINGLE, rank = 0, size = 1;
    yield_when_crowded();
    TRY(launch__check_alone(launch__has_manager()));
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    panic_hook = parallel_abort;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    log_set_rank(rank, size);
    TRY(launch__check_alone(size > 1));
    TRY(launch__check_same(build_text(), (*argv)[0]));
    if (provided < MPI_THREAD_FUNNELED) {
        FAIL(E_LAUNCH, "install an MPI library built with thread support",
             "MPI offers thread level %d, but %d (funneled) is needed", provided,
             MPI_THREAD_FUNNELED);
    }
    check__begin();
    share_cores();
    return OK;
}

void parallel_end(void) {
    if (!parallel_is_on()) return;
    fflush(stdout);
    check__end();
    MPI_Finalize();
    panic_hook = _Exit;
}

_Noreturn void parallel_abort(int exit_code) {
    if (parallel_is_on()) MPI_Abort(MPI_COMM_WORLD, exit_code);
    _Exit(exit_code);
}
