// A training run: configuration, objective, models, data and where they stand. Everything a step
// needs.
#pragma once

#include "base/lock.h"
#include "base/signals.h"
#include "checkpoints/checkpoint.h"
#include "data/data.h"
#include "model/generate.h"
#include "train/accounts.h"
#include "train/modelfiles.h"
#include "train/objective.h"

typedef struct TrainConfig {
    Text run_dir;          // where the run lives
    int64_t steps;         // 0: derived from minutes
    double minutes;        // time budget, used once to fix steps
    int64_t batch_tokens;  // global batch
    int seq;               // T
    int micro_rows;        // rows a micro-batch holds on one rank; 0: chosen
    int64_t seed;
    double clip;                                // global gradient norm, 0: off
    int64_t log_every, eval_every, ckpt_every;  // steps; 0: off
    double ckpt_minutes;                        // and at least this often; 0: off
    int64_t keep;                               // checkpoints kept
    int eval_seq;                               // tokens a window of held-out evaluation
    int64_t eval_tokens;                        // at most this many in periodic evaluations, 0: all
    int64_t sample_every;                       // steps; 0: only at the end
    Text sample_prompt;
    int bucket_mb;  // of gradient exchange
    Text init;      // Hugging Face directory to start from, ""
} TrainConfig;

struct RunConfig {
    TrainConfig train;
    OptimConfig optim;
    ScheduleConfig schedule;
    ModelConfig model;
    DataConfig data;
    ParallelConfig parallel;
    SampleConfig sample;
};

enum { RUN_SECTIONS = 7 };
// Sections in the order of RunConfig, pointing into cfg.
void run_config_sections(RunConfig *cfg, Section sections[RUN_SECTIONS]);
// Checks across fields; every message names both keys. E_USAGE.
Status run_config_check(const RunConfig *cfg) CHECKED;
struct Arguments;
// The one positional word is the YAML file; key=value words override it. Not collective.
Status run_config_read(Config *c, const struct Arguments *a) CHECKED;

struct StepResult {
    double loss;               // mean over the global batch; of a language model nats a token
    double slots[SLOTS_MOST];  // the objective's sums over it
    LearnerStep learner[LEARNERS_MOST];
    int64_t tokens;      // of the global batch, as the objective counts them: valid targets
    uint64_t data_hash;  // of the global batch's tokens and their places: the same on every mesh
    bool stop;           // some rank was asked to stop: all ranks agree on this step
    bool save_due;       // rank 0's clock says that a checkpoint is due
};

// Lines of metrics.jsonl that wait for a disk that takes them, on rank 0.
typedef struct MetricsLog {
    char *text;
    size_t bytes, capacity;
    int64_t lost;          // lines given up, as too many waited
    bool failing, warned;  // the last line could not be written; that has been said
} MetricsLog;

// Seconds by phase since the last reset, on this rank.
typedef struct Phases {
    double data, forward, backward, reduce, update;
} Phases;

// Where a step's rows come from: the loader, or made-up tokens (bench). With sequence parallelism,
// this rank's chunk of them.
typedef struct RowSource {
    Status (*rows)(void *user, Batch *out, int64_t row, int rows);
    void (*advance)(void *user, int64_t global_rows);
    void *user;
} RowSource;

typedef struct Run {
    RunConfig cfg;
    Mesh mesh;
    CorpusReport corpus_report;
    Corpus *corpus;
    Loader *loader;
    RowSource source;
    Bpe *bpe;
    FileText tokenizer;  // its tokenizer.json; on rank 0
    const Objective *objective;
    Learner learner[LEARNERS_MOST];
    int learner_count;               // laid out so far
    double counters[COUNTERS_MOST];  // the objective's
    Tape *tape;
    int64_t step;         // steps done
    int64_t tokens_seen;  // so far
    double train_s;       // seconds of training, over restarts
    double last_save_s;   // clock_s of the last checkpoint
    Lock lock;            // of the run directory, on rank 0
    MetricsLog metrics;
    Phases phases;
    Accounts accounts;  // of the steps of this process
} Run;

// --- run.c: Collective(world). On failure everything is left for run_close ---
// run->cfg is what start_take made of the configuration.
Status run_open(Run *run, const Config *origins) CHECKED;
void run_close(Run *run);
int64_t run_global_rows(const Run *run);  // sequences of a global batch
// Rows a micro-batch: the configured number, else about 8192 tokens a rank, never more than the
// largest share.
int run_micro_rows(const TrainConfig *t, const Mesh *mesh);
// Dry runs of a training micro-batch and of an evaluation window of laid out learners: tape_bytes,
// or tape_reserve, next.
void run_measure_tape(Tape *tp, const Objective *o, Learner *learners, const TrainConfig *t,
                      int rows);
// The part of run_open without data: the learners of run->objective and the tape's memory.
// cfg.model is resolved. Collective(world); on failure everything is left for run_close.
Status run_open_learners(Run *run) CHECKED;
// Bytes of this rank's arenas, once they are reserved.
Memory run_memory(const Run *run);
// Weights, moments and counters as at step 0 (or as imported). Collective(world).
Status run_reset(Run *run) CHECKED;

// --- step.c ---
// One optimizer step. Collective(world): every rank leaves by the same branch.
Status train_step(Run *run, StepResult *out) CHECKED;

// --- eval.c ---
typedef struct EvalResult {
    double nats_per_token, bits_per_byte;
    int64_t tokens, bytes;
} EvalResult;
// Held-out text in windows of train.eval_seq tokens (windows.h); windows are dealt to ranks.
// limit_tokens 0: all of it; no text in what is looked at: 0 tokens. E_DIVERGED: the loss is not
// finite. Collective(world).
Status eval_holdout(Run *run, int64_t limit_tokens, EvalResult *out) CHECKED;

// --- state.c: checkpoints of a run. Collective(world) ---
Status run_save(Run *run) CHECKED;
Status run_resume(Run *run) CHECKED;  // newest valid checkpoint; run_reset when there is none
// Hugging Face directory of the current weights with tokenizer.json: run_dir/model. Rank 0 writes,
// all agree.
Status run_export(Run *run) CHECKED;

// --- rundir.c: the run directory. Collective(world) ---
// Creates it and locks it on rank 0: it is this process's until it ends, and marked as ours.
// *lock: release it, also after a failure. E_USAGE: another process trains there. Where it holds a
// run, the requested configuration is compared with cfg's: equal means resume, else E_USAGE listing
// what differs; so is a run of another objective. Keys that change no number (logging, checkpoint
// times, ...) may differ. A train.steps that was measured earlier is taken over into cfg.
Status rundir_open(const Objective *objective, RunConfig *cfg, Config *origins, const Mesh *mesh,
                   Lock *lock) CHECKED;
// --- rundir_own.c. Rank 0 only ---
// E_USAGE, before anything is touched: something that the run would replace is not the program's,
// or is an input.
Status rundir_check_own(const RunConfig *cfg) CHECKED;
Status rundir_take(const char *run_dir) CHECKED;  // marks it
// config.resolved.yaml: every value as used, with its origin.
Status rundir_save_config(const Run *run, RunConfig *cfg, Config *origins) CHECKED;
// Is the run's place as it should be, before anything is read or made? E_IO when run_dir/ckpt holds
// no checkpoint though the run has saved one, or cannot be written. Collective(world).
Status rundir_check(const Mesh *mesh, const char *run_dir) CHECKED;
// Not collective. checkpoint.json: the step of the newest checkpoint; rundir_saved: -1 when none
// was saved so far.
Status rundir_note_saved(const char *run_dir, int64_t step) CHECKED;
Status rundir_saved(const char *run_dir, int64_t *step) CHECKED;
Status exit_write(const Run *run, const char *reason,
                  Status st) CHECKED;             // exit.json: how the last process ended
Status exit_remove(const char *run_dir) CHECKED;  // while a process is at work there is none
// comm.json: exchanges and memory of this process's steps, when it made any. Collective(world).
Status comm_json_write(const Run *run) CHECKED;
Status comm_json_remove(const char *run_dir) CHECKED;  // what an earlier process counted

// --- metrics.c: metrics.jsonl. Rank 0 only ---
// Drops lines of later steps. Damaged lines, and all but the last of those that tell of the same
// step, go to metrics.jsonl.bad. *evaluated: there is an evaluation of this step.
Status metrics_cut(const char *run_dir, int64_t step, bool *evaluated) CHECKED;
Status metrics_last(const char *run_dir, int64_t *step) CHECKED;  // that a line tells of; -1: none
// What cannot be written waits for the next call, with one warning.
void metrics_step(Run *run, const StepResult *r, double step_s);
void metrics_eval(Run *run, const EvalResult *e, bool final);
void metrics_close(Run *run);  // tries once more; tells what is lost

// --- report.c ---
// report.html from metrics.jsonl, config.resolved.yaml, samples/ and corpus.json of a run
// directory: self-contained.
Status report_write(const char *run_dir) CHECKED;

// --- loop.c ---
// The whole run: prepare, resume, steps, evaluation, checkpoints, report. Collective(world).
Status train_run(const Objective *objective, RunConfig *cfg, Config *origins) CHECKED;
