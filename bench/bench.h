// What bench_sp measures. Each command opens a model of its own on the mesh of all ranks it was started with.
#pragma once

#include "bench/methods.h"
#include "train/made_up.h"

// A model of `settings` (key=value words) on made-up tokens. run.mesh is open. Collective(world).
typedef struct Bench {
    Run run;
    MadeUp tokens;
} Bench;
// training: with the reducer and the optimiser's memory; otherwise the tape alone. dp: ranks that share no sequence.
Status bench_open(Bench *b, const char *const *settings, int count, bool training) CHECKED;
void bench_close(Bench *b);
Batch bench_batch(Bench *b);             // this rank's rows of the batch
double bench_loss(Bench *b, const Batch *batch);  // forward and backward; the sum over this rank's tokens

Status bench_ranks(int *ranks) CHECKED;  // that were started. Collective(world)
double median(double *values, int count);  // sorts them

// Not collective beyond the exchanges they measure; rank 0 prints.
Status bench_step(const Method *m, const char *const *settings, int count) CHECKED;     // step.c
Status bench_overlap(const char *const *settings, int count) CHECKED;  // overlap.c
Status bench_check(void) CHECKED;                                      // check.c
