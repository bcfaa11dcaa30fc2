// What a run trains: which models, on which loss, and what it counts. A row of functions and sums;
// the step (step.c), the loop, checkpoints and the plan know no more about it.
#pragma once

#include "base/json.h"
#include "train/learner.h"

enum { LEARNERS_MOST = 4, SLOTS_MOST = 24, COUNTERS_MOST = 8, LABEL_BYTES = 32 };
typedef struct RunConfig RunConfig;
typedef struct StepResult StepResult;

typedef struct LearnerRow {
    const char *name;  // "" for the first
    bool frozen;
    int count_slot;  // what its gradients are divided by; not slot 0
    // From a configuration whose model is resolved.
    void (*configure)(LearnerConfig *out, const RunConfig *cfg);
    // The weights before the first step; of a frozen model, in every process. Not collective.
    Status (*weights)(Learner *l, const RunConfig *cfg);
} LearnerRow;

typedef struct Objective {
    const char *name;
    const LearnerRow *learners;
    int learner_count;
    // Slots are sums over the global batch: of losses and of what they are divided by. slot 0
    // divided by the first learner's count is the loss of the step.
    int slot_count;
    int tokens_slot;  // what a run counts as tokens seen
    // Forward pass of a micro-batch; what is to be differentiated, (1,1), with the learners' losses
    // as weighted sums over tokens (nothing is divided yet). parts: (SLOTS_MOST) NULL, tensors that
    // tally reads: each a term of the result, be its weight 0, or made while recording is paused;
    // another one may have no value yet. Also called on dry tapes, with batches that have a shape
    // alone. Collective(team).
    Tensor *(*loss)(Tape *tp, Learner *learners, const Batch *b, const double *counters,
                    Tensor **parts);
    // After the backward pass: adds to the slots. tp ranks hold the same: those of rank 0 count.
    void (*tally)(const Batch *b, Tensor *const *parts, double *slots);
    // Numbers that a run carries from step to step and through checkpoints, at 0 before the first;
    // `advance`, NULL without any, follows each step. The same on every rank.
    const char *const *counters;
    int counter_count;
    void (*advance)(double *counters, const StepResult *r);
    // Further members of a line of metrics.jsonl: numbers, whose curves the report draws. NULL:
    // none.
    void (*metrics)(JsonOut *w, const StepResult *r, const double *counters);
} Objective;

// A row that keeps to the limits above, whose first learner is trained and has no name: ASSERTs.
void objective_check(const Objective *o);

// Next-token prediction: one model, the cross-entropy of each target.
extern const Objective LANGUAGE_MODEL;
// Pieces for rows: the configuration's own model, and train.init or numbers drawn from train.seed.
void objective_configure(LearnerConfig *out, const RunConfig *cfg);
Status objective_weights(Learner *l, const RunConfig *cfg) CHECKED;
