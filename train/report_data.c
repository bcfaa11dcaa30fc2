// What the report shows, read from a run directory: metrics.jsonl, corpus.json, compressors.json,
// comm.json, exit.json, config.resolved.yaml, samples/. The run may be going on, or have been
// interrupted at any moment: every piece may be missing or torn, and that is never a failure.
#include "train/report_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { SAMPLE_MOST = 6000, SMOOTH_SHARE = 80 };

// ---- series ------------------------------------------------------------------------------------

static void series_add(Series *s, double x, double y) {
    if (!isfinite(x) || !isfinite(y)) return;
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 256 : 2 * s->capacity;
        s->at = realloc(s->at, (size_t)s->capacity * sizeof *s->at);
        ASSERT(s->at != NULL);
    }
    s->at[s->count++] = (Point){x, y};
}

void series__free(Series *s) {
    free(s->at);
    *s = (Series){0};
}

void series__thin(Series *out, const Series *in, int most) {
    *out = (Series){0};
    int stretches = most / 2;
    if (in->count <= most) stretches = 0;
    for (int i = 0; stretches == 0 && i < in->count; i++) series_add(out, in->at[i].x, in->at[i].y);

    // Of each stretch its two extremes, in their order.
    for (int s = 0; s < stretches; s++) {
        int begin = (int)((int64_t)in->count * s / stretches);
        int end = (int)((int64_t)in->count * (s + 1) / stretches);
        int low = begin, high = begin;
        for (int i = begin; i < end; i++) {
            if (in->at[i].y < in->at[low].y) low = i;
            if (in->at[i].y > in->at[high].y) high = i;
        }
        int first = low < high ? low : high, second = low < high ? high : low;
        series_add(out, in->at[first].x, in->at[first].y);
        if (second != first) series_add(out, in->at[second].x, in->at[second].y);
    }
}

void series__smooth(Series *out, const Series *in) {
    *out = (Series){0};
    double *sum = malloc(((size_t)in->count + 1) * sizeof *sum);  // of the first i values
    ASSERT(sum != NULL);
    sum[0] = 0;
    for (int i = 0; i < in->count; i++) sum[i + 1] = sum[i] + in->at[i].y;
    for (int i = 0; i < in->count; i++) {
        // Even-sided where the curve begins, which is steep; as wide as before where it ends.
        int before = in->count / SMOOTH_SHARE + 1, after = before, left = in->count - 1 - i;
        if (before > i) before = after = i;
        if (after > left) after = left;
        series_add(out, in->at[i].x, (sum[i + after + 1] - sum[i - before]) / (before + after + 1));
    }
    free(sum);
}

// ---- metrics.jsonl -----------------------------------------------------------------------------

static double number(const Json *line, const char *key) {
    return json_number(json_get(line, key), NAN);
}

static void add_step(Report *r, const Json *line, double *tokens) {
    double step = number(line, "step"), s = number(line, "step_s"), n = number(line, "tokens");
    series_add(&r->loss, step, number(line, "loss"));
    series_add(&r->rate, step, number(line, "lr"));
    series_add(&r->norm, step, number(line, "gnorm"));
    series_add(&r->speed, step, number(line, "tok_s"));
    r->steps = json_int(json_get(line, "step"), r->steps);
    r->tokens_seen = json_int(json_get(line, "tokens_seen"), r->tokens_seen);
    if (isfinite(s) && isfinite(n)) {
        r->seconds += s;
        *tokens += n;
    }
}

static void add_eval(Report *r, const Json *line) {
    double bits = number(line, "bits_per_byte");
    series_add(&r->bits, number(line, "step"), bits);
    if (!isfinite(bits)) return;
    r->bits_per_byte = bits;
    r->nats_per_token = number(line, "nats_per_token");
    r->is_final = json_bool(json_get(line, "final"), false);
}

static void add_line(Report *r, const char *text, size_t bytes, double *tokens) {
    Json *line = NULL;
    if (bytes == 0) return;
    if (json_open(&line, text, bytes, "metrics.jsonl") != OK) {
        r->torn_lines++;
        return;
    }
    const char *kind = json_text(json_get(line, "kind"), "");
    if (strcmp(kind, "step") == 0) add_step(r, line, tokens);
    if (strcmp(kind, "eval") == 0) add_eval(r, line);
    json_close(line);
}

static void note_unreadable(Report *r, const char *name) {
    size_t n = strlen(r->unreadable);
    snprintf(r->unreadable + n, sizeof r->unreadable - n, "%s%s", n > 0 ? ", " : "", name);
}

// The text of a file of the run directory, NULL when it is not there or cannot be read.
static char *read_piece(Report *r, const char *name, size_t *bytes) {
    char path[PATH_BYTES], *text = NULL;
    path_join(path, r->dir, name);
    Status st = path_look(path);
    if (st == OK) st = file_read(path, &text, bytes);
    if (st != OK && st != E_MISSING) note_unreadable(r, name);
    return text;
}

static void read_metrics(Report *r) {
    size_t bytes = 0;
    double tokens = 0;
    char *text = read_piece(r, "metrics.jsonl", &bytes);
    for (size_t at = 0; text != NULL && at < bytes;) {
        const char *line = text + at, *end = memchr(line, '\n', bytes - at);
        size_t n = end == NULL ? bytes - at : (size_t)(end - line);
        add_line(r, line, n, &tokens);
        at += n + 1;
    }
    free(text);
    if (r->seconds > 0) r->tokens_per_s = tokens / r->seconds;
}

// ---- the JSON files ----------------------------------------------------------------------------

static Json *open_piece(Report *r, const char *name) {
    size_t bytes = 0;
    Json *root = NULL;
    char *text = read_piece(r, name, &bytes);
    if (text != NULL && json_open(&root, text, bytes, name) != OK) {
        note_unreadable(r, name);
        root = NULL;
    }
    free(text);
    return root;
}

static void copy_text(char *out, size_t capacity, const Json *v) {
    snprintf(out, capacity, "%s", json_text(v, ""));
}

static void read_source(ReportSource *s, const Json *v) {
    *s = (ReportSource){.docs = json_int(json_get(v, "docs"), -1),
                        .bytes = json_int(json_get(v, "bytes"), -1),
                        .tokens = json_int(json_get(v, "tokens"), -1),
                        .duplicates = json_int(json_get(v, "duplicates"), -1),
                        .held_out_docs = json_int(json_get(v, "held_out_docs"), -1),
                        .weight = json_number(json_get(v, "weight"), NAN)};
    copy_text(s->name, sizeof s->name, json_get(v, "name"));
}

static void read_corpus(Report *r) {
    Json *root = open_piece(r, "corpus.json");
    const Json *sources = json_get(root, "sources");
    size_t count = json_count(sources);
    for (size_t i = 0; i < count && r->source_count < REPORT_SOURCES; i++) {
        read_source(&r->source[r->source_count++], json_at(sources, i));
    }
    r->bytes_per_token = number(root, "bytes_per_token");
    r->holdout_bytes = json_int(json_get(root, "holdout_bytes"), -1);
    r->holdout_tokens = json_int(json_get(root, "holdout_tokens"), -1);
    r->parameters = json_int(json_get(root, "parameters"), -1);
    r->embedded_sample = json_bool(json_get(root, "embedded_sample"), false);
    copy_text(r->model, sizeof r->model, json_get(root, "model"));
    json_close(root);
}

static Status add_compressor(const char *name, const Json *value, void *user) {
    Report *r = user;
    double bits = json_number(value, NAN);
    if (!isfinite(bits) || bits < 0 || r->compressor_count == REPORT_BARS) return OK;
    Bar *b = &r->compressor[r->compressor_count++];
    snprintf(b->name, sizeof b->name, "%s", name);
    b->value = bits;
    return OK;
}

static int best_first(const void *a, const void *b) {
    const Bar *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

static void read_compressors(Report *r) {
    Json *root = open_piece(r, "compressors.json");
    if (json_is_object(root) && json_each(root, add_compressor, r) == OK) {
        qsort(r->compressor, (size_t)r->compressor_count, sizeof(Bar), best_first);
    }
    json_close(root);
}

static ReportComm read_use(const Json *v) {
    ReportComm c = {.calls = json_number(json_get(v, "calls"), 0),
                    .bytes = json_number(json_get(v, "bytes"), 0),
                    .wait_s = json_number(json_get(v, "wait_s"), 0),
                    .exposed_s = json_number(json_get(v, "exposed_s"), 0)};
    copy_text(c.name, sizeof c.name, json_get(v, "name"));
    return c;
}

void comm__add(ReportComm *sum, const ReportComm *c) {
    sum->calls += c->calls;
    sum->bytes += c->bytes;
    sum->wait_s += c->wait_s;
    sum->exposed_s += c->exposed_s;
}

static void read_comm(Report *r) {
    Json *root = open_piece(r, "comm.json");
    const Json *uses = json_get(root, "uses"), *between = json_get(root, "between_steps");
    for (size_t i = 0; i < json_count(uses) && r->comm_count < REPORT_USES; i++) {
        r->comm[r->comm_count++] = read_use(json_at(uses, i));
    }
    for (size_t i = 0; i < json_count(between); i++) {
        ReportComm c = read_use(json_at(between, i));
        comm__add(&r->comm_between, &c);
    }
    r->comm_ranks = json_int(json_get(root, "ranks"), -1);
    r->comm_dp = json_int(json_get(root, "dp"), -1);
    r->comm_sp = json_int(json_get(root, "sp"), -1);
    r->comm_tp = json_int(json_get(root, "tp"), -1);
    r->comm_steps = json_number(json_get(root, "steps"), NAN);
    r->comm_s = number(root, "step_s");
    json_close(root);
}

static void read_exit(Report *r) {
    Json *root = open_piece(r, "exit.json");
    copy_text(r->exit_reason, sizeof r->exit_reason, json_get(root, "reason"));
    copy_text(r->exit_status, sizeof r->exit_status, json_get(root, "status"));
    r->exit_code = json_int(json_get(root, "code"), -1);
    r->planned_steps = json_int(json_get(root, "steps"), -1);
    json_close(root);
}

// ---- samples -----------------------------------------------------------------------------------

// Names come in ascending order: the last ones are the newest.
static Status keep_newest(const char *name, void *user) {
    Report *r = user;
    size_t n = strlen(name);
    if (n < 5 || n >= REPORT_NAME || strcmp(name + n - 4, ".txt") != 0) return OK;
    if (r->sample_count < REPORT_SAMPLES) r->sample_count++;
    memmove(&r->sample[1], &r->sample[0], (REPORT_SAMPLES - 1) * sizeof r->sample[0]);
    r->sample[0] = (Sample){.text = NULL};
    memcpy(r->sample[0].name, name, n + 1);
    return OK;
}

static void read_samples(Report *r) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    path_join(dir, r->dir, "samples");
    if (!path_is_dir(dir) || dir_each(dir, keep_newest, r) != OK) return;
    for (int i = 0; i < r->sample_count; i++) {
        Sample *s = &r->sample[i];
        path_join(path, dir, s->name);
        if (file_read(path, &s->text, &s->bytes) != OK) s->text = NULL, s->bytes = 0;
        if (s->bytes > SAMPLE_MOST) s->bytes = SAMPLE_MOST;
    }
}

Status report__read(Report *r, const char *run_dir) {
    enum { ROOM = 64 };  // for the names of files below
    *r = (Report){.nats_per_token = NAN, .bits_per_byte = NAN, .tokens_per_s = NAN};
    if (!path_is_dir(run_dir) || strlen(run_dir) + ROOM + REPORT_NAME > PATH_BYTES) {
        FAIL(E_IO, "the directory given as train.run_dir", "%s: no such run directory", run_dir);
    }
    memcpy(r->dir, run_dir, strlen(run_dir) + 1);
    read_metrics(r);
    read_corpus(r);
    read_compressors(r);
    read_comm(r);
    read_exit(r);
    read_samples(r);
    r->config = read_piece(r, "config.resolved.yaml", NULL);
    err_clear();
    return OK;
}

void report__free(Report *r) {
    Series *const all[] = {&r->loss, &r->bits, &r->rate, &r->norm, &r->speed};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) series__free(all[i]);
    for (int i = 0; i < r->sample_count; i++) free(r->sample[i].text);
    free(r->config);
    *r = (Report){.sample_count = 0};
}
