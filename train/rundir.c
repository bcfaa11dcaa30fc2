// The run directory: what was asked for, what was used, metrics and how it ended.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "train/start.h"

// What the last process used. E_MISSING: there was none.
static Status read_resolved(TrainConfig *used, const char *run_dir) {
    char path[PATH_BYTES];
    path_join(path, run_dir, "config.resolved.yaml");
    TRY(path_look(path));
    RunConfig *old = calloc(1, sizeof *old);
    ASSERT(old != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(old, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st = config_read_file(c, path);
    *used = old->train;
    config_free(c);
    free(old);
    return st;
}

// A measured train.steps stands in the resolved file; the origin says so again.
static Status take_measured_steps(RunConfig *cfg, Config *origins) {
    if (cfg->train.steps != 0) return OK;
    TrainConfig used;
    char setting[64];
    int64_t saved;
    Status st = read_resolved(&used, cfg->train.run_dir);
    if (st == E_MISSING) {  // killed before it was written; or lost since
        TRY(rundir_saved(cfg->train.run_dir, &saved));
        if (saved < 0) return OK;
        FAIL(E_IO, "bring it back: without it nobody knows how many steps train.minutes gave",
             "%s: config.resolved.yaml is not there, but a checkpoint of step %lld was saved",
             cfg->train.run_dir, (long long)saved);
    }
    TRY(st);
    snprintf(setting, sizeof setting, "train.steps=%lld", (long long)used.steps);
    return config_set(origins, setting, "measured: train.minutes");
}

// Is there a line of this key?
static bool has_key(const char *dump, const char *key, size_t bytes) {
    for (const char *at = dump; at != NULL && *at != '\0'; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, key, bytes) == 0 && at[bytes] == ':') return true;
    }
    return false;
}

// A key that an earlier version of the program did not have, and that nobody gave a value, is no
// difference.
static void drop_new_defaults(char *now, const char *before, const Config *origins) {
    char *to = now;
    for (char *line = now; *line != '\0';) {
        size_t n = strcspn(line, "\n"), key = strcspn(line, ":");
        n += line[n] == '\n';
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)key, line);
        if (has_key(before, line, key) || !config_is_default(origins, name)) {
            memmove(to, line, n);
            to += n;
        }
        line += n;
    }
    *to = '\0';
}

// config.requested.yaml begins with the run's objective, unless that is next-token prediction.
static const char OBJECTIVE[] = "# objective: ";

static void write_objective(char *line, size_t capacity, const Objective *o) {
    line[0] = '\0';
    if (o != &LANGUAGE_MODEL) snprintf(line, capacity, "%s%s\n", OBJECTIVE, o->name);
}

// Takes the first line off `text`.
static Status compare_objective(const char *run_dir, const char **text, const Objective *o) {
    char name[LABEL_BYTES];
    snprintf(name, sizeof name, "%s", LANGUAGE_MODEL.name);
    if (strncmp(*text, OBJECTIVE, sizeof OBJECTIVE - 1) == 0) {
        const char *begin = *text + sizeof OBJECTIVE - 1;
        size_t n = strcspn(begin, "\n");
        snprintf(name, sizeof name, "%.*s", (int)n, begin);
        *text = begin + n + (begin[n] == '\n');
    }
    if (strcmp(name, o->name) == 0) return OK;
    FAIL(E_USAGE, "give another train.run_dir, or the command that began the run",
         "%s holds a run of another kind: %s", run_dir, name);
}

static Status compare_requests(const Objective *o, const RunConfig *cfg, const char *path,
                               char *now, const Config *origins) {
    char *text = NULL, differences[1024];
    TRY(file_read(path, &text, NULL));
    const char *before = text;
    int count = 0;
    Status st = compare_objective(cfg->train.run_dir, &before, o);
    if (st == OK) {
        drop_new_defaults(now, before, origins);
        count = config_diff(before, now, differences, sizeof differences);
    }
    free(text);
    TRY(st);
    if (count == 0) return OK;
    FAIL(E_USAGE, "repeat the first configuration to resume, or give another train.run_dir",
         "%s holds a run with another configuration: %s", cfg->train.run_dir, differences);
}

// With the run that the directory holds, if it holds one.
static Status compare_here(const Objective *o, RunConfig *cfg, Config *origins) {
    char path[PATH_BYTES];
    path_join(path, cfg->train.run_dir, "config.requested.yaml");
    Status st = path_look(path);
    if (st == E_MISSING) return OK;
    TRY(st);
    char *now = config_dump_fixed(origins);
    st = compare_requests(o, cfg, path, now, origins);
    free(now);
    return st == OK ? take_measured_steps(cfg, origins) : st;
}

// Now rather than after an hour of preparing text. Imported sizes are read later.
static Status check_model(const RunConfig *cfg, const Config *origins, const Mesh *mesh) {
    ModelConfig m = cfg->model;
    if (cfg->train.init[0] != '\0') return OK;
    TRY(model_config_resolve(&m, origins));
    return model_check_mesh(&m, mesh);
}

static Status make_and_lock(const char *run_dir, Lock *lock) {
    char path[PATH_BYTES];
    bool held;
    LockHolder holder;
    TRY(dir_make(run_dir));
    path_join(path, run_dir, ".sterna-run.lock");
    TRY(lock_try(lock, path, &held, holder));
    if (!held) return OK;
    FAIL(E_USAGE, "wait for it, stop it, or give another train.run_dir",
         "%s: another process trains in this directory: %s", run_dir, holder);
}

Status rundir_open(const Objective *objective, RunConfig *cfg, Config *origins, const Mesh *mesh,
                   Lock *lock) {
    bool writer = mesh->rank == 0;
    Status st = run_config_check(cfg);
    if (st == OK) st = check_model(cfg, origins, mesh);
    if (st == OK && writer) st = rundir_check_own(cfg);
    if (st == OK && writer) st = make_and_lock(cfg->train.run_dir, lock);
    TRY(agree(st, mesh->world));
    st = compare_here(objective, cfg, origins);  // what is there now stays: it is locked
    if (st == OK && writer) st = rundir_take(cfg->train.run_dir);
    return agree(st, mesh->world);
}

// ---- checkpoint.json: what was saved, told outside of ckpt/, which may lie on another disk ------

static const char SAVED_FILE[] = "checkpoint.json";

Status rundir_note_saved(const char *run_dir, int64_t step) {
    JsonOut w = {.indent = 2};
    char path[PATH_BYTES];
    jsonout_open_object(&w, NULL);
    jsonout_int(&w, "step", step);
    jsonout_close_object(&w);
    path_join(path, run_dir, SAVED_FILE);
    Status st = file_write(path, w.text, w.bytes);
    jsonout_free(&w);
    return st;
}

// E_MISSING: no such file. E_FORMAT: damaged.
static Status open_note(Json **root, const char *run_dir, const char *name) {
    char path[PATH_BYTES];
    path_join(path, run_dir, name);
    *root = NULL;
    TRY(path_look(path));
    return json_open_file(root, path);
}

// Earlier versions wrote no note. A process that ended well, or was stopped, had saved; and a step
// beyond train.ckpt_every is made after that save only.
static Status saved_before(const char *run_dir, int64_t *step) {
    Json *root;
    int64_t last, end_step = -1;
    TrainConfig used;
    const char *end = "";
    Status st = open_note(&root, run_dir, "exit.json");
    JsonAt top = json_top(root, "exit.json", NULL);
    if (st == OK) st = json_opt_text(&end, &top, "status");
    if (st == OK) st = json_opt_int(&end_step, &top, "step");
    if (strcmp(end, status_name(OK)) == 0 || strcmp(end, status_name(E_STOPPED)) == 0)
        *step = end_step > 0 ? end_step : -1;  // stopped before the first step, it had not
    json_close(root);
    if (st == E_IO || *step >= 0) return st;
    TRY(metrics_last(run_dir, &last));
    st = read_resolved(&used, run_dir);
    if (st == OK && used.ckpt_every > 0 && last > used.ckpt_every)
        *step = (last - 1) / used.ckpt_every * used.ckpt_every;
    return st == E_IO ? st : OK;
}

Status rundir_saved(const char *run_dir, int64_t *step) {
    Json *root;
    *step = -1;
    Status st = open_note(&root, run_dir, SAVED_FILE);
    if (st == E_MISSING) return saved_before(run_dir, step);
    if (st != OK && st != E_FORMAT) return st;
    JsonAt top = json_top(root, SAVED_FILE, NULL);
    if (st != OK || json_need_int(step, &top, "step") != OK)
        *step = 0;  // what is damaged was written after a save, too
    err_clear();
    json_close(root);
    return OK;
}

// Without its checkpoints a run would start over, and its history would be cut to nothing.
static Status check_history(const char *run_dir) {
    char ckpt[PATH_BYTES];
    int64_t newest, saved;
    path_join(ckpt, run_dir, "ckpt");
    TRY(checkpoint_newest(ckpt, &newest));
    TRY(rundir_saved(run_dir, &saved));
    if (newest < 0 && saved >= 0)
        FAIL(E_IO,
             "mount the disk it lies on, or bring it back; to start over, give another "
             "train.run_dir or move this one away",
             "%s: no checkpoint is there, but this run has saved one of step %lld", ckpt,
             (long long)saved);
    if (newest < saved)
        log_warn("%s: the checkpoint of step %lld, the last that was saved, is not there", ckpt,
                 (long long)saved);
    if (newest > saved) TRY(rundir_note_saved(run_dir, newest));
    return dir_probe(run_dir);
}

Status rundir_check(const Mesh *mesh, const char *run_dir) {
    char ckpt[PATH_BYTES];
    TRY(agree(mesh->rank == 0 ? check_history(run_dir) : OK, mesh->world));
    path_join(ckpt, run_dir, "ckpt");
    return checkpoint_prepare(mesh, ckpt);
}

// ---- corpus.json: what the run was trained on, for the report --------------------------------

static void cleaning_json(JsonOut *w, Cleaning c) {
    jsonout_open_object(w, "cleaned");
    for (int f = 0; f < CLEANING_FIELD_COUNT; f++) {
        jsonout_int(w, CLEANING_FIELDS[f].key, *cleaning_count(&c, f));
    }
    jsonout_text(w, "first", c.first);
    jsonout_close_object(w);
}

static void source_json(JsonOut *w, const SourceReport *s) {
    jsonout_open_object(w, NULL);
    jsonout_text(w, "name", s->name);
    jsonout_int(w, "docs", s->docs);
    jsonout_int(w, "bytes", s->bytes);
    jsonout_int(w, "tokens", s->tokens);
    jsonout_int(w, "duplicates", s->duplicates);
    jsonout_int(w, "held_out_docs", s->held_out_docs);
    jsonout_number(w, "weight", s->weight);
    cleaning_json(w, s->cleaned);
    jsonout_close_object(w);
}

static Status corpus_json_write(const Run *run) {
    const CorpusReport *c = &run->corpus_report;
    JsonOut w = {.indent = 2};
    char path[PATH_BYTES];
    jsonout_open_object(&w, NULL);
    jsonout_open_array(&w, "sources");
    for (int i = 0; i < c->count; i++) source_json(&w, &c->source[i]);
    jsonout_close_array(&w);
    jsonout_number(&w, "bytes_per_token", c->bytes_per_token);
    jsonout_text(&w, "holdout_text", corpus_holdout_text_path(run->corpus));
    jsonout_int(&w, "holdout_bytes", c->holdout_bytes);
    jsonout_int(&w, "holdout_tokens", c->holdout_tokens);
    jsonout_bool(&w, "embedded_sample", c->embedded_sample);
    jsonout_int(&w, "parameters", (int64_t)model_parameters(&run->learner[0].model));
    jsonout_text(&w, "model", model_dim_summary(&run->learner[0].model.cfg));
    jsonout_close_object(&w);
    path_join(path, run->cfg.train.run_dir, "corpus.json");
    Status st = file_write(path, w.text, w.bytes);
    jsonout_free(&w);
    return st;
}

static Status write_requested(const char *path, const Objective *o, const Config *origins) {
    char line[LABEL_BYTES + sizeof OBJECTIVE + 1], *keys = config_dump_fixed(origins);
    write_objective(line, sizeof line, o);
    size_t first = strlen(line), bytes = first + strlen(keys);
    char *text = malloc(bytes + 1);
    ASSERT(text != NULL);
    memcpy(text, line, first);
    memcpy(text + first, keys, bytes - first + 1);
    Status st = file_write(path, text, bytes);
    free(keys);
    free(text);
    return st;
}

static Status save_here(const Run *run, RunConfig *cfg, Config *origins) {
    char path[PATH_BYTES];
    path_join(path, cfg->train.run_dir, "config.requested.yaml");
    Status there = path_look(path);
    if (there != OK && there != E_MISSING) return there;
    if (there == E_MISSING) {
        RunConfig used = run->cfg;
        cfg->train.steps =
            strcmp(config_origin(origins, "train.steps"), "measured: train.minutes") == 0
                ? 0
                : cfg->train.steps;
        Status st = write_requested(path, run->objective, origins);
        cfg->train.steps = used.train.steps;
        TRY(st);
    }
    start_tell_origins(origins, &cfg->model, &run->cfg.model);
    *cfg = run->cfg;  // the table's target: presets, vocabulary and micro-batch as resolved
    path_join(path, cfg->train.run_dir, "config.resolved.yaml");
    TRY(config_write(origins, path));
    return corpus_json_write(run);
}

Status rundir_save_config(const Run *run, RunConfig *cfg, Config *origins) {
    return agree(run->mesh.rank == 0 ? save_here(run, cfg, origins) : OK, run->mesh.world);
}

// ---- how it ended -------------------------------------------------------------------------------

Status exit_write(const Run *run, const char *reason, Status st) {
    JsonOut w = {.indent = 2};
    char path[PATH_BYTES];
    jsonout_open_object(&w, NULL);
    jsonout_text(&w, "reason", reason);
    jsonout_text(&w, "status", status_name(st));
    jsonout_int(&w, "code", status_exit_code(st));
    jsonout_int(&w, "step", run->step);
    jsonout_int(&w, "steps", run->cfg.train.steps);
    jsonout_close_object(&w);
    path_join(path, run->cfg.train.run_dir[0] != '\0' ? run->cfg.train.run_dir : ".", "exit.json");
    Status written = file_write(path, w.text, w.bytes);
    jsonout_free(&w);
    return written;
}

Status exit_remove(const char *run_dir) {
    char path[PATH_BYTES];
    path_join(path, run_dir, "exit.json");
    return file_remove(path);
}

// ---- comm.json ---------------------------------------------------------------------------------

static Status comm_json_here(const Run *run, const CommTable *table, const MemoryUse *memory) {
    JsonOut w = {.indent = 2};
    char path[PATH_BYTES];
    jsonout_open_object(&w, NULL);
    jsonout_int(&w, "dp", run->mesh.dp);
    jsonout_int(&w, "sp", run->mesh.sp);
    jsonout_int(&w, "tp", run->mesh.tp);
    accounts_json(&w, table);
    memory_json(&w, memory);
    jsonout_close_object(&w);
    path_join(path, run->cfg.train.run_dir, "comm.json");
    Status st = file_write(path, w.text, w.bytes);
    jsonout_free(&w);
    return st;
}

Status comm_json_write(const Run *run) {
    CommTable table;
    if (run->accounts.steps == 0) return OK;
    TRY(accounts_gather(&table, &run->accounts, run->mesh.world));
    Memory mine = run_memory(run);
    MemoryUse use = memory_gather(&mine, run->mesh.world);
    bool writes = run->mesh.rank == 0;
    return agree(writes ? comm_json_here(run, &table, &use) : OK, run->mesh.world);
}

Status comm_json_remove(const char *run_dir) {
    char path[PATH_BYTES];
    path_join(path, run_dir, "comm.json");
    return file_remove(path);
}
