// What the report shows, read from a run directory: metrics.jsonl, corpus.json, compressors.json,
// comm.json, exit.json, config.resolved.yaml, samples/. The run may be going on, or have been
// interrupted at any moment: every piece may be missing or torn, and that is never a failure.
#include "train/report_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "train/metrics_lines.h"

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

// NAN when there is none.
static Status number(double *out, const JsonAt *object, const char *key) {
    *out = NAN;
    return json_opt_number(out, object, key);
}

// A whole line, before anything of it is taken.
typedef struct Line {
    int64_t tokens_seen, tokens;
    bool final;
    int lost;  // values that were not finite: the writer puts null there (JSON has no word for it)
    double loss, lr, gnorm, tok_s, step_s, bits, nats;
} Line;

static Status measured(double *out, int *lost, const JsonAt *line, const char *key) {
    JsonAt v;
    TRY(number(out, line, key));
    TRY(json_member(&v, line, key));
    *lost += v.value != NULL && isnan(*out);
    return OK;
}

static Status read_line(Line *l, const JsonAt *line) {
    *l = (Line){.tokens_seen = -1, .tokens = -1};
    TRY(json_opt_int(&l->tokens_seen, line, "tokens_seen"));
    TRY(json_opt_bool(&l->final, line, "final"));
    TRY(measured(&l->loss, &l->lost, line, "loss"));
    TRY(number(&l->lr, line, "lr"));
    TRY(measured(&l->gnorm, &l->lost, line, "gnorm"));
    TRY(number(&l->tok_s, line, "tok_s"));
    TRY(number(&l->step_s, line, "step_s"));
    TRY(json_opt_int(&l->tokens, line, "tokens"));
    TRY(measured(&l->bits, &l->lost, line, "bits_per_byte"));
    return number(&l->nats, line, "nats_per_token");
}

static void add_step(Report *r, double step, const Line *l, double *tokens) {
    r->lost_values += l->lost;
    series_add(&r->loss, step, l->loss);
    series_add(&r->rate, step, l->lr);
    series_add(&r->norm, step, l->gnorm);
    series_add(&r->speed, step, l->tok_s);
    if (l->tokens_seen >= 0) r->tokens_seen = l->tokens_seen;
    if (isfinite(l->step_s) && l->tokens >= 0) {
        r->seconds += l->step_s;
        *tokens += (double)l->tokens;
    }
}

static void add_eval(Report *r, double step, const Line *l) {
    r->lost_values += l->lost;
    series_add(&r->bits, step, l->bits);
    if (!isfinite(l->bits)) return;
    r->bits_per_byte = l->bits;
    r->nats_per_token = l->nats;
    r->is_final = l->final;
}

// The curve of that name; NULL: there is no room for one more.
static Curve *find_curve(Report *r, const char *name) {
    int i = 0;
    while (i < r->curve_count && strcmp(r->curve[i].name, name) != 0) i++;
    if (i == REPORT_CURVES || strlen(name) >= REPORT_NAME) return NULL;
    if (i == r->curve_count) snprintf(r->curve[r->curve_count++].name, REPORT_NAME, "%s", name);
    return &r->curve[i];
}

// What other learners and objectives tell of themselves (metrics.c).
static Status add_curve(const JsonAt *member, void *user) {
    static const char *const KNOWN[] = {"step",   "loss",        "lr",     "gnorm",
                                        "tokens", "tokens_seen", "step_s", "tok_s"};
    Report *r = user;
    double value;
    if (json_kind(member) != J_NUMBER) return OK;
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++)
        if (strcmp(member->key, KNOWN[i]) == 0) return OK;
    TRY(json_number(&value, member));
    Curve *c = find_curve(r, member->key);
    if (c != NULL) series_add(&c->points, (double)r->steps, value);
    return OK;
}

// The page says why something is left out: the first reason.
static void note_damage(Report *r) {
    if (r->damage[0] == '\0') snprintf(r->damage, sizeof r->damage, "%s", err_message());
}

typedef struct Reading {
    Report *report;
    double tokens;  // of steps whose time is known
} Reading;

static void add_line(const MetricsLine *line, const JsonAt *top, void *user) {
    Reading *reading = user;
    Report *r = reading->report;
    Line l;
    if (line->kind == LINE_EMPTY || line->kind == LINE_OTHER) return;
    if (line->kind == LINE_BAD || read_line(&l, top) != OK) {
        r->torn_lines++;
        note_damage(r);
    } else if (line->kind == LINE_EVAL) {
        add_eval(r, (double)line->step, &l);
    } else {
        r->steps = line->step;
        add_step(r, (double)line->step, &l, &reading->tokens);
        if (json_each(top, add_curve, r) != OK) note_damage(r);
    }
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
    Reading reading = {.report = r};
    char *text = read_piece(r, "metrics.jsonl", &bytes);
    if (text != NULL) metrics_each(text, bytes, add_line, &reading);
    free(text);
    if (r->seconds > 0) r->tokens_per_s = reading.tokens / r->seconds;
}

// ---- the JSON files ----------------------------------------------------------------------------

// A piece with a value that cannot be read is left out whole.
static void take_piece(Report *r, const char *name, Status (*take)(Report *r, const JsonAt *top)) {
    size_t bytes = 0;
    Json *root = NULL;
    char *text = read_piece(r, name, &bytes);
    if (text == NULL) return;
    Report before = *r;  // pieces own no memory
    Status st = json_open(&root, text, bytes, name);
    JsonAt top = json_top(root, name, NULL);
    if (st == OK) st = take(r, &top);
    if (st != OK) {
        *r = before;
        note_unreadable(r, name);
        note_damage(r);
    }
    json_close(root);
    free(text);
}

static Status copy_text(char *out, size_t capacity, const JsonAt *object, const char *key) {
    const char *text = "";
    TRY(json_opt_text(&text, object, key));
    snprintf(out, capacity, "%s", text);
    return OK;
}

static Status count(int64_t *out, const JsonAt *object, const char *key) {
    *out = -1;
    return json_opt_int(out, object, key);
}

static Status read_cleaned(Cleaning *c, const JsonAt *source) {
    JsonAt v;
    const char *first = "";
    TRY(json_member(&v, source, "cleaned"));
    if (json_kind(&v) == J_NONE) return OK;  // written before cleaning was told
    for (int f = 0; f < CLEANING_FIELD_COUNT; f++)
        TRY(json_opt_int(cleaning_count(c, f), &v, CLEANING_FIELDS[f].key));
    TRY(json_opt_text(&first, &v, "first"));
    snprintf(c->first, sizeof c->first, "%s", first);
    return OK;
}

static Status read_source(ReportSource *s, const JsonAt *v) {
    TRY(copy_text(s->name, sizeof s->name, v, "name"));
    TRY(count(&s->docs, v, "docs"));
    TRY(count(&s->bytes, v, "bytes"));
    TRY(count(&s->tokens, v, "tokens"));
    TRY(count(&s->duplicates, v, "duplicates"));
    TRY(count(&s->held_out_docs, v, "held_out_docs"));
    TRY(read_cleaned(&s->cleaned, v));
    return number(&s->weight, v, "weight");
}

static Status take_corpus(Report *r, const JsonAt *top) {
    JsonAt sources, v;
    TRY(json_need_list(&sources, top, "sources"));
    for (size_t i = 0; i < json_count(&sources) && r->source_count < REPORT_SOURCES; i++) {
        TRY(json_item(&v, &sources, i));
        TRY(read_source(&r->source[r->source_count++], &v));
    }
    TRY(number(&r->bytes_per_token, top, "bytes_per_token"));
    TRY(count(&r->holdout_bytes, top, "holdout_bytes"));
    TRY(count(&r->holdout_tokens, top, "holdout_tokens"));
    TRY(count(&r->parameters, top, "parameters"));
    TRY(json_opt_bool(&r->embedded_sample, top, "embedded_sample"));
    return copy_text(r->model, sizeof r->model, top, "model");
}

// One odd entry costs that entry: people write this file.
static Status add_compressor(const JsonAt *member, void *user) {
    Report *r = user;
    double bits;
    Status st = json_number(&bits, member);
    if (st == OK && !(bits >= 0)) st = json_refuse(member, "bits per byte");
    if (st != OK) note_damage(r);
    if (st != OK || r->compressor_count == REPORT_BARS) return OK;
    Bar *b = &r->compressor[r->compressor_count++];
    snprintf(b->name, sizeof b->name, "%s", member->key);
    b->value = bits;
    return OK;
}

static int best_first(const void *a, const void *b) {
    const Bar *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

static Status take_compressors(Report *r, const JsonAt *top) {
    TRY(json_each(top, add_compressor, r));
    qsort(r->compressor, (size_t)r->compressor_count, sizeof(Bar), best_first);
    return OK;
}

static Status read_use(ReportComm *c, const JsonAt *v) {
    *c = (ReportComm){.calls = 0};
    TRY(json_opt_number(&c->calls, v, "calls"));
    TRY(json_opt_number(&c->bytes, v, "bytes"));
    TRY(json_opt_number(&c->wait_s, v, "wait_s"));
    TRY(json_opt_number(&c->exposed_s, v, "exposed_s"));
    return copy_text(c->name, sizeof c->name, v, "name");
}

void report__add_comm(ReportComm *sum, const ReportComm *c) {
    sum->calls += c->calls;
    sum->bytes += c->bytes;
    sum->wait_s += c->wait_s;
    sum->exposed_s += c->exposed_s;
}

static Status take_comm(Report *r, const JsonAt *top) {
    JsonAt uses, between, v;
    TRY(json_need_list(&uses, top, "uses"));
    TRY(json_need_list(&between, top, "between_steps"));
    for (size_t i = 0; i < json_count(&uses) && r->comm_count < REPORT_USES; i++) {
        TRY(json_item(&v, &uses, i));
        TRY(read_use(&r->comm[r->comm_count++], &v));
    }
    for (size_t i = 0; i < json_count(&between); i++) {
        ReportComm c;
        TRY(json_item(&v, &between, i));
        TRY(read_use(&c, &v));
        report__add_comm(&r->comm_between, &c);
    }
    TRY(count(&r->comm_ranks, top, "ranks"));
    TRY(count(&r->comm_dp, top, "dp"));
    TRY(count(&r->comm_sp, top, "sp"));
    TRY(count(&r->comm_tp, top, "tp"));
    int64_t steps;
    TRY(count(&steps, top, "steps"));
    r->comm_steps = steps < 0 ? NAN : (double)steps;
    return number(&r->comm_s, top, "step_s");
}

static Status take_exit(Report *r, const JsonAt *top) {
    TRY(copy_text(r->exit_reason, sizeof r->exit_reason, top, "reason"));
    TRY(copy_text(r->exit_status, sizeof r->exit_status, top, "status"));
    TRY(count(&r->exit_code, top, "code"));
    return count(&r->planned_steps, top, "steps");
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
    Status st = path_look(dir);
    if (st == OK) st = dir_each(dir, keep_newest, r);
    bool whole = st == OK || st == E_MISSING;
    for (int i = 0; i < r->sample_count; i++) {
        Sample *s = &r->sample[i];
        path_join(path, dir, s->name);
        if (file_read(path, &s->text, &s->bytes) != OK) {
            whole = false;
            s->text = NULL;
            s->bytes = 0;
        }
        if (s->bytes > SAMPLE_MOST) s->bytes = SAMPLE_MOST;
    }
    if (!whole) note_unreadable(r, "samples");
}

Status report__read(Report *r, const char *run_dir) {
    enum { ROOM = 64 };  // for the names of files below
    *r = (Report){.nats_per_token = NAN,
                  .bits_per_byte = NAN,
                  .tokens_per_s = NAN,
                  .bytes_per_token = NAN,
                  .comm_steps = NAN,
                  .comm_s = NAN};
    r->holdout_bytes = r->holdout_tokens = r->parameters = -1;
    r->comm_ranks = r->comm_dp = r->comm_sp = r->comm_tp = r->exit_code = r->planned_steps = -1;
    if (!path_is_dir(run_dir) || strlen(run_dir) + ROOM + REPORT_NAME > PATH_BYTES) {
        FAIL(E_IO, "the directory given as train.run_dir", "%s: no such run directory", run_dir);
    }
    memcpy(r->dir, run_dir, strlen(run_dir) + 1);
    read_metrics(r);
    take_piece(r, "corpus.json", take_corpus);
    take_piece(r, "compressors.json", take_compressors);
    take_piece(r, "comm.json", take_comm);
    take_piece(r, "exit.json", take_exit);
    read_samples(r);
    r->config = read_piece(r, "config.resolved.yaml", NULL);
    err_clear();
    return OK;
}

void report__free(Report *r) {
    Series *const all[] = {&r->loss, &r->bits, &r->rate, &r->norm, &r->speed};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) series__free(all[i]);
    for (int i = 0; i < r->curve_count; i++) series__free(&r->curve[i].points);
    for (int i = 0; i < r->sample_count; i++) free(r->sample[i].text);
    free(r->config);
    *r = (Report){.sample_count = 0};
}
