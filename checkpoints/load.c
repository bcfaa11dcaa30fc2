// Finding and loading. Nothing is trusted unverified: every rank reads the manifest, the checksums
// of all tensors are shared out among the ranks, and only when all agree are elements copied. A
// rank maps each file and takes the ranges it wants, so the number of ranks may differ from that of
// the save.
#include "checkpoints/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

static const char SHARED[] =
    "put checkpoints on a file system that all nodes share and have mounted";

// Collective. All ranks must have read the same bytes, or the file system is not shared.
static Status same_everywhere(const Mesh *mesh, uint64_t hash, const char *step_dir) {
    uint64_t first = hash;
    comm_bcast(mesh->world, &first, sizeof first, 0);
    return agree(first == hash
                     ? OK
                     : err_set(E_IO, SHARED,
                               "%s: its manifest is another than the one rank 0 reads", step_dir),
                 mesh->world);
}

// Collective. A file that no rank finds is missing. One that some ranks find is there, and the
// others do not see the disk it lies on.
static Status agree_missing(const Mesh *mesh, Status mine) {
    int64_t seen = mine != E_MISSING;
    comm_max_i64(mesh->world, &seen, 1);
    if (mine == E_MISSING && seen != 0)
        mine = err_set(E_IO, SHARED, "%s (other ranks see it)", err_message());
    return agree(mine, mesh->world);
}

// An older checkpoint makes it good. Any other failure says nothing about the checkpoint.
static bool is_damage(Status st) {
    return st == E_FORMAT || st == E_MISSING || st == E_DIVERGED;
}

// Collective. On success the manifest and the table belong to the caller, else they are empty.
static Status open_verified(const Mesh *mesh, const char *step_dir, Manifest *m, FileTable *files) {
    Status st = agree_missing(mesh, manifest__read(step_dir, m, files));
    if (st == OK) st = same_everywhere(mesh, files->hash, step_dir);
    if (st == OK) st = agree_missing(mesh, files__look(step_dir, files));
    if (st == OK) st = agree(files__verify(step_dir, files, mesh->rank, mesh->size), mesh->world);
    if (st == OK) return OK;
    manifest_free(m);
    filetable__free(files);
    return st;
}

// Rank 0 alone lists: the others hear the candidates from it, one by one.
static Status list_on_root(const Mesh *mesh, const char *ckpt_dir, StepList *list) {
    *list = (StepList){0};
    TRY(path__check(ckpt_dir));
    if (mesh->rank != 0) return OK;
    TRY(steps__recover(ckpt_dir));
    return steps__list(ckpt_dir, list);
}

// Local failures end inside open_verified, which agrees; so all ranks take each turn of the loop
// together.
Status checkpoint_find(const Mesh *mesh, const char *ckpt_dir, int64_t *step) {
    *step = -1;
    StepList list;
    TRY(agree(list_on_root(mesh, ckpt_dir, &list), mesh->world));
    bool all_diverged = true;
    for (int i = 0; *step < 0; i++) {
        int64_t candidate = i < list.count ? list.steps[i] : -1;
        comm_bcast(mesh->world, &candidate, sizeof candidate, 0);
        if (candidate < 0) break;
        char dir[PATH_BYTES];
        checkpoint_step_dir(dir, ckpt_dir, candidate);
        Manifest m;
        FileTable files;
        Status st = open_verified(mesh, dir, &m, &files);
        if (st != OK && !is_damage(st)) {  // cannot be read now, or not by this version
            steps__free(&list);
            return st;
        }
        all_diverged = all_diverged && st == E_DIVERGED;
        if (st == OK) {
            *step = candidate;
            manifest_free(&m);
            filetable__free(&files);
        } else if (mesh->rank == 0) {
            log_warn("a %s checkpoint is passed over: %s",
                     st == E_DIVERGED ? "diverged" : "damaged", err_message());
        }
    }
    // Set aside, so that they do not count among those that are kept.
    for (int i = 0; *step >= 0 && i < list.count && list.steps[i] > *step; i++)
        steps__set_aside(ckpt_dir, list.steps[i]);
    int64_t seen = list.count;
    steps__free(&list);
    comm_bcast(mesh->world, &seen, sizeof seen, 0);
    if (*step >= 0 || seen == 0) return OK;
    if (all_diverged) {
        FAIL(E_DIVERGED, "start a new run with a lower schedule.lr or a longer schedule.warmup",
             "%s: all %lld checkpoints hold values that are not finite", ckpt_dir, (long long)seen);
    }
    FAIL(E_FORMAT, "bring a good copy back, or start over in another train.run_dir",
         "%s: all %lld checkpoints are damaged", ckpt_dir, (long long)seen);
}

// --- loading ---

static void slice_shape(int64_t dim[3], const Slice *s) {
    for (int i = 0; i < s->ndim; i++) dim[i] = s->dim[i];
}

// The stored tensor a slice is a part of; *out is set also when only its shape is wrong.
static Status find_tensor(const StFile *f, const char *path, const Slice *want,
                          const StTensor **out) {
    int64_t dim[3];
    slice_shape(dim, want);
    *out = st_find(f, want->tensor);
    if (*out == NULL) {
        FAIL(E_FORMAT, "the configuration must describe the saved model",
             "%s: tensor '%s' is missing, the model has it", path, want->tensor);
    }
    const StTensor *t = *out;
    if (t->ndim == want->ndim && memcmp(t->dim, dim, (size_t)t->ndim * sizeof *dim) == 0) return OK;
    char stored[200], wanted[200];
    shape__text(stored, sizeof stored, t->dim, t->ndim);
    shape__text(wanted, sizeof wanted, dim, want->ndim);
    FAIL(E_FORMAT, "the configuration must describe the saved model",
         "%s: tensor '%s' has shape %s, the model wants %s", path, t->name, stored, wanted);
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Weights and moments go on exactly where they were, or not at all: a double is not cut to a float.
static Status check_type(const char *path, const StTensor *t) {
    if (dtype_bytes(t->dtype) <= dtype_bytes(DTYPE_REAL)) return OK;
    FAIL(E_USAGE,
         "go on with the build that wrote it, or start a new run from its weights: "
         "train.init=RUN/model",
         "%s: tensor '%s' is stored as %s, this build of sterna computes in %s", path, t->name,
         dtype_name(t->dtype), dtype_name(DTYPE_REAL));
}

// Every tensor of the layout is there in its shape, and the file holds no other.
static Status check_layout(const StFile *f, const char *path, const CkptPart *part) {
    const StTensor *found;
    for (int i = 0; i < part->layout_count; i++) {
        TRY(find_tensor(f, path, &part->layout[i], &found));
        TRY(check_type(path, found));
    }
    if (part->layout_count == 0 || st_count(f) == part->layout_count) return OK;

    size_t count = (size_t)part->layout_count;
    const char **names = malloc(count * sizeof *names);
    if (names == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "%s: no memory to check it", path);
    for (size_t i = 0; i < count; i++) names[i] = part->layout[i].tensor;
    qsort(names, count, sizeof *names, compare_texts);
    Status st = OK;
    for (int i = 0; i < st_count(f) && st == OK; i++) {
        const char *name = st_tensor(f, i)->name;
        if (bsearch(&name, names, count, sizeof *names, compare_texts) != NULL) continue;
        st = err_set(E_FORMAT, "the configuration must describe the saved model",
                     "%s: tensor '%s' has no place in the model", path, name);
    }
    free(names);
    return st;
}

// The checksum held, so the file is what was saved; the shape says whether it is what is wanted.
static Status load_slice(const StFile *f, const char *path, const Slice *s) {
    const StTensor *t;
    TRY(find_tensor(f, path, s, &t));
    return st__read_runs(f, t, s);
}

// The file was checked by all ranks together; here each maps it and copies its own ranges.
static Status load_part(const char *step_dir, const CkptPart *part) {
    char path[PATH_BYTES];
    path_join(path, step_dir, part->file);
    StFile *f = NULL;
    TRY(st_open(&f, path));
    Status st = check_layout(f, path, part);
    if (st == OK && st_count(f) > 0 && st_tensor(f, 0)->dtype != DTYPE_REAL)
        log_info("%s: stored as %s, widened to %s", path, dtype_name(st_tensor(f, 0)->dtype),
                 dtype_name(DTYPE_REAL));
    for (int i = 0; i < part->mine.count && st == OK; i++)
        st = load_slice(f, path, &part->mine.slices[i]);
    st_close(f);
    return st;
}

// A file that the manifest does not list has no checksum.
static Status check_listed(const FileTable *files, const char *step_dir, const CkptPart *part) {
    for (int i = 0; i < files->count; i++) {
        if (strcmp(files->files[i].file, part->file) == 0) return OK;
    }
    FAIL(E_FORMAT, "load a checkpoint of the same kind of run", "%s holds no %s", step_dir,
         part->file);
}

static Status load_parts(const FileTable *files, const char *step_dir, const CkptPart *parts,
                         int count) {
    for (int i = 0; i < count; i++) {
        TRY(check_listed(files, step_dir, &parts[i]));
        TRY(load_part(step_dir, &parts[i]));
    }
    return OK;
}

Status checkpoint_load(const Mesh *mesh, const char *ckpt_dir, int64_t step, const CkptPart *parts,
                       int part_count, Manifest *m) {
    *m = (Manifest){0};
    TRY(agree(path__check(ckpt_dir), mesh->world));
    char dir[PATH_BYTES];
    checkpoint_step_dir(dir, ckpt_dir, step);
    FileTable files;
    TRY(open_verified(mesh, dir, m, &files));
    Status st = agree(load_parts(&files, dir, parts, part_count), mesh->world);
    filetable__free(&files);
    if (st != OK) manifest_free(m);
    return st;
}
