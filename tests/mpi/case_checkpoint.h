// A checkpoint directory of three files for the cases of case_checkpoint.c and case_blocks.c.
#pragma once

#include "checkpoints/checkpoint.h"
#include "parallel/mesh.h"
#include "tests/mpi/case.h"

enum { TENSORS = 4, PARTS = 3, ELEMENTS = 15 + 7 + 8 + 1, SLICES = 64 };
extern const char *const FILES[PARTS];

// What one rank holds of one file: ranges of the tensors laid end to end, cut at tensor borders.
typedef struct Holding {
    Slice slices[SLICES];
    int count;
    real data[ELEMENTS];
} Holding;

typedef struct Fixture {
    const Mesh *mesh;
    char dir[PATH_BYTES], ckpt[PATH_BYTES];
    Holding held[PARTS];
    CkptPart parts[PARTS];
} Fixture;

real fixture_value(int64_t step, int part, size_t i);  // of element i, all tensors laid end to end
void fixture_open(Fixture *f, const Mesh *mesh);       // Collective
void fixture_close(Fixture *f);                        // Collective
// Collective(mesh). By f->parts, which may be replaced; only `held` is filled.
Status fixture_save(Fixture *f, const Mesh *mesh, int64_t step, int keep);
void fixture_load(Fixture *f, const Mesh *mesh, int64_t step, int saved_by);
void fixture_save_fails(Fixture *f, Status want);  // of step 2, everywhere and without a trace
void slices_mark(bool *wanted, const SliceTable *table, const real *data);
void step_file(char out[PATH_BYTES], const Fixture *f, int64_t step, const char *name);
Mesh mesh_alone(const Mesh *mesh);
void file_flip(const char *path, long at);  // one bit; at < 0: from the end
