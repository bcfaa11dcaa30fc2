// A training run: configuration, model, optimiser, data and where they stand. Everything a step needs.
#pragma once

#include "checkpoints/checkpoint.h"
#include "data/data.h"
#include "model/model.h"
#include "parallel/parallel.h"
#include "train/schedule.h"

typedef struct TrainConfig {
    Text run_dir;           // where the run lives
    int64_t steps;          // 0: derived from minutes
    double minutes;         // time budget of training, used once to fix steps
    int64_t batch_tokens;   // global batch
    int seq;                // T
    int micro_rows;         // rows a micro-batch holds on one rank; 0: chosen
    int64_t seed;
    double clip;            // global gradient norm, 0: off
    int64_t log_every, eval_every, ckpt_every;  // steps; 0: off
    double ckpt_minutes;    // and at least this often; 0: off
    int keep;               // checkpoints kept
    int eval_seq;           // tokens a window of held-out evaluation
    int64_t eval_tokens;    // at most this many in periodic evaluations, 0: all
    int64_t sample_every;   // steps; 0: off
    int sample_new;
    Text sample_prompt;
    int64_t bucket_mb;
    Text init;              // Hugging Face directory to start from, ""
    bool threads_report;
} TrainConfig;

typedef struct RunConfig {
    TrainConfig train;
    OptimConfig optim;
    ScheduleConfig schedule;
    ModelConfig model;
    DataConfig data;
    MeshConfig mesh;
} RunConfig;

enum { RUN_SECTIONS = 6 };
// Sections in the order of RunConfig, pointing into cfg.
void run_config_sections(RunConfig *cfg, Section sections[RUN_SECTIONS]);
// Checks across fields; every message names both keys. E_USAGE.
Status run_config_check(const RunConfig *cfg) CHECKED;
