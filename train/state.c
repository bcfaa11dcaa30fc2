// A run's checkpoints: weights and moments as slices of global tensors, counters in the manifest.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/pack.h"
#include "parallel/agree.h"
#include "parallel/reduce.h"
#include "train/run.h"

// Slices and names of the two files. Moments are "m.<parameter>" and "v.<parameter>".
typedef struct Tables {
    char (*names)[2][PARAM_NAME_BYTES + 2];
    Slice *weights, *moments;  // whole tensors: layouts
    Slice *shares, *owned;     // this rank's of the weights, its pieces of the moments
    int rows, share_count, owned_count;
} Tables;

static Slice whole_slice(const Param *p, const char *name) {
    Slice s = {.tensor = name, .ndim = p->ndim};
    memcpy(s.dim, p->dim, sizeof s.dim);
    return slice_range(&s, 0, p->whole, NULL);
}

// This rank's share of a tensor.
static Slice share_slice(const Param *p, const Slice *layout, real *data) {
    Slice s = *layout;
    s.begin = p->share.begin;
    s.run = p->share.run;
    s.stride = p->share.stride;
    s.runs = p->share.runs;
    s.data = data;
    return s;
}

// Pieces of row p inside one updated range; `packed` is where the range begins in the optimiser's
// arrays.
static void add_owned(Tables *t, const Run *run, int row, Range range, size_t packed) {
    const Param *p = &run->model.params.rows[row];
    size_t end = range.begin + range.count, row_end = p->offset + p->count;
    size_t from = p->offset > range.begin ? p->offset : range.begin;
    size_t to = row_end < end ? row_end : end;
    if (from >= to) return;
    real *const moments[2] = {run->optim.m, run->optim.v};
    for (int k = 0; k < 2; k++) {
        Slice share = share_slice(p, &t->moments[2 * row + k], NULL);
        real *data = moments[k] + packed + (from - range.begin);
        Slice *parts = &t->owned[t->owned_count];
        int count = slice_cut(parts, &share, from - p->offset, to - from);
        for (int i = 0; i < count; i++) {
            parts[i].data = data;
            data += slice_elements(&parts[i]);
        }
        t->owned_count += count;
    }
}

static Status tables_new(Tables *t, size_t rows, size_t ranges) {
    t->rows = (int)rows;
    t->names = calloc(rows, sizeof *t->names);
    t->weights = calloc(rows, sizeof(Slice));
    t->shares = calloc(rows, sizeof(Slice));
    t->moments = calloc(2 * rows, sizeof(Slice));
    t->owned = calloc(2 * CUT_SLICES * (rows + ranges), sizeof(Slice));
    if (!t->names || !t->weights || !t->shares || !t->moments || !t->owned)
        FAIL(E_NOMEM, "", "out of memory");
    return OK;
}

// Several ranks hold the same numbers; of those, one writes. All read.
static bool writes_row(const Run *run, const Param *p, bool moments) {
    const Mesh *m = &run->mesh;
    bool first = m->dp_rank == 0 && m->sp_rank == 0;
    if (p->tp_axis < 0 && m->tp_rank > 0) return false;
    return first || (moments && m->zero);
}

static Status tables_open(Tables *t, const Run *run, bool saving) {
    const ParamSet *ps = &run->model.params;
    int ranges;
    const Range *owned = reducer_ranges(run->reducer, &ranges);
    TRY(tables_new(t, (size_t)ps->count, (size_t)ranges));
    for (int i = 0; i < ps->count; i++) {
        const Param *p = &ps->rows[i];
        t->weights[i] = whole_slice(p, p->name);
        if (!saving || writes_row(run, p, false))
            t->shares[t->share_count++] = share_slice(p, &t->weights[i], p->data);
        for (int k = 0; k < 2; k++) {
            snprintf(t->names[i][k], sizeof t->names[i][k], "%c.%s", "mv"[k], p -> name);
            t->moments[2 * i + k] = whole_slice(p, t->names[i][k]);
        }
    }
    size_t packed = 0;
    for (int r = 0; r < ranges; r++) {
        for (int i = 0; i < ps->count; i++) {
            if (!saving || writes_row(run, &ps->rows[i], true))
                add_owned(t, run, i, owned[r], packed);
        }
        packed += owned[r].count;
    }
    return OK;
}

static void tables_close(Tables *t) {
    free(t->names);
    free(t->weights);
    free(t->shares);
    free(t->moments);
    free(t->owned);
}

// Collective(world).
static Status tables_agree(Tables *t, const Run *run, bool saving) {
    Status st = agree(tables_open(t, run, saving), run->mesh.world);
    if (st != OK) tables_close(t);
    return st;
}

static void tables_parts(const Tables *t, CkptPart parts[2]) {
    parts[0] = (CkptPart){.file = "model.safetensors",
                          .mine = {t->shares, t->share_count},
                          .layout = t->weights,
                          .layout_count = t->rows};
    parts[1] = (CkptPart){.file = "optimizer.safetensors",
                          .mine = {t->owned, t->owned_count},
                          .layout = t->moments,
                          .layout_count = 2 * t->rows};
}

// ---- counters ----------------------------------------------------------------------------------

static PackOut *counters_pack(const Run *run) {
    LoaderState st;
    loader_state(run->loader, &st);
    PackOut *w = packout_new();
    packout_map(w, 4);
    packout_text(w, "tokens_seen");
    packout_i64(w, run->tokens_seen);
    packout_text(w, "train_s");
    packout_f64(w, run->train_s);
    packout_text(w, "samples");
    packout_i64(w, st.samples);
    packout_text(w, "per_source");
    packout_array(w, MAX_SOURCES);
    for (int i = 0; i < MAX_SOURCES; i++) packout_i64(w, st.per_source[i]);
    return w;
}

static Status counters_read(Run *run, LoaderState *state, const PackValue *root) {
    const PackValue *per_source;
    uint32_t count;
    TRY(pack_i64(&run->tokens_seen, root, "tokens_seen"));
    TRY(pack_f64(&run->train_s, root, "train_s"));
    TRY(pack_i64(&state->samples, root, "samples"));
    TRY(pack_array(&per_source, &count, root, "per_source"));
    for (uint32_t i = 0; i < MAX_SOURCES; i++)
        TRY(pack_item_i64(&state->per_source[i], per_source, i));
    return OK;
}

static Status counters_unpack(Run *run, const Manifest *m) {
    static const char HERE[] = "manifest.msgpack: state";
    Pack *p = NULL;
    LoaderState state;
    TRY(pack_open(&p, m->state, m->state_bytes, HERE));
    Status st = counters_read(run, &state, pack_root(p));
    pack_close(p);
    if (st != OK) return err_context(st, "%s", HERE);
    run->step = m->step;
    return loader_restore(run->loader, &state);
}

static bool same_hash(Hash128 a, Hash128 b) {
    return a.low == b.low && a.high == b.high;
}

static Status check_corpus(const Run *run, const Manifest *m) {
    if (same_hash(m->corpus, corpus_hash(run->corpus))) return OK;
    FAIL(E_USAGE,
         "bring back its texts, or the version of sterna that made it, or start a new run "
         "directory",
         "%s: the corpus is not the one this run was trained on", run->cfg.data.cache);
}

// ---- save and resume ---------------------------------------------------------------------------

// What is copied must be equal, bit for bit: the shares of all replicas, and on the ranks of a tp
// axis what it does not split. Ranks on different processors could drift apart unseen.
static void check_copies(const Run *run) {
    const ParamSet *ps = &run->model.params;
    uint64_t copied = 0;
    comm_check_same(run->mesh.replicas, params_hash(ps), "weights of ranks with the same share");
    for (int i = 0; i < ps->count; i++) {
        const Param *p = &ps->rows[i];
        if (p->tp_axis < 0)
            copied += hash64(p->data, p->count * sizeof(real)) * (uint64_t)(2 * i + 1);
    }
    comm_check_same(run->mesh.tp_axis, copied, "weights that tensor parallelism does not split");
}

Status run_save(Run *run) {
    check_copies(run);
    Tables t = {0};
    char dir[PATH_BYTES];
    path_join(dir, run->cfg.train.run_dir, "ckpt");
    TRY(tables_agree(&t, run, true));
    PackOut *counters = counters_pack(run);
    size_t bytes;
    const char *state = packout_data(counters, &bytes);
    Manifest m = {.step = run->step,
                  .dp = run->mesh.dp,
                  .sp = run->mesh.sp,
                  .tp = run->mesh.tp,
                  .config = (char *)"",
                  .state = (char *)state,
                  .state_bytes = bytes,
                  .corpus = corpus_hash(run->corpus)};
    m.tokenizer.low = bpe_hash(run->bpe, &m.tokenizer.high);
    CkptPart parts[2];
    tables_parts(&t, parts);
    Status st = checkpoint_save(&run->mesh, dir, parts, 2, &m, (int)run->cfg.train.keep);
    packout_free(counters);
    tables_close(&t);
    if (st == OK && run->mesh.rank == 0 &&
        rundir_note_saved(run->cfg.train.run_dir, run->step) != OK)
        log_warn("%s", err_message());  // it is looked for only when no checkpoint is found
    run->last_save_s = clock_s();
    return st;
}

// Said before anything is prepared, too (rundir_check); meanwhile a disk may have gone.
static Status check_unsaved(const char *run_dir) {
    int64_t saved;
    TRY(rundir_saved(run_dir, &saved));
    if (saved < 0) return OK;
    FAIL(E_IO, "bring the checkpoints back, or give another train.run_dir to start over",
         "%s/ckpt: no checkpoint is there, but this run has saved one of step %lld", run_dir,
         (long long)saved);
}

Status run_resume(Run *run) {
    char dir[PATH_BYTES];
    path_join(dir, run->cfg.train.run_dir, "ckpt");
    int64_t step;
    TRY(checkpoint_find(&run->mesh, dir, &step));
    if (step < 0) {
        TRY(agree(run->mesh.rank == 0 ? check_unsaved(run->cfg.train.run_dir) : OK,
                  run->mesh.world));
        return run_reset(run);
    }
    Tables t = {0};
    TRY(tables_agree(&t, run, false));
    CkptPart parts[2];
    tables_parts(&t, parts);
    Manifest m = {0};
    Status st = checkpoint_load(&run->mesh, dir, step, parts, 2, &m);
    tables_close(&t);
    params_changed(&run->model.params);
    if (st == OK) {
        st = check_corpus(run, &m);
        if (st == OK) st = counters_unpack(run, &m);
        st = agree(st, run->mesh.world);
    }
    manifest_free(&m);
    return st;
}

// ---- export ------------------------------------------------------------------------------------

// The weights are those of the newest checkpoint, which the end of a run has just written: no rank
// holds them all.
static Status export_here(const Run *run, const char *dir) {
    char path[PATH_BYTES], ckpt[PATH_BYTES];
    TRY(hf_dir_take(dir));
    path_join(ckpt, run->cfg.train.run_dir, "ckpt");
    path_join(path, dir, "model.safetensors");
    Dtype stored;
    TRY(checkpoint_export_weights(ckpt, run->step, path, &stored));
    ModelFiles files = {.cfg = &run->model.cfg,
                        .bpe = run->bpe,
                        .tokenizer = run->tokenizer,
                        .dtype = stored == DTYPE_F64 ? "float64" : "float32"};
    return modelfiles_write(&files, dir);
}

Status run_export(Run *run) {
    char dir[PATH_BYTES];
    path_join(dir, run->cfg.train.run_dir, "model");
    Status st = agree(run->mesh.rank == 0 ? export_here(run, dir) : OK, run->mesh.world);
    if (st != E_IO) return st;
    char hint[512];
    snprintf(hint, sizeof hint, "%s; the run is saved, and the same command repeats the export",
             err_hint());
    return err_set(st, hint, "the model is not exported: %s", err_message());
}
