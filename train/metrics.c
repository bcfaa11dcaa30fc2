// metrics.jsonl: one object a line. A log is worth less than the run it tells of: while a line
// cannot be written, training goes on and the line waits. And a bad line is worth less than a good
// one: cutting the log back to a checkpoint drops lines one by one.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "train/metrics_lines.h"
#include "train/run.h"

enum { WAITING_MOST = 16 << 20 };  // bytes of lines that wait

static void metrics_path(char path[PATH_BYTES], const char *run_dir) {
    path_join(path, run_dir, "metrics.jsonl");
}

static int64_t count_lines(const char *text, size_t bytes) {
    int64_t lines = 0;
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    return lines;
}

// ---- writing -----------------------------------------------------------------------------------

// The older half of what waits.
static void drop_oldest(MetricsLog *log) {
    const char *end = memchr(log->text + log->bytes / 2, '\n', log->bytes - log->bytes / 2);
    ASSERT(end != NULL);  // the last line has one
    size_t dropped = (size_t)(end + 1 - log->text);
    log->lost += count_lines(log->text, dropped);
    log->bytes -= dropped;
    memmove(log->text, log->text + dropped, log->bytes);
}

static void add_line(MetricsLog *log, const JsonOut *w) {
    size_t needed = log->bytes + w->bytes + 1;
    if (needed > log->capacity) {
        log->capacity = 2 * needed;
        log->text = realloc(log->text, log->capacity);
        ASSERT(log->text != NULL);
    }
    memcpy(log->text + log->bytes, w->text, w->bytes);
    log->text[needed - 1] = '\n';
    log->bytes = needed;
    if (log->bytes > WAITING_MOST) drop_oldest(log);
}

// All that waits, in one call.
static void write_waiting(Run *run) {
    MetricsLog *log = &run->metrics;
    char path[PATH_BYTES];
    if (log->bytes == 0) return;
    metrics_path(path, run->cfg.train.run_dir);
    if (file_append_lines(path, log->text, log->bytes) == OK) {
        if (log->failing)
            log_info("metrics.jsonl: %lld lines that waited are written",
                     (long long)count_lines(log->text, log->bytes));
        log->failing = false;
        log->bytes = 0;
        return;
    }
    if (!log->warned)
        log_warn(
            "%s; training goes on, and the lines of metrics.jsonl wait until they can be written",
            err_message());
    log->failing = log->warned = true;
    err_clear();
}

static void append_line(Run *run, JsonOut *w) {
    add_line(&run->metrics, w);
    jsonout_free(w);
    write_waiting(run);
}

// "lr" and "gnorm" of the first, "NAME.lr" and "NAME.gnorm" of the others.
static void add_learners(JsonOut *w, const Run *run, const StepResult *r) {
    for (int i = 0; i < run->learner_count; i++) {
        const Learner *l = &run->learner[i];
        char key[LABEL_BYTES + 8];
        if (l->frozen) continue;
        const char *dot = l->name[0] != '\0' ? "." : "";
        snprintf(key, sizeof key, "%s%slr", l->name, dot);
        jsonout_number(w, key, r->learner[i].lr);
        snprintf(key, sizeof key, "%s%sgnorm", l->name, dot);
        jsonout_number(w, key, r->learner[i].grad_norm);
    }
}

// Keys that end in _s and tok_s are times; everything else is the same for the same layout, bit for
// bit.
void metrics_step(Run *run, const StepResult *r, double step_s) {
    JsonOut w = {0};
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->data_hash);
    jsonout_open_object(&w, NULL);
    jsonout_text(&w, "kind", "step");
    jsonout_int(&w, "step", run->step);
    jsonout_number(&w, "loss", r->loss);
    add_learners(&w, run, r);
    jsonout_int(&w, "tokens", r->tokens);
    jsonout_int(&w, "tokens_seen", run->tokens_seen);
    jsonout_text(&w, "data_hash", hash);
    if (run->objective->metrics != NULL) run->objective->metrics(&w, r, run->counters);
    jsonout_number(&w, "step_s", step_s);
    jsonout_number(&w, "tok_s", (double)r->tokens / step_s);
    jsonout_close_object(&w);
    append_line(run, &w);
}

void metrics_eval(Run *run, const EvalResult *e, bool final) {
    JsonOut w = {0};
    jsonout_open_object(&w, NULL);
    jsonout_text(&w, "kind", "eval");
    jsonout_int(&w, "step", run->step);
    jsonout_bool(&w, "final", final);
    jsonout_number(&w, "nats_per_token", e->nats_per_token);
    jsonout_number(&w, "bits_per_byte", e->bits_per_byte);
    jsonout_int(&w, "tokens", e->tokens);
    jsonout_close_object(&w);
    append_line(run, &w);
}

void metrics_close(Run *run) {
    MetricsLog *log = &run->metrics;
    write_waiting(run);
    int64_t lost = log->lost + count_lines(log->text, log->bytes);
    if (lost > 0)
        log_warn("metrics.jsonl: %lld lines could not be written and are lost", (long long)lost);
    free(log->text);
    *log = (MetricsLog){0};
}

// ---- cutting -----------------------------------------------------------------------------------

typedef struct Line {
    MetricsLine line;
    bool repeated;  // a later line tells of the same
} Line;

typedef struct Lines {
    Line *at;
    size_t count;
} Lines;

static void add_to_lines(const MetricsLine *line, const JsonAt *top, void *user) {
    (void)top;
    Lines *lines = user;
    lines->at[lines->count++] = (Line){.line = *line};
}

static Status lines_read(Lines *lines, const char *text, size_t bytes) {
    lines->at = calloc((size_t)count_lines(text, bytes) + 1, sizeof *lines->at);
    if (lines->at == NULL) FAIL(E_NOMEM, "", "metrics.jsonl: no memory to read it");
    metrics_each(text, bytes, add_to_lines, lines);
    return OK;
}

// By kind and step, then by place in the file.
static int compare_lines(const void *a, const void *b) {
    const MetricsLine *x = &(*(Line *const *)a)->line, *y = &(*(Line *const *)b)->line;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    return (x->text > y->text) - (x->text < y->text);
}

// Of several lines that tell of the same step the last one holds: it is of the process that went
// on.
static Status mark_repeated(Lines *lines) {
    Line **sorted = malloc((lines->count + 1) * sizeof *sorted);
    if (sorted == NULL) FAIL(E_NOMEM, "", "metrics.jsonl: no memory to read it");
    for (size_t i = 0; i < lines->count; i++) sorted[i] = &lines->at[i];
    qsort(sorted, lines->count, sizeof *sorted, compare_lines);
    for (size_t i = 0; i + 1 < lines->count; i++) {
        const MetricsLine *line = &sorted[i]->line, *next = &sorted[i + 1]->line;
        if (line->kind > LINE_EVAL || line->kind != next->kind) continue;
        sorted[i]->repeated = line->step == next->step;
    }
    free(sorted);
    return OK;
}

// What is left out but was the user's is kept beside the log.
static Status set_aside(const Lines *lines, const char *path) {
    char aside[PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    int64_t count = 0;
    FILE *out = open_memstream(&text, &bytes);
    ASSERT(out != NULL);
    for (size_t i = 0; i < lines->count; i++) {
        const MetricsLine *line = &lines->at[i].line;
        if (line->kind != LINE_BAD && !lines->at[i].repeated) continue;
        fwrite(line->text, 1, line->bytes, out);
        fputc('\n', out);
        count++;
    }
    bool whole = fclose(out) == 0;
    ASSERT(whole);  // fails for want of memory only
    snprintf(aside, sizeof aside, "%s.bad", path);
    Status st = count > 0 ? file_append_lines(aside, text, bytes) : OK;
    if (st == OK && count > 0)
        log_warn("%s: %lld damaged or repeated lines are now in %s", path, (long long)count, aside);
    free(text);
    return st;
}

// Moves what stays to the front of the text, which has room for one more byte; returns its length.
static size_t keep_lines(const Lines *lines, char *text, int64_t step) {
    size_t kept = 0;
    for (size_t i = 0; i < lines->count; i++) {
        const MetricsLine *line = &lines->at[i].line;
        if (line->kind > LINE_OTHER || line->step > step || lines->at[i].repeated) continue;
        memmove(text + kept, line->text, line->bytes);
        kept += line->bytes;
        text[kept++] = '\n';
    }
    return kept;
}

// Empty when there is no such file. The text is the caller's, also after a failure.
static Status log_read(Lines *lines, char **text, size_t *bytes, const char *path) {
    *lines = (Lines){0};
    *text = NULL;
    *bytes = 0;
    Status st = path_look(path);
    if (st == E_MISSING) return OK;
    TRY(st);
    TRY(file_read(path, text, bytes));
    return lines_read(lines, *text, *bytes);
}

static bool has_evaluation(const Lines *lines, int64_t step) {
    for (size_t i = 0; i < lines->count; i++)
        if (lines->at[i].line.kind == LINE_EVAL && lines->at[i].line.step == step) return true;
    return false;
}

Status metrics_cut(const char *run_dir, int64_t step, bool *evaluated) {
    char path[PATH_BYTES], *text;
    size_t bytes;
    Lines lines;
    Status st = OK;
    *evaluated = false;
    metrics_path(path, run_dir);
    TRY_GOTO(log_read(&lines, &text, &bytes, path));
    if (text == NULL && step > 0)
        log_warn("%s is not there: the report will begin at step %lld", path, (long long)step + 1);
    TRY_GOTO(mark_repeated(&lines));
    *evaluated = has_evaluation(&lines, step);
    TRY_GOTO(set_aside(&lines, path));
    size_t kept = keep_lines(&lines, text, step);
    if (kept != bytes) TRY_GOTO(file_write(path, text, kept));
done:
    free(lines.at);
    free(text);
    return st;
}

Status metrics_last(const char *run_dir, int64_t *step) {
    char path[PATH_BYTES], *text;
    size_t bytes;
    Lines lines;
    *step = -1;
    metrics_path(path, run_dir);
    Status st = log_read(&lines, &text, &bytes, path);
    for (size_t i = 0; i < lines.count; i++)
        if (lines.at[i].line.step > *step) *step = lines.at[i].line.step;
    free(lines.at);
    free(text);
    return st;
}
