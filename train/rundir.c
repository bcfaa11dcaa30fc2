// The run directory: what was asked for, what was used, metrics and how it ended.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "train/run.h"

// Keys that change no number of a run beyond rounding: they may differ when it is resumed.
static const char *const FREE_KEYS[] = {"train.run_dir",
                                        "train.log_every",
                                        "train.ckpt_every",
                                        "train.ckpt_minutes",
                                        "train.keep",
                                        "train.bucket_mb",
                                        "train.sample_every",
                                        "train.sample_prompt",
                                        "train.minutes",
                                        "data.cache",
                                        "parallel.",
                                        "sample."};

static bool is_free_key(const char *line) {
    for (size_t i = 0; i < sizeof FREE_KEYS / sizeof FREE_KEYS[0]; i++) {
        if (strncmp(line, FREE_KEYS[i], strlen(FREE_KEYS[i])) == 0) return true;
    }
    return false;
}

// The requested configuration as text, without the free keys. malloc'ed.
static char *requested_text(const Config *origins) {
    char *dump = config_dump(origins), *to = dump;
    for (char *line = dump; *line != '\0';) {
        char *next = strchr(line, '\n');
        next = next == NULL ? line + strlen(line) : next + 1;
        if (!is_free_key(line)) {
            memmove(to, line, (size_t)(next - line));
            to += next - line;
        }
        line = next;
    }
    *to = '\0';
    return dump;
}

// A measured train.steps stands in the resolved file; the origin says so again.
static Status take_measured_steps(RunConfig *cfg, Config *origins) {
    if (cfg->train.steps != 0) return OK;
    char path[PATH_BYTES], setting[64];
    path_join(path, cfg->train.run_dir, "config.resolved.yaml");
    if (!path_exists(path)) return OK;
    RunConfig *old = calloc(1, sizeof *old);
    ASSERT(old != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(old, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st = config_read_file(c, path);
    snprintf(setting, sizeof setting, "train.steps=%lld", (long long)old->train.steps);
    config_free(c);
    free(old);
    TRY(st);
    return config_set(origins, setting, "measured: train.minutes");
}

static Status compare_requests(const RunConfig *cfg, const char *path, const char *now) {
    char *before = NULL, differences[1024];
    TRY(file_read(path, &before, NULL));
    int count = config_diff(before, now, differences, sizeof differences);
    free(before);
    if (count == 0) return OK;
    for (char *c = differences; *c != '\0'; c++) {
        if (*c == '\n') *c = c[1] == '\0' ? '\0' : ';';
    }
    FAIL(E_USAGE, "repeat the first configuration to resume, or give another train.run_dir",
         "%s holds a run with another configuration: %s", cfg->train.run_dir, differences);
}

static Status open_here(RunConfig *cfg, Config *origins, bool writer) {
    char path[PATH_BYTES];
    char *now = requested_text(origins);
    path_join(path, cfg->train.run_dir, "config.requested.yaml");
    Status st = OK;
    if (path_exists(path)) {
        st = compare_requests(cfg, path, now);
        if (st == OK) st = take_measured_steps(cfg, origins);
    } else if (writer) {
        st = dir_make(cfg->train.run_dir);
    }
    free(now);
    return st;
}

// Now rather than after an hour of preparing text. Imported sizes are read later.
static Status check_model(const RunConfig *cfg, const Config *origins, const Mesh *mesh) {
    ModelConfig m = cfg->model;
    if (cfg->train.init[0] != '\0') return OK;
    TRY(model_config_resolve(&m, origins));
    return model_check_mesh(&m, mesh);
}

Status rundir_lock(const char *run_dir, Lock *lock) {
    char path[PATH_BYTES];
    bool held;
    LockHolder holder;
    path_join(path, run_dir, ".sterna-run.lock");
    TRY(lock_try(lock, path, &held, holder));
    if (!held) return rundir_take(run_dir);
    FAIL(E_USAGE, "wait for it, stop it, or give another train.run_dir",
         "%s: another process trains in this directory: %s", run_dir, holder);
}

Status rundir_open(RunConfig *cfg, Config *origins, const Mesh *mesh) {
    Status st = run_config_check(cfg);
    if (st == OK) st = check_model(cfg, origins, mesh);
    if (st == OK && mesh->rank == 0) st = rundir_check_own(cfg);
    if (st == OK) st = open_here(cfg, origins, mesh->rank == 0);
    return agree(st, mesh->world);
}

// ---- corpus.json: what the run was trained on, for the report --------------------------------

static void source_json(JsonOut *w, const SourceReport *s) {
    jsonout_open_object(w, NULL);
    jsonout_text(w, "name", s->name);
    jsonout_int(w, "docs", s->docs);
    jsonout_int(w, "bytes", s->bytes);
    jsonout_int(w, "tokens", s->tokens);
    jsonout_int(w, "duplicates", s->duplicates);
    jsonout_int(w, "held_out_docs", s->held_out_docs);
    jsonout_number(w, "weight", s->weight);
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
    jsonout_int(&w, "parameters", (int64_t)model_parameters(&run->model));
    jsonout_text(&w, "model", model_dim_summary(&run->model.cfg));
    jsonout_close_object(&w);
    path_join(path, run->cfg.train.run_dir, "corpus.json");
    Status st = file_write(path, w.text, w.bytes);
    jsonout_free(&w);
    return st;
}

static Status save_here(const Run *run, RunConfig *cfg, Config *origins) {
    char path[PATH_BYTES];
    path_join(path, cfg->train.run_dir, "config.requested.yaml");
    if (!path_exists(path)) {
        RunConfig used = run->cfg;
        cfg->train.steps =
            strcmp(config_origin(origins, "train.steps"), "measured: train.minutes") == 0
                ? 0
                : cfg->train.steps;
        char *text = requested_text(origins);
        Status st = file_write(path, text, strlen(text));
        free(text);
        cfg->train.steps = used.train.steps;
        TRY(st);
    }
    *cfg = run->cfg;  // the table's target: presets, vocabulary and micro-batch as resolved
    path_join(path, cfg->train.run_dir, "config.resolved.yaml");
    TRY(config_write(origins, path));
    return corpus_json_write(run);
}

Status rundir_save_config(const Run *run, RunConfig *cfg, Config *origins) {
    return agree(run->mesh.rank == 0 ? save_here(run, cfg, origins) : OK, run->mesh.world);
}

// ---- metrics.jsonl -----------------------------------------------------------------------------

static Status append_line(const Run *run, JsonOut *w) {
    char path[PATH_BYTES];
    path_join(path, run->cfg.train.run_dir, "metrics.jsonl");
    char *line = malloc(w->bytes + 1);
    ASSERT(line != NULL);
    memcpy(line, w->text, w->bytes);
    line[w->bytes] = '\n';
    Status st = file_append(path, line, w->bytes + 1);
    free(line);
    jsonout_free(w);
    return st;
}

// Keys that end in _s and tok_s are times; everything else is the same for the same layout, bit for
// bit.
Status metrics_step(Run *run, const StepResult *r, double step_s) {
    JsonOut w = {0};
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->data_hash);
    jsonout_open_object(&w, NULL);
    jsonout_text(&w, "kind", "step");
    jsonout_int(&w, "step", run->step);
    jsonout_number(&w, "loss", r->loss);
    jsonout_number(&w, "lr", r->lr);
    jsonout_number(&w, "gnorm", r->grad_norm);
    jsonout_int(&w, "tokens", r->tokens);
    jsonout_int(&w, "tokens_seen", run->tokens_seen);
    jsonout_text(&w, "data_hash", hash);
    jsonout_number(&w, "step_s", step_s);
    jsonout_number(&w, "tok_s", (double)r->tokens / step_s);
    jsonout_close_object(&w);
    return append_line(run, &w);
}

Status metrics_eval(Run *run, const EvalResult *e, bool final) {
    JsonOut w = {0};
    jsonout_open_object(&w, NULL);
    jsonout_text(&w, "kind", "eval");
    jsonout_int(&w, "step", run->step);
    jsonout_bool(&w, "final", final);
    jsonout_number(&w, "nats_per_token", e->nats_per_token);
    jsonout_number(&w, "bits_per_byte", e->bits_per_byte);
    jsonout_int(&w, "tokens", e->tokens);
    jsonout_close_object(&w);
    return append_line(run, &w);
}

// The step a line belongs to, and whether it is an evaluation; a torn last line counts as too late.
static int64_t line_step(const char *line, size_t bytes, bool *is_eval) {
    Json *root = NULL;
    if (json_open(&root, line, bytes, "metrics.jsonl") != OK) {
        err_clear();
        return INT64_MAX;
    }
    int64_t step = json_int(json_get(root, "step"), INT64_MAX);
    *is_eval = strcmp(json_text(json_get(root, "kind"), ""), "eval") == 0;
    json_close(root);
    return step;
}

Status metrics_cut(const char *run_dir, int64_t step, bool *evaluated) {
    char path[PATH_BYTES], *text = NULL;
    size_t bytes, kept = 0;
    *evaluated = false;
    path_join(path, run_dir, "metrics.jsonl");
    if (!path_exists(path)) return OK;
    TRY(file_read(path, &text, &bytes));
    while (kept < bytes) {
        const char *line = text + kept, *end = memchr(line, '\n', bytes - kept);
        bool is_eval = false;
        int64_t at = end == NULL ? INT64_MAX : line_step(line, (size_t)(end - line), &is_eval);
        if (at > step) break;
        if (is_eval && at == step) *evaluated = true;
        kept += (size_t)(end - line) + 1;
    }
    Status st = kept < bytes ? file_write(path, text, kept) : OK;
    free(text);
    return st;
}

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
