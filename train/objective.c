// The language model's row, and pieces that other rows share.
#include "train/objective.h"

#include <string.h>

#include "train/run.h"

void objective_check(const Objective *o) {
    ASSERT(strlen(o->name) < LABEL_BYTES && o->slot_count <= SLOTS_MOST);
    ASSERT(o->learner_count > 0 && o->learner_count <= LEARNERS_MOST);
    ASSERT(o->learners[0].name[0] == '\0' && !o->learners[0].frozen);
    ASSERT(o->tokens_slot > 0 && o->tokens_slot < o->slot_count);
    for (int i = 0; i < o->learner_count; i++) {
        const LearnerRow *row = &o->learners[i];
        ASSERT(strlen(row->name) < LABEL_BYTES && (i == 0 || row->name[0] != '\0'));
        ASSERT(row->frozen || (row->count_slot > 0 && row->count_slot < o->slot_count));
    }
    ASSERT(o->counter_count <= COUNTERS_MOST);
    for (int i = 0; i < o->counter_count; i++)
        ASSERT(strcmp(o->counters[i], "name") != 0 && strcmp(o->counters[i], "frozen") != 0);
}

void objective_configure(LearnerConfig *out, const RunConfig *cfg) {
    *out = (LearnerConfig){cfg->model, cfg->optim, cfg->schedule, cfg->train.clip};
}

Status objective_weights(Learner *l, const RunConfig *cfg) {
    const TrainConfig *t = &cfg->train;
    Dtype stored;
    if (t->init[0] != '\0') return hf_import(&l->model.params, t->init, l->model.cfg.tied, &stored);
    params_init(&l->model.params, (uint64_t)t->seed);
    return OK;
}

// ---- language model ----------------------------------------------------------------------------

enum { LM_LOSS, LM_TOKENS, LM_SLOTS };  // nats, valid targets

static Tensor *lm_loss(Tape *tp, Learner *learners, const Batch *b, const double *counters,
                       Tensor **parts) {
    (void)counters;
    return parts[LM_LOSS] = model_loss(tp, &learners[0].model, b, NULL);
}

static void lm_tally(const Batch *b, Tensor *const *parts, double *slots) {
    slots[LM_LOSS] += tensor_item(parts[LM_LOSS]);
    slots[LM_TOKENS] += (double)b->valid;
}

static const LearnerRow LM_LEARNER = {.name = "",
                                      .count_slot = LM_TOKENS,
                                      .configure = objective_configure,
                                      .weights = objective_weights};

const Objective LANGUAGE_MODEL = {.name = "language model",
                                  .learners = &LM_LEARNER,
                                  .learner_count = 1,
                                  .slot_count = LM_SLOTS,
                                  .tokens_slot = LM_TOKENS,
                                  .loss = lm_loss,
                                  .tally = lm_tally};
