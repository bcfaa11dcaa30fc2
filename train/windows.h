// Loss of a long text in windows of T tokens: each token but the first is predicted once, and a window
// starts its own context. Used for held-out text during training and by `sterna eval`.
#pragma once

#include "model/model.h"

// Buffers of one window: a batch of a single row, of which sequence parallelism leaves this rank a chunk.
typedef struct Window {
    const Mesh *mesh;
    int T;
    int *bound;  // (sp+1) of the window at hand
    int32_t *tokens, *targets;
    int64_t *pos;
    int *first;
    uint8_t *start;
} Window;

typedef struct WindowSum {
    double nats, tokens;  // sum over predicted tokens, and how many they were
    int64_t bad;          // 1 + the first token of the first window whose loss is not finite; 0: none
} WindowSum;

Status window_open(Window *w, int T, const Mesh *mesh) CHECKED;  // E_NOMEM; window_close in any case
void window_close(Window *w);
// The shape of a whole window, for dry runs.
Batch window_shape(const Window *w);
// Adds every dp'th window of ids (count) to *sum, on one rank of each team for each token: sums over the world count
// once. The tape has room for window_shape. Collective(team).
void window_losses(Window *w, WindowSum *sum, Tape *tape, Model *model, const int32_t *ids,
                   int64_t count);
// Sums over the world. E_DIVERGED, on all ranks, where the loss of a window is not finite; `what` names the text.
// Collective(world).
Status window_total(WindowSum *sum, const Mesh *mesh, const char *what) CHECKED;
