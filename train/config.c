// The train, optim and schedule sections, and the checks across sections.
#include <string.h>

#include "parallel/mesh.h"
#include "train/run.h"

#define T_(member) offsetof(TrainConfig, member)
#define O_(member) offsetof(OptimConfig, member)
#define S_(member) offsetof(ScheduleConfig, member)
// clang-format off
static const Field TRAIN_FIELDS[] = {
    {"train.run_dir", CFG_TEXT, T_(run_dir), 0, 0, "runs/run", NULL, "directory of this run: configuration, metrics, checkpoints, report", "", KEY_FREE},
    {"train.steps", CFG_I64, T_(steps), 0, 1e12, "0", NULL, "optimizer steps, 0 = as many as train.minutes allows", "", KEY_FIXED},
    {"train.minutes", CFG_F64, T_(minutes), 0, 1e7, "0", NULL, "time budget; speed is measured first, then train.steps is fixed in the resolved file", "min", KEY_FREE},
    {"train.batch_tokens", CFG_I64, T_(batch_tokens), 1, 1e12, "8192", NULL, "global batch over all ranks, a multiple of train.seq", "tokens", KEY_FIXED},
    {"train.seq", CFG_INT, T_(seq), 1, 1 << 28, "512", NULL, "tokens of a training sequence", "tokens", KEY_FIXED},
    {"train.micro_rows", CFG_INT, T_(micro_rows), 0, 1 << 24, "0", NULL, "sequences a rank processes at a time, 0 = about 8192 tokens", "", KEY_FIXED},
    {"train.seed", CFG_I64, T_(seed), 0, 9e15, "1", NULL, "seed of initialisation and data order", "", KEY_FIXED},
    {"train.clip", CFG_F64, T_(clip), 0, 1e9, "1", NULL, "global gradient norm is clipped to this, 0 = off", "", KEY_FIXED},
    {"train.log_every", CFG_I64, T_(log_every), 1, 1e12, "10", NULL, "steps between progress lines", "steps", KEY_FREE},
    {"train.eval_every", CFG_I64, T_(eval_every), 0, 1e12, "0", NULL, "steps between held-out evaluations, 0 = only at the end", "steps", KEY_FIXED},
    {"train.eval_seq", CFG_INT, T_(eval_seq), 1, 1 << 28, "512", NULL, "tokens of an evaluation window", "tokens", KEY_FIXED},
    {"train.eval_tokens", CFG_I64, T_(eval_tokens), 0, 1e12, "0", NULL, "held-out tokens of a periodic evaluation, 0 = all", "tokens", KEY_FIXED},
    {"train.ckpt_every", CFG_I64, T_(ckpt_every), 0, 1e12, "0", NULL, "steps between checkpoints, 0 = only by time and at the end", "steps", KEY_FREE},
    {"train.ckpt_minutes", CFG_F64, T_(ckpt_minutes), 0, 1e7, "30", NULL, "a checkpoint at least this often, 0 = off", "min", KEY_FREE},
    {"train.keep", CFG_I64, T_(keep), 1, 1e6, "2", NULL, "newest checkpoints kept", "", KEY_FREE},
    {"train.sample_every", CFG_I64, T_(sample_every), 0, 1e12, "0", NULL, "steps between generated samples, 0 = only at the end", "steps", KEY_FREE},
    {"train.sample_prompt", CFG_TEXT, T_(sample_prompt), 0, 0, "It was", NULL, "prompt of the samples", "", KEY_FREE},
    {"train.bucket_mb", CFG_INT, T_(bucket_mb), 1, 1 << 16, "4", NULL, "gradients exchanged at a time", "MiB", KEY_FREE},
    {"train.init", CFG_TEXT, T_(init), 0, 0, "", NULL, "Hugging Face directory the run starts from: its weights and tokenizer; its config.json decides model.*; keys that change no tensor may differ, others are refused", "", KEY_FIXED},
};
static const Field OPTIM_FIELDS[] = {
    {"optim.beta1", CFG_F64, O_(beta1), 0, 0.999999, "0.9", NULL, "AdamW: decay of the first moment", "", KEY_FIXED},
    {"optim.beta2", CFG_F64, O_(beta2), 0, 0.999999, "0.95", NULL, "AdamW: decay of the second moment", "", KEY_FIXED},
    {"optim.eps", CFG_F64, O_(eps), 1e-30, 1, "1e-8", NULL, "AdamW: added outside the root", "", KEY_FIXED},
    {"optim.weight_decay", CFG_F64, O_(weight_decay), 0, 10, "0.1", NULL, "decoupled decay of matrices (not of gains and angles)", "", KEY_FIXED},
};
static const Field SCHEDULE_FIELDS[] = {
    {"schedule.kind", CFG_TEXT, S_(kind), 0, 0, "cosine", "cosine|wsd|constant", "shape of the learning rate after warm-up", "", KEY_FIXED},
    {"schedule.lr", CFG_F64, S_(lr), 0, 100, "1e-3", NULL, "peak learning rate", "", KEY_FIXED},
    {"schedule.min_lr", CFG_F64, S_(min_lr), 0, 1, "0.1", NULL, "final learning rate as a share of the peak", "", KEY_FIXED},
    {"schedule.warmup", CFG_F64, S_(warmup), 0, 1e12, "100", NULL, "linear warm-up: steps, or below 1 a share of the steps; at most half of the run", "steps", KEY_FIXED},
    {"schedule.decay_share", CFG_F64, S_(decay_share), 0, 1, "0.2", NULL, "wsd: last share of the steps, in which the rate falls", "", KEY_FIXED},
};
// clang-format on
#define COUNT(table) (int)(sizeof(table) / sizeof(table)[0])

void run_config_sections(RunConfig *cfg, Section sections[RUN_SECTIONS]) {
    const Section all[RUN_SECTIONS] = {
        {TRAIN_FIELDS, COUNT(TRAIN_FIELDS), &cfg->train},
        {OPTIM_FIELDS, COUNT(OPTIM_FIELDS), &cfg->optim},
        {SCHEDULE_FIELDS, COUNT(SCHEDULE_FIELDS), &cfg->schedule},
        {MODEL_FIELDS, MODEL_FIELD_COUNT, &cfg->model},
        {DATA_FIELDS, DATA_FIELD_COUNT, &cfg->data},
        {PARALLEL_FIELDS, PARALLEL_FIELD_COUNT, &cfg->parallel},
        {SAMPLE_FIELDS, SAMPLE_FIELD_COUNT, &cfg->sample},
    };
    memcpy(sections, all, sizeof all);
}

Status run_config_check(const RunConfig *cfg) {
    const TrainConfig *t = &cfg->train;
    if (t->batch_tokens % t->seq != 0) {
        FAIL(E_USAGE, "make the batch a whole number of sequences",
             "train.batch_tokens=%lld is not a multiple of train.seq=%d",
             (long long)t->batch_tokens, t->seq);
    }
    if ((int64_t)t->micro_rows * t->seq > INT32_MAX) {
        FAIL(E_USAGE, "lower train.micro_rows",
             "train.micro_rows=%d x train.seq=%d tokens are too many", t->micro_rows, t->seq);
    }
    if (t->steps == 0 && t->minutes <= 0) {
        FAIL(E_USAGE, "set one of them", "train.steps and train.minutes are both 0");
    }
    return OK;
}
