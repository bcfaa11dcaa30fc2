// Checkpoints that are not damaged, but cannot be used: on a disk that fails or is not seen by all
// ranks, or by a newer version. Nothing is passed over then, nothing renamed.
#define _GNU_SOURCE  // memmem
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "parallel/mesh.h"
#include "tests/mpi/case_checkpoint.h"

// All ranks fail alike, and both steps stay under their names.
static void expect_stop(const Fixture *f, const char *ckpt, Status want, const char *word) {
    int64_t step;
    char path[PATH_BYTES];
    Status st = checkpoint_find(f->mesh, ckpt, &step);
    if (st != want || strstr(err_message(), word) == NULL)
        fprintf(stderr, "%s: %s\n", status_name(st), err_message());
    CHECK(st == want && strstr(err_message(), word) != NULL && err_hint()[0] != '\0');
    for (int64_t s = 1; s <= 2; s++) {
        step_file(path, f, s, "");
        CHECK(path_is_dir(path));
    }
    comm_barrier(f->mesh->world);
}

static void case_unreadable(const Mesh *mesh) {
    static const char *const names[] = {"manifest.msgpack", "model.safetensors", "v.safetensors"};
    Fixture f;
    int64_t step;
    fixture_open(&f, mesh);
    for (int64_t s = 1; s <= 2; s++) CHECK(fixture_save(&f, mesh, s, 0) == OK);
    for (int i = 0; i < 3; i++) {
        char path[PATH_BYTES], kept[PATH_BYTES];
        step_file(path, &f, 2, names[i]);
        path_join(kept, f.dir, "kept");
        if (mesh->rank == 0) CHECK(rename(path, kept) == 0 && symlink(names[i], path) == 0);
        comm_barrier(mesh->world);
        expect_stop(&f, f.ckpt, E_IO, names[i]);
        if (mesh->rank == 0) CHECK(rename(kept, path) == 0);
        comm_barrier(mesh->world);
    }
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == OK && step == 2);

    // Only the last rank looks at another place, where the files are not, or are others.
    char other[PATH_BYTES], word[PATH_BYTES];
    bool last = mesh->rank == mesh->size - 1;
    snprintf(word, sizeof word, "rank %d: ", mesh->size - 1);
    path_join(other, f.dir, "other");
    if (mesh->size > 1) expect_stop(&f, last ? other : f.ckpt, E_IO, word);
    fixture_close(&f);
}

// As a later version would write it: version 3, and a checksum that holds.
static void make_newer(const char *path) {
    char *data;
    size_t bytes;
    CHECK(file_read(path, &data, &bytes) == OK);
    char *sum = memmem(data, bytes, "xxh3_64", 7), *body = memmem(data, bytes, "manifest", 8);
    CHECK(sum != NULL && (unsigned char)sum[7] == 0xcf && body != NULL);
    body += 8;
    unsigned char kind = (unsigned char)*body;  // bin 8, 16, 32
    body += 1 + (1 << (kind - 0xc4));
    char *version = memmem(data, bytes, "version", 7);
    CHECK(version != NULL && version[7] == 1);
    version[7] = 3;
    uint64_t hash = hash64(body, bytes - (size_t)(body - data));
    for (int i = 0; i < 8; i++) sum[8 + i] = (char)(hash >> (56 - 8 * i));
    CHECK(file_write(path, data, bytes) == OK);
    free(data);
}

static void case_newer(const Mesh *mesh) {
    Fixture f;
    Manifest m;
    char path[PATH_BYTES];
    fixture_open(&f, mesh);
    for (int64_t s = 1; s <= 2; s++) CHECK(fixture_save(&f, mesh, s, 0) == OK);
    step_file(path, &f, 2, "manifest.msgpack");
    if (mesh->rank == 0) make_newer(path);
    comm_barrier(mesh->world);
    expect_stop(&f, f.ckpt, E_NEWER, "format version 3");
    CHECK(strstr(err_hint(), "version of sterna") != NULL);
    CHECK(checkpoint_load(mesh, f.ckpt, 2, f.parts, PARTS, &m) == E_NEWER);
    fixture_close(&f);
}

// Where nothing can be written, that is said before the first step.
static void case_prepared(const Mesh *mesh) {
    Fixture f;
    char file[PATH_BYTES], below[PATH_BYTES];
    fixture_open(&f, mesh);
    CHECK(checkpoint_prepare(mesh, f.ckpt) == OK && path_is_dir(f.ckpt));
    comm_barrier(mesh->world);
    int64_t step = 99;
    CHECK(checkpoint_newest(f.ckpt, &step) == OK && step == -1);
    path_join(file, f.dir, "file");
    path_join(below, file, "ckpt");
    if (mesh->rank == 0) CHECK(file_write(file, "x", 1) == OK);
    comm_barrier(mesh->world);
    CHECK(checkpoint_prepare(mesh, file) == E_IO && checkpoint_prepare(mesh, below) == E_IO);
    if (mesh->rank == 0) CHECK(unlink(file) == 0 && symlink("/nonexistent/disk", file) == 0);
    comm_barrier(mesh->world);
    CHECK(checkpoint_prepare(mesh, file) == E_IO && strstr(err_message(), "is a link") != NULL);
    CHECK(checkpoint_find(mesh, file, &step) == E_IO);
    CHECK(checkpoint_newest(file, &step) == E_IO);
    fixture_close(&f);
}

const MpiCase CASES_CLASSES[] = {
    {"checkpoint_unreadable", case_unreadable},
    {"checkpoint_newer", case_newer},
    {"checkpoint_prepared", case_prepared},
    {NULL, NULL},
};
