// Windows over a text, one at a time.
#include "train/windows.h"

#include <stdlib.h>

Status window_open(Window *w, int T) {
    size_t n = (size_t)T;
    *w = (Window){T,
                  calloc(n, sizeof(int32_t)),
                  calloc(n, sizeof(int32_t)),
                  calloc(n, sizeof(int64_t)),
                  calloc(n, sizeof(int)),
                  calloc(n, sizeof(uint8_t))};
    if (!w->tokens || !w->targets || !w->pos || !w->first || !w->start) {
        FAIL(E_NOMEM, "use shorter windows: train.eval_seq or --seq",
             "out of memory for a window of %d tokens", T);
    }
    return OK;
}

void window_close(Window *w) {
    free(w->tokens);
    free(w->targets);
    free(w->pos);
    free(w->first);
    free(w->start);
    *w = (Window){0};
}

// Inputs ids[at..at+T), targets one later; the last window may be shorter.
static Batch window_fill(Window *w, const int32_t *ids, int64_t at, int64_t count) {
    int n = count - 1 - at < w->T ? (int)(count - 1 - at) : w->T;
    for (int i = 0; i < n; i++) {
        w->tokens[i] = ids[at + i];
        w->targets[i] = ids[at + i + 1];
        w->pos[i] = i;
    }
    return (Batch){.seq = {.B = 1, .T = n, .pos = w->pos, .first = w->first, .start = w->start},
                   .tokens = w->tokens,
                   .targets = w->targets,
                   .valid = n};
}

void window_losses(Window *w, WindowSum *sum, Tape *tape, Model *model, const int32_t *ids,
                   int64_t count, int begin, int stride) {
    int64_t windows = count > 1 ? (count - 2) / w->T + 1 : 0;
    for (int64_t i = begin; i < windows; i += stride) {
        Batch b = window_fill(w, ids, i * w->T, count);
        tape_begin(tape, false);
        sum->nats += tensor_item(model_loss(tape, model, &b, NULL));
        sum->tokens += (double)b.valid;
    }
}
