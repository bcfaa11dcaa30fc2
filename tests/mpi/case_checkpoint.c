// Checkpoints on 1, 2 and 3 ranks: exact round trips across rank counts, damage, and failures that
// must reach all ranks.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "parallel/mesh.h"
#include "tests/mpi/case_checkpoint.h"
#include "tests/ref/tree.h"

static const Slice LAYOUT[TENSORS] = {
    {.tensor = "matrix", .ndim = 2, .dim = {3, 5}},
    {.tensor = "vector", .ndim = 1, .dim = {7}},
    {.tensor = "cube", .ndim = 3, .dim = {2, 1, 4}},
    {.tensor = "one", .ndim = 1, .dim = {1}},
};
static const size_t SIZES[TENSORS] = {15, 7, 8, 1};
const char *const FILES[PARTS] = {"model.safetensors", "m.safetensors", "v.safetensors"};

real fixture_value(int64_t step, int part, size_t i) {
    return (real)(1000 * step + 100 * part) + (real)i / 3;
}

static void hold(Holding *h, size_t begin, size_t end) {
    size_t first = 0;
    for (int t = 0; t < TENSORS; first += SIZES[t], t++) {
        size_t from = begin > first ? begin : first;
        size_t to = end < first + SIZES[t] ? end : first + SIZES[t];
        if (from >= to) continue;
        CHECK(h->count < SLICES);
        h->slices[h->count++] = slice_range(&LAYOUT[t], from - first, to - from, h->data + from);
    }
}

static void make_parts(Fixture *f) {
    for (int p = 0; p < PARTS; p++) {
        f->parts[p] = (CkptPart){FILES[p], {f->held[p].slices, f->held[p].count}, LAYOUT, TENSORS};
    }
}

static void fill(Fixture *f, int64_t step) {
    for (int p = 0; p < PARTS; p++) {
        for (size_t i = 0; i < ELEMENTS; i++)
            f->held[p].data[i] = step < 0 ? -1 : fixture_value(step, p, i);
    }
}

// Weights as after a gather: rank 0 speaks for all. Optimiser state: `pieces` odd pieces, dealt out
// in turn.
static void deal(Fixture *f, const Mesh *mesh, int pieces) {
    for (int p = 0; p < PARTS; p++) {
        f->held[p].count = 0;
        if (p == 0 && mesh->rank == 0) hold(&f->held[p], 0, ELEMENTS);
        for (int i = mesh->rank; p > 0 && i < pieces; i += mesh->size) {
            hold(&f->held[p], split_begin(ELEMENTS, pieces, i),
                 split_begin(ELEMENTS, pieces, i + 1));
        }
    }
    make_parts(f);
}

void fixture_open(Fixture *f, const Mesh *mesh) {
    *f = (Fixture){.mesh = mesh};
    snprintf(f->dir, sizeof f->dir, "/tmp/sterna_case_XXXXXX");
    if (mesh->rank == 0) CHECK(mkdtemp(f->dir) != NULL);
    comm_bcast(mesh->world, f->dir, sizeof f->dir, 0);
    path_join(f->ckpt, f->dir, "ckpt");
    deal(f, mesh, mesh->size);
}

void fixture_close(Fixture *f) {
    comm_barrier(f->mesh->world);
    if (f->mesh->rank == 0) CHECK(tree_remove(f->dir) == OK);
}

Status fixture_save(Fixture *f, const Mesh *mesh, int64_t step, int keep) {
    fill(f, step);
    char config[] = "train:\n  steps: 7\n", state[] = {0, 1, (char)255};
    Manifest m = {.step = step,
                  .dp = mesh->size,
                  .sp = 1,
                  .tp = 1,
                  .config = config,
                  .state = state,
                  .state_bytes = sizeof state,
                  .corpus = {1, ~0ULL},
                  .tokenizer = {3, 4}};
    return checkpoint_save(mesh, f->ckpt, f->parts, PARTS, &m, keep);
}

void fixture_load(Fixture *f, const Mesh *mesh, int64_t step, int saved_by) {
    Manifest m;
    Status st = checkpoint_load(mesh, f->ckpt, step, f->parts, PARTS, &m);
    if (st != OK) fprintf(stderr, "%s\n", err_message());
    CHECK(st == OK);
    CHECK(m.step == step && m.dp == saved_by && m.sp == 1 && m.tp == 1);
    CHECK(strcmp(m.config, "train:\n  steps: 7\n") == 0);
    CHECK(m.state_bytes == 3 && memcmp(m.state, (char[]){0, 1, (char)255}, 3) == 0);
    CHECK(m.corpus.low == 1 && m.corpus.high == ~0ULL && m.tokenizer.low == 3 &&
          m.tokenizer.high == 4);
    manifest_free(&m);
}

// Which of `data` a table's slices are to fill.
void slices_mark(bool *wanted, const SliceTable *table, const real *data) {
    for (int s = 0; s < table->count; s++) {
        const Slice *slice = &table->slices[s];
        for (size_t i = 0; i < slice_elements(slice); i++)
            wanted[(size_t)(slice->data - data) + i] = true;
    }
}

static void expect_loads(Fixture *f, const Mesh *mesh, int64_t step, int saved_by) {
    fill(f, -1);
    fixture_load(f, mesh, step, saved_by);
    for (int p = 0; p < PARTS; p++) {
        bool wanted[ELEMENTS] = {false};
        slices_mark(wanted, &f->parts[p].mine, f->held[p].data);
        for (size_t i = 0; i < ELEMENTS; i++) {
            CHECK(f->held[p].data[i] == (wanted[i] ? fixture_value(step, p, i) : -1));
        }
    }
}

static int64_t find(const Fixture *f, const Mesh *mesh) {
    int64_t step = 99;
    CHECK(checkpoint_find(mesh, f->ckpt, &step) == OK);
    return step;
}

void step_file(char out[PATH_BYTES], const Fixture *f, int64_t step, const char *name) {
    char relative[PATH_BYTES];
    snprintf(relative, sizeof relative, "step_%08lld%s%s", (long long)step,
             name[0] == '.' ? "" : "/", name);
    path_join(out, f->ckpt, relative);
}

// A mesh of this rank alone: every mesh has sp = 1.
Mesh mesh_alone(const Mesh *mesh) {
    return (Mesh){.size = 1, .dp = 1, .sp = 1, .tp = 1, .node_size = 1, .world = mesh->sp_axis};
}

static void case_round_trip(const Mesh *mesh) {
    Fixture f;
    fixture_open(&f, mesh);
    CHECK(find(&f, mesh) == -1);
    CHECK(fixture_save(&f, mesh, 3, 0) == OK);
    CHECK(find(&f, mesh) == 3);
    expect_loads(&f, mesh, 3, mesh->size);

    // Other cuts: as if by more ranks, by one, and every rank everything.
    for (int pieces = 1; pieces <= mesh->size + 4; pieces++) {
        deal(&f, mesh, pieces);
        expect_loads(&f, mesh, 3, mesh->size);
        CHECK(fixture_save(&f, mesh, 3, 0) == OK);  // over its own earlier copy
    }
    for (int p = 0; p < PARTS; p++) {
        f.held[p].count = 0;
        hold(&f.held[p], 0, ELEMENTS);
    }
    make_parts(&f);
    expect_loads(&f, mesh, 3, mesh->size);
    // All ranks hold all: the same values twice do no harm.
    CHECK(fixture_save(&f, mesh, 4, 0) == OK);
    expect_loads(&f, mesh, 4, mesh->size);
    fixture_close(&f);
}

static void case_other_rank_count(const Mesh *mesh) {
    Fixture f;
    Mesh single = mesh_alone(mesh);
    fixture_open(&f, mesh);
    CHECK(fixture_save(&f, mesh, 1, 0) == OK);
    if (mesh->rank == 0) {  // saved by all, loaded by one, which saves again
        deal(&f, &single, 1);
        CHECK(find(&f, &single) == 1);
        expect_loads(&f, &single, 1, mesh->size);
        CHECK(fixture_save(&f, &single, 2, 0) == OK);
        CHECK(checkpoint_verify(f.ckpt) == E_MISSING);
    }
    comm_barrier(mesh->world);
    deal(&f, mesh, 2 * mesh->size + 1);  // saved by one, loaded by all
    CHECK(find(&f, mesh) == 2);
    expect_loads(&f, mesh, 2, 1);
    fixture_close(&f);
}

static void case_keeps_newest(const Mesh *mesh) {
    Fixture f;
    fixture_open(&f, mesh);
    char path[PATH_BYTES];
    if (mesh->rank == 0) {  // what a killed save leaves, and what is not ours
        step_file(path, &f, 9, ".tmp");
        CHECK(dir_make(path) == OK);
        path_join(path, f.ckpt, "step_notes");
        CHECK(dir_make(path) == OK);
    }
    comm_barrier(mesh->world);
    for (int64_t step = 1; step <= 4; step++) CHECK(fixture_save(&f, mesh, step, 2) == OK);
    for (int64_t step = 1; step <= 4; step++) {
        step_file(path, &f, step, "manifest.msgpack");
        CHECK(path_exists(path) == (step > 2));
    }
    step_file(path, &f, 9, ".tmp");
    CHECK(!path_exists(path));
    path_join(path, f.ckpt, "step_notes");
    CHECK(path_exists(path));

    // Interrupted between the two renames that replace a step by its new copy.
    char whole[PATH_BYTES], old[PATH_BYTES];
    step_file(whole, &f, 4, "");
    step_file(old, &f, 4, ".old");
    comm_barrier(mesh->world);
    if (mesh->rank == 0) CHECK(rename(whole, old) == 0);
    CHECK(find(&f, mesh) == 4);
    expect_loads(&f, mesh, 4, mesh->size);
    fixture_close(&f);
}

void file_flip(const char *path, long at) {
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL);
    CHECK(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET) == 0);
    int c = fgetc(file);
    CHECK(c != EOF && fseek(file, -1, SEEK_CUR) == 0);
    CHECK(fputc(c ^ 4, file) != EOF && fclose(file) == 0);
}

// find() with rank 0's warnings caught; they must name all culprits.
static int64_t find_with_warnings(const Fixture *f, const char *const *culprits, int count) {
    char log[PATH_BYTES], *text = NULL;
    path_join(log, f->dir, "stderr");
    int kept = dup(STDERR_FILENO);
    if (f->mesh->rank == 0) CHECK(freopen(log, "w", stderr) != NULL);
    int64_t step = find(f, f->mesh);
    fflush(stderr);
    CHECK(dup2(kept, STDERR_FILENO) >= 0 && close(kept) == 0);
    if (f->mesh->rank == 0) {
        CHECK(file_read(log, &text, NULL) == OK);
        for (int i = 0; i < count; i++) {
            if (strstr(text, culprits[i]) == NULL)
                fprintf(stderr, "'%s' is not in: %s\n", culprits[i], text);
            CHECK(strstr(text, culprits[i]) != NULL);
        }
        CHECK((strstr(text, "warning") != NULL) == (count > 0));
        free(text);
    }
    return step;
}

static void case_damage(const Mesh *mesh) {
    Fixture f;
    fixture_open(&f, mesh);
    for (int64_t step = 1; step <= 5; step++) CHECK(fixture_save(&f, mesh, step, 0) == OK);
    char path[PATH_BYTES];
    if (mesh->rank == 0) {
        step_file(path, &f, 5, "v.safetensors");
        file_flip(path, -2);  // one bit of the last tensor
        step_file(path, &f, 4, "manifest.msgpack");
        file_flip(path, 60);
        step_file(path, &f, 3, "m.safetensors");
        CHECK(unlink(path) == 0);
        step_file(path, &f, 2, "model.safetensors");
        CHECK(truncate(path, 100) == 0);
    }
    comm_barrier(mesh->world);
    Manifest m;
    CHECK(checkpoint_load(mesh, f.ckpt, 5, f.parts, PARTS, &m) == E_FORMAT);
    CHECK(strstr(err_message(), "v.safetensors") != NULL && strstr(err_message(), "'one'") != NULL);
    CHECK(m.config == NULL);
    static const char *const culprits[] = {
        "step_00000005/v.safetensors", "step_00000004/manifest.msgpack",
        "step_00000003/m.safetensors", "step_00000002/model.safetensors"};
    CHECK(find_with_warnings(&f, culprits, 4) == 1);
    CHECK(find_with_warnings(&f, NULL, 0) == 1);  // they are set aside
    step_file(path, &f, 5, ".bad");
    CHECK(path_is_dir(path));
    expect_loads(&f, mesh, 1, mesh->size);
    CHECK(checkpoint_load(mesh, f.ckpt, 77, f.parts, PARTS, &m) == E_MISSING);
    fixture_close(&f);
}

// No bit of a checkpoint can change unnoticed.
static void case_every_byte(const Mesh *mesh) {
    Fixture f;
    fixture_open(&f, mesh);
    CHECK(fixture_save(&f, mesh, 1, 0) == OK);
    const char *names[] = {"manifest.msgpack", FILES[0], FILES[1], FILES[2]};
    char step_dir[PATH_BYTES], path[PATH_BYTES];
    step_file(step_dir, &f, 1, "");
    for (int n = 0; mesh->rank == 0 && n < 4; n++) {
        step_file(path, &f, 1, names[n]);
        uint64_t bytes;
        CHECK(file_size(path, &bytes) == OK && bytes > 100);
        for (long at = 0; at < (long)bytes; at++) {
            file_flip(path, at);
            Status st = checkpoint_verify(step_dir);
            CHECK(st == E_FORMAT);
            file_flip(path, at);
        }
    }
    if (mesh->rank == 0) CHECK(checkpoint_verify(step_dir) == OK);
    fixture_close(&f);
}

static void expect_refused(Fixture *f, const char *cause, const char *also) {
    Manifest m;
    CHECK(checkpoint_load(f->mesh, f->ckpt, 1, f->parts, PARTS, &m) == E_FORMAT);
    if (strstr(err_message(), cause) == NULL) fprintf(stderr, "%s\n", err_message());
    CHECK(strstr(err_message(), cause) != NULL && strstr(err_message(), also) != NULL);
}

// Only the last rank's model differs; all ranks must hear of it.
static void case_shape_mismatch(const Mesh *mesh) {
    Fixture f;
    fixture_open(&f, mesh);
    CHECK(fixture_save(&f, mesh, 1, 0) == OK);
    Slice other[TENSORS + 1];
    bool last = mesh->rank == mesh->size - 1;

    memcpy(other, LAYOUT, sizeof LAYOUT);
    other[0].dim[0] = 5, other[0].dim[1] = 3;
    if (last) f.parts[1].layout = other;
    expect_refused(&f, "tensor 'matrix' has shape [3, 5], the model wants [5, 3]", "m.safetensors");
    memcpy(other, LAYOUT, sizeof LAYOUT);
    other[1].tensor = "victor";
    expect_refused(&f, "tensor 'victor' is missing", "m.safetensors");
    memcpy(other, LAYOUT, sizeof LAYOUT);
    if (last) f.parts[1].layout_count = TENSORS - 1;
    expect_refused(&f, "tensor 'one' has no place in the model", "m.safetensors");
    make_parts(&f);
    if (last) f.parts[2].file = "other.safetensors";
    expect_refused(&f, "holds no other.safetensors", "step_00000001");
    fixture_close(&f);
}

void fixture_save_fails(Fixture *f, Status want) {
    Status st = fixture_save(f, f->mesh, 2, 1);
    if (st != want) fprintf(stderr, "%s: %s\n", status_name(st), err_message());
    CHECK(st == want && err_hint()[0] != '\0');
    CHECK(strstr(err_message(), "step 2 is not saved") != NULL);
    char path[PATH_BYTES];
    step_file(path, f, 2, ".tmp");
    CHECK(!path_exists(path));
    comm_barrier(f->mesh->world);  // rank 0 would make it again
}

static void case_save_fails_everywhere(const Mesh *mesh) {
    Fixture f;
    fixture_open(&f, mesh);
    CHECK(fixture_save(&f, mesh, 1, 1) == OK);
    bool last = mesh->rank == mesh->size - 1;

    // The last rank can write no byte more: its disk is full, say.
    struct rlimit kept, tiny;
    CHECK(getrlimit(RLIMIT_FSIZE, &kept) == 0);
    tiny = (struct rlimit){16, kept.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    if (last) CHECK(setrlimit(RLIMIT_FSIZE, &tiny) == 0);
    fixture_save_fails(&f, E_IO);
    CHECK(strstr(err_message(), ".safetensors") != NULL);
    CHECK(setrlimit(RLIMIT_FSIZE, &kept) == 0);

    // A tensor that nobody holds in full.
    if (last) f.parts[2].mine.count--;
    fixture_save_fails(&f, E_BUG);
    make_parts(&f);

    CHECK(find(&f, mesh) == 1);
    expect_loads(&f, mesh, 1, mesh->size);

    // A directory that cannot be: below a file.
    char file[PATH_BYTES];
    path_join(file, f.dir, "file");
    if (mesh->rank == 0) CHECK(file_write(file, "x", 1) == OK);
    path_join(f.ckpt, file, "ckpt");
    fixture_save_fails(&f, E_IO);
    int64_t step;
    CHECK(checkpoint_find(mesh, f.ckpt, &step) == E_IO && step == -1);
    fixture_close(&f);
}

// A file system of 24 KiB, where the operating system lets us have one.
static void case_full_disk(const Mesh *mesh) {
    Fixture f;
    fixture_open(&f, mesh);
    int64_t mounted = 0;
    if (mesh->rank == 0) {
        CHECK(dir_make(f.ckpt) == OK);
        mounted = mount("tmpfs", f.ckpt, "tmpfs", 0, "size=24k") == 0;
        if (!mounted) log_warn("full disk not tested: cannot mount a tmpfs: %s", strerror(errno));
    }
    comm_max_i64(mesh->world, &mounted, 1);
    if (mounted) {
        CHECK(fixture_save(&f, mesh, 1, 1) == OK);  // four files, a page each; two pages are left
        fixture_save_fails(&f, E_IO);
        CHECK(strstr(err_message(), "No space") != NULL && strstr(err_hint(), "space") != NULL);
        CHECK(find(&f, mesh) == 1);
        expect_loads(&f, mesh, 1, mesh->size);
        comm_barrier(mesh->world);
        if (mesh->rank == 0) CHECK(umount2(f.ckpt, MNT_DETACH) == 0);
    }
    fixture_close(&f);
}

const MpiCase CASES_CHECKPOINT[] = {
    {"checkpoint_round_trip", case_round_trip},
    {"checkpoint_other_rank_count", case_other_rank_count},
    {"checkpoint_keeps_newest", case_keeps_newest},
    {"checkpoint_damage", case_damage},
    {"checkpoint_every_byte", case_every_byte},
    {"checkpoint_shape_mismatch", case_shape_mismatch},
    {"checkpoint_save_fails_everywhere", case_save_fails_everywhere},
    {"checkpoint_full_disk", case_full_disk},
    {NULL, NULL},
};
