// What started this process, and whether the others it started run the same program.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/build.h"
#include "parallel/internal.h"

long launch__number(const char *variable) {
    const char *text = getenv(variable);
    return text == NULL ? 0 : strtol(text, NULL, 10);
}

// ---- alone or together -----------------------------------------------------------------------

typedef struct Launcher {
    const char *size;  // variable with the number of processes it started
    const char *name;
} Launcher;

// Open MPI's own comes first: inside of a Slurm step, `mpirun -n 1` means one. A batch script has
// SLURM_NTASKS, but is no task of a step.
static const Launcher LAUNCHERS[] = {
    {"OMPI_COMM_WORLD_SIZE", "mpirun"},  {"SLURM_STEP_NUM_TASKS", "Slurm"},
    {"PMI_SIZE", "a launcher with PMI"}, {"MPI_LOCALNRANKS", "another MPI's mpirun"},
    {"MV2_COMM_WORLD_SIZE", "MVAPICH"},  {"FLUX_JOB_SIZE", "Flux"},
    {"JSM_NAMESPACE_SIZE", "jsrun"},
};
enum { LAUNCHER_COUNT = sizeof LAUNCHERS / sizeof LAUNCHERS[0] };

// The launcher that says it started more than this process; NULL when none does.
static const Launcher *launcher_of_many(void) {
    if (getenv(LAUNCHERS[0].size) != NULL) {
        return launch__number(LAUNCHERS[0].size) > 1 ? &LAUNCHERS[0] : NULL;
    }
    for (int i = 1; i < LAUNCHER_COUNT; i++) {
        if (launch__number(LAUNCHERS[i].size) > 1) return &LAUNCHERS[i];
    }
    return NULL;
}

bool parallel_is_launched(void) {
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || launcher_of_many() != NULL;
}

bool launch__has_manager(void) {
    static const char *const VARIABLES[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_NAMESPACE", "PMIX_RANK",
                                            "PMI_RANK", "PMI_FD"};
    for (size_t i = 0; i < sizeof VARIABLES / sizeof VARIABLES[0]; i++) {
        if (getenv(VARIABLES[i]) != NULL) return true;
    }
    return false;
}

// The shell of `srun --pty` is one, whatever the number of tasks.
Status parallel_check_single(const char *what) {
    const Launcher *l = launcher_of_many();
    if (l == NULL || !launch__has_manager() || getenv("SLURM_PTY_PORT") != NULL) return OK;
    FAIL(E_LAUNCH, "start it without mpirun, or with one task",
         "`%s` works in one process, but %s started %ld", what, l->name, launch__number(l->size));
}

// srun without PMIx, or the mpirun of another MPI, starts programs that do not know of each other:
// N copies of the run in one directory.
Status launch__check_alone(bool connected) {
    const Launcher *l = launcher_of_many();
    if (connected || l == NULL) return OK;
    FAIL(E_LAUNCH, "use `srun --mpi=pmix`, or the `mpirun` of the MPI that sterna was built with",
         "%s started %ld tasks, but each is alone: they cannot reach each other", l->name,
         launch__number(l->size));
}

// ---- the same program ------------------------------------------------------------------------

// Characters of a fixed number: what every build sends and understands, whatever its types and byte
// order are.
typedef struct Card {
    char build[160], command[96];
} Card;

// The first rank whose text at `offset` of the card is not rank 0's, and how many there are.
static int first_other(const Card *all, int size, size_t offset, int *count) {
    int first = 0;
    *count = 0;
    for (int r = size - 1; r > 0; r--) {
        if (strcmp((const char *)&all[r] + offset, (const char *)&all[0] + offset) == 0) continue;
        first = r;
        ++*count;
    }
    return first;
}

static Status compare_cards(const Card *all, int size) {
    int count, other = first_other(all, size, offsetof(Card, build), &count);
    char more[32] = "";
    if (count > 1) snprintf(more, sizeof more, " (and %d more)", count - 1);
    if (count > 0) {
        FAIL(E_LAUNCH, "start the same program on all ranks, built from the same sources",
             "rank %d%s runs another build than rank 0: %s; rank 0: %s", other, more,
             all[other].build, all[0].build);
    }
    other = first_other(all, size, offsetof(Card, command), &count);
    if (count == 0) return OK;
    if (count > 1) snprintf(more, sizeof more, " (and %d more)", count - 1);
    FAIL(E_USAGE, "give all ranks the same command",
         "rank %d%s was started with `%s`, rank 0 with `%s`", other, more, all[other].command,
         all[0].command);
}

Status launch__check_same(const char *build, const char *command) {
    int size;
    Card mine = {.build = ""};
    snprintf(mine.build, sizeof mine.build, "%s", build);
    snprintf(mine.command, sizeof mine.command, "%s", command);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    Card *all = malloc((size_t)size * sizeof *all);
    ASSERT(all != NULL);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, MPI_COMM_WORLD);
    Status st = compare_cards(all, size);
    free(all);
    return st;
}
