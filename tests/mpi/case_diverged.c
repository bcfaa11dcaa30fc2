// Checkpoints whose numbers are not finite, are of another type than ours, or stand under another
// step's name: what is saved, found, verified and loaded. Forged as an earlier version, another
// build or a user could have made them, with every checksum right.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/internal.h"
#include "parallel/mesh.h"
#include "tests/mpi/case_checkpoint.h"

static void says(const char *text) {
    if (strstr(err_message(), text) == NULL) fprintf(stderr, "'%s': %s\n", text, err_message());
    CHECK(strstr(err_message(), text) != NULL && err_hint()[0] != '\0');
}

// Only the last rank holds the bad number; all ranks hear of it, and nothing is written.
static void case_save(const Mesh *mesh) {
    const real bad[] = {(real)NAN, (real)-INFINITY, (real)INFINITY};
    Fixture f;
    fixture_open(&f, mesh);
    CHECK(fixture_save(&f, mesh, 1, 1) == OK);
    Slice *last = &f.held[1].slices[f.held[1].count - 1];
    for (int i = 0; i < 3; i++) {
        real own[ELEMENTS];
        for (size_t e = 0; e < ELEMENTS; e++) own[e] = (real)e;
        real *kept = last->data;
        if (mesh->rank == mesh->size - 1) {
            own[slice_elements(last) - 1] = bad[i];
            last->data = own;  // fixture_save fills the other array
        }
        fixture_save_fails(&f, E_DIVERGED);
        says("m.safetensors: tensor 'one', element [0] is not finite");
        says(i == 0 ? "(nan)" : i == 1 ? "(-inf)" : "(inf)");
        last->data = kept;
    }
    int64_t step = 0;
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == OK && step == 1);
    fixture_load(&f, mesh, 1, mesh->size);
    fixture_close(&f);
}

// Rank 0: a file of the step again, in type d, its first element `value`; the manifest follows.
static void forge(const Fixture *f, int64_t step, int part, Dtype d, double value) {
    enum { ROOM = 4096 };
    char dir[PATH_BYTES], path[PATH_BYTES], bytes[ROOM];
    Manifest m;
    FileTable files;
    StWriter w;
    StTensor tensors[TENSORS];
    step_file(dir, f, step, "");
    path_join(path, dir, FILES[part]);
    CHECK(manifest__read(dir, &m, &files) == OK);
    for (int t = 0; t < TENSORS; t++) {
        tensors[t] = slice__tensor(&f->parts[part].layout[t]);
        tensors[t].dtype = d;
    }
    FileRecord *r = &files.files[part];
    CHECK(unlink(path) == 0 && stwriter__open(&w, path, tensors, TENSORS) == OK);
    for (int t = 0; t < TENSORS; t++) {
        size_t count = (size_t)(tensors[t].bytes / dtype_bytes(d));
        for (size_t i = 0; i < count; i++) {
            double v = t == 0 && i == 0 ? value : 0.1 * (double)i;
            float single = (float)v;
            memcpy(bytes + i * dtype_bytes(d), d == DTYPE_F64 ? (void *)&v : (void *)&single,
                   dtype_bytes(d));
        }
        r->tensor_hash[t] = hash64(bytes, (size_t)tensors[t].bytes);
        CHECK(stwriter__data(&w, bytes, (size_t)tensors[t].bytes) == OK);
    }
    r->bytes = w.file_bytes, r->header_hash = w.header_hash;
    CHECK(stwriter__sync(&w) == OK && manifest__write(dir, &m, &files, f->parts) == OK);
    manifest_free(&m);
    filetable__free(&files);
}

static Status verify(const Fixture *f, int64_t step, const char *suffix) {
    char dir[PATH_BYTES];
    step_file(dir, f, step, suffix);
    return checkpoint_verify(dir);
}

static void case_found(const Mesh *mesh) {
    Fixture f;
    int64_t step;
    fixture_open(&f, mesh);
    for (step = 1; step <= 3; step++) CHECK(fixture_save(&f, mesh, step, 0) == OK);
    if (mesh->rank == 0) {
        forge(&f, 2, 2, DTYPE_REAL, INFINITY);
        forge(&f, 3, 0, DTYPE_REAL, NAN);
        CHECK(verify(&f, 1, "") == OK && verify(&f, 2, "") == E_DIVERGED);
        says("step_00000002/v.safetensors: tensor 'matrix', element [0, 0] is not finite (inf)");
        CHECK(verify(&f, 3, "") == E_DIVERGED);
        says("model.safetensors: tensor 'matrix', element [0, 0] is not finite (nan)");
    }
    comm_barrier(mesh->world);
    Manifest m;
    CHECK(checkpoint_load(mesh, f.ckpt, 3, f.parts, PARTS, &m) == E_DIVERGED);
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == OK && step == 1);
    fixture_load(&f, mesh, 1, mesh->size);
    comm_barrier(mesh->world);

    if (mesh->rank == 0) forge(&f, 1, 1, DTYPE_REAL, -INFINITY);
    comm_barrier(mesh->world);
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == E_DIVERGED && step == -1);
    says("checkpoints hold values that are not finite");
    fixture_close(&f);
}

// Floats become doubles, bit for bit; doubles do not become floats, and such a checkpoint is not
// called damaged.
static void case_other_type(const Mesh *mesh) {
    Fixture f;
    Manifest m;
    int64_t step;
    bool wide = sizeof(real) == 8;
    fixture_open(&f, mesh);
    CHECK(fixture_save(&f, mesh, 1, 0) == OK && fixture_save(&f, mesh, 2, 0) == OK);
    if (mesh->rank == 0) {
        for (int p = 0; p < PARTS; p++) forge(&f, 2, p, wide ? DTYPE_F32 : DTYPE_F64, 0.1);
        CHECK(verify(&f, 2, "") == OK);
    }
    comm_barrier(mesh->world);
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == OK && step == 2);
    Status st = checkpoint_load(mesh, f.ckpt, 2, f.parts, PARTS, &m);
    CHECK(st == (wide ? OK : E_USAGE));
    if (!wide) says("tensor 'matrix' is stored as F64, this build of sterna computes in F32");
    if (wide && mesh->rank == 0) CHECK(f.held[0].data[0] == (real)0.1f);
    if (wide) manifest_free(&m);
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == OK && step == 2);  // it stays where it is
    fixture_close(&f);
}

// A directory under another step's name is none of that step's, nor is it damaged: somebody else
// moves it.
static void case_other_name(const Mesh *mesh) {
    Fixture f;
    int64_t step;
    Manifest m;
    fixture_open(&f, mesh);
    CHECK(fixture_save(&f, mesh, 4, 0) == OK && fixture_save(&f, mesh, 5, 0) == OK);
    char from[PATH_BYTES], to[PATH_BYTES];
    step_file(from, &f, 5, "");
    step_file(to, &f, 50, "");
    if (mesh->rank == 0) {
        CHECK(rename(from, to) == 0);
        CHECK(verify(&f, 50, "") == E_USAGE);
        says("this is step 5, the directory is step 50's");
        CHECK(checkpoint_manifest(to, &m) == E_USAGE);
    }
    comm_barrier(mesh->world);
    CHECK(checkpoint_load(mesh, f.ckpt, 50, f.parts, PARTS, &m) == E_USAGE);
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == E_USAGE);
    comm_barrier(mesh->world);
    if (mesh->rank == 0) CHECK(path_is_dir(to) && rename(to, from) == 0);
    comm_barrier(mesh->world);
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == OK && step == 5);
    if (mesh->rank == 0) {  // any other name says nothing
        path_join(to, f.dir, "best");
        step_file(from, &f, 4, "");
        CHECK(rename(from, to) == 0 && checkpoint_verify(to) == OK);
    }
    fixture_close(&f);
}

const MpiCase CASES_DIVERGED[] = {
    {"checkpoint_not_finite_save", case_save},
    {"checkpoint_not_finite_found", case_found},
    {"checkpoint_other_type", case_other_type},
    {"checkpoint_other_name", case_other_name},
    {NULL, NULL},
};
