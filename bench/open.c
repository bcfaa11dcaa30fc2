// Opening a model for a benchmark.
#include <stdlib.h>

#include "bench/bench.h"

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

// The share of run_open_training that passes without an update need.
static Status open_tape(Bench *b) {
    Run *run = &b->run;
    run->tape = tape_new();
    TRY(made_up_open(&b->tokens, run));
    Batch batch = bench_batch(b);
    tape_dry(run->tape, true);
    tape_backward(run->tape, model_loss(run->tape, &run->model, &batch, NULL));
    return tape_reserve(run->tape);
}

static Status open_local(Bench *b, bool training) {
    Run *run = &b->run;
    TRY(model_open(&run->model, &run->cfg.model, &run->mesh));
    TRY(params_reserve(&run->model.params, true));
    params_init(&run->model.params, 1);
    run->cfg.train.micro_rows = run_micro_rows(&run->cfg.train, &run->mesh);
    if (!training) return open_tape(b);
    TRY(run_open_training(run));
    return made_up_open(&b->tokens, run);
}

Status bench_open(Bench *b, const char *const *settings, int count, bool training) {
    *b = (Bench){.tokens = {0}};
    TRY(parallel_agree(configure(&b->run.cfg, settings, count)));
    TRY(mesh_open(&b->run.mesh, &b->run.cfg.parallel));
    return agree(open_local(b, training), b->run.mesh.world);
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
    Tensor *loss = model_loss(b->run.tape, &b->run.model, batch, NULL);
    tape_backward(b->run.tape, loss);
    return tensor_item(loss);
}

static int double_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, double_order);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
