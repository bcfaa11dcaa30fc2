// A run's checkpoints: the parts of its learners, counters in the manifest; and the model it
// exports.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pack.h"
#include "parallel/agree.h"
#include "train/parts.h"

// ---- counters ----------------------------------------------------------------------------------

static int frozen_count(const Run *run) {
    int count = 0;
    for (int i = 0; i < run->learner_count; i++) count += run->learner[i].frozen;
    return count;
}

static void objective_pack(PackOut *w, const Run *run) {
    const Objective *o = run->objective;
    int frozen = frozen_count(run);
    packout_text(w, "objective");
    packout_map(w, (uint32_t)(2 + o->counter_count));
    packout_text(w, "name");
    packout_text(w, o->name);
    for (int i = 0; i < o->counter_count; i++) {
        packout_text(w, o->counters[i]);
        packout_f64(w, run->counters[i]);
    }
    packout_text(w, "frozen");
    packout_map(w, (uint32_t)frozen);
    for (int i = 0; i < run->learner_count; i++) {
        if (!run->learner[i].frozen) continue;
        packout_text(w, run->learner[i].name);
        packout_i64(w, (int64_t)run->learner[i].identity);
    }
}

// What is trained there, and its counters; NULL: next-token prediction.
static Status objective_find(const PackValue **map, char name[LABEL_BYTES], const PackValue *root) {
    *map = NULL;
    snprintf(name, LABEL_BYTES, "%s", LANGUAGE_MODEL.name);
    if (!pack_has(root, "objective")) return OK;
    TRY(pack_map(map, root, "objective"));
    return pack_text(name, LABEL_BYTES, *map, "name");
}

static PackOut *counters_pack(const Run *run) {
    LoaderState st;
    loader_state(run->loader, &st);
    PackOut *w = packout_new();
    const Objective *o = run->objective;
    bool named = o != &LANGUAGE_MODEL;  // whose checkpoints name none
    packout_map(w, 4 + named);
    packout_text(w, "tokens_seen");
    packout_i64(w, run->tokens_seen);
    packout_text(w, "train_s");
    packout_f64(w, run->train_s);
    packout_text(w, "samples");
    packout_i64(w, st.samples);
    packout_text(w, "per_source");
    packout_array(w, MAX_SOURCES);
    for (int i = 0; i < MAX_SOURCES; i++) packout_i64(w, st.per_source[i]);
    if (named) objective_pack(w, run);
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
    const PackValue *map;
    char name[LABEL_BYTES];
    TRY(objective_find(&map, name, root));
    for (int i = 0; i < run->objective->counter_count; i++)
        TRY(pack_f64(&run->counters[i], map, run->objective->counters[i]));
    return OK;
}

static const char STATE[] = "manifest.msgpack: state";

static Status counters_unpack(Run *run, const Manifest *m) {
    Pack *p = NULL;
    LoaderState state;
    TRY(pack_open(&p, m->state, m->state_bytes, STATE));
    Status st = counters_read(run, &state, pack_root(p));
    pack_close(p);
    if (st != OK) return err_context(st, "%s", STATE);
    run->step = m->step;
    return loader_restore(run->loader, &state);
}

// Frozen models are not saved: they must be those that the run began with.
static Status check_frozen(const Run *run, const PackValue *map) {
    const PackValue *frozen;
    if (frozen_count(run) == 0) return OK;
    TRY(pack_map(&frozen, map, "frozen"));
    for (int i = 0; i < run->learner_count; i++) {
        const Learner *l = &run->learner[i];
        int64_t identity;
        if (!l->frozen) continue;
        TRY(pack_i64(&identity, frozen, l->name));
        if ((uint64_t)identity == l->identity) continue;
        FAIL(E_USAGE, "bring back its weights, or start a new run directory",
             "%s: the frozen model '%s' is not the one this run began with", run->cfg.train.run_dir,
             l->name);
    }
    return OK;
}

static Status check_root(const Run *run, const PackValue *root) {
    const PackValue *map;
    char name[LABEL_BYTES];
    TRY(objective_find(&map, name, root));
    if (strcmp(name, run->objective->name) == 0) return check_frozen(run, map);
    FAIL(E_USAGE, "give another train.run_dir, or the command that began the run",
         "%s holds a run of another kind: %s", run->cfg.train.run_dir, name);
}

static Status check_objective(const Run *run, const Manifest *m) {
    Pack *p = NULL;
    TRY(pack_open(&p, m->state, m->state_bytes, STATE));
    Status st = check_root(run, pack_root(p));
    pack_close(p);
    return st == E_FORMAT ? err_context(st, "%s", STATE) : st;
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
static void check_copies(const Run *run, const Learner *l) {
    const ParamSet *ps = &l->model.params;
    uint64_t copied = 0;
    comm_check_same(run->mesh.replicas, params_hash(ps), "weights of ranks with the same share");
    for (int i = 0; i < ps->count; i++) {
        const Param *p = &ps->rows[i];
        if (p->tp_axis < 0)
            copied += hash64(p->data, p->count * sizeof(real)) * (uint64_t)(2 * i + 1);
    }
    comm_check_same(run->mesh.tp_axis, copied, "weights that tensor parallelism does not split");
}

static Status save_parts(Run *run, const char *dir, const Parts *parts) {
    PackOut *counters = counters_pack(run);
    size_t bytes;
    const char *state = packout_data(counters, &bytes);
    Manifest m = {.version = run->objective == &LANGUAGE_MODEL ? 1 : 2,
                  .step = run->step,
                  .dp = run->mesh.dp,
                  .sp = run->mesh.sp,
                  .tp = run->mesh.tp,
                  .config = (char *)"",
                  .state = (char *)state,
                  .state_bytes = bytes,
                  .corpus = corpus_hash(run->corpus)};
    m.tokenizer.low = bpe_hash(run->bpe, &m.tokenizer.high);
    Status st =
        checkpoint_save(&run->mesh, dir, parts->part, parts->count, &m, (int)run->cfg.train.keep);
    packout_free(counters);
    return st;
}

Status run_save(Run *run) {
    for (int i = 0; i < run->learner_count; i++) check_copies(run, &run->learner[i]);
    Parts parts;
    char dir[PATH_BYTES];
    path_join(dir, run->cfg.train.run_dir, "ckpt");
    Status st = parts_open(&parts, run, true);
    if (st == OK) st = save_parts(run, dir, &parts);
    parts_close(&parts);
    TRY(st);
    if (run->mesh.rank == 0 && rundir_note_saved(run->cfg.train.run_dir, run->step) != OK)
        log_warn("%s", err_message());  // it is looked for only when no checkpoint is found
    run->last_save_s = clock_s();
    return OK;
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

// That it is this run's checkpoint is said before anything is read that may not fit.
static Status check_step(const Run *run, const char *ckpt, int64_t step) {
    char dir[PATH_BYTES];
    Manifest m;
    checkpoint_step_dir(dir, ckpt, step);
    TRY(checkpoint_manifest(dir, &m));
    Status st = check_objective(run, &m);
    if (st == OK) st = check_corpus(run, &m);
    manifest_free(&m);
    return st;
}

static Status load_step(Run *run, const char *ckpt, int64_t step) {
    Parts parts;
    Manifest m = {0};
    Status st = parts_open(&parts, run, false);
    if (st == OK) st = checkpoint_load(&run->mesh, ckpt, step, parts.part, parts.count, &m);
    parts_close(&parts);
    for (int i = 0; i < run->learner_count; i++) params_changed(&run->learner[i].model.params);
    if (st == OK) st = agree(counters_unpack(run, &m), run->mesh.world);
    manifest_free(&m);
    return st;
}

Status run_resume(Run *run) {
    char ckpt[PATH_BYTES];
    bool first = run->mesh.rank == 0;
    path_join(ckpt, run->cfg.train.run_dir, "ckpt");
    int64_t step;
    TRY(checkpoint_find(&run->mesh, ckpt, &step));
    if (step < 0) {
        TRY(agree(first ? check_unsaved(run->cfg.train.run_dir) : OK, run->mesh.world));
        return run_reset(run);
    }
    TRY(agree(check_step(run, ckpt, step), run->mesh.world));
    return load_step(run, ckpt, step);
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
    ModelFiles files = {.cfg = &run->learner[0].model.cfg,
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
