// Held-out evaluation: windows of tokens, dealt to ranks in turn; sums in double, folded in rank
// order.
#include <math.h>

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
    WindowSum sum = {0};
    tape_set_hooks(run->tape, NULL);
    if (st == OK) window_losses(&w, &sum, run->tape, &run->model, &text);
    window_close(&w);
    TRY(st);
    double total[3] = {sum.nats, sum.tokens, sum.bytes};
    comm_sum_doubles(run->mesh.world, total, 3);
    *out = (EvalResult){.tokens = 0};
    if (total[2] <= 0) return OK;  // ends of documents alone are no text
    *out = (EvalResult){.nats_per_token = total[0] / total[1],
                        .bits_per_byte = total[0] / log(2.0) / total[2],
                        .tokens = (int64_t)total[1],
                        .bytes = (int64_t)total[2]};
    return OK;
}
