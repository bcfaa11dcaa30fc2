// The files that a run's learners have in a checkpoint: [NAME.]model.safetensors with the weights
// and [NAME.]optimizer.safetensors with the moments, "m.<parameter>" and "v.<parameter>".
#pragma once

#include "train/run.h"

typedef struct LearnerParts {
    char files[2][LABEL_BYTES + 32];
    char (*names)[2][PARAM_NAME_BYTES + 2];
    Slice *weights, *moments;  // whole tensors: layouts
    Slice *shares, *owned;     // this rank's of the weights, its pieces of the moments
    int rows, share_count, owned_count;
} LearnerParts;

typedef struct Parts {
    LearnerParts learner[LEARNERS_MOST];
    CkptPart part[2 * LEARNERS_MOST];  // into learner
    int count;
} Parts;

// Of all learners that are trained; slices point into their arrays. saving: of what several ranks
// hold, one has it. Collective(world); parts_close, also after a failure.
Status parts_open(Parts *p, const Run *run, bool saving) CHECKED;
void parts_close(Parts *p);
