// Held-out evaluation: windows of tokens, dealt to ranks in turn; sums in double, folded in rank
// order.
#include <math.h>
#include <stdlib.h>

#include "train/run.h"

// Buffers of one window: a batch of a single row.
typedef struct Window {
    int32_t *tokens, *targets;
    int64_t *pos;
    int *first;
    uint8_t *start;
} Window;

static Status window_open(Window *w, size_t T) {
    w->tokens = calloc(T, sizeof *w->tokens);
    w->targets = calloc(T, sizeof *w->targets);
    w->pos = calloc(T, sizeof *w->pos);
    w->first = calloc(T, sizeof *w->first);
    w->start = calloc(T, sizeof *w->start);
    if (!w->tokens || !w->targets || !w->pos || !w->first || !w->start) {
        FAIL(E_NOMEM, "lower train.eval_seq", "out of memory for a window of %zu tokens", T);
    }
    return OK;
}

static void window_close(Window *w) {
    free(w->tokens);
    free(w->targets);
    free(w->pos);
    free(w->first);
    free(w->start);
}

// Inputs ids[at..at+T), targets one later. A window starts its own context.
static Batch window_fill(Window *w, const int32_t *ids, int64_t at, int64_t count, int T) {
    int n = count - 1 - at < T ? (int)(count - 1 - at) : T;
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

Status eval_holdout(Run *run, int64_t limit_tokens, EvalResult *out) {
    int64_t count, bytes;
    const int32_t *ids = corpus_holdout(run->corpus, &count, &bytes);
    int64_t all = count;
    if (limit_tokens > 0 && limit_tokens < count) count = limit_tokens;
    int T = run->cfg.train.eval_seq;
    Window w = {0};
    Status st = window_open(&w, (size_t)T);
    st = agree(st, run->mesh.world);
    double sum[2] = {0, 0};  // nats, tokens
    tape_set_hooks(run->tape, NULL);
    int64_t windows = count > 1 ? (count - 2) / T + 1 : 0;
    for (int64_t i = run->mesh.dp_rank; st == OK && i < windows; i += run->mesh.dp) {
        Batch b = window_fill(&w, ids, i * T, count, T);
        tape_begin(run->tape, false);
        sum[0] += tensor_item(model_loss(run->tape, &run->model, &b, NULL));
        sum[1] += (double)b.valid;
    }
    window_close(&w);
    TRY(st);
    comm_sum_doubles(run->mesh.world, sum, 2);
    double share =
        all > 0 ? (double)count / (double)all : 0;  // of the text's bytes, where it was cut
    *out = (EvalResult){.tokens = (int64_t)sum[1], .bytes = (int64_t)((double)bytes * share)};
    if (sum[1] > 0) {
        out->nats_per_token = sum[0] / sum[1];
        out->bits_per_byte = sum[0] / log(2.0) / ((double)bytes * share);
    }
    return OK;
}
