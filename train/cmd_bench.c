// sterna bench step: the full training step against the SGEMM rate of the same cores in the same
// run.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/clock.h"
#include "base/log.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "parallel/world.h"
#include "tensor/gemm.h"
#include "tensor/threads.h"
#include "train/commands.h"
#include "train/made_up.h"

static const char *preset_text = "bench-36m", *ranks_text, *json_path, *steps_text = "5";
static const Option OPTIONS[] = {
    {"preset", "NAME", "model (bench-36m)", &preset_text},
    {"ranks", "R", "start R ranks, which share the cores (1)", &ranks_text},
    {"steps", "N", "measured steps, their median counts (5)", &steps_text},
    {"json", "FILE", "write the figures as JSON", &json_path},
};
enum {
    OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0],
    SGEMM_SIZE = 3072,
    SGEMM_RUNS = 3,
    MAX_STEPS = 100
};

void help_bench(void) {
    puts("usage: sterna bench step [--preset bench-36m] [--ranks R] [--json FILE] [key=value "
         "...]\n\n"
         "Times forward, backward, clipping and update on made-up tokens (train.seq=2048, "
         "train.batch_tokens=8192\n"
         "unless given) and, before and after, large products on all cores at once: the ceiling. "
         "Model FLOPs a token\n"
         "are 6 x (non-embedding parameters + head): no attention, recomputation or masked work.\n"
         "OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are unset.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

// ---- starting -----------------------------------------------------------------------------------

// Open MPI refuses to start anything as root until it is asked twice. In a container root is the
// only user there is, and what is started is this program, which root has just called.
static void pass_root(void) {
    static const char *const ASKED[] = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"};
    if (geteuid() != 0 || (getenv(ASKED[0]) != NULL && getenv(ASKED[1]) != NULL)) return;
    for (int i = 0; i < 2; i++) setenv(ASKED[i], "1", 0);
    log_warn("started by root: %s=1 and %s=1 are set for mpirun", ASKED[0], ASKED[1]);
}

// OpenBLAS reads its variables when it is loaded and mpirun decides the rank count: both need a new
// program.
static Status restart(char **argv) {
    long ranks = 1;
    if (ranks_text != NULL) TRY(option_number(&ranks, "ranks", ranks_text, 1, 1 << 20));
    char program[PATH_BYTES], number[16];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n < 0) FAIL(E_IO, "is /proc mounted?", "/proc/self/exe cannot be read");
    program[n] = '\0';
    snprintf(number, sizeof number, "%ld", ranks);
    setenv("OMP_PROC_BIND", "false", 0);
    pass_root();
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_L2_SIZE");
    const char *words[MAX_WORDS + 16] = {"mpirun", "-n",    number, "--bind-to",
                                         "none",   program, "bench"};
    int count = 7;
    for (int i = 1; argv[i] != NULL && count < MAX_WORDS + 15; i++) words[count++] = argv[i];
    execvp("mpirun", (char **)words);
    FAIL(E_LAUNCH, "install Open MPI", "mpirun cannot be started");
}

// ---- the ceiling -------------------------------------------------------------------------------

// Best rate of a large product on all cores of all ranks at once, GFLOP/s. Collective(world).
static double sgemm_ceiling(const Mesh *mesh) {
    size_t count = (size_t)SGEMM_SIZE * SGEMM_SIZE;
    real *abc = malloc(3 * count * sizeof *abc);
    ASSERT(abc != NULL);
    for (size_t i = 0; i < 3 * count; i++) abc[i] = (real)0.5;
    double best = 0;
    for (int run = 0; run < SGEMM_RUNS; run++) {
        comm_barrier(mesh->world);
        double start = clock_s();
        gemm(GEMM_N, GEMM_N, SGEMM_SIZE, SGEMM_SIZE, SGEMM_SIZE, 1, abc, SGEMM_SIZE, abc + count,
             SGEMM_SIZE, 0, abc + 2 * count, SGEMM_SIZE);
        double rate = 2e-9 * (double)SGEMM_SIZE * (double)count / (clock_s() - start);
        comm_sum_doubles(mesh->world, &rate, 1);
        if (rate > best) best = rate;
    }
    free(abc);
    return best;
}

// ---- measuring ---------------------------------------------------------------------------------

typedef struct Figures {
    double step_s, ceiling, gflops, tokens_per_s, gemm_share;
    Phases phases;  // seconds a step, rank 0
    int steps;
    CommTable comm;
    MemoryUse memory;
} Figures;

static int double_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// Before the second ceiling, whose matrices are no part of a run.
static Status measure_memory(const Run *run, Figures *f) {
    Memory mine = run_memory(run);
    f->memory = memory_gather(&mine, run->mesh.world);
    return accounts_gather(&f->comm, &run->accounts, run->mesh.world);
}

static Status measure(Run *run, Figures *f) {
    double times[MAX_STEPS], ceiling = sgemm_ceiling(&run->mesh);
    StepResult r;
    TRY(train_step(run, &r));  // touches all memory
    run->phases = (Phases){0};
    double flops = gemm_flops();
    for (int i = 0; i < f->steps; i++) {
        comm_barrier(run->mesh.world);
        double start = clock_s();
        accounts_step_begin(&run->accounts);
        TRY(train_step(run, &r));
        times[i] = clock_s() - start;
        accounts_step_end(&run->accounts, times[i]);
    }
    TRY(measure_memory(run, f));
    flops = (gemm_flops() - flops) / f->steps;
    comm_sum_doubles(run->mesh.world, &flops, 1);
    double after = sgemm_ceiling(&run->mesh);
    qsort(times, (size_t)f->steps, sizeof *times, double_order);
    f->step_s = times[f->steps / 2];
    f->ceiling = after > ceiling ? after : ceiling;
    f->tokens_per_s = (double)run->cfg.train.batch_tokens / f->step_s;
    f->gflops = 1e-9 * model_flops_per_token(&run->learner[0].model) * f->tokens_per_s;
    f->gemm_share = flops / (model_flops_per_token(&run->learner[0].model) *
                             (double)run->cfg.train.batch_tokens);
    double *const phases[] = {&run->phases.data, &run->phases.forward, &run->phases.backward,
                              &run->phases.reduce, &run->phases.update};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) *phases[i] /= f->steps;
    f->phases = run->phases;
    return OK;
}

// "model name" of /proc/cpuinfo.
static void processor_name(char *dst, size_t capacity) {
    snprintf(dst, capacity, "unknown processor");
    FILE *in = fopen("/proc/cpuinfo", "r");
    char line[512];
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(dst, capacity, "%s", colon + 2);
        break;
    }
    if (in != NULL) fclose(in);
}

static double mib(double bytes) {
    return bytes / 1048576.0;
}

static void print_use(const CommTable *t, const char *name, const CommShare *s) {
    double n = (double)t->counted;
    printf("  %-48s %8.1f %10.3f %10.2f %10.2f %8.1f %%\n", name, s->calls / n, mib(s->bytes) / n,
           1e3 * s->wait_s / n, 1e3 * s->exposed_s / n, 100 * s->exposed_s / t->step_s);
}

// The report's table, in the same order.
static void print_comm(const CommTable *t) {
    CommShare sum = {0};
    printf("exchanges of a step, mean of %d ranks\n  %-48s %8s %10s %10s %10s %10s\n", t->ranks, "",
           "calls", "MiB sent", "ms flight", "ms exposed", "of step");
    for (int u = 0; u < COMM_USE_COUNT; u++) {
        const CommShare *s = &t->steps[u];
        if (s->calls == 0) continue;
        print_use(t, comm_use_text((CommUse)u), s);
        sum.calls += s->calls;
        sum.bytes += s->bytes;
        sum.wait_s += s->wait_s;
        sum.exposed_s += s->exposed_s;
    }
    print_use(t, "all", &sum);
}

static void print_figures(const Run *run, const Figures *f, const char *processor) {
    const TrainConfig *t = &run->cfg.train;
    printf("processor     %s; %d rank%s x %d thread%s\n", processor, run->mesh.size,
           run->mesh.size == 1 ? "" : "s", threads_chosen(), threads_chosen() == 1 ? "" : "s");
    printf("products      %s (OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE unset)\n", gemm_library());
    printf("model         %s, %.1f M parameters\n", model_dim_summary(&run->learner[0].model.cfg),
           (double)model_parameters(&run->learner[0].model) / 1e6);
    printf("batch         %lld tokens a step, T = %d\n", (long long)t->batch_tokens, t->seq);
    printf("ceiling       %8.1f GFLOP/s (SGEMM %d, all cores at once)\n", f->ceiling, SGEMM_SIZE);
    printf("step          %8.3f s, median of %d\n", f->step_s, f->steps);
    printf("tokens/s      %8.0f\n", f->tokens_per_s);
    printf("model rate    %8.1f GFLOP/s\n", f->gflops);
    printf("ratio         %8.3f of the ceiling\n", f->gflops / f->ceiling);
    printf("products done %8.3f of the model FLOPs (attention included)\n", f->gemm_share);
    printf("phases, s     forward %.3f  backward %.3f  reduce %.3f  update %.3f  data %.3f\n",
           f->phases.forward, f->phases.backward, f->phases.reduce, f->phases.update,
           f->phases.data);
    printf("arenas        %8.1f MiB a rank, %.1f of them activations\n",
           mib((double)memory_total(&f->memory.arenas)), mib((double)f->memory.arenas.activations));
    printf("peak memory   %8.1f MiB a rank\n", mib((double)f->memory.resident));
    if (run->mesh.size > 1) print_comm(&f->comm);
}

static Status write_json(const Run *run, const Figures *f, const char *processor) {
    JsonOut w = {.indent = 2};
    jsonout_open_object(&w, NULL);
    jsonout_text(&w, "processor", processor);
    jsonout_text(&w, "library", gemm_library());
    jsonout_text(&w, "preset", preset_text);
    jsonout_int(&w, "ranks", run->mesh.size);
    jsonout_int(&w, "threads", threads_chosen());
    jsonout_int(&w, "seq", run->cfg.train.seq);
    jsonout_int(&w, "batch_tokens", run->cfg.train.batch_tokens);
    jsonout_number(&w, "step_s", f->step_s);
    jsonout_number(&w, "tokens_per_s", f->tokens_per_s);
    jsonout_number(&w, "gflops", f->gflops);
    jsonout_number(&w, "ceiling_gflops", f->ceiling);
    jsonout_number(&w, "ratio_to_ceiling", f->gflops / f->ceiling);
    jsonout_number(&w, "forward_s", f->phases.forward);
    jsonout_number(&w, "backward_s", f->phases.backward);
    jsonout_number(&w, "reduce_s", f->phases.reduce);
    jsonout_number(&w, "update_s", f->phases.update);
    jsonout_number(&w, "peak_mib", mib((double)f->memory.resident));
    memory_json(&w, &f->memory);
    jsonout_open_object(&w, "communication");
    accounts_json(&w, &f->comm);
    jsonout_close_object(&w);
    jsonout_close_object(&w);
    Status st = file_write(json_path, w.text, w.bytes);
    jsonout_free(&w);
    return st;
}

// Collective(world).
static Status bench_configure(RunConfig *cfg, const Arguments *a) {
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    char setting[TEXT_BYTES];
    snprintf(setting, sizeof setting, "model.preset=%s", preset_text);
    Status st = config_set(c, setting, "--preset");
    if (st == OK) st = config_set(c, "train.seq=2048", "bench");
    if (st == OK) st = config_set(c, "train.batch_tokens=8192", "bench");
    if (st == OK) st = config_set(c, "train.steps=1000000", "bench");
    for (int i = 0; st == OK && i < a->setting_count; i++)
        st = config_set(c, a->settings[i], "command line");
    if (st == OK && cfg->train.init[0] != '\0')
        st = err_set(E_USAGE, "give the model's sizes as model.* keys",
                     "train.init=%s: the bench reads no weights", cfg->train.init);
    if (st == OK && json_path != NULL) st = output_check("json", json_path, false, NULL, 0);
    if (st == OK) st = run_config_check(cfg);
    if (st == OK) st = model_config_resolve(&cfg->model, c);
    if (st == OK && cfg->model.vocab == 0) cfg->model.vocab = 8192;
    cfg->train.eval_seq = 1;
    st = parallel_agree_config(st, c);
    config_free(c);
    return st;
}

// Collective(world).
static Status bench_open(Run *run, MadeUp *tokens) {
    run->objective = &LANGUAGE_MODEL;
    TRY(run_open_learners(run));
    params_init(&run->learner[0].model.params, 1);
    TRY(agree(made_up_open(tokens, run), run->mesh.world));
    run->source = made_up_source(tokens);
    return OK;
}

static Status bench_step(Run *run) {
    long steps;
    TRY(option_number(&steps, "steps", steps_text, 1, MAX_STEPS));
    Figures f = {.steps = (int)steps};
    MadeUp tokens = {0};
    Status st = bench_open(run, &tokens);
    if (st == OK) st = measure(run, &f);
    if (st == OK && run->mesh.rank == 0) {
        char processor[256];
        processor_name(processor, sizeof processor);
        print_figures(run, &f, processor);
        if (json_path != NULL) st = write_json(run, &f, processor);
    }
    made_up_close(&tokens);
    return agree(st, run->mesh.world);
}

static Status check_start(const Arguments *a) {
    if (a->word_count != 1 || strcmp(a->words[0], "step") != 0) {
        FAIL(E_USAGE, "sterna bench step [options]", "the only benchmark is `step`");
    }
    if (!parallel_is_launched()) return OK;
    // gemm_choose_kernels may have set the type that fits; any other is the user's.
    const char *type = getenv("OPENBLAS_CORETYPE"), *fitting = gemm_fitting_kernels();
    bool own = type == NULL || (fitting != NULL && strcmp(type, fitting) == 0);
    if (!own || getenv("OPENBLAS_L2_SIZE") != NULL) {
        FAIL(E_USAGE, "unset them, or start with --ranks instead of mpirun",
             "OPENBLAS_CORETYPE or OPENBLAS_L2_SIZE is set");
    }
    return OK;
}

Status cmd_bench(int argc, char **argv) {
    Arguments a;
    bool launched = parallel_is_launched();
    if (launched) TRY(parallel_begin(&argc, &argv));
    Status st = arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT);
    if (st == OK) st = check_start(&a);
    if (!launched) return st == OK ? restart(argv) : st;
    TRY(arguments_agree(st, &a, OPTIONS, OPTION_COUNT));
    Run *run = calloc(1, sizeof *run);
    ASSERT(run != NULL);
    st = bench_configure(&run->cfg, &a);
    if (st == OK) st = mesh_open(&run->mesh, &run->cfg.parallel);
    if (st == OK) st = bench_step(run);
    run_close(run);
    mesh_close(&run->mesh);
    free(run);
    return st;
}
