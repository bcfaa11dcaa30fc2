// The invariance matrix: one model on every grid dp x sp x tp that its heads and widths allow, by
// every method, equals one rank. Loss, every gradient and the norm of one step; then twenty steps.
// Documents start on and off the borders of chunks, rows are no multiple of dp, and chunks are as
// even as 193 tokens allow, or very uneven and empty.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/mixers/mixers.h"
#include "parallel/reduce.h"
#include "tests/mpi/grid_run.h"

enum { STEPS = 20 };
#ifdef STERNA_F64
static const double LOSS_MOST = 1e-12, GRAD_MOST = 1e-11, THETA_MOST = 1e-11;
#else
static const double LOSS_MOST = 1e-6, GRAD_MOST = 1e-5, THETA_MOST = 2e-7 * T;
#endif
static const double STEP_LOSS_MOST = 1e-6, STEP_NORM_MOST = 5e-6;
// Steps of Adam make more of rounding, and memories that learn do so once more: in floats, twenty
// steps are compared without them.
static const bool STEPS_WITHOUT_MEMORY = sizeof(real) == sizeof(float);

// What one rank alone computes: all others are compared with it.
typedef struct Truth {
    ParamSet params;  // grad: the sum over the batch at the first step
    double loss[STEPS], norm[STEPS];
} Truth;

static Mesh alone_of(const Mesh *mesh) {
    CHECK(comm_size(mesh->tp_axis) == 1);
    Mesh alone = {.size = 1, .dp = 1, .sp = 1, .tp = 1, .node_size = 1};
    alone.world = alone.sp_axis = alone.tp_axis = alone.replicas = alone.team = mesh->tp_axis;
    return alone;
}

// Rank 0 computes, everyone hears.
static void truth_open(Truth *t, const Mesh *mesh, const Setup *s) {
    Rows *rows = calloc(1, sizeof *rows);
    Run *run = calloc(1, sizeof *run);
    Mesh alone = alone_of(mesh);
    StepResult r;
    run_on(run, rows, &alone,
           &(Setup){.tied = s->tied,
                    .llama = s->llama,
                    .kv_heads = s->kv_heads,
                    .vocab = s->vocab,
                    .no_memory = s->no_memory});
    size_t bytes = run->learner[0].model.params.total * sizeof(real);
    real *grad = calloc(run->learner[0].model.params.total, sizeof *grad);
    for (int i = 0; i < s->steps && mesh->rank == 0; i++) {
        CHECK(train_step(run, &r) == OK);
        t->loss[i] = r.loss;
        t->norm[i] = r.learner[0].grad_norm;
        if (i == 0) memcpy(grad, run->learner[0].model.params.grad, bytes);
    }
    comm_bcast(mesh->world, t->loss, sizeof t->loss, 0);
    comm_bcast(mesh->world, t->norm, sizeof t->norm, 0);
    comm_bcast(mesh->world, grad, bytes, 0);
    memcpy(run->learner[0].model.params.grad, grad, bytes);
    t->params = run->learner[0].model.params;
    run->learner[0].model.params = (ParamSet){0};
    free(grad);
    run_end(run);
    free(run);
    free(rows);
}

// ---- comparison --------------------------------------------------------------------------------

// Where a model is wrong on purpose, what would end a case is counted.
static bool counting;
static int64_t faults;

static void fail_at(const Mesh *m, const Setup *s, const char *what, double off) {
    char text[512];
    faults++;
    if (counting) return;
    snprintf(text, sizeof text,
             "dp %d sp %d tp %d, linear %d softmax %d%s%s%s%s: %s is off by %.3g", m->dp, m->sp,
             m->tp, (int)m->sp_linear, (int)m->sp_softmax, s->tied ? " tied" : "",
             s->uneven ? " uneven" : "", s->recompute ? " recompute" : "", s->llama ? " llama" : "",
             what, off);
    case_fail(__FILE__, __LINE__, text);
}

static void check_close(const Mesh *m, const Setup *s, const char *what, double x, double y,
                        double most) {
    double off = fabs(x - y) / fabs(y);
    if (!(off <= most)) fail_at(m, s, what, off);
}

// This rank's updated elements against the whole; together ranks cover everything.
static void check_gradients(const Run *run, const Truth *t, const Setup *s) {
    int count;
    const Range *ranges = reducer_ranges(run->learner[0].reducer, &count);
    for (int i = 0; i < run->learner[0].model.params.count; i++) {
        const Param *p = &run->learner[0].model.params.rows[i], *whole = &t->params.rows[i];
        CHECK(strcmp(p->name, whole->name) == 0 && p->whole == whole->count);
        double largest = 0, off = 0;
        for (size_t j = 0; j < whole->count; j++)
            largest = fmax(largest, fabs((double)whole->grad[j]));
        CHECK(largest > 0);
        for (int k = 0; k < count; k++) {
            for (size_t f = ranges[k].begin; f < ranges[k].begin + ranges[k].count; f++) {
                if (f < p->offset || f >= p->offset + p->count) continue;
                size_t j = f - p->offset;
                size_t g = p->share.begin + j / p->share.run * p->share.stride + j % p->share.run;
                off = fmax(off, fabs((double)p->grad[j] - (double)whole->grad[g]));
            }
        }
        double most = p->init == INIT_LRPE ? THETA_MOST : GRAD_MOST;
        if (!(off <= most * largest)) fail_at(&run->mesh, s, p->name, off / largest);
    }
}

static void check_grid(const Mesh *mesh, const Truth *t, const Setup *s) {
    Rows *rows = calloc(1, sizeof *rows);
    Run *run = calloc(1, sizeof *run);
    run_on(run, rows, mesh, s);
    for (int i = 0; i < s->steps; i++) {
        StepResult r;
        CHECK(train_step(run, &r) == OK);
        check_close(mesh, s, "the loss", r.loss, t->loss[i], i == 0 ? LOSS_MOST : STEP_LOSS_MOST);
        check_close(mesh, s, "the gradient norm", r.learner[0].grad_norm, t->norm[i],
                    i == 0 ? GRAD_MOST : STEP_NORM_MOST);
        if (i == 0) check_gradients(run, t, s);
        comm_check_same(mesh->replicas, params_hash(&run->learner[0].model.params),
                        "weights after a step");
    }
    run_end(run);
    free(run);
    free(rows);
}

// ---- the matrix --------------------------------------------------------------------------------

// Every method once or more; ulysses where the heads of a share divide.
static void check_methods(Mesh *grid, void *user) {
    const Truth *truths = user;
    for (int tied = 0; tied < 2; tied++) {
        for (int method = 0; method < (grid->sp > 1 ? 3 : 1); method++) {
            Setup s = {.tied = tied == 1, .steps = 1};
            grid->sp_linear = (SpLinear)method;
            grid->sp_softmax = (SpSoftmax)method;
            if (method == 2 && 12 / grid->tp % grid->sp != 0) grid->sp_softmax = SP_LASP2H;
            s.uneven = grid->sp > 1 && (tied + method) % 2 == 1;
            s.recompute = method != 1;
            grid->zero = method != 2;
            check_grid(grid, &truths[tied], &s);
        }
    }
}

static void truths_open(Truth truths[2], const Mesh *mesh, int steps) {
    for (int tied = 0; tied < 2; tied++)
        truth_open(&truths[tied], mesh,
                   &(Setup){.tied = tied == 1,
                            .steps = steps,
                            .no_memory = steps > 1 && STEPS_WITHOUT_MEMORY});
}

static void truths_close(Truth truths[2]) {
    for (int tied = 0; tied < 2; tied++) params_free(&truths[tied].params);
}

static void layouts_agree_on_gradients(const Mesh *mesh) {
    Truth truths[2] = {{.loss = {0}}};
    truths_open(truths, mesh, 1);
    each_grid(mesh, check_methods, truths);
    truths_close(truths);
}

static void check_steps(Mesh *grid, void *user) {
    const Truth *truths = user;
    Setup s = {
        .tied = (grid->sp + grid->tp) % 2 == 0, .steps = STEPS, .no_memory = STEPS_WITHOUT_MEMORY};
    grid->sp_linear = (SpLinear)((grid->sp + grid->tp) % 3);
    grid->sp_softmax = (SpSoftmax)((grid->sp + grid->dp) % 2);
    check_grid(grid, &truths[s.tied], &s);
}

static void layouts_agree_on_twenty_steps(const Mesh *mesh) {
    Truth truths[2] = {{.loss = {0}}};
    truths_open(truths, mesh, STEPS);
    each_grid(mesh, check_steps, truths);
    truths_close(truths);
}

// Gains are replicated over tp: they count once.
static void check_llama(Mesh *grid, void *user) {
    Setup s = {.llama = true, .steps = 1};
    check_grid(grid, user, &s);
}

static void layouts_agree_on_a_llama(const Mesh *mesh) {
    Truth truth = {.loss = {0}};
    truth_open(&truth, mesh, &(Setup){.llama = true, .steps = 1});
    each_grid(mesh, check_llama, &truth);
    params_free(&truth.params);
}

// Four key/value heads of twelve, and three tokens: some tp ranks hold no row of the vocabulary.
static const Setup GROUPED = {.kv_heads = 4, .vocab = 3, .steps = 1};

static void check_grouped(Mesh *grid, void *user) {
    Setup s = GROUPED;
    if (grid->tp == 3) return;  // refused: it does not divide the key/value heads
    for (int method = 0; method < (grid->sp > 1 ? 3 : 1); method++) {
        grid->sp_softmax = (SpSoftmax)method;
        bool ulysses = 4 / grid->tp % grid->sp == 0 && 12 / grid->tp % grid->sp == 0;
        if (method == 2 && !ulysses) continue;
        s.uneven = method == 1;
        check_grid(grid, user, &s);
    }
}

static void layouts_agree_on_grouped_heads(const Mesh *mesh) {
    Truth truth = {.loss = {0}};
    truth_open(&truth, mesh, &GROUPED);
    each_grid(mesh, check_grouped, &truth);
    params_free(&truth.params);
}

// ---- mixers that are wrong on purpose ----------------------------------------------------------

extern const MixerOps MIXER_LIGHTNING;

static void scale(const MixerRun *run, Tensor *y, bool on) {
    for (int r = 0; r < y->rows && on && !tape_is_dry(run->tp); r++)
        y->data[(size_t)r * (size_t)y->ld] *= (real)1.01;
}

static Tensor *differ_on_two_chunks(const MixerRun *run, Tensor *x) {
    Tensor *y = MIXER_LIGHTNING.forward(run, x);
    scale(run, y, run->m->mesh->sp == 2 && run->m->mesh->sp_rank == 1);
    return y;
}

static Tensor *differ_on_two_shares(const MixerRun *run, Tensor *x) {
    Tensor *y = MIXER_LIGHTNING.forward(run, x);
    scale(run, y, run->m->mesh->tp == 2);
    return y;
}

// What the comparison finds, on all ranks together, on this mesh of two.
static int64_t faults_with(Tensor *(*forward)(const MixerRun *run, Tensor *x), const Mesh *mesh,
                           ParallelConfig axes) {
    MixerOps wrong = MIXER_LIGHTNING;
    wrong.forward = forward;
    const MixerOps *const table[] = {&wrong, NULL};
    const MixerOps *const *before = mixers_use(table);
    const Setup s = {.steps = 1};
    Truth truth = {.loss = {0}};
    Mesh grid;
    counting = true;
    faults = 0;
    truth_open(&truth, mesh, &s);
    CHECK(mesh_open(&grid, &axes) == OK);
    check_grid(&grid, &truth, &s);
    mesh_close(&grid);
    params_free(&truth.params);
    mixers_use(before);
    counting = false;
    comm_max_i64(mesh->world, &faults, 1);
    return faults;
}

static void layouts_find_out_wrong_mixers(const Mesh *mesh) {
    const ParallelConfig dp = {.sp = 1, .tp = 1}, sp = {.sp = 2, .tp = 1}, tp = {.sp = 1, .tp = 2};
    CHECK(faults_with(differ_on_two_chunks, mesh, dp) == 0);
    CHECK(faults_with(differ_on_two_chunks, mesh, sp) > 0);
    CHECK(faults_with(differ_on_two_chunks, mesh, tp) == 0);
    CHECK(faults_with(differ_on_two_shares, mesh, sp) == 0);
    CHECK(faults_with(differ_on_two_shares, mesh, tp) > 0);
}

// ---- a rank that fails alone -------------------------------------------------------------------

// Rows of which one rank cannot read some: after `left` more calls, -1: never.
typedef struct FailingRows {
    Rows rows;
    RowSource whole;
    int left;
} FailingRows;

static Status failing_take(void *user, Batch *out, int64_t row, int rows) {
    FailingRows *f = user;
    if (f->left >= 0 && f->left-- == 0) FAIL(E_IO, "look at the disk", "a shard is gone");
    return f->whole.rows(f->whole.user, out, row, rows);
}

// The step comes back everywhere with the culprit's words, and leaves all as it was.
static void check_failing_step(Run *run, FailingRows *f, int culprit, int micro_batch) {
    const Mesh *m = &run->mesh;
    char expected[64];
    StepResult r;
    uint64_t before = params_hash(&run->learner[0].model.params);
    snprintf(expected, sizeof expected,
             m->size > 1 ? "rank %d: a shard is gone" : "a shard is gone", culprit);
    f->left = m->rank == culprit ? micro_batch : -1;
    CHECK(train_step(run, &r) == E_IO);
    CHECK(strcmp(err_message(), expected) == 0);
    CHECK(strcmp(err_hint(), "look at the disk") == 0);
    CHECK(run->step == 1 && params_hash(&run->learner[0].model.params) == before);
}

// In the first micro-batch and in a team's last; after that a step is still a step.
static void check_failures(Mesh *grid, void *user) {
    const Truth *truth = user;
    FailingRows *f = calloc(1, sizeof *f);
    Run *run = calloc(1, sizeof *run);
    Setup s = {.steps = 2};
    StepResult r;
    run_on(run, &f->rows, grid, &s);
    f->whole = run->source;
    run->source = (RowSource){failing_take, f->whole.advance, f};
    f->left = -1;
    CHECK(train_step(run, &r) == OK);
    const int culprits[] = {grid->size - 1, 1 % grid->size};
    for (int i = 0; i < 2; i++) {
        int team = culprits[i] / (grid->sp * grid->tp);
        int last = ((int)split_count(ROWS, grid->dp, team) - 1) / MICRO_ROWS;
        check_failing_step(run, f, culprits[i], i == 0 ? 0 : last);
    }
    CHECK(train_step(run, &r) == OK);
    check_close(grid, &s, "the loss after failures", r.loss, truth->loss[1], STEP_LOSS_MOST);
    run_end(run);
    free(run);
    free(f);
}

static void loader_failure_reaches_all_ranks(const Mesh *mesh) {
    Truth truth = {.loss = {0}};
    truth_open(&truth, mesh, &(Setup){.steps = 2});
    each_grid(mesh, check_failures, &truth);
    params_free(&truth.params);
}

const MpiCase CASES_LAYOUTS[] = {
    {"layouts_agree_on_gradients", layouts_agree_on_gradients},
    {"layouts_agree_on_twenty_steps", layouts_agree_on_twenty_steps},
    {"layouts_agree_on_a_llama", layouts_agree_on_a_llama},
    {"layouts_agree_on_grouped_heads", layouts_agree_on_grouped_heads},
    {"layouts_find_out_wrong_mixers", layouts_find_out_wrong_mixers},
    {"loader_failure_reaches_all_ranks", loader_failure_reaches_all_ranks},
    {NULL, NULL}};
