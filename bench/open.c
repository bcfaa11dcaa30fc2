// Opening a model for a benchmark.
#include <stdlib.h>

#include "bench/bench.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

static Status configure(RunConfig *cfg, const char *const *settings, int count) {
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st = config_set(c, "train.steps=1000000", "bench");
    for (int i = 0; st == OK && i < count; i++) st = config_set(c, settings[i], "bench_sp");
    if (st == OK) st = run_config_check(cfg);
    if (st == OK) st = model_config_resolve(&cfg->model, c);
    if (st == OK && cfg->model.vocab == 0) cfg->model.vocab = 8192;
    cfg->train.eval_seq = 1;
    config_free(c);
    return st;
}

Status bench_ranks(int *ranks) {
    Mesh world;
    TRY(mesh_open(&world, &(ParallelConfig){.sp = 1}));
    *ranks = world.size;
    mesh_close(&world);
    return OK;
}

// The share of run_open_learners that passes without an update need.
static Status open_passes(Bench *b) {
    Run *run = &b->run;
    LearnerConfig of;
    objective_configure(&of, &run->cfg);
    run->learner_count = 1;
    TRY(learner_layout(&run->learner[0], "", false, &of, &run->mesh));
    TRY(params_reserve(&run->learner[0].model.params, true));
    params_init(&run->learner[0].model.params, 1);
    run->cfg.train.micro_rows = run_micro_rows(&run->cfg.train, &run->mesh);
    run->tape = tape_new();
    TRY(made_up_open(&b->tokens, run));
    Batch batch = bench_batch(b);
    tape_dry(run->tape, true);
    tape_backward(run->tape, model_loss(run->tape, &run->learner[0].model, &batch, NULL));
    return tape_reserve(run->tape);
}

// Collective(world).
static Status open_run(Bench *b) {
    Run *run = &b->run;
    run->objective = &LANGUAGE_MODEL;
    TRY(run_open_learners(run));
    params_init(&run->learner[0].model.params, 1);
    return agree(made_up_open(&b->tokens, run), run->mesh.world);
}

void bench_use(Bench *b, const Method *m) {
    method_use(m);
    b->run.mesh.sp_linear = m->sp_linear;
    b->run.mesh.sp_softmax = m->sp_softmax;
}

Status bench_open(Bench *b, const Method *m, const char *const *settings, int count) {
    *b = (Bench){.tokens = {0}};
    TRY(parallel_agree(configure(&b->run.cfg, settings, count)));
    TRY(mesh_open(&b->run.mesh, &b->run.cfg.parallel));
    if (m != NULL) bench_use(b, m);
    return m != NULL ? agree(open_passes(b), b->run.mesh.world) : open_run(b);
}

void bench_close(Bench *b) {
    made_up_close(&b->tokens);
    run_close(&b->run);
    mesh_close(&b->run.mesh);
}

Batch bench_batch(Bench *b) {
    Batch batch;
    RowSource source = made_up_source(&b->tokens);
    int rows = b->run.cfg.train.micro_rows;
    Status st = source.rows(source.user, &batch, (int64_t)b->run.mesh.dp_rank * rows, rows);
    ASSERT(st == OK);
    return batch;
}

double bench_loss(Bench *b, const Batch *batch) {
    tape_begin(b->run.tape, true);
    Tensor *loss = model_loss(b->run.tape, &b->run.learner[0].model, batch, NULL);
    tape_backward(b->run.tape, loss);
    return tensor_item(loss);
}

CommStat bench_sp_stat(void) {
    static const CommUse uses[] = {COMM_STATE, COMM_DSTATE, COMM_KV, COMM_KV_AGAIN, COMM_DKV};
    CommStat sum = {0};
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        CommStat s = comm_stat(uses[i]);
        sum.bytes += s.bytes;
        sum.exposed_s += s.exposed_s;
    }
    return sum;
}

static int double_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, double_order);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
