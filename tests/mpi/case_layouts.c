// The invariance matrix: one model on every grid dp x sp x tp that its heads and widths allow, by
// every method, equals one rank. Loss, every gradient and the norm of one step; then twenty steps.
// Documents start on and off the borders of chunks, rows are no multiple of dp, and chunks are as
// even as 193 tokens allow, or very uneven and empty.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tests/mpi/case.h"
#include "train/run.h"

enum { ROWS = 5, T = 193, V = 257, MICRO_ROWS = 2, STEPS = 20, MAX_SP = 4 };
static const char SETTINGS[] = "model.width=96 model.heads=12 model.ffn=192 model.vocab=257 "
                               "model.layers=4 model.pattern=LNLW model.window=70 model.lrpe=first "
                               "model.block=32 model.init_std=0.05 model.pad_id=0";
#ifdef STERNA_F64
static const double LOSS_MOST = 1e-12, GRAD_MOST = 1e-11, THETA_MOST = 1e-11;
#else
static const double LOSS_MOST = 1e-6, GRAD_MOST = 1e-5, THETA_MOST = 2e-7 * T;
#endif
static const double STEP_LOSS_MOST = 1e-6, STEP_NORM_MOST = 5e-6;

// Where documents start in each row: on borders of 2, 3 and 4 even chunks and beside them; nowhere.
static const int STARTS[ROWS][8] = {{0, 97, 98, 150, -1},
                                    {-1},
                                    {0, 65, 129, -1},
                                    {30, 49, 97, 145, 192, -1},
                                    {0, 1, 96, 98, 99, 160, -1}};

// ---- rows --------------------------------------------------------------------------------------

// This rank's chunk of some rows.
typedef struct Rows {
    int bound[MAX_SP + 1], rank, sp;
    int32_t tokens[ROWS * T], targets[ROWS * T];
    int64_t pos[ROWS * T];
    int first[ROWS * T], doc[ROWS * 8], doc_row[ROWS + 1];
    uint8_t start[ROWS * T];
} Rows;

static int32_t token_at(int row, int t) {
    return (int32_t)(rng_u64(3, STREAM_TEST, (uint64_t)(row * (T + 1) + t)) % V);
}

static bool starts_at(int row, int t) {
    for (const int *s = STARTS[row]; *s >= 0; s++) {
        if (*s == t) return true;
    }
    return false;
}

// Tokens [bound[rank], bound[rank+1]) of row `row`, as row `at` of the batch.
static void row_fill(Rows *r, int at, int row, int64_t *valid) {
    int begin = r->bound[r->rank], count = r->bound[r->rank + 1] - begin;
    for (int t = 0, first = 0; t < T; t++) {
        if (starts_at(row, t)) {
            first = t;
            r->doc[r->doc_row[at + 1]++] = t;
        }
        if (t < begin || t >= begin + count) continue;
        int i = at * count + t - begin;
        r->tokens[i] = token_at(row, t);
        bool ends = t + 1 == T || starts_at(row, t + 1) || (row + t) % 11 == 5;
        r->targets[i] = ends ? IGNORE_TARGET : token_at(row, t + 1);
        r->pos[i] = t - first;
        r->first[i] = first;
        r->start[i] = t == first && starts_at(row, t);
        *valid += !ends;
    }
}

static Status rows_take(void *user, Batch *out, int64_t row, int rows) {
    Rows *r = user;
    int count = r->bound[r->rank + 1] - r->bound[r->rank];
    *out = (Batch){.seq = {.B = rows,
                           .T = count,
                           .pos = r->pos,
                           .first = r->first,
                           .start = r->start,
                           .bound = r->bound,
                           .doc = r->doc,
                           .doc_row = r->doc_row},
                   .tokens = r->tokens,
                   .targets = r->targets};
    r->doc_row[0] = 0;
    for (int i = 0; i < rows; i++) {
        r->doc_row[i + 1] = r->doc_row[i];
        row_fill(r, i, (int)row + i, &out->valid);
    }
    return OK;
}

static void rows_advance(void *user, int64_t global_rows) {
    (void)user, (void)global_rows;
}

// Even chunks, or uneven ones with an empty one among them.
static void rows_open(Rows *r, const Mesh *mesh, bool uneven) {
    static const int UNEVEN[MAX_SP + 1][MAX_SP + 1] = {
        {0}, {0, T}, {0, 1, T}, {0, 0, 98, T}, {0, 97, 97, 190, T}};
    r->sp = mesh->sp;
    r->rank = mesh->sp_rank;
    split_bounds(r->bound, T, mesh->sp);
    if (uneven) memcpy(r->bound, UNEVEN[mesh->sp], sizeof r->bound);
}

// ---- a run on a grid ---------------------------------------------------------------------------

typedef struct Setup {
    bool tied, uneven, recompute, llama;
    int steps;
} Setup;

// What one rank alone computes: all others are compared with it.
typedef struct Truth {
    ParamSet params;  // grad: the sum over the batch at the first step
    double loss[STEPS], norm[STEPS];
} Truth;

static void config_set_all(RunConfig *cfg, const Setup *s) {
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    char text[1024], *save = NULL;
    snprintf(text, sizeof text,
             "%s model.tied=%s model.recompute=%s model.family=%s train.seq=%d "
             "train.batch_tokens=%d train.micro_rows=%d train.steps=1000 train.eval_seq=1 "
             "schedule.kind=constant schedule.lr=1e-3 schedule.warmup=0 train.clip=1",
             SETTINGS, s->tied ? "true" : "false", s->recompute ? "true" : "false",
             s->llama ? "llama" : "tnl", T, ROWS * T, MICRO_ROWS);
    for (char *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        CHECK(config_set(c, w, "test") == OK);
    CHECK(model_config_resolve(&cfg->model, c) == OK);
    config_free(c);
}

// Arena sizes for the chunks at hand, which need not be the even ones a run would have.
static void tape_for(Run *run, Rows *rows) {
    Batch b;
    CHECK(rows_take(rows, &b, 0, MICRO_ROWS) == OK);
    tape_dry(run->tape, true);
    tape_backward(run->tape, model_loss(run->tape, &run->model, &b, NULL));
    CHECK(tape_reserve(run->tape) == OK);
}

static void run_on(Run *run, Rows *rows, const Mesh *mesh, const Setup *s) {
    *run = (Run){.mesh = *mesh};
    config_set_all(&run->cfg, s);
    CHECK(model_open(&run->model, &run->cfg.model, &run->mesh) == OK);
    CHECK(params_reserve(&run->model.params, true) == OK);
    params_init(&run->model.params, 7);
    CHECK(run_open_training(run) == OK);
    rows_open(rows, mesh, s->uneven);
    tape_for(run, rows);
    run->source = (RowSource){rows_take, rows_advance, rows};
}

static void run_end(Run *run) {
    optim_close(&run->optim);
    reducer_close(run->reducer);
    tape_free(run->tape);
    model_close(&run->model);
}

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
    run_on(run, rows, &alone, &(Setup){.tied = s->tied, .llama = s->llama});
    size_t bytes = run->model.params.total * sizeof(real);
    real *grad = calloc(run->model.params.total, sizeof *grad);
    for (int i = 0; i < s->steps && mesh->rank == 0; i++) {
        CHECK(train_step(run, &r) == OK);
        t->loss[i] = r.loss;
        t->norm[i] = r.grad_norm;
        if (i == 0) memcpy(grad, run->model.params.grad, bytes);
    }
    comm_bcast(mesh->world, t->loss, sizeof t->loss, 0);
    comm_bcast(mesh->world, t->norm, sizeof t->norm, 0);
    comm_bcast(mesh->world, grad, bytes, 0);
    memcpy(run->model.params.grad, grad, bytes);
    t->params = run->model.params;
    run->model.params = (ParamSet){0};
    free(grad);
    run_end(run);
    free(run);
    free(rows);
}

// ---- comparison --------------------------------------------------------------------------------

static void fail_at(const Mesh *m, const Setup *s, const char *what, double off) {
    char text[512];
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
    const Range *ranges = reducer_ranges(run->reducer, &count);
    for (int i = 0; i < run->model.params.count; i++) {
        const Param *p = &run->model.params.rows[i], *whole = &t->params.rows[i];
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
        check_close(mesh, s, "the gradient norm", r.grad_norm, t->norm[i],
                    i == 0 ? GRAD_MOST : STEP_NORM_MOST);
        if (i == 0) check_gradients(run, t, s);
        comm_check_same(mesh->replicas, params_hash(&run->model.params), "weights after a step");
    }
    run_end(run);
    free(run);
    free(rows);
}

// ---- the matrix --------------------------------------------------------------------------------

typedef void (*GridFn)(Mesh *grid, const Truth truths[2], int steps);

// Calls fn on every grid of this many ranks.
static void each_grid(const Mesh *world, const Truth truths[2], int steps, GridFn fn) {
    for (int sp = 1; sp <= MAX_SP; sp++) {
        for (int tp = 1; tp <= 4; tp++) {
            if (world->size % (sp * tp) != 0 || world->size / (sp * tp) > 4) continue;
            Mesh grid;
            CHECK(mesh_open(&grid, &(ParallelConfig){.sp = sp, .tp = tp, .zero = true}) == OK);
            fn(&grid, truths, steps);
            mesh_close(&grid);
        }
    }
}

// Every method once or more; ulysses where the heads of a share divide.
static void check_methods(Mesh *grid, const Truth truths[2], int steps) {
    (void)steps;
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
        truth_open(&truths[tied], mesh, &(Setup){.tied = tied == 1, .steps = steps});
}

static void truths_close(Truth truths[2]) {
    for (int tied = 0; tied < 2; tied++) params_free(&truths[tied].params);
}

static void layouts_agree_on_gradients(const Mesh *mesh) {
    Truth truths[2] = {{.loss = {0}}};
    truths_open(truths, mesh, 1);
    each_grid(mesh, truths, 1, check_methods);
    truths_close(truths);
}

static void check_steps(Mesh *grid, const Truth truths[2], int steps) {
    Setup s = {.tied = (grid->sp + grid->tp) % 2 == 0, .steps = steps};
    grid->sp_linear = (SpLinear)((grid->sp + grid->tp) % 3);
    grid->sp_softmax = (SpSoftmax)((grid->sp + grid->dp) % 2);
    check_grid(grid, &truths[s.tied], &s);
}

static void layouts_agree_on_twenty_steps(const Mesh *mesh) {
    Truth truths[2] = {{.loss = {0}}};
    truths_open(truths, mesh, STEPS);
    each_grid(mesh, truths, STEPS, check_steps);
    truths_close(truths);
}

// Gains are replicated over tp: they count once.
static void check_llama(Mesh *grid, const Truth truths[2], int steps) {
    Setup s = {.llama = true, .steps = steps};
    check_grid(grid, &truths[0], &s);
}

static void layouts_agree_on_a_llama(const Mesh *mesh) {
    Truth truths[2] = {{.loss = {0}}};
    for (int i = 0; i < 2; i++) truth_open(&truths[i], mesh, &(Setup){.llama = true, .steps = 1});
    each_grid(mesh, truths, 1, check_llama);
    truths_close(truths);
}

// ---- a rank that fails alone -------------------------------------------------------------------

// Rows of which one rank cannot read some: after `left` more calls, -1: never.
typedef struct FailingRows {
    Rows rows;
    int left;
} FailingRows;

static Status failing_take(void *user, Batch *out, int64_t row, int rows) {
    FailingRows *f = user;
    if (f->left >= 0 && f->left-- == 0) FAIL(E_IO, "look at the disk", "a shard is gone");
    return rows_take(&f->rows, out, row, rows);
}

// The step comes back everywhere with the culprit's words, and leaves all as it was.
static void check_failing_step(Run *run, FailingRows *f, int culprit, int micro_batch) {
    const Mesh *m = &run->mesh;
    char expected[64];
    StepResult r;
    uint64_t before = params_hash(&run->model.params);
    snprintf(expected, sizeof expected,
             m->size > 1 ? "rank %d: a shard is gone" : "a shard is gone", culprit);
    f->left = m->rank == culprit ? micro_batch : -1;
    CHECK(train_step(run, &r) == E_IO);
    CHECK(strcmp(err_message(), expected) == 0);
    CHECK(strcmp(err_hint(), "look at the disk") == 0);
    CHECK(run->step == 1 && params_hash(&run->model.params) == before);
}

// In the first micro-batch and in a team's last; after that a step is still a step.
static void check_failures(Mesh *grid, const Truth truths[2], int steps) {
    (void)steps;
    FailingRows *f = calloc(1, sizeof *f);
    Run *run = calloc(1, sizeof *run);
    Setup s = {.steps = 2};
    StepResult r;
    run_on(run, &f->rows, grid, &s);
    run->source = (RowSource){failing_take, rows_advance, f};
    f->left = -1;
    CHECK(train_step(run, &r) == OK);
    const int culprits[] = {grid->size - 1, 1 % grid->size};
    for (int i = 0; i < 2; i++) {
        int team = culprits[i] / (grid->sp * grid->tp);
        int last = ((int)split_count(ROWS, grid->dp, team) - 1) / MICRO_ROWS;
        check_failing_step(run, f, culprits[i], i == 0 ? 0 : last);
    }
    CHECK(train_step(run, &r) == OK);
    check_close(grid, &s, "the loss after failures", r.loss, truths[0].loss[1], STEP_LOSS_MOST);
    run_end(run);
    free(run);
    free(f);
}

static void loader_failure_reaches_all_ranks(const Mesh *mesh) {
    Truth truths[2] = {{.loss = {0}}};
    truths_open(truths, mesh, 2);
    each_grid(mesh, truths, 2, check_failures);
    truths_close(truths);
}

const MpiCase CASES_LAYOUTS[] = {
    {"layouts_agree_on_gradients", layouts_agree_on_gradients},
    {"layouts_agree_on_twenty_steps", layouts_agree_on_twenty_steps},
    {"layouts_agree_on_a_llama", layouts_agree_on_a_llama},
    {"loader_failure_reaches_all_ranks", loader_failure_reaches_all_ranks},
    {NULL, NULL}};
