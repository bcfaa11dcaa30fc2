// One optimizer step: gradients of this rank's share of the global batch, one reduction, one
// update.
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "base/rng.h"
#include "parallel/agree.h"
#include "parallel/reduce.h"
#include "tensor/kernels/kernels.h"
#include "train/run.h"

static void hook_ready(Param *param, void *user) {
    reducer_ready(((Run *)user)->reducer, param);
}

// Adds the seconds since *clock to *phase and restarts the clock.
static void phase_end(double *phase, double *clock) {
    double now = clock_s();
    *phase += now - *clock;
    *clock = now;
}

// Forward and backward of one micro-batch. Only the last one announces finished gradients.
static void micro_step(Run *run, const Batch *batch, bool last, double red[RED_COUNT]) {
    double clock = clock_s();
    tape_on_ready(run->tape, last ? hook_ready : NULL, run);
    tape_begin(run->tape, true);
    Tensor *loss = model_loss(run->tape, &run->model, batch, NULL);
    phase_end(&run->phases.forward, &clock);
    tape_backward(run->tape, loss);
    if (run->mesh.tp_rank == 0) {  // tp ranks hold the same loss
        red[RED_LOSS] += tensor_item(loss);
        red[RED_TOKENS] += (double)batch->valid;
    }
    phase_end(&run->phases.backward, &clock);
}

// Ranks that share rows exchange inside the pass: all have them, or none goes on. A rank that is a
// team by itself can tell the others at the end of the step.
static bool team_goes_on(const Run *run, Status mine) {
    int64_t failed = mine != OK;
    if (comm_size(run->mesh.team) > 1) comm_max_i64(run->mesh.team, &failed, 1);
    return failed == 0;
}

// A sum over tokens, each hashed with its place in the global batch: no matter who holds which.
// `row`: the batch's first one.
static uint64_t tokens_hash(const Run *run, const Batch *b, size_t row) {
    size_t begin = b->seq.bound == NULL ? 0 : (size_t)b->seq.bound[run->mesh.sp_rank];
    uint64_t sum = 0;
    for (int r = 0; r < b->seq.B; r++, row++) {
        const int32_t *tokens = b->tokens + (size_t)r * (size_t)b->seq.T;
        size_t place = row * (size_t)run->cfg.train.seq + begin;
        for (int t = 0; t < b->seq.T; t++)
            sum += rng_u64((uint64_t)tokens[t], STREAM_HASH, place + (size_t)t);
    }
    return sum;
}

// This team's rows of the global batch, in micro-batches; there may be none.
static Status local_gradients(Run *run, double red[RED_COUNT]) {
    size_t rows = (size_t)run_global_rows(run);
    size_t row = split_begin(rows, run->mesh.dp, run->mesh.dp_rank);
    size_t end = split_begin(rows, run->mesh.dp, run->mesh.dp_rank + 1);
    size_t micro = (size_t)run->cfg.train.micro_rows;
    uint64_t hash = 0;
    while (row < end) {
        int n = (int)(end - row < micro ? end - row : micro);
        double clock = clock_s();
        Batch batch;
        Status st = run->source.rows(run->source.user, &batch, (int64_t)row, n);
        if (!team_goes_on(run, st)) return st;  // OK where another rank failed: it will speak
        if (run->mesh.tp_rank == 0) hash += tokens_hash(run, &batch, row);
        phase_end(&run->phases.data, &clock);
        row += (size_t)n;
        micro_step(run, &batch, row == end, red);
    }
    red[RED_HASH_LOW] = (double)(hash & UINT32_MAX);
    red[RED_HASH_HIGH] = (double)(hash >> 32);
    return OK;
}

static bool save_due(const Run *run) {
    double minutes = run->cfg.train.ckpt_minutes;
    return run->mesh.rank == 0 && minutes > 0 && clock_s() - run->last_save_s >= 60.0 * minutes;
}

// The weights, if it was they, were ruined by the update before: its loss could not show it yet.
static Status diverged(const Run *run, const StepResult *out) {
    char cause[PARAM_NAME_BYTES + 64] = "";
    const Param *p = params_find_bad(&run->model.params);
    if (p != NULL)
        snprintf(cause, sizeof cause, "; '%s' is not finite since the update of step %lld", p->name,
                 (long long)run->step);
    FAIL(E_DIVERGED,
         "lower schedule.lr, lengthen schedule.warmup, or go on from an older checkpoint",
         "step %lld: loss %g, gradient norm %g%s", (long long)run->step + 1, fabs(out->loss),
         fabs(out->grad_norm), cause);  // the sign of a NaN says nothing
}

// What the one reduction of a step said; the same on every rank. `mine` is how this rank's
// gradients went.
static Status check_reduced(const Run *run, Status mine, const double red[RED_COUNT],
                            const StepResult *out) {
    if (red[RED_FAILED] > 0) return agree(mine, run->mesh.world);
    if (red[RED_TOKENS] <= 0) {
        FAIL(E_FORMAT, "train.seq may be longer than the documents", "step %lld has no targets",
             (long long)run->step + 1);
    }
    return isfinite(out->loss) && isfinite(out->grad_norm) ? OK : diverged(run, out);
}

// All ranks: clip, update the owned shard, gather everyone's weights.
static void apply_update(Run *run, const StepResult *r) {
    const TrainConfig *t = &run->cfg.train;
    reducer_share(run->reducer);
    double clip = t->clip > 0 && r->grad_norm > t->clip ? t->clip / r->grad_norm : 1.0;
    optim_update(&run->optim, &run->model.params, run->step + 1, r->lr, clip / (double)r->tokens);
}

Status train_step(Run *run, StepResult *out) {
    double red[RED_COUNT] = {0};
    params_zero_grad(&run->model.params);
    reducer_begin(run->reducer);
    Status mine =
        local_gradients(run, red);  // a rank that failed still takes part in the reduction

    double clock = clock_s();
    reducer_finish(run->reducer);
    red[RED_FAILED] = mine != OK;
    red[RED_SQNORM] = reducer_sqnorm(run->reducer);
    red[RED_STOP] = signals_pending() != 0;
    red[RED_SAVE] = save_due(run);
    comm_sum_doubles(run->mesh.world, red, RED_COUNT);
    phase_end(&run->phases.reduce, &clock);

    *out = (StepResult){.loss = red[RED_LOSS] / red[RED_TOKENS],
                        .grad_norm = sqrt(red[RED_SQNORM]) / red[RED_TOKENS],
                        .lr = schedule_lr(&run->cfg.schedule, run->step, run->cfg.train.steps),
                        .tokens = (int64_t)red[RED_TOKENS],
                        .data_hash =
                            ((uint64_t)red[RED_HASH_HIGH] << 32) + (uint64_t)red[RED_HASH_LOW],
                        .stop = red[RED_STOP] > 0,
                        .save_due = red[RED_SAVE] > 0};
    TRY(check_reduced(run, mine, red, out));
    apply_update(run, out);
    phase_end(&run->phases.update, &clock);
    reducer_gather_weights(run->reducer);
    phase_end(&run->phases.reduce, &clock);

    run->source.advance(run->source.user, run_global_rows(run));
    run->step++;
    run->tokens_seen += out->tokens;
    return OK;
}
