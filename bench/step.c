// bench_sp step: forward and backward of one sequence that all ranks share, by one method. One line
// of figures; a process measures one configuration, so that its peak memory is that one's.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "parallel/mesh.h"

enum { STEPS = 3 };
// No further step after so many seconds.
static const double ENOUGH_S = 3;
// The first touches all memory and does not count, unless that can be no more than a twentieth of
// it: in a virtual machine fresh pages have been seen to cost up to 4 s/GiB.
static const double TOUCH_S = 4, TOUCH_MOST = 0.05;

typedef struct Figures {
    double step_s, sent_bytes, exposed_s, peak_mib, tape_mib, loss;
    int steps;
} Figures;

// VmHWM of this process, MiB.
static double peak_mib(void) {
    FILE *in = fopen("/proc/self/status", "r");
    char line[256];
    double kib = NAN;
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtod(line + 6, NULL);
    }
    if (in != NULL) fclose(in);
    return kib / 1024;
}

// Seconds until the slowest rank is done.
static double step_time(Bench *b, const Batch *batch, double *loss) {
    comm_barrier(b->run.mesh.world);
    double start = clock_s();
    params_zero_grad(&b->run.learner[0].model.params);
    *loss = bench_loss(b, batch);
    comm_barrier(b->run.mesh.world);
    double s = clock_s() - start;
    comm_bcast(b->run.mesh.world, &s, sizeof s, 0);  // all decide by the same clock
    return s;
}

static bool first_counts(const Bench *b, double first) {
    double touch = TOUCH_S * (double)tape_bytes(b->run.tape) / (1 << 30);
    uint8_t counts = first > ENOUGH_S && touch < TOUCH_MOST * first;
    comm_bcast(b->run.mesh.world, &counts, 1, 0);
    return counts != 0;
}

static void measure(Bench *b, Figures *f) {
    Batch batch = bench_batch(b);
    CommStat before = bench_sp_stat();
    double times[STEPS], spent = 0;
    double first = step_time(b, &batch, &f->loss);
    if (first_counts(b, first)) {
        times[f->steps++] = spent = first;
    } else {
        before = bench_sp_stat();
    }
    while (f->steps < STEPS && spent < ENOUGH_S) {
        times[f->steps] = step_time(b, &batch, &f->loss);
        spent += times[f->steps++];
    }
    CommStat after = bench_sp_stat();
    f->step_s = median(times, f->steps);
    f->sent_bytes = (after.bytes - before.bytes) / f->steps;
    f->exposed_s = (after.exposed_s - before.exposed_s) / f->steps;
    f->peak_mib = peak_mib();
    f->tape_mib = (double)tape_bytes(b->run.tape) / 1048576;
}

// Means over ranks of what is sent and waited for; the largest peak.
static void collect(const Mesh *mesh, Figures *f) {
    double sums[] = {f->sent_bytes, f->exposed_s, f->loss};
    int64_t peaks[] = {llround(f->peak_mib * 1024), llround(f->tape_mib * 1024)};
    comm_sum_doubles(mesh->world, sums, 3);
    comm_max_i64(mesh->world, peaks, 2);
    f->sent_bytes = sums[0] / mesh->size;
    f->exposed_s = sums[1] / mesh->size;
    f->loss = sums[2];
    f->peak_mib = (double)peaks[0] / 1024;
    f->tape_mib = (double)peaks[1] / 1024;
}

static void print_line(const Method *m, const Bench *b, const Figures *f) {
    int N = b->run.cfg.train.seq;
    printf("%-12s %3d %8d %10.0f %9.3f %5d %12.3f %10.1f %8.1f %8.1f %9.5f\n", m->name,
           b->run.mesh.sp, N, N / f->step_s, f->step_s, f->steps, f->sent_bytes / 1048576,
           1e3 * f->exposed_s, f->peak_mib, f->tape_mib, f->loss / N);
}

Status bench_step(const Method *m, const char *const *settings, int count) {
    Bench *b = malloc(sizeof *b);
    Figures f = {0};
    ASSERT(b != NULL);
    Status st = bench_open(b, m, settings, count);
    if (st == OK) {
        measure(b, &f);
        collect(&b->run.mesh, &f);
        if (b->run.mesh.rank == 0) print_line(m, b, &f);
    }
    bench_close(b);
    free(b);
    return st;
}
