// MPI cases: plain functions run by `mpirun -n K mpi_case NAME`. A failed CHECK takes every rank down.
#pragma once

#include "parallel/parallel.h"

void case_fail(const char *file, int line, const char *what);
#define CHECK(cond) ((cond) ? (void)0 : case_fail(__FILE__, __LINE__, #cond))

typedef struct MpiCase {
    const char *name;
    void (*run)(const Mesh *mesh);
} MpiCase;
// Each file of tests/mpi defines one table, listed in case.c.
extern const MpiCase CASES_PARALLEL[], CASES_DATA[], CASES_CHECKPOINT[], CASES_TRAIN[];
