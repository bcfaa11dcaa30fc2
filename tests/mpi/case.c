// The program behind every MPI test: finds the named case in the tables and runs it on all ranks. A
// Criterion test cannot do this: each runs in a process of its own, and a check that fails on one
// rank leaves the others waiting.
#include "tests/mpi/case.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "parallel/mesh.h"
#include "parallel/world.h"
#include "tensor/start.h"

// A table that is not linked is NULL.
static const MpiCase *const TABLES[] = {
    CASES_PARALLEL, CASES_DATA,    CASES_CHECKPOINT, CASES_CLASSES, CASES_BLOCKS,
    CASES_DIVERGED, CASES_LAYOUTS, CASES_COSTS,      CASES_WINDOWS, CASES_LAUNCH};
enum { TABLE_COUNT = sizeof TABLES / sizeof *TABLES };

// Known only to case_fail: a check must name its rank, and its callers are too deep to pass it.
static int my_rank;

_Noreturn void case_fail(const char *file, int line, const char *what) {
    fprintf(stderr, "[rank %d] %s:%d: check failed: %s\n", my_rank, file, line, what);
    if (err_message()[0] != '\0') fprintf(stderr, "  last error: %s\n", err_message());
    fflush(stderr);
    parallel_abort(1);
}

static const MpiCase *case_find(const char *name) {
    for (int t = 0; t < TABLE_COUNT; t++) {
        for (const MpiCase *c = TABLES[t]; c != NULL && c->name != NULL; c++) {
            if (strcmp(c->name, name) == 0) return c;
        }
    }
    return NULL;
}

static void cases_print(void) {
    for (int t = 0; t < TABLE_COUNT; t++) {
        for (const MpiCase *c = TABLES[t]; c != NULL && c->name != NULL; c++) puts(c->name);
    }
}

static Status case_run(const MpiCase *c) {
    Mesh mesh;
    TRY(mesh_open(&mesh, &(ParallelConfig){.zero = true}));
    my_rank = mesh.rank;
    c->run(&mesh);
    comm_barrier(mesh.world);  // passed means: passed everywhere
    if (mesh.rank == 0) printf("1 passed: %s on %d ranks\n", c->name, mesh.size);
    mesh_close(&mesh);
    return OK;
}

int main(int argc, char **argv) {
    libraries_prepare(argv);
    const MpiCase *c = argc == 2 ? case_find(argv[1]) : NULL;
    if (c == NULL) {
        fprintf(stderr, "usage: mpi_case NAME, where NAME is one of\n");
        cases_print();
        return status_exit_code(E_USAGE);
    }
    Status st = parallel_begin(&argc, &argv);
    if (st == OK) st = case_run(c);
    if (st != OK) log_error(st);
    parallel_end();
    return status_exit_code(st);
}
