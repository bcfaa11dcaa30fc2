// Opening a run: corpus, tokenizer, model, reducer, optimiser, loader and the tape's memory.
#include "train/run.h"

#include <string.h>

#include "base/log.h"

enum { MICRO_TOKENS = 8192 };  // of a micro-batch, unless train.micro_rows says otherwise

int64_t run_global_rows(const Run *run) {
    return run->cfg.train.batch_tokens / run->cfg.train.seq;
}

// With train.init, the imported config.json decides the model and its tokenizer.json the tokenizer.
static Status take_imported_config(RunConfig *cfg) {
    if (cfg->train.init[0] == '\0') return OK;
    char path[PATH_BYTES];
    path_join(path, cfg->train.init, "config.json");
    TRY(model_config_read_hf(&cfg->model, path));
    bool head, differs;
    TRY(hf_peek_tied(cfg->train.init, &head, &differs));
    if (differs) cfg->model.tied = false;
    path_join(path, cfg->train.init, "tokenizer.json");
    if (cfg->data.tokenizer[0] == '\0' && path_exists(path)) {
        memcpy(cfg->data.tokenizer, path, strlen(path) + 1);
    }
    return OK;
}

static Status open_corpus(Run *run) {
    char dir[PATH_BYTES];
    TRY(corpus_prepare(&run->corpus_report, &run->cfg.data, &run->mesh));
    path_join(dir, run->cfg.data.cache, "corpus");
    Status st = corpus_open(&run->corpus, dir);
    if (st == OK) st = bpe_read_hf(&run->bpe, corpus_tokenizer_path(run->corpus));
    return agree(st, run->mesh.world);
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

static Status open_model(Run *run, const Config *origins) {
    ModelConfig *m = &run->cfg.model;
    int vocab = corpus_vocab(run->corpus);
    take_special_ids(m, run, origins);
    TRY(model_config_resolve(m, run->cfg.train.init[0] == '\0' ? origins : NULL));
    if (m->vocab == 0) m->vocab = vocab;
    if (m->vocab < vocab) {
        FAIL(E_USAGE, "raise model.vocab, or lower data.vocab and prepare again",
             "model.vocab=%d is smaller than the tokenizer's %d", m->vocab, vocab);
    }
    TRY(model_open(&run->model, m));
    return params_reserve(&run->model.params, true);
}

// Rows a micro-batch: the configured number, else about MICRO_TOKENS, never more than the largest
// share.
static void choose_micro_rows(Run *run) {
    TrainConfig *t = &run->cfg.train;
    int share = (int)split_count((size_t)run_global_rows(run), run->mesh.dp, 0);
    int rows = t->micro_rows > 0 ? t->micro_rows : MICRO_TOKENS / t->seq;
    if (rows > share) rows = share;
    t->micro_rows = rows > 0 ? rows : 1;
}

// Dry runs of a training micro-batch and of an evaluation window measure the memory that is then
// reserved.
static Status reserve_tape(Run *run) {
    const TrainConfig *t = &run->cfg.train;
    run->tape = tape_new();
    Batch train = {.seq = {.B = t->micro_rows, .T = t->seq}},
          eval = {.seq = {.B = 1, .T = t->eval_seq}};
    tape_dry(run->tape, true);
    tape_backward(run->tape, model_loss(run->tape, &run->model, &train, NULL));
    tape_dry(run->tape, false);
    model_loss(run->tape, &run->model, &eval, NULL);
    return tape_reserve(run->tape);
}

Status run_open_training(Run *run) {
    int count;
    size_t bucket = (size_t)run->cfg.train.bucket_mb << 20;
    choose_micro_rows(run);
    TRY(reducer_open(&run->reducer, &run->mesh, &run->model.params, bucket));
    const Range *ranges = reducer_ranges(run->reducer, &count);
    TRY(optim_open(&run->optim, &run->cfg.optim, ranges, count));
    return reserve_tape(run);
}

static Status source_rows(void *user, Batch *out, int64_t row, int rows) {
    return loader_rows(user, out, row, rows);
}
static void source_advance(void *user, int64_t global_rows) {
    loader_advance(user, global_rows);
}

static Status open_loader(Run *run) {
    TRY(loader_open(&run->loader, run->corpus, run->cfg.data.mix, run->cfg.train.seq,
                    (uint64_t)run->cfg.train.seed));
    run->source = (RowSource){source_rows, source_advance, run->loader};
    return OK;
}

Status run_reset(Run *run) {
    const TrainConfig *t = &run->cfg.train;
    LoaderState start = {0};
    Status st = OK;
    if (t->init[0] == '\0') {
        params_init(&run->model.params, (uint64_t)t->seed);
    } else {
        Dtype stored;
        st = hf_import(&run->model.params, t->init, run->model.cfg.tied, &stored);
    }
    memset(run->optim.m, 0, run->optim.owned * sizeof(real));
    memset(run->optim.v, 0, run->optim.owned * sizeof(real));
    if (st == OK) st = loader_restore(run->loader, &start);
    run->step = run->tokens_seen = 0;
    run->train_s = 0;
    run->phases = (Phases){0};
    return agree(st, run->mesh.world);
}

Status run_open(Run *run, const RunConfig *cfg, Config *origins) {
    run->cfg = *cfg;
    TRY(agree(take_imported_config(&run->cfg), run->mesh.world));
    TRY(open_corpus(run));
    TRY(agree(open_model(run, origins), run->mesh.world));
    TRY(agree(run_open_training(run), run->mesh.world));
    TRY(agree(open_loader(run), run->mesh.world));
    return run_reset(run);
}

void run_close(Run *run) {
    loader_close(run->loader);
    optim_close(&run->optim);
    reducer_close(run->reducer);
    tape_free(run->tape);
    model_close(&run->model);
    bpe_close(run->bpe);
    corpus_close(run->corpus);
}
