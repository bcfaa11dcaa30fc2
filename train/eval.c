// Held-out evaluation: windows of tokens, dealt to ranks in turn; sums in double, folded in rank
// order.
#include <math.h>

#include "train/run.h"
#include "train/windows.h"

Status eval_holdout(Run *run, int64_t limit_tokens, EvalResult *out) {
    int64_t count, bytes;
    const int32_t *ids = corpus_holdout(run->corpus, &count, &bytes);
    int64_t all = count;
    if (limit_tokens > 0 && limit_tokens < count) count = limit_tokens;
    Window w = {0};
    Status st = agree(window_open(&w, run->cfg.train.eval_seq, &run->mesh), run->mesh.world);
    WindowSum sum = {0, 0};
    tape_set_hooks(run->tape, NULL);
    if (st == OK) {
        window_losses(&w, &sum, run->tape, &run->model, ids, count);
    }
    window_close(&w);
    TRY(st);
    double total[2] = {sum.nats, sum.tokens};
    comm_sum_doubles(run->mesh.world, total, 2);
    // Of the text's bytes, the share that was looked at, where it was cut.
    double seen = all > 0 ? (double)bytes * ((double)count / (double)all) : 0;
    *out = (EvalResult){.tokens = (int64_t)total[1], .bytes = (int64_t)seen};
    if (total[1] > 0) {
        out->nats_per_token = total[0] / total[1];
        out->bits_per_byte = total[0] / log(2.0) / seen;
    }
    return OK;
}
