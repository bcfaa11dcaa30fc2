// Windows over a text, one at a time.
#include "train/windows.h"

#include <math.h>
#include <stdlib.h>

Status window_open(Window *w, int T, const Mesh *mesh) {
    size_t n = split_count((size_t)T, mesh->sp, 0);
    *w = (Window){mesh,
                  T,
                  calloc((size_t)mesh->sp + 1, sizeof(int)),
                  calloc(n, sizeof(int32_t)),
                  calloc(n, sizeof(int32_t)),
                  calloc(n, sizeof(int64_t)),
                  calloc(n, sizeof(int)),
                  calloc(n, sizeof(uint8_t))};
    if (!w->bound || !w->tokens || !w->targets || !w->pos || !w->first || !w->start) {
        FAIL(E_NOMEM, "use shorter windows: train.eval_seq or --seq",
             "out of memory for a window of %d tokens", T);
    }
    return OK;
}

void window_close(Window *w) {
    free(w->bound);
    free(w->tokens);
    free(w->targets);
    free(w->pos);
    free(w->first);
    free(w->start);
    *w = (Window){0};
}

// This rank's chunk of a window of n tokens.
static Batch window_chunk(const Window *w, int n) {
    int rank = w->mesh->sp_rank;
    split_bounds(w->bound, n, w->mesh->sp);
    int tokens = w->bound[rank + 1] - w->bound[rank];
    return (Batch){.seq = {.B = 1,
                           .T = tokens,
                           .pos = w->pos,
                           .first = w->first,
                           .start = w->start,
                           .bound = w->bound},
                   .tokens = w->tokens,
                   .targets = w->targets,
                   .valid = tokens};
}

Batch window_shape(const Window *w) {
    return window_chunk(w, w->T);
}

// Inputs ids[at..at+T), targets one later; the last window may be shorter.
static Batch window_fill(const Window *w, const int32_t *ids, int64_t at, int64_t count) {
    Batch b = window_chunk(w, count - 1 - at < w->T ? (int)(count - 1 - at) : w->T);
    int begin = w->bound[w->mesh->sp_rank];
    for (int i = 0; i < b.seq.T; i++) {
        w->tokens[i] = ids[at + begin + i];
        w->targets[i] = ids[at + begin + i + 1];
        w->pos[i] = begin + i;
    }
    return b;
}

void window_losses(Window *w, WindowSum *sum, Tape *tape, Model *model, const int32_t *ids,
                   int64_t count) {
    int64_t windows = count > 1 ? (count - 2) / w->T + 1 : 0;
    for (int64_t i = w->mesh->dp_rank; i < windows; i += w->mesh->dp) {
        Batch b = window_fill(w, ids, i * w->T, count);
        tape_begin(tape, false);
        double nats = tensor_item(model_loss(tape, model, &b, NULL));
        if (w->mesh->tp_rank > 0) continue;  // tp ranks hold the same loss
        if (!isfinite(nats) && sum->bad == 0) sum->bad = 1 + i * w->T;
        sum->nats += nats;
        sum->tokens += (double)b.valid;
    }
}

Status window_total(WindowSum *sum, const Mesh *mesh, const char *what) {
    double total[2] = {sum->nats, sum->tokens};
    int64_t bad = sum->bad == 0 ? INT64_MIN : -sum->bad;
    comm_sum_doubles(mesh->world, total, 2);
    comm_max_i64(mesh->world, &bad, 1);
    *sum = (WindowSum){total[0], total[1], bad == INT64_MIN ? 0 : -bad};
    if (isfinite(sum->nats)) return OK;
    FAIL(E_DIVERGED, "are these the weights of a run that diverged?",
         "%s: the loss of the window that begins at token %lld is not finite", what,
         (long long)sum->bad - 1);
}
