// Weights of a Hugging Face directory into a ParamSet, matched by row name.
//
// A directory holds model.safetensors, or shards and an index that maps each tensor to its shard.
// The form is checked before the first weight is touched: index and shards must tell the same
// story, every row must be there in its shape, and every tensor must have a row, but for the few
// that carry no weights (IGNORED). Values are checked as they are read.
#include "checkpoints/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "parallel/world.h"

static const char SINGLE[] = "model.safetensors", INDEX[] = "model.safetensors.index.json";
static const char EMBEDDING[] = "model.embed_tokens.weight", HEAD[] = "lm_head.weight";
static const char TIED_HINT[] = "set model.tied to what config.json says (tie_word_embeddings)";
// Endings of names: a version counter of the TransNormer code, and tables old Llama exports carry
// along.
static const char *const IGNORED[] = {"decoder.version", ".rotary_emb.inv_freq"};
enum { COMPARE_COUNT = 1 << 14 };

typedef struct Shard {
    char name[FILE_NAME_BYTES], path[PATH_BYTES];
    StFile *file;
} Shard;

// An opened directory: its files, mapped and checked, and the index that named them.
typedef struct HfDir {
    const char *path;
    Shard *shards;
    int count, capacity;
    Json *index;  // NULL for a single file
    char index_path[PATH_BYTES];
} HfDir;

typedef struct Found {
    const Shard *shard;
    const StTensor *tensor;  // NULL: none
} Found;

static void hf_close(HfDir *d) {
    for (int i = 0; i < d->count; i++) st_close(d->shards[i].file);
    free(d->shards);
    json_close(d->index);
    *d = (HfDir){0};
}

// Opens a file once, however many tensors the index puts in it.
static Status add_shard(HfDir *d, const char *name) {
    for (int i = 0; i < d->count; i++) {
        if (strcmp(d->shards[i].name, name) == 0) return OK;
    }
    if (d->count == d->capacity) {
        d->capacity = d->capacity == 0 ? 8 : 2 * d->capacity;
        Shard *grown = realloc(d->shards, (size_t)d->capacity * sizeof *grown);
        if (grown == NULL)
            FAIL(E_NOMEM, "free memory on this machine", "%s: no memory to open it", d->path);
        d->shards = grown;
    }
    Shard *s = &d->shards[d->count];
    *s = (Shard){0};
    snprintf(s->name, sizeof s->name, "%s", name);
    path_join(s->path, d->path, name);
    TRY(st_open(&s->file, s->path));
    d->count++;
    return OK;
}

// Where a tensor is. Names are unique over all shards: a single file by the format, several by the
// index.
static Found find(const HfDir *d, const char *name) {
    for (int i = 0; i < d->count; i++) {
        const StTensor *t = st_find(d->shards[i].file, name);
        if (t != NULL) return (Found){&d->shards[i], t};
    }
    return (Found){0};
}

// --- the index ---

// A visitor of weight_map.
static Status open_mapped(const JsonAt *tensor, void *user) {
    HfDir *d = user;
    const char *name;
    TRY(json_text(&name, tensor));
    if (!file__is_plain(name)) {  // a name with a way out of the directory could read any file
        FAIL(E_FORMAT, "the index is damaged or hostile: do not use it",
             "%s: tensor '%.160s' is said to be in '%.200s', which is no plain file name",
             d->index_path, tensor->key, name);
    }
    return add_shard(d, name);
}

// A visitor of weight_map: the promise is kept.
static Status check_mapped(const JsonAt *tensor, void *user) {
    const HfDir *d = user;
    const char *name;
    TRY(json_text(&name, tensor));
    for (int i = 0; i < d->count; i++) {
        if (strcmp(d->shards[i].name, name) != 0) continue;
        if (st_find(d->shards[i].file, tensor->key) != NULL) return OK;
    }
    FAIL(E_FORMAT, "fetch the missing shard again", "%s: tensor '%.160s' is not in '%.200s'",
         d->index_path, tensor->key, name);
}

// With check_mapped this also excludes a name in two shards.
static Status check_unmapped(const HfDir *d, const JsonAt *map) {
    for (int i = 0; i < d->count; i++) {
        for (int t = 0; t < st_count(d->shards[i].file); t++) {
            const char *name = st_tensor(d->shards[i].file, t)->name, *shard = "";
            TRY(json_opt_text(&shard, map, name));
            if (strcmp(shard, d->shards[i].name) == 0) continue;
            FAIL(E_FORMAT, "index and shards do not belong together: fetch both again",
                 "%s: tensor '%s' of %s is not listed there", d->index_path, name,
                 d->shards[i].name);
        }
    }
    return OK;
}

static Status open_sharded(HfDir *d) {
    TRY(json_open_file(&d->index, d->index_path));
    JsonAt top = json_top(d->index, d->index_path, "fetch the index again"), map;
    TRY(json_need_object(&map, &top, "weight_map"));
    TRY(json_each(&map, open_mapped, d));
    TRY(json_each(&map, check_mapped, d));
    return check_unmapped(d, &map);
}

// A single file wins, as it does in the reference library.
static Status open_any(HfDir *d) {
    char single[PATH_BYTES];
    path_join(single, d->path, SINGLE);
    path_join(d->index_path, d->path, INDEX);
    Status st = path_look(single);
    if (st == OK) return add_shard(d, SINGLE);
    if (st == E_MISSING) st = path_look(d->index_path);
    if (st == OK) return open_sharded(d);
    if (st != E_MISSING) return st;
    FAIL(E_IO,
         "a Hugging Face directory in safetensors form is needed (pytorch_model.bin is not read)",
         "%s: neither %s nor %s is there", d->path, SINGLE, INDEX);
}

// On failure the directory is closed.
static Status hf_open(HfDir *d, const char *dir) {
    *d = (HfDir){.path = dir};
    Status st = path__check(dir);
    if (st == OK) st = open_any(d);
    if (st != OK) hf_close(d);
    return st;
}

// --- tensors against rows ---

static bool is_ignored(const char *name) {
    for (size_t i = 0; i < sizeof IGNORED / sizeof IGNORED[0]; i++) {
        size_t n = strlen(name), end = strlen(IGNORED[i]);
        if (n >= end && strcmp(name + n - end, IGNORED[i]) == 0) return true;
    }
    return false;
}

// The row's tensor exists, has its shape, and holds numbers.
static Status check_row(const HfDir *d, const Param *p) {
    Found f = find(d, p->name);
    if (f.tensor == NULL) {
        FAIL(E_FORMAT,
             strcmp(p->name, HEAD) == 0 ? TIED_HINT
                                        : "config.json and weights must belong together",
             "%s: tensor '%s' is missing", d->path, p->name);
    }
    int64_t dim[PARAM_DIMS];
    for (int i = 0; i < p->ndim; i++) dim[i] = p->dim[i];
    if (f.tensor->ndim != p->ndim ||
        memcmp(f.tensor->dim, dim, (size_t)p->ndim * sizeof *dim) != 0) {
        char stored[200], wanted[200];
        shape__text(stored, sizeof stored, f.tensor->dim, f.tensor->ndim);
        shape__text(wanted, sizeof wanted, dim, p->ndim);
        FAIL(E_FORMAT, "config.json and weights must belong together",
             "%s: tensor '%s' has shape %s, the model wants %s", f.shard->path, p->name, stored,
             wanted);
    }
    if (dtype__is_float(f.tensor->dtype)) return OK;
    FAIL(E_FORMAT, "weights must be F32, F64, BF16 or F16", "%s: tensor '%s' holds integers (%s)",
         f.shard->path, p->name, dtype_name(f.tensor->dtype));
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// A weight that nobody would read is a sign of the wrong configuration, not something to pass over.
static Status check_extra(const HfDir *d, const ParamSet *ps, bool tied) {
    size_t count = (size_t)ps->count;
    const char **rows = malloc((count + 1) * sizeof *rows);
    if (rows == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "%s: no memory to check it", d->path);
    for (size_t i = 0; i < count; i++) rows[i] = ps->rows[i].name;
    if (count > 0) qsort(rows, count, sizeof *rows, compare_texts);
    Status st = OK;
    for (int i = 0; i < d->count && st == OK; i++) {
        for (int t = 0; t < st_count(d->shards[i].file) && st == OK; t++) {
            const char *name = st_tensor(d->shards[i].file, t)->name;
            if (bsearch(&name, rows, count, sizeof *rows, compare_texts) != NULL) continue;
            if (is_ignored(name) || (tied && strcmp(name, HEAD) == 0)) continue;
            st = err_set(E_FORMAT, "config.json and weights must belong together",
                         "%s: tensor '%s' has no place in the model", d->shards[i].path, name);
        }
    }
    free(rows);
    return st;
}

// Values, not bytes: the two may be stored in different formats. A NaN equals itself here.
static Status compare_values(Found a, Found b, bool *equal) {
    *equal =
        a.tensor->ndim == b.tensor->ndim &&
        memcmp(a.tensor->dim, b.tensor->dim, (size_t)a.tensor->ndim * sizeof a.tensor->dim[0]) == 0;
    if (!*equal) return OK;
    real *x = malloc(2 * COMPARE_COUNT * sizeof *x);
    if (x == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory to compare embedding and head");
    Status st = OK;
    uint64_t total = st__elements(a.tensor);
    for (uint64_t at = 0; at < total && *equal && st == OK; at += COMPARE_COUNT) {
        uint64_t n = total - at < COMPARE_COUNT ? total - at : COMPARE_COUNT;
        st = st_peek_reals(a.shard->file, a.tensor, x, at, n);
        if (st == OK) st = st_peek_reals(b.shard->file, b.tensor, x + COMPARE_COUNT, at, n);
        if (st == OK) *equal = memcmp(x, x + COMPARE_COUNT, (size_t)n * sizeof *x) == 0;
    }
    free(x);
    return st;
}

// Libraries disagree about a tied model with a head of its own: transformers 4 ignores the head, 5
// takes it and no longer ties.
static Status check_tied(const HfDir *d) {
    Found head = find(d, HEAD), embedding = find(d, EMBEDDING);
    bool equal = false;
    if (head.tensor == NULL) return OK;
    if (embedding.tensor != NULL) TRY(compare_values(embedding, head, &equal));
    if (equal) return OK;
    FAIL(
        E_FORMAT,
        "to use the head, say \"tie_word_embeddings\": false in config.json; to use the embedding, "
        "remove the tensor",
        "%s: '%s' differs from '%s', but config.json ties them (tie_word_embeddings)", d->path,
        HEAD, EMBEDDING);
}

Status hf_check_tied(const char *dir) {
    HfDir d;
    TRY(hf_open(&d, dir));
    Status st = check_tied(&d);
    hf_close(&d);
    return st;
}

static Status check_all(const HfDir *d, const ParamSet *ps, bool tied) {
    for (int i = 0; i < ps->count; i++) TRY(check_row(d, &ps->rows[i]));
    TRY(check_extra(d, ps, tied));
    return tied ? check_tied(d) : OK;
}

Status hf_check(const ParamSet *ps, const char *dir, bool tied) {
    HfDir d;
    TRY(hf_open(&d, dir));
    Status st = check_all(&d, ps, tied);
    hf_close(&d);
    return st;
}

// This rank's share. A number that is not finite is found here, after the checks of form.
static Status read_row(const HfDir *d, const Param *p) {
    ASSERT(p->data != NULL);
    Found f = find(d, p->name);
    for (size_t r = 0; r < p->share.runs; r++) {
        TRY(st_read_reals(f.shard->file, f.tensor, p->data + r * p->share.run,
                          p->share.begin + r * p->share.stride, p->share.run));
    }
    return OK;
}

// Not what is stored is computed with then, and the user hears of it. Other types are exact in
// ours.
static void note_rounding(const HfDir *d, const ParamSet *ps) {
    for (int i = 0; i < ps->count; i++) {
        Dtype stored = find(d, ps->rows[i].name).tensor->dtype;
        if (dtype_bytes(stored) <= dtype_bytes(DTYPE_REAL)) continue;
        if (parallel_world_rank() == 0)
            log_warn("%s: stored as %s, rounded to %s", d->path, dtype_name(stored),
                     dtype_name(DTYPE_REAL));
        return;
    }
}

Status hf_import(ParamSet *ps, const char *dir, bool tied, Dtype *stored) {
    HfDir d;
    TRY(hf_open(&d, dir));
    Status st = check_all(&d, ps, tied);
    for (int i = 0; i < ps->count && st == OK; i++) st = read_row(&d, &ps->rows[i]);
    params_changed(ps);
    if (st == OK) note_rounding(&d, ps);
    if (st == OK && stored != NULL && ps->count > 0)
        *stored = find(&d, ps->rows[0].name).tensor->dtype;
    hf_close(&d);
    return st;
}
