// A tiny model of all mixers on any mesh, with rows made from arithmetic: what the cases of layouts
// share.
#pragma once

#include "parallel/mesh.h"
#include "tests/mpi/case.h"
#include "train/run.h"

enum { ROWS = 5, T = 193, V = 257, MICRO_ROWS = 2, MAX_SP = 4 };

// This rank's chunk of some rows of T tokens. Documents start on and off the borders of even
// chunks.
typedef struct Rows {
    int bound[MAX_SP + 1], rank, sp, vocab;
    int32_t tokens[ROWS * T], targets[ROWS * T];
    int64_t pos[ROWS * T];
    int first[ROWS * T], doc[ROWS * 8], doc_row[ROWS + 1];
    uint8_t start[ROWS * T];
} Rows;

typedef struct Setup {
    bool tied, uneven, recompute, llama;
    bool no_memory;       // the pattern leaves out mixers with a neural memory
    int kv_heads, vocab;  // 0: as many as heads; V
    int steps;
} Setup;

// Opens model, optimiser, reducer and tape on the mesh, with `rows` as the source of batches.
// Collective(world).
void run_on(Run *run, Rows *rows, const Mesh *mesh, const Setup *s);
void run_end(Run *run);

typedef void (*GridFn)(Mesh *grid, void *user);
// Calls fn on every grid dp x sp x tp of this many ranks with extents up to 4. Collective(world).
void each_grid(const Mesh *world, GridFn fn, void *user);
