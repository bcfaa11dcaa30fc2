// bench_sp race: methods of one kind of layer take turns in one launch, step by step, so that what
// else the machine does falls on all alike. What counts is the ratio to the first method in the
// same round; its median says which is faster where seconds of two launches would not.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

enum { ROUNDS = 15, MAX_METHODS = 8 };

typedef struct Lane {
    const Method *method;
    double times[ROUNDS], ratios[ROUNDS], exposed_s;
} Lane;

// Memory for the method that needs most.
static Status tape_for_all(Bench *b, const Lane *lanes, int count) {
    Batch batch = bench_batch(b);
    for (int i = 0; i < count; i++) {
        bench_use(b, lanes[i].method);
        tape_dry(b->run.tape, true);
        tape_backward(b->run.tape, model_loss(b->run.tape, &b->run.learner[0].model, &batch, NULL));
    }
    return tape_reserve(b->run.tape);
}

static double step_time(Bench *b, const Batch *batch) {
    comm_barrier(b->run.mesh.world);
    double start = clock_s();
    params_zero_grad(&b->run.learner[0].model.params);
    bench_loss(b, batch);
    comm_barrier(b->run.mesh.world);
    return clock_s() - start;
}

static void race(Bench *b, Lane *lanes, int count) {
    Batch batch = bench_batch(b);
    for (int round = -1; round < ROUNDS; round++) {  // round -1 touches all memory
        for (int i = 0; i < count; i++) {
            bench_use(b, lanes[i].method);
            double exposed = bench_sp_stat().exposed_s, s = step_time(b, &batch);
            if (round < 0) continue;
            lanes[i].times[round] = s;
            lanes[i].ratios[round] = s / lanes[0].times[round];
            lanes[i].exposed_s += (bench_sp_stat().exposed_s - exposed) / ROUNDS;
        }
    }
}

static void print_lanes(const Bench *b, Lane *lanes, int count) {
    const Mesh *mesh = &b->run.mesh;
    for (int i = 0; i < count; i++) {
        double exposed = lanes[i].exposed_s;
        comm_sum_doubles(mesh->world, &exposed, 1);
        if (mesh->rank != 0) continue;
        double s = median(lanes[i].times, ROUNDS), ratio = median(lanes[i].ratios, ROUNDS);
        printf("%-12s %3d %8d %9.4f %8.3f  %.3f .. %.3f %10.1f\n", lanes[i].method->name, mesh->sp,
               b->run.cfg.train.seq, s, ratio, lanes[i].ratios[ROUNDS / 4],
               lanes[i].ratios[ROUNDS - 1 - ROUNDS / 4], 1e3 * exposed / mesh->size);
    }
}

Status bench_race(const Method *const *methods, int methods_count, const char *const *settings,
                  int count) {
    Bench *b = malloc(sizeof *b);
    Lane *lanes = calloc(MAX_METHODS, sizeof *lanes);
    ASSERT(b != NULL && lanes != NULL && methods_count <= MAX_METHODS);
    for (int i = 0; i < methods_count; i++) lanes[i].method = methods[i];
    Status st = bench_open(b, methods[0], settings, count);
    if (st == OK) st = agree(tape_for_all(b, lanes, methods_count), b->run.mesh.world);
    if (st == OK) {
        race(b, lanes, methods_count);
        print_lanes(b, lanes, methods_count);
    }
    bench_close(b);
    free(lanes);
    free(b);
    return st;
}
