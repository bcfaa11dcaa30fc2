// Optimiser state for the slices of a ParamSet this rank owns, and the AdamW step over them.
#pragma once

#include "tensor/params.h"

// Contiguous elements [begin, begin+count) of the flat arrays.
typedef struct Range {
    size_t begin, count;
} Range;

typedef struct OptimConfig {
    double beta1, beta2, eps, weight_decay;
} OptimConfig;

typedef struct Optim {
    OptimConfig cfg;
    Arena arena;
    real *m, *v;          // (owned) packed in range order
    const Range *ranges;  // borrowed
    int range_count;
    size_t owned;
} Optim;

Status optim_open(Optim *o, const OptimConfig *cfg, const Range *ranges, int count) CHECKED;
void optim_close(Optim *o);
// Updates params->data on the owned ranges. step counts from 1; grad_scale multiplies gradients
// first.
void optim_update(Optim *o, ParamSet *ps, int64_t step, double lr, double grad_scale);
