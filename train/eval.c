// Held-out evaluation: windows of tokens, dealt to ranks in turn; sums in double, folded in rank
// order.
#include <math.h>
#include <stdio.h>

#include "train/run.h"
#include "train/windows.h"

Status eval_holdout(Run *run, int64_t limit_tokens, EvalResult *out) {
    int64_t count, bytes;
    const int32_t *ids = corpus_holdout(run->corpus, &count, &bytes);
    int64_t all = count;
    if (limit_tokens > 0 && limit_tokens < count) count = limit_tokens;
    Window w = {0};
    Status st = agree(window_open(&w, run->cfg.train.eval_seq, &run->mesh), run->mesh.world);
    WindowSum sum = {.bad = 0};
    tape_set_hooks(run->tape, NULL);
    if (st == OK) {
        window_losses(&w, &sum, run->tape, &run->model, ids, count);
    }
    window_close(&w);
    TRY(st);
    char what[48];
    snprintf(what, sizeof what, "held-out text at step %lld", (long long)run->step);
    TRY(window_total(&sum, &run->mesh, what));
    // Of the text's bytes, the share that was looked at, where it was cut.
    double seen = all > 0 ? (double)bytes * ((double)count / (double)all) : 0;
    *out = (EvalResult){.tokens = (int64_t)sum.tokens, .bytes = (int64_t)seen};
    if (sum.tokens > 0) {
        out->nats_per_token = sum.nats / sum.tokens;
        out->bits_per_byte = sum.nats / log(2.0) / seen;
    }
    return OK;
}
