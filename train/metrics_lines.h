// Reading metrics.jsonl, one JSON object a line, as metrics.c writes it.
#pragma once

#include "base/json.h"

// A step or an evaluation names its step, a whole number; other objects may. What is none of that
// is bad.
typedef enum { LINE_STEP, LINE_EVAL, LINE_OTHER, LINE_EMPTY, LINE_BAD } LineKind;

typedef struct MetricsLine {
    const char *text;
    size_t bytes;  // without the newline
    LineKind kind;
    int64_t step;  // -1: it names none
} MetricsLine;

// Calls in the order of the file. `top`: the line's object, during the call; of a bad line it may
// be nothing, and err_message says why it is bad. Not collective.
typedef void (*MetricsLineFn)(const MetricsLine *line, const JsonAt *top, void *user);
void metrics_each(const char *text, size_t bytes, MetricsLineFn visit, void *user);
