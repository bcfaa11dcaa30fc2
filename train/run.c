// Opening a run: corpus, tokenizer, models, loader and the tape's memory.
#include "train/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "parallel/agree.h"

enum { MICRO_TOKENS = 8192 };  // of a micro-batch, unless train.micro_rows says otherwise

int64_t run_global_rows(const Run *run) {
    return run->cfg.train.batch_tokens / run->cfg.train.seq;
}

// That of the newest checkpoint; one that cannot be read is the business of run_resume.
static void fix_corpus(DataConfig *data, const char *run_dir) {
    char ckpt[PATH_BYTES], dir[PATH_BYTES];
    int64_t step;
    Manifest m;
    path_join(ckpt, run_dir, "ckpt");
    Status st = checkpoint_newest(ckpt, &step);
    if (st == OK && step >= 0) {
        checkpoint_step_dir(dir, ckpt, step);
        data->corpus_fixed = checkpoint_manifest(dir, &m) == OK;
        if (data->corpus_fixed) data->corpus = m.corpus;
        if (data->corpus_fixed) manifest_free(&m);
    }
    err_clear();
}

static Status open_corpus(Run *run) {
    char dir[PATH_BYTES];
    if (run->mesh.rank == 0) fix_corpus(&run->cfg.data, run->cfg.train.run_dir);
    TRY(corpus_prepare(&run->corpus_report, &run->cfg.data, &run->mesh));
    path_join(dir, run->cfg.data.cache, "corpus");
    Status st = corpus_open(&run->corpus, dir);
    if (st == OK) st = bpe_read_hf(&run->bpe, corpus_tokenizer_path(run->corpus));
    if (st == OK &&
        run->mesh.rank == 0)  // for the export: the cache may hold another corpus by then
        st = file_read(corpus_tokenizer_path(run->corpus), &run->tokenizer.text,
                       &run->tokenizer.bytes);
    TRY(agree(st, run->mesh.world));
    char line[64], hash[33];
    hash128_hex(hash, corpus_hash(run->corpus));
    snprintf(line, sizeof line, "data.cache: hash %s\n", hash);
    return agree_same(E_LAUNCH, "use a file system that all nodes share", line, run->mesh.world);
}

// Ids that nobody chose are the tokenizer's: 0, 1 and 2 mean something else in most that are given.
static void take_special_ids(ModelConfig *m, const Run *run, const Config *origins) {
    static const char *const begins[] = {"<bos>", "<|begin_of_text|>", "<s>"};
    if (run->cfg.train.init[0] != '\0') return;
    if (config_is_default(origins, "model.eos_id")) m->eos_id = corpus_eod(run->corpus);
    if (config_is_default(origins, "model.pad_id")) m->pad_id = bpe_special(run->bpe, "<pad>");
    if (!config_is_default(origins, "model.bos_id")) return;
    m->bos_id = -1;
    for (int i = 0; i < 3 && m->bos_id < 0; i++) m->bos_id = bpe_special(run->bpe, begins[i]);
}

// The sizes that the corpus decides.
static Status resolve_model(Run *run, const Config *origins) {
    ModelConfig *m = &run->cfg.model;
    int vocab = corpus_vocab(run->corpus);
    take_special_ids(m, run, origins);
    if (run->cfg.train.init[0] == '\0') {
        m->max_positions = 0;
        TRY(model_config_resolve(m, origins));
    }
    if (m->max_positions < run->cfg.train.seq) m->max_positions = run->cfg.train.seq;
    if (m->vocab == 0) m->vocab = vocab;
    snprintf(m->normalisation, sizeof m->normalisation, "%s", NORMALISATION);
    if (m->vocab < vocab) {
        FAIL(E_USAGE, "raise model.vocab, or lower data.vocab and prepare again",
             "model.vocab=%d is smaller than the tokenizer's %d", m->vocab, vocab);
    }
    return OK;
}

int run_micro_rows(const TrainConfig *t, const Mesh *mesh) {
    int64_t share = (int64_t)split_count((size_t)(t->batch_tokens / t->seq), mesh->dp, 0);
    int rows = t->micro_rows;
    if (rows == 0) rows = MICRO_TOKENS / (int)split_count((size_t)t->seq, mesh->sp, 0);
    if (rows > share) rows = (int)share;
    return rows > 0 ? rows : 1;
}

// A batch of `rows` rows of T tokens as this rank sees it, without contents.
static Batch shape_of(const Mesh *mesh, int *bound, int rows, int T) {
    split_bounds(bound, T, mesh->sp);
    int tokens = bound[mesh->sp_rank + 1] - bound[mesh->sp_rank];
    return (Batch){.seq = {.B = rows, .T = tokens, .bound = bound}};
}

void run_measure_tape(Tape *tp, const Objective *o, Learner *learners, const TrainConfig *t,
                      int rows) {
    const Mesh *mesh = learners[0].model.mesh;
    const double counters[COUNTERS_MOST] = {0};
    Tensor *parts[SLOTS_MOST] = {NULL};
    int *bound = calloc((size_t)mesh->sp + 1, sizeof *bound);
    ASSERT(bound != NULL);
    Batch train = shape_of(mesh, bound, rows, t->seq);
    tape_dry(tp, true);
    tape_backward(tp, o->loss(tp, learners, &train, counters, parts));
    Batch eval = shape_of(mesh, bound, 1, t->eval_seq);
    tape_dry(tp, false);
    model_loss(tp, &learners[0].model, &eval, NULL);
    free(bound);
}

static Status layout_learners(Run *run) {
    const Objective *o = run->objective;
    objective_check(o);
    for (int i = 0; i < o->learner_count; i++) {
        LearnerConfig cfg;
        o->learners[i].configure(&cfg, &run->cfg);
        run->learner_count = i + 1;
        TRY(learner_layout(&run->learner[i], o->learners[i].name, o->learners[i].frozen, &cfg,
                           &run->mesh));
    }
    return OK;
}

Status run_open_learners(Run *run) {
    TrainConfig *t = &run->cfg.train;
    size_t bucket = (size_t)t->bucket_mb << 20;
    t->micro_rows = run_micro_rows(t, &run->mesh);
    TRY(agree(layout_learners(run), run->mesh.world));
    for (int i = 0; i < run->learner_count; i++) TRY(learner_reserve(&run->learner[i], bucket));
    run->tape = tape_new();
    run_measure_tape(run->tape, run->objective, run->learner, t, t->micro_rows);
    return agree(tape_reserve(run->tape), run->mesh.world);
}

Memory run_memory(const Run *run) {
    Memory m = {.activations = (int64_t)tape_bytes(run->tape)};
    for (int i = 0; i < run->learner_count; i++) learner_memory(&run->learner[i], &m);
    return m;
}

static Status source_rows(void *user, Batch *out, int64_t row, int rows) {
    return loader_rows(user, out, row, rows);
}
static void source_advance(void *user, int64_t global_rows) {
    loader_advance(user, global_rows);
}

static Status open_loader(Run *run) {
    TRY(loader_open(&run->loader, run->corpus, run->cfg.data.mix, run->cfg.train.seq,
                    (uint64_t)run->cfg.train.seed, run->mesh.sp, run->mesh.sp_rank));
    run->source = (RowSource){source_rows, source_advance, run->loader};
    return OK;
}

// Those of the learners that are frozen, or of the others.
static Status first_weights(Run *run, bool frozen) {
    for (int i = 0; i < run->learner_count; i++) {
        Learner *l = &run->learner[i];
        if (l->frozen != frozen) continue;
        TRY(run->objective->learners[i].weights(l, &run->cfg));
        learner_forget(l);
    }
    return OK;
}

Status run_reset(Run *run) {
    LoaderState start = {0};
    Status st = first_weights(run, false);
    if (st == OK) st = loader_restore(run->loader, &start);
    run->step = run->tokens_seen = 0;
    memset(run->counters, 0, sizeof run->counters);
    run->train_s = 0;
    run->phases = (Phases){0};
    return agree(st, run->mesh.world);
}

Status run_open(Run *run, const Config *origins) {
    TRY(open_corpus(run));
    TRY(agree(resolve_model(run, origins), run->mesh.world));
    TRY(run_open_learners(run));
    TRY(agree(first_weights(run, true), run->mesh.world));
    for (int i = 0; i < run->learner_count; i++)
        if (run->learner[i].frozen) learner_identify(&run->learner[i]);
    return agree(open_loader(run), run->mesh.world);
}

void run_close(Run *run) {
    loader_close(run->loader);
    for (int i = 0; i < run->learner_count; i++) learner_close(&run->learner[i]);
    tape_free(run->tape);
    bpe_close(run->bpe);
    free(run->tokenizer.text);
    corpus_close(run->corpus);
}
