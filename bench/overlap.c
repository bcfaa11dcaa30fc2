// bench_sp overlap: how much of the reduction of gradients backward hides. Three things in turn,
// each from a barrier to a barrier, so that the slowest rank counts; S and S0 take turns in coming
// first:
//
//     S   forward and backward with the reduction in the background, until the sum is there
//     S0  the same work on all ranks at once, and nothing exchanged
//     R   the same buckets exchanged and folded with nothing else going on
//
// (S - S0) / R is the share of the reduction that is still seen: 1 without overlap. The gathering
// of updated weights is a phase of its own after the update and not part of it.
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "parallel/reduce.h"

enum { ROUNDS = 61, KINDS = 3 };
typedef enum { WITH, WITHOUT, ALONE } Kind;

static void on_ready(Param *param, void *user) {
    reducer_ready(((Bench *)user)->run.learner[0].reducer, param);
}

// Processor time of this rank so far, in the program and in the system.
static void processor_time(double out[2]) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    out[0] = (double)u.ru_utime.tv_sec + 1e-6 * (double)u.ru_utime.tv_usec;
    out[1] = (double)u.ru_stime.tv_sec + 1e-6 * (double)u.ru_stime.tv_usec;
}

static double timed(Bench *b, const Batch *batch, Kind kind) {
    Run *run = &b->run;
    comm_barrier(run->mesh.world);
    double start = clock_s();
    params_zero_grad(&run->learner[0].model.params);
    if (kind != WITHOUT) reducer_begin(run->learner[0].reducer);
    if (kind != ALONE) bench_loss(b, batch);
    if (kind != WITHOUT) reducer_finish(run->learner[0].reducer);
    comm_barrier(run->mesh.world);
    return clock_s() - start;
}

// What a round of `timed` said, by kind.
typedef struct Rounds {
    double times[KINDS][ROUNDS], waited[ROUNDS];  // waited: for buckets, of WITH, by this rank
    double used[KINDS][2];                        // processor time, all rounds
    double mib;
} Rounds;

static void print_times(const char *what, double *times, double *mid) {
    *mid = median(times, ROUNDS);
    printf("%-34s %8.3f s  (%.3f .. %.3f)\n", what, *mid, times[0], times[ROUNDS - 1]);
}

// Of sorted values. Less noisy than a median, and as deaf to a round that was disturbed.
static double middle_half(const double *sorted) {
    double sum = 0;
    int from = ROUNDS / 4, to = ROUNDS - from;
    for (int i = from; i < to; i++) sum += sorted[i];
    return sum / (to - from);
}

static void print_figures(Rounds *r, const Bench *b) {
    double differences[ROUNDS], with, without, alone, waited, difference;
    for (int i = 0; i < ROUNDS; i++) differences[i] = r->times[WITH][i] - r->times[WITHOUT][i];
    printf(
        "%d ranks, %lld tokens a step, buckets of %d MiB, %.1f MiB sent by a rank; medians of %d "
        "(least .. most)\n",
        b->run.mesh.size, (long long)b->run.cfg.train.batch_tokens, b->run.cfg.train.bucket_mb,
        r->mib, ROUNDS);
    print_times("S   step with reduction", r->times[WITH], &with);
    print_times("S0  step without reduction", r->times[WITHOUT], &without);
    print_times("R   reduction alone", r->times[ALONE], &alone);
    print_times("S - S0, round by round", differences, &difference);
    print_times("waited for buckets in S", r->waited, &waited);
    for (int kind = WITH; kind < KINDS; kind++) {
        static const char *const names[] = {"S", "S0", "R"};
        printf("processor time of rank 0 in %-8s %6.3f s in the program, %6.3f s in the system\n",
               names[kind], r->used[kind][0], r->used[kind][1]);
    }
    printf(
        "exposed, of R: S - S0 %.1f %%, round by round %.1f %% (mean of the middle half; quartiles "
        "%.1f .. %.1f), waited %.1f %%\n",
        100 * (with - without) / alone, 100 * middle_half(differences) / alone,
        100 * differences[ROUNDS / 4] / alone, 100 * differences[3 * ROUNDS / 4] / alone,
        100 * waited / alone);
}

static void measure(Bench *b, Rounds *r) {
    Batch batch = bench_batch(b);
    tape_on_ready(b->run.tape, on_ready, b);
    timed(b, &batch, WITH);  // touches all memory
    for (int i = 0; i < ROUNDS; i++) {
        for (int turn = 0; turn < KINDS; turn++) {
            int kind = turn == ALONE || i % 2 == 0 ? turn : 1 - turn;
            CommStat before = comm_stat(COMM_GRADIENTS);
            double used[2][2];
            processor_time(used[0]);
            r->times[kind][i] = timed(b, &batch, (Kind)kind);
            processor_time(used[1]);
            for (int k = 0; k < 2; k++) r->used[kind][k] += (used[1][k] - used[0][k]) / ROUNDS;
            CommStat after = comm_stat(COMM_GRADIENTS);
            if (kind != WITH) continue;
            r->waited[i] = after.exposed_s - before.exposed_s;
            r->mib = (after.bytes - before.bytes) / 1048576;
        }
    }
    if (b->run.mesh.rank == 0) print_figures(r, b);
}

Status bench_overlap(const char *const *settings, int count) {
    Bench *b = malloc(sizeof *b);
    Rounds rounds = {.mib = 0};
    ASSERT(b != NULL);
    Status st = bench_open(b, NULL, settings, count);
    if (st == OK) measure(b, &rounds);
    bench_close(b);
    free(b);
    return st;
}
