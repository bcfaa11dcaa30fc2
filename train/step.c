// One optimizer step: gradients of this rank's share of the global batch, one reduction, one
// update.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "parallel/agree.h"
#include "train/run.h"

// Slots of the one reduction that a step makes: of the step, then the squared gradient norm of each
// learner, then the objective's.
enum {
    RED_FAILED,
    RED_STOP,
    RED_SAVE,
    RED_HASH_LOW,
    RED_HASH_HIGH,  // halves of a hash: whole numbers, whose sums are exact
    RED_SQNORM,
    RED_MOST = RED_SQNORM + LEARNERS_MOST + SLOTS_MOST
};
typedef struct Reduction {
    double values[RED_MOST];
    double *sqnorm, *slots;  // into values
    int count;
} Reduction;

static void reduction_begin(Reduction *red, const Run *run) {
    memset(red->values, 0, sizeof red->values);
    red->sqnorm = red->values + RED_SQNORM;
    red->slots = red->sqnorm + run->learner_count;
    red->count = RED_SQNORM + run->learner_count + run->objective->slot_count;
}

static void hook_ready(Param *param, void *user) {
    Run *run = user;
    for (int i = 0; i < run->learner_count; i++)
        if (learner_ready(&run->learner[i], param)) return;
}

// Adds the seconds since *clock to *phase and restarts the clock.
static void phase_end(double *phase, double *clock) {
    double now = clock_s();
    *phase += now - *clock;
    *clock = now;
}

// Forward and backward of one micro-batch. Only the last one announces finished gradients.
static void micro_step(Run *run, const Batch *batch, bool last, Reduction *red) {
    Tensor *parts[SLOTS_MOST] = {NULL};
    double clock = clock_s();
    tape_on_ready(run->tape, last ? hook_ready : NULL, run);
    tape_begin(run->tape, true);
    Tensor *loss = run->objective->loss(run->tape, run->learner, batch, run->counters, parts);
    phase_end(&run->phases.forward, &clock);
    tape_backward(run->tape, loss);
    if (run->mesh.tp_rank == 0) run->objective->tally(batch, parts, red->slots);
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
static Status local_gradients(Run *run, Reduction *red) {
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
    red->values[RED_HASH_LOW] = (double)(hash & UINT32_MAX);
    red->values[RED_HASH_HIGH] = (double)(hash >> 32);
    return OK;
}

static bool save_due(const Run *run) {
    double minutes = run->cfg.train.ckpt_minutes;
    return run->mesh.rank == 0 && minutes > 0 && clock_s() - run->last_save_s >= 60.0 * minutes;
}

// The weights, if it was they, were ruined by the update before: its loss could not show it yet.
static Status diverged(const Run *run, const StepResult *out) {
    char cause[PARAM_NAME_BYTES + LABEL_BYTES + 64] = "";
    int worst = 0;  // the learner that is told of
    for (int i = run->learner_count - 1; i >= 0; i--) {
        const Learner *l = &run->learner[i];
        const Param *p = l->frozen ? NULL : params_find_bad(&l->model.params);
        if (!l->frozen && !isfinite(out->learner[i].grad_norm)) worst = i;
        if (p == NULL) continue;
        snprintf(cause, sizeof cause, "; '%s%s%s' is not finite since the update of step %lld",
                 l->name, l->name[0] != '\0' ? ": " : "", p->name, (long long)run->step);
    }
    const char *name = run->learner[worst].name;
    FAIL(E_DIVERGED,
         "lower schedule.lr, lengthen schedule.warmup, or go on from an older checkpoint",
         "step %lld: loss %g, gradient norm %s%s%g%s", (long long)run->step + 1, fabs(out->loss),
         name[0] != '\0' ? "of " : "", name[0] != '\0' ? name : "",
         fabs(out->learner[worst].grad_norm), cause);  // the sign of a NaN says nothing
}

// What the one reduction of a step said; the same on every rank. `mine` is how this rank's
// gradients went.
static Status check_reduced(const Run *run, Status mine, const Reduction *red,
                            const StepResult *out) {
    bool finite = isfinite(out->loss);
    if (red->values[RED_FAILED] > 0) return agree(mine, run->mesh.world);
    for (int i = 0; i < run->learner_count; i++) {
        if (run->learner[i].frozen) continue;
        if (!(red->slots[run->objective->learners[i].count_slot] > 0)) {
            FAIL(E_FORMAT, "train.seq may be longer than the documents", "step %lld has no targets",
                 (long long)run->step + 1);
        }
        finite = finite && isfinite(out->learner[i].grad_norm);
    }
    return finite ? OK : diverged(run, out);
}

// All that a step tells, from the sums over all ranks.
static void take_result(const Run *run, const Reduction *red, StepResult *out) {
    const double *v = red->values;
    const Objective *o = run->objective;
    *out = (StepResult){.loss = red->slots[0] / red->slots[o->learners[0].count_slot],
                        .tokens = (int64_t)red->slots[o->tokens_slot],
                        .data_hash = ((uint64_t)v[RED_HASH_HIGH] << 32) + (uint64_t)v[RED_HASH_LOW],
                        .stop = v[RED_STOP] > 0,
                        .save_due = v[RED_SAVE] > 0};
    memcpy(out->slots, red->slots, (size_t)o->slot_count * sizeof *out->slots);
    for (int i = 0; i < run->learner_count; i++) {
        if (run->learner[i].frozen) continue;
        const ScheduleConfig *s = &run->learner[i].cfg.schedule;
        out->learner[i].grad_norm = sqrt(red->sqnorm[i]) / red->slots[o->learners[i].count_slot];
        out->learner[i].lr = schedule_lr(s, run->step, run->cfg.train.steps);
    }
}

// Clips, updates what this rank owns and gathers everyone's weights.
static void update(Run *run, const StepResult *r, double *clock) {
    for (int i = 0; i < run->learner_count; i++) {
        double count = r->slots[run->objective->learners[i].count_slot];
        learner_update(&run->learner[i], &r->learner[i], run->step, count);
    }
    phase_end(&run->phases.update, clock);
    for (int i = 0; i < run->learner_count; i++) learner_gather(&run->learner[i]);
    phase_end(&run->phases.reduce, clock);
}

Status train_step(Run *run, StepResult *out) {
    Reduction red;
    reduction_begin(&red, run);
    for (int i = 0; i < run->learner_count; i++) learner_begin(&run->learner[i]);
    Status mine = local_gradients(run, &red);  // a rank that failed still takes part

    double clock = clock_s();
    for (int i = 0; i < run->learner_count; i++) {
        learner_reduce(&run->learner[i]);
        red.sqnorm[i] = learner_sqnorm(&run->learner[i]);
    }
    red.values[RED_FAILED] = mine != OK;
    red.values[RED_STOP] = signals_pending() != 0;
    red.values[RED_SAVE] = save_due(run);
    comm_sum_doubles(run->mesh.world, red.values, red.count);
    phase_end(&run->phases.reduce, &clock);

    take_result(run, &red, out);
    TRY(check_reduced(run, mine, &red, out));
    update(run, out, &clock);
    run->source.advance(run->source.user, run_global_rows(run));
    run->step++;
    run->tokens_seen += out->tokens;
    if (run->objective->advance != NULL) run->objective->advance(run->counters, out);
    return OK;
}
