// Held-out evaluation: windows of tokens, dealt to ranks in turn; sums in double, folded in rank
// order.
#include <math.h>
#include <stdio.h>

#include "parallel/agree.h"
#include "train/run.h"
#include "train/windows.h"

Status eval_holdout(Run *run, int64_t limit_tokens, EvalResult *out) {
    Holdout held = corpus_holdout(run->corpus);
    WindowText text = {.ids = held.ids,
                       .ends = held.ends,
                       .count = held.tokens,
                       .docs = held.docs,
                       .marked = true,
                       .bpe = run->bpe};
    if (limit_tokens > 0 && limit_tokens < text.count) text.count = limit_tokens;
    Window w = {0};
    Status st = agree(window_open(&w, run->cfg.train.eval_seq, &run->mesh), run->mesh.world);
    WindowSum sum = {.bad = 0};
    if (st == OK) window_losses(&w, &sum, run->tape, &run->learner[0].model, &text);
    window_close(&w);
    TRY(st);
    char what[48];
    snprintf(what, sizeof what, "held-out text at step %lld", (long long)run->step);
    TRY(window_total(&sum, &run->mesh, what));
    *out = (EvalResult){.tokens = 0};
    if (sum.bytes <= 0) return OK;  // ends of documents alone are no text
    *out = (EvalResult){.nats_per_token = sum.nats / sum.tokens,
                        .bits_per_byte = sum.nats / log(2.0) / sum.bytes,
                        .tokens = (int64_t)sum.tokens,
                        .bytes = (int64_t)sum.bytes};
    return OK;
}
