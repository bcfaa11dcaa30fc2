// bench_sp overlap: how much of the reduction of gradients backward hides. Three things in turn,
// each from a barrier to a barrier, so that the slowest rank counts:
//
//     S   forward and backward with the reduction in the background, until the sum is there
//     S0  the same work on all ranks at once, and nothing exchanged
//     R   the same buckets exchanged and folded with nothing else going on
//
// (S - S0) / R is the share of the reduction that is still seen: 1 without overlap. The gathering
// of updated weights is a phase of its own after the update and not part of it.
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "bench/bench.h"

enum { ROUNDS = 5, KINDS = 3 };
typedef enum { WITH, WITHOUT, ALONE } Kind;

static void on_progress(void *user) {
    reducer_progress(((Bench *)user)->run.reducer);
}
static void on_ready(Param *param, void *user) {
    reducer_ready(((Bench *)user)->run.reducer, param);
}

static double timed(Bench *b, const Batch *batch, Kind kind) {
    Run *run = &b->run;
    comm_barrier(run->mesh.world);
    double start = clock_s();
    params_zero_grad(&run->model.params);
    if (kind != WITHOUT) reducer_begin(run->reducer);
    if (kind != ALONE) bench_loss(b, batch);
    if (kind != WITHOUT) reducer_finish(run->reducer);
    comm_barrier(run->mesh.world);
    return clock_s() - start;
}

static void print_times(const char *what, double *times, double *mid) {
    *mid = median(times, ROUNDS);
    printf("%-34s %8.3f s  (%.3f .. %.3f)\n", what, *mid, times[0], times[ROUNDS - 1]);
}

static void print_figures(double times[KINDS][ROUNDS], const Bench *b, double mib) {
    double differences[ROUNDS], s, s0, r, d;
    for (int i = 0; i < ROUNDS; i++) differences[i] = times[WITH][i] - times[WITHOUT][i];
    printf(
        "%d ranks, %lld tokens a step, buckets of %d MiB, %.1f MiB sent by a rank; medians of %d "
        "(least .. most)\n",
        b->run.mesh.size, (long long)b->run.cfg.train.batch_tokens, b->run.cfg.train.bucket_mb, mib,
        ROUNDS);
    print_times("S   step with reduction", times[WITH], &s);
    print_times("S0  step without reduction", times[WITHOUT], &s0);
    print_times("R   reduction alone", times[ALONE], &r);
    print_times("S - S0, round by round", differences, &d);
    printf("exposed share (S - S0) / R         %8.1f %%  (of medians; %.1f %% of the rounds' "
           "differences)\n",
           100 * (s - s0) / r, 100 * d / r);
}

static void measure(Bench *b) {
    double times[KINDS][ROUNDS], mib = 0;
    TapeHooks hooks = {.progress = on_progress, .ready = on_ready, .user = b};
    Batch batch = bench_batch(b);
    tape_set_hooks(b->run.tape, &hooks);
    timed(b, &batch, WITH);  // touches all memory
    for (int i = 0; i < ROUNDS; i++) {
        double before = comm_stat(COMM_GRADIENTS).bytes;
        for (int kind = 0; kind < KINDS; kind++) times[kind][i] = timed(b, &batch, (Kind)kind);
        mib = (comm_stat(COMM_GRADIENTS).bytes - before) / 2 / 1048576;
    }
    if (b->run.mesh.rank == 0) print_figures(times, b, mib);
}

Status bench_overlap(const char *const *settings, int count) {
    Bench *b = malloc(sizeof *b);
    ASSERT(b != NULL);
    Status st = bench_open(b, settings, count, true);
    if (st == OK) measure(b);
    bench_close(b);
    free(b);
    return st;
}
