// Reading metrics.jsonl.
#include "train/metrics_lines.h"

#include <string.h>

static Status parse(MetricsLine *line, const JsonAt *top) {
    const char *kind = "";
    TRY(json_opt_text(&kind, top, "kind"));
    bool step = strcmp(kind, "step") == 0, eval = strcmp(kind, "eval") == 0;
    line->kind = step ? LINE_STEP : eval ? LINE_EVAL : LINE_OTHER;
    if (step || eval) return json_need_int(&line->step, top, "step");
    return json_opt_int(&line->step, top, "step");
}

static void visit_line(MetricsLine *line, MetricsLineFn visit, void *user) {
    Json *root = NULL;
    JsonAt top = {.value = NULL};
    Status st = OK;
    if (line->bytes > 0) {
        st = json_open(&root, line->text, line->bytes, "metrics.jsonl");
        top = json_top(root, "metrics.jsonl", NULL);
        if (st == OK) st = parse(line, &top);
        if (st != OK) line->kind = LINE_BAD;
    }
    visit(line, &top, user);
    err_clear();
    json_close(root);
}

void metrics_each(const char *text, size_t bytes, MetricsLineFn visit, void *user) {
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t n = end == NULL ? bytes - at : (size_t)(end - (text + at));
        MetricsLine line = {text + at, n, LINE_EMPTY, -1};
        visit_line(&line, visit, user);
        at += n + 1;
    }
}
