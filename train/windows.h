// Loss of a long text in windows of T tokens: each token but the first is predicted once, and a window
// starts its own context. Used for held-out text during training and by `sterna eval`.
#pragma once

#include "model/model.h"

// Buffers of one window: a batch of a single row.
typedef struct Window {
    int T;
    int32_t *tokens, *targets;
    int64_t *pos;
    int *first;
    uint8_t *start;
} Window;

typedef struct WindowSum {
    double nats, tokens;  // sum over predicted tokens, and how many they were
} WindowSum;

Status window_open(Window *w, int T) CHECKED;  // E_NOMEM; window_close in any case
void window_close(Window *w);
// Adds the windows begin, begin + stride, ... of ids (count) to *sum. The tape has room for a batch of (1,T).
void window_losses(Window *w, WindowSum *sum, Tape *tape, Model *model, const int32_t *ids,
                   int64_t count, int begin, int stride);
