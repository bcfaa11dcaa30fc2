// A model of a run: its weights and, unless they are frozen, the reduction of its gradients, its
// moments and its part of a step.
#pragma once

#include "model/model.h"
#include "parallel/reduce.h"
#include "tensor/optim.h"
#include "train/accounts.h"
#include "train/schedule.h"

typedef struct LearnerConfig {
    ModelConfig model;  // resolved
    OptimConfig optim;
    ScheduleConfig schedule;
    double clip;  // gradient norm, 0: off
} LearnerConfig;

typedef struct Learner {
    const char *name;  // "": the first of its run, whose files and metrics have no prefix
    bool frozen;       // weights only; used where the tape records nothing (tape_record)
    LearnerConfig cfg;
    Model model;
    Reducer *reducer;  // NULL: frozen, or not reserved
    Optim optim;
    uint64_t identity;  // of frozen weights: learner_identify
} Learner;

// What a step did to a learner; the same on every rank.
typedef struct LearnerStep {
    double grad_norm;  // of the mean loss, global, before clipping
    double lr;
} LearnerStep;

// Lays the model out without memory, which is as far as a plan goes. E_USAGE: the mesh does not
// divide its sizes. Not collective; `name` and `mesh` are borrowed.
Status learner_layout(Learner *l, const char *name, bool frozen, const LearnerConfig *cfg,
                      const Mesh *mesh) CHECKED;
// Memory of the weights and, unless frozen, of gradients, their exchange and moments. E_NOMEM.
// Collective(world): every rank gets the same status. All is left for learner_close.
Status learner_reserve(Learner *l, size_t bucket_bytes) CHECKED;
void learner_close(Learner *l);   // Collective(replicas) once reserved
void learner_forget(Learner *l);  // moments as before the first step
// A hash of the weights that does not depend on the mesh: a run goes on with the frozen models that
// it began with. Collective(tp).
void learner_identify(Learner *l);
void learner_memory(const Learner *l, Memory *sum);  // adds this rank's arenas

// --- a step, in this order. Collective(replicas) but for ready and sqnorm. Frozen: nothing ---
void learner_begin(Learner *l);  // gradients are zero, and may be exchanged once they are ready
bool learner_ready(Learner *l, const Param *p);  // false: p is none of this learner's
void learner_reduce(Learner *l);                 // this rank holds its shard of the sum
double learner_sqnorm(const Learner *l);         // of that shard: reducer_sqnorm
// Clips and updates what this rank owns. `count`: what the sum is divided by; step counts from 0.
void learner_update(Learner *l, const LearnerStep *s, int64_t step, double count);
void learner_gather(Learner *l);  // every rank has all weights
