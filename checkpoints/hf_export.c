// A ParamSet as a Hugging Face directory: model.safetensors, or model-00001-of-000NN.safetensors
// and their index. The bytes are a function of the weights and the arguments alone: export, import,
// export gives the same files.
#include "checkpoints/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const char SINGLE[] = "model.safetensors", INDEX[] = "model.safetensors.index.json";

typedef struct Export {
    const ParamSet *ps;
    const char *dir;
    Dtype dtype;
    int *shard_of;  // per row
    int shards;
    Draft *drafts;  // per shard
    uint64_t total_bytes;
} Export;

// Shards count from 1, as in every directory on the Hub.
static void shard_name(char out[FILE_NAME_BYTES], int shard, int shards) {
    if (shards == 1)
        snprintf(out, FILE_NAME_BYTES, "%s", SINGLE);
    else
        snprintf(out, FILE_NAME_BYTES, "model-%05d-of-%05d.safetensors", shard + 1, shards);
}

// Rows in order; a shard is closed when the next row would not fit. A row larger than the limit
// stands alone.
static void plan_shards(Export *e, uint64_t max_bytes) {
    uint64_t filled = 0;
    int shard = 0;
    for (int i = 0; i < e->ps->count; i++) {
        uint64_t bytes = e->ps->rows[i].count * dtype_bytes(e->dtype);
        if (max_bytes > 0 && filled > 0 && filled + bytes > max_bytes) {
            shard++;
            filled = 0;
        }
        filled += bytes;
        e->total_bytes += bytes;
        e->shard_of[i] = shard;
    }
    e->shards = shard + 1;
}

// Borrows the row's data.
static StSource source_of(const Param *p, Dtype dtype) {
    ASSERT(p->count == p->whole);
    StSource s = {.t = {.dtype = dtype, .ndim = p->ndim}, .data = p->data};
    _Static_assert(PARAM_NAME_BYTES <= sizeof s.t.name, "a row's name fits a tensor's");
    memcpy(s.t.name, p->name, sizeof p->name);
    for (int d = 0; d < p->ndim; d++) s.t.dim[d] = p->dim[d];
    return s;
}

// The rows of one shard in their order.
static Status draft_shard(const Export *e, int shard) {
    StSource *sources = calloc((size_t)e->ps->count + 1, sizeof *sources);
    if (sources == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "%s: no memory to export", e->dir);
    int count = 0;
    for (int i = 0; i < e->ps->count; i++) {
        if (e->shard_of[i] == shard) sources[count++] = source_of(&e->ps->rows[i], e->dtype);
    }
    char name[FILE_NAME_BYTES], path[PATH_BYTES];
    shard_name(name, shard, e->shards);
    path_join(path, e->dir, name);
    Status st = st__draft(&e->drafts[shard], path, sources, count);
    free(sources);
    return st;
}

// total_size counts data without headers, as the reference library does.
static Status write_index(const Export *e) {
    JsonOut out = {.indent = 2};
    jsonout_open_object(&out, NULL);
    jsonout_open_object(&out, "metadata");
    jsonout_int(&out, "total_size", (int64_t)e->total_bytes);
    jsonout_close_object(&out);
    jsonout_open_object(&out, "weight_map");
    for (int i = 0; i < e->ps->count; i++) {
        char name[FILE_NAME_BYTES];
        shard_name(name, e->shard_of[i], e->shards);
        jsonout_text(&out, e->ps->rows[i].name, name);
    }
    jsonout_close_object(&out);
    jsonout_close_object(&out);
    char path[PATH_BYTES];
    path_join(path, e->dir, INDEX);
    Status st = file_write(path, out.text, out.bytes);
    jsonout_free(&out);
    return st;
}

// What an earlier export of the other kind left would make the directory ambiguous.
static Status remove_stale(const Export *e) {
    char path[PATH_BYTES];
    path_join(path, e->dir, e->shards == 1 ? INDEX : SINGLE);
    return file_remove(path);
}

// Before the directory is touched: a value that does not fit leaves it as it was.
static Status check_values(const ParamSet *ps, const char *dir, Dtype dtype) {
    for (int i = 0; i < ps->count; i++) {
        StSource s = source_of(&ps->rows[i], dtype);
        TRY(source__check(dir, &s));
    }
    return OK;
}

// All of an earlier export stays while the new one can still fail for want of room.
static Status export_all(const Export *e) {
    for (int i = 0; i < e->shards; i++) TRY(draft_shard(e, i));
    for (int i = 0; i < e->shards; i++) TRY(draft_commit(&e->drafts[i]));
    if (e->shards > 1) TRY(write_index(e));  // last: an index stands for a complete set
    return remove_stale(e);                  // a reader takes the single file while there are both
}

static Status export_open(Export *e, uint64_t max_shard_bytes) {
    e->shard_of = calloc((size_t)e->ps->count + 1, sizeof *e->shard_of);
    if (e->shard_of != NULL) plan_shards(e, max_shard_bytes);
    if (e->shard_of != NULL) e->drafts = calloc((size_t)e->shards, sizeof *e->drafts);
    if (e->drafts == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "%s: no memory to export", e->dir);
    for (int i = 0; i < e->shards; i++) e->drafts[i].fd = -1;
    return OK;
}

static void export_close(Export *e) {
    for (int i = 0; e->drafts != NULL && i < e->shards; i++) draft_drop(&e->drafts[i]);
    free(e->drafts);
    free(e->shard_of);
}

Status hf_export(const ParamSet *ps, const char *dir, Dtype dtype, uint64_t max_shard_bytes) {
    ASSERT(dtype__is_float(dtype));
    TRY(path__check(dir));
    TRY(check_values(ps, dir, dtype));
    TRY(hf_dir_take(dir));
    Export e = {.ps = ps, .dir = dir, .dtype = dtype};
    Status st = export_open(&e, max_shard_bytes);
    if (st == OK) st = export_all(&e);
    export_close(&e);
    return st;
}

static const FileRecord *find_record(const FileTable *files, const char *name) {
    for (int i = 0; i < files->count; i++) {
        if (strcmp(files->files[i].file, name) == 0) return &files->files[i];
    }
    return NULL;
}

// The copy is made from the mapping: pages that the operating system may drop, never a model in
// memory.
static Status copy_verified(const char *step_dir, const FileTable *files, const char *path,
                            Dtype *stored) {
    const FileRecord *record = find_record(files, SINGLE);
    if (record == NULL) {
        FAIL(E_FORMAT, "name a checkpoint that a training run saved", "%s holds no %s", step_dir,
             SINGLE);
    }
    FileTable one = {.files = (FileRecord[]){*record}, .count = 1};  // checksums stay the table's
    TRY(files__verify(step_dir, &one, 0, 1));
    char from[PATH_BYTES];
    path_join(from, step_dir, SINGLE);
    StFile *f = NULL;
    TRY(st_open(&f, from));
    *stored = st_count(f) > 0 ? st_tensor(f, 0)->dtype : DTYPE_REAL;
    st_close(f);
    Mapping map;
    TRY(file_map(from, &map));
    Status st = file_write(path, map.data, map.bytes);
    file_unmap(&map);
    return st;
}

// Checkpoints come from the same writer with the rows in the same order: the file is an export
// already.
Status checkpoint_export_weights(const char *ckpt_dir, int64_t step, const char *path,
                                 Dtype *stored) {
    Manifest m;
    FileTable files;
    char step_dir[PATH_BYTES];
    TRY(path__check(ckpt_dir));
    checkpoint_step_dir(step_dir, ckpt_dir, step);
    TRY(manifest__read(step_dir, &m, &files));
    Status st = copy_verified(step_dir, &files, path, stored);
    manifest_free(&m);
    filetable__free(&files);
    return st;
}
