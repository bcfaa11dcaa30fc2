// MPI cases: plain functions run by `mpirun -n K mpi_case NAME`. A failed CHECK takes every rank
// down.
#pragma once

#include "parallel/mesh.h"

_Noreturn void case_fail(const char *file, int line, const char *what);
#define CHECK(cond) ((cond) ? (void)0 : case_fail(__FILE__, __LINE__, #cond))

typedef struct MpiCase {
    const char *name;
    void (*run)(const Mesh *mesh);
} MpiCase;
// Each file of tests/mpi defines one table, ended by a row without a name and listed in case.c.
// Weak, so that the program links while a table is not there.
#define CASE_TABLE __attribute__((weak))
extern const MpiCase CASES_PARALLEL[] CASE_TABLE, CASES_DATA[] CASE_TABLE,
    CASES_CHECKPOINT[] CASE_TABLE, CASES_BLOCKS[] CASE_TABLE, CASES_DIVERGED[] CASE_TABLE,
    CASES_LAYOUTS[] CASE_TABLE, CASES_COSTS[] CASE_TABLE, CASES_WINDOWS[] CASE_TABLE,
    CASES_LAUNCH[] CASE_TABLE, CASES_CLASSES[] CASE_TABLE;
