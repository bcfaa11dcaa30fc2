// What bench_sp measures. Each command opens a model of its own on the mesh of all ranks it was
// started with.
#pragma once

#include "bench/methods.h"
#include "parallel/comm.h"
#include "train/made_up.h"

// A model of `settings` (key=value words) on made-up tokens. run.mesh is open. Collective(world).
typedef struct Bench {
    Run run;
    MadeUp tokens;
} Bench;
// m NULL: with the reducer and the optimiser's memory; otherwise the tape alone, large enough for
// m.
Status bench_open(Bench *b, const Method *m, const char *const *settings, int count) CHECKED;
void bench_use(Bench *b,
               const Method *m);  // the method from now on: the model asks the mesh in each pass
void bench_close(Bench *b);
Batch bench_batch(Bench *b);  // this rank's rows of the batch
double bench_loss(Bench *b,
                  const Batch *batch);  // forward and backward; the sum over this rank's tokens

CommStat bench_sp_stat(void);              // bytes and exposed seconds of the sp axis so far
Status bench_ranks(int *ranks) CHECKED;    // that were started. Collective(world)
double median(double *values, int count);  // sorts them

// Not collective beyond the exchanges they measure; rank 0 prints.
Status bench_step(const Method *m, const char *const *settings, int count) CHECKED;  // step.c
Status bench_race(const Method *const *methods, int methods_count, const char *const *settings,
                  int count) CHECKED;  // race.c; all methods for the same pattern
Status bench_overlap(const char *const *settings, int count) CHECKED;  // overlap.c
Status bench_check(void) CHECKED;                                      // check.c
