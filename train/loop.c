// The whole run: measure, resume, step, evaluate, save, report. What happens when is a function of
// the step.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "tensor/threads.h"
#include "train/modeldir.h"
#include "train/run.h"
#include "train/start.h"

enum { PROBE_WARM = 2, PROBE_STEPS = 6 };  // steps thrown away, steps measured for the time budget

// Progress since the last line.
typedef struct Meter {
    double since_s;
    int64_t tokens;
} Meter;

static bool is_due(int64_t step, int64_t every) {
    return every > 0 && step % every == 0;
}

static void format_left(char *dst, size_t capacity, double s) {
    int64_t t = (int64_t)(s + 0.5);
    if (t >= 3600) {
        snprintf(dst, capacity, "%lldh%02lldm", (long long)(t / 3600), (long long)(t / 60 % 60));
    } else {
        snprintf(dst, capacity, "%lldm%02llds", (long long)(t / 60), (long long)(t % 60));
    }
}

static void print_progress(const Run *run, const StepResult *r, double step_s) {
    char left[32];
    double mean = run->step > 0 ? run->train_s / (double)run->step : step_s;
    format_left(left, sizeof left, mean * (double)(run->cfg.train.steps - run->step));
    log_progress("step %*lld/%lld  loss %7.4f  lr %8.2e  gnorm %8.2e  tok/s %7.0f  left %s", 6,
                 (long long)run->step, (long long)run->cfg.train.steps, r->loss, r->learner[0].lr,
                 r->learner[0].grad_norm, (double)r->tokens / step_s, left);
}

// ---- the time budget ---------------------------------------------------------------------------

// Measures the step on the real data and fixes train.steps. Weights and counters are not those of a
// start afterwards. Collective(world).
static Status fix_steps(Run *run, Config *origins) {
    TrainConfig *t = &run->cfg.train;
    double start = 0;
    StepResult r;
    TRY(run_reset(run));
    t->steps = PROBE_WARM + PROBE_STEPS;
    for (int i = 0; i < PROBE_WARM + PROBE_STEPS; i++) {
        if (i == PROBE_WARM) start = clock_s();
        TRY(train_step(run, &r));
    }
    double step_s = (clock_s() - start) / PROBE_STEPS;
    int64_t steps = (int64_t)(60.0 * t->minutes / step_s);
    if (steps < 1) steps = 1;
    comm_bcast(run->mesh.world, &steps, sizeof steps, 0);
    t->steps = steps;
    char setting[64];
    snprintf(setting, sizeof setting, "train.steps=%lld", (long long)steps);
    TRY(config_set(origins, setting, "measured: train.minutes"));
    log_info("speed: %.0f tokens/s, %.3f s a step: %lld steps fit in %.3g minutes",
             (double)r.tokens / step_s, step_s, (long long)steps, t->minutes);
    return OK;
}

// ---- after a step ------------------------------------------------------------------------------

static bool collect_sample(int row, int token, void *user) {
    (void)row;
    int32_t **at = user;
    *(*at)++ = token;
    return true;
}

// The prompt's tokens with room for those that follow.
typedef struct Sample {
    int32_t *ids;
    size_t count;
} Sample;

static Status sample_open(Sample *s, const Run *run) {
    char dir[PATH_BYTES];
    path_join(dir, run->cfg.train.run_dir, "samples");
    TRY(dir_make(dir));
    Encoder *e = NULL;
    size_t capacity = 0;
    char *prompt = strdup(run->cfg.train.sample_prompt);
    ASSERT(prompt != NULL);
    size_t bytes = strlen(prompt);
    Status st = model_prompt(&prompt, &bytes, "train.sample_prompt", NORMALISATION);
    if (st == OK) st = encoder_open(&e, run->bpe);
    if (st == OK) st = encoder_run(e, prompt, bytes, &s->ids, &s->count, &capacity);
    encoder_close(e);
    free(prompt);
    TRY(st);
    int32_t *ids = realloc(s->ids, (s->count + (size_t)run->cfg.sample.max_new + 1) * sizeof *ids);
    if (ids == NULL) FAIL(E_NOMEM, "lower sample.max_new", "out of memory for a sample");
    s->ids = ids;
    return OK;
}

static Status sample_run(Sample *s, Run *run) {
    char name[64], path[PATH_BYTES];
    int32_t *end = s->ids + s->count;
    size_t bytes;
    Prompt p = {s->ids, (int)s->count};
    TRY(generate(&run->learner[0].model, &p, 1, true, &run->cfg.sample, collect_sample, &end));
    if (run->mesh.rank != 0) return OK;
    snprintf(name, sizeof name, "samples/step_%08lld.txt", (long long)run->step);
    path_join(path, run->cfg.train.run_dir, name);
    char *text = bpe_decode(run->bpe, s->ids, (size_t)(end - s->ids), false, &bytes);
    Status st = file_write(path, text, bytes);
    free(text);
    return st;
}

// Of what is told about a run nothing is worth ending it.
static void warn_of(const Run *run, Status st) {
    if (st != OK && run->mesh.rank == 0)
        log_warn("%s; the run itself is not affected", err_message());
    err_clear();
}

// By the first rank with its tp axis: all of them begin to generate, or none does.
static Status write_sample(Run *run) {
    bool takes_part = run->mesh.dp_rank == 0 && run->mesh.sp_rank == 0;
    Sample s = {NULL, 0};
    Status st = agree(takes_part ? sample_open(&s, run) : OK, run->mesh.world);
    if (st == OK) st = agree(s.count > 0 ? sample_run(&s, run) : OK, run->mesh.world);
    free(s.ids);
    if (st == OK) return OK;
    if (st != E_IO) return err_context(st, "sample at step %lld", (long long)run->step);
    warn_of(run, st);
    return OK;
}

static Status evaluate(Run *run, bool final) {
    EvalResult e;
    TRY(eval_holdout(run, final ? 0 : run->cfg.train.eval_tokens, &e));
    if (e.tokens == 0) return OK;
    log_info("held-out at step %lld: %.4f nats/token, %.4f bits/byte (%lld tokens)",
             (long long)run->step, e.nats_per_token, e.bits_per_byte, (long long)e.tokens);
    if (run->mesh.rank == 0) metrics_eval(run, &e, final);
    return OK;
}

// Evaluation and sample that are due at this step.
static Status look_at_step(Run *run, bool evaluated) {
    const TrainConfig *t = &run->cfg.train;
    bool final = run->step == t->steps;
    if (!evaluated && (final || is_due(run->step, t->eval_every))) TRY(evaluate(run, final));
    return is_due(run->step, t->sample_every) ? write_sample(run) : OK;
}

// The checkpoint first: after a request to stop, time is short, and the resumed run looks at this
// step.
static Status after_step(Run *run, const StepResult *r) {
    const TrainConfig *t = &run->cfg.train;
    bool final = run->step == t->steps;
    if (final || r->stop || r->save_due || is_due(run->step, t->ckpt_every)) TRY(run_save(run));
    return r->stop && !final ? OK : look_at_step(run, false);
}

static void write_metrics(Run *run, const StepResult *r, double step_s) {
    if (run->mesh.rank == 0) metrics_step(run, r, step_s);
    if (run->step % run->cfg.train.log_every == 0 || run->step == run->cfg.train.steps)
        print_progress(run, r, step_s);
}

static Status step_loop(Run *run, bool *stopped) {
    const TrainConfig *t = &run->cfg.train;
    StepResult r;
    run->last_save_s = clock_s();
    while (run->step < t->steps && !*stopped) {
        double start = clock_s();
        accounts_step_begin(&run->accounts);
        TRY(train_step(run, &r));
        double step_s = clock_s() - start;
        accounts_step_end(&run->accounts, step_s);
        run->train_s += step_s;
        write_metrics(run, &r, step_s);
        *stopped = r.stop && run->step < t->steps;
        TRY(after_step(run, &r));
    }
    return OK;
}

// ---- start and end -----------------------------------------------------------------------------

// How the run ended, once its checkpoint is safe. Collective(world).
static void write_results(Run *run, const char *reason, Status end) {
    warn_of(run, comm_json_write(run));
    if (run->mesh.rank != 0) return;
    metrics_close(run);
    warn_of(run, exit_write(run, reason, end));
    warn_of(run, report_write(run->cfg.train.run_dir));
}

static Status finish(Run *run) {
    TRY(run_export(run));
    TRY(write_sample(run));
    write_results(run, "finished", OK);
    log_info("done: %lld steps, %lld tokens, %.1f s; report: %s/report.html", (long long)run->step,
             (long long)run->tokens_seen, run->train_s, run->cfg.train.run_dir);
    return OK;
}

static Status stop_early(Run *run) {
    const char *reason = signals_reason(signals_pending());
    write_results(run, reason, E_STOPPED);
    FAIL(E_STOPPED, "run the same command again to go on", "%s at step %lld, checkpoint saved",
         reason, (long long)run->step);
}

// The files of the run go on where the checkpoint stands.
static Status resume_metrics(Run *run) {
    bool evaluated = false;
    Status st = OK;
    if (run->mesh.rank == 0) {
        st = metrics_cut(run->cfg.train.run_dir, run->step, &evaluated);
        // A process that finds nothing to do leaves what the last one counted.
        if (st == OK && run->step < run->cfg.train.steps)
            st = comm_json_remove(run->cfg.train.run_dir);
    }
    TRY(agree(st, run->mesh.world));
    if (run->step == 0) return OK;
    log_info("resuming after step %lld", (long long)run->step);
    comm_bcast(run->mesh.world, &evaluated, sizeof evaluated, 0);
    return look_at_step(run, evaluated);
}

// Numbers that were read, each rank for itself; those that were drawn are the same anyway.
static Status learners_agree(const Run *run) {
    bool read = run->step > 0 || run->cfg.train.init[0] != '\0';
    for (int i = 0; i < run->learner_count; i++)
        if (read || run->learner[i].frozen)
            TRY(weights_agree(&run->learner[i].model.params, &run->mesh));
    return OK;
}

static void log_model(const Learner *l) {
    log_info("model%s%s: %s, %.2f M parameters%s", l->name[0] != '\0' ? " " : "", l->name,
             model_dim_summary(&l->model.cfg), (double)model_parameters(&l->model) / 1e6,
             l->frozen ? ", frozen" : "");
}

// The models, the batch, who shares it, and what that takes.
static void log_start(const Run *run) {
    const TrainConfig *t = &run->cfg.train;
    const Mesh *m = &run->mesh;
    char mesh[96];
    snprintf(mesh, sizeof mesh, "%d rank%s", m->size, m->size == 1 ? "" : "s");
    if (m->size > m->dp)
        snprintf(mesh, sizeof mesh, "%d ranks (dp %d x sp %d x tp %d)", m->size, m->dp, m->sp,
                 m->tp);
    Memory mine = run_memory(run);
    for (int i = 0; i < run->learner_count; i++) log_model(&run->learner[i]);
    log_info("batch: %lld tokens = %lld sequences of %d on %s", (long long)t->batch_tokens,
             (long long)run_global_rows(run), t->seq, mesh);
    log_info("threads: %s", threads_text());
    log_info("memory: %.1f MiB a rank, %.1f of them activations",
             (double)memory_total(&mine) / 1048576.0, (double)mine.activations / 1048576.0);
}

static Status run_from_start(Run *run, RunConfig *cfg, Config *origins) {
    const TrainConfig *t = &run->cfg.train;
    log_start(run);
    if (t->steps == 0) TRY(fix_steps(run, origins));
    // What these refuse leaves the run's files as they are.
    TRY(run_resume(run));
    TRY(learners_agree(run));
    TRY(resume_metrics(run));
    TRY(rundir_save_config(run, cfg, origins));
    bool stopped = false;
    TRY(step_loop(run, &stopped));
    return stopped ? stop_early(run) : finish(run);
}

// exit_write must not replace the message that will be printed.
static void write_failure(Run *run, Status failure) {
    char message[2048], hint[512];
    snprintf(message, sizeof message, "%s", err_message());
    snprintf(hint, sizeof hint, "%s", err_hint());
    metrics_close(run);
    if (exit_write(run, message, failure) != OK) log_warn("exit.json: %s", err_message());
    err_set(failure, hint, "%s", message);
}

// In a directory that is this run's. What is refused before that leaves no trace in it but the
// lock's file. However a process ends after that, exit.json says so, but for a signal that nobody
// can catch.
static Status run_in_directory(Run *run, RunConfig *cfg, Config *origins) {
    const Mesh *mesh = &run->mesh;
    Status st = rundir_check(mesh, cfg->train.run_dir);
    if (st == OK) {
        // It says no more how the last process ended.
        st = agree(mesh->rank == 0 ? exit_remove(cfg->train.run_dir) : OK, mesh->world);
        run->cfg.train.steps = cfg->train.steps;  // as an earlier process measured it
        if (st == OK) st = run_open(run, origins);
        bool early = st == E_STOPPED;  // stop_early tells of later requests
        if (st == OK) st = run_from_start(run, cfg, origins);
        if (st != OK && (st != E_STOPPED || early) && mesh->rank == 0) write_failure(run, st);
    }
    return st;
}

Status train_run(const Objective *objective, RunConfig *cfg, Config *origins) {
    Run run = {.cfg = *cfg, .objective = objective, .lock = NO_LOCK};
    TRY(mesh_open(&run.mesh, &cfg->parallel));
    Status st = start_take(&run.cfg, origins, &run.mesh);
    if (st == OK) st = rundir_open(objective, cfg, origins, &run.mesh, &run.lock);
    if (st == OK) st = run_in_directory(&run, cfg, origins);
    lock_release(&run.lock);
    run_close(&run);
    mesh_close(&run.mesh);
    return st;
}
