// A run's model and tokenizer where files bring them: read, compared with what was asked for and
// with each other.
#include "train/start.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "train/modeldir.h"

Status start_resolve_model(RunConfig *cfg, Config *origins) {
    const char *init = cfg->train.init;
    return init[0] == '\0' ? model_config_resolve(&cfg->model, origins)
                           : modeldir_config(&cfg->model, origins, init, "train.init");
}

// Names, shapes and types of all weights: no text is read for a model that cannot be loaded.
static Status check_weights(const RunConfig *cfg, const Mesh *mesh) {
    Model m;
    Status st = model_open(&m, &cfg->model, mesh);
    if (st == OK) st = hf_check(&m.params, cfg->train.init, cfg->model.tied);
    model_close(&m);
    return st;
}

// ---- the tokenizer -----------------------------------------------------------------------------

typedef struct Tokenizers {
    char own_path[PATH_BYTES];  // of train.init
    Bpe *own, *given;           // NULL: none
} Tokenizers;

static Status tokenizers_open(Tokenizers *t, const RunConfig *cfg) {
    const char *given = cfg->data.tokenizer;
    if (given[0] != '\0') TRY(bpe_read_hf(&t->given, given));
    if (cfg->train.init[0] == '\0') return OK;
    path_join(t->own_path, cfg->train.init, "tokenizer.json");
    Status there = path_look(t->own_path);
    if (there == OK) return bpe_read_hf(&t->own, t->own_path);
    if (there != E_MISSING) return there;
    if (t->given != NULL) return OK;
    FAIL(E_USAGE,
         "copy the tokenizer.json the model was trained with there, or name it in data.tokenizer",
         "train.init: %s: no such file; another tokenizer's ids mean nothing to this model",
         t->own_path);
}

static bool is_same(const Bpe *a, const Bpe *b) {
    uint64_t high_a, high_b;
    bool low = bpe_hash(a, &high_a) == bpe_hash(b, &high_b);
    return low && high_a == high_b;
}

static Status tokenizers_check(const Tokenizers *t, const RunConfig *cfg) {
    if (t->own != NULL && t->given != NULL && !is_same(t->own, t->given)) {
        FAIL(E_USAGE, "leave data.tokenizer out: the model's own is used",
             "data.tokenizer=%s is another tokenizer than %s", cfg->data.tokenizer, t->own_path);
    }
    if (cfg->train.init[0] == '\0') return OK;
    bool own = t->own != NULL;
    return modeldir_check_tokenizer(own ? t->own : t->given,
                                    own ? t->own_path : cfg->data.tokenizer, &cfg->model,
                                    cfg->train.init);
}

// data.vocab sizes a tokenizer that is trained. The resolved file shows the size of the one in use.
static Status take_vocab(RunConfig *cfg, Config *origins, const Bpe *bpe, const char *path) {
    const char *by = cfg->data.tokenizer[0] != '\0' ? "data.tokenizer" : "train.init";
    char origin[PATH_BYTES + 32];
    int vocab = bpe_vocab(bpe);
    snprintf(origin, sizeof origin, "%s: %s", by, path);
    if (cfg->data.vocab != vocab && !config_is_default(origins, "data.vocab")) {
        if (!modeldir_gives_way(origins, "data.vocab", by))
            FAIL(E_USAGE, "leave data.vocab out: it is for a tokenizer that is trained",
                 "data.vocab=%d, but %s has %d tokens", cfg->data.vocab, path, vocab);
        log_info("data.vocab=%d (%s) gives way to the %d tokens of %s", cfg->data.vocab,
                 config_origin(origins, "data.vocab"), vocab, path);
    }
    cfg->data.vocab = vocab;
    config_set_origin(origins, "data.vocab", origin);
    return OK;
}

// The token that ends documents: the id that the model or the user names. Only where there is none,
// the tokenizer's names are looked through, as they are without a model.
static Status take_end(RunConfig *cfg, Config *origins, const Bpe *bpe, const char *path) {
    const char *init = cfg->train.init;
    bool known = init[0] != '\0' || !config_is_default(origins, "model.eos_id");
    int end = known ? cfg->model.eos_id : -1;
    cfg->data.eod_given = end >= 0;
    cfg->data.eod = end;
    if (bpe != NULL && end < 0) end = bpe_end(bpe);
    if (bpe != NULL && end < 0)
        FAIL(E_USAGE, "give model.eos_id, the id of the token that ends a text",
             "%s: no special token is called <eos>, <|endoftext|>, <|end_of_text|> or </s>, %s",
             path,
             init[0] != '\0' ? "and config.json has no eos_token_id"
                             : "and one must end documents");
    int vocab = bpe != NULL ? bpe_vocab(bpe) : cfg->data.vocab;  // of one that is yet to be trained
    if (end >= vocab)
        FAIL(E_USAGE, "documents end with it: give an id of the tokenizer",
             "model.eos_id=%d (%s) is outside of the vocabulary of %d tokens", end,
             config_origin(origins, "model.eos_id"), vocab);
    if (init[0] != '\0' && cfg->model.eos_id < 0) {
        cfg->model.eos_id = end;
        config_set_origin(origins, "model.eos_id", path);
    }
    return OK;
}

static Status take_path(RunConfig *cfg, Config *origins, const char *path) {
    if (strlen(path) >= TEXT_BYTES) FAIL(E_USAGE, "use a shorter path", "train.init: %s", path);
    char origin[PATH_BYTES + 32];
    snprintf(cfg->data.tokenizer, TEXT_BYTES, "%s", path);
    snprintf(origin, sizeof origin, "train.init: %s", path);
    config_set_origin(origins, "data.tokenizer", origin);
    return OK;
}

static Status take_tokenizer(RunConfig *cfg, Config *origins, const Tokenizers *t) {
    const Bpe *bpe = t->given != NULL ? t->given : t->own;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", t->given != NULL ? cfg->data.tokenizer : t->own_path);
    TRY(tokenizers_check(t, cfg));
    TRY(take_end(cfg, origins, bpe, path));
    if (bpe == NULL) return OK;
    TRY(take_vocab(cfg, origins, bpe, path));
    return t->given == NULL ? take_path(cfg, origins, path) : OK;
}

static Status take_here(RunConfig *cfg, Config *origins, const Mesh *mesh) {
    if (cfg->train.init[0] != '\0') {
        TRY(start_resolve_model(cfg, origins));
        TRY(check_weights(cfg, mesh));
    }
    Tokenizers t = {.own = NULL};
    Status st = tokenizers_open(&t, cfg);
    if (st == OK) st = take_tokenizer(cfg, origins, &t);
    bpe_close(t.own);
    bpe_close(t.given);
    return st;
}

Status start_take(RunConfig *cfg, Config *origins, const Mesh *mesh) {
    return agree(take_here(cfg, origins, mesh), mesh->world);
}

void start_tell_origins(Config *origins, const ModelConfig *requested, const ModelConfig *used) {
    ModelConfig resolved = *requested;
    char preset[TEXT_BYTES + 32] = "model.heads";  // what is left when there is none: kv_heads
    if (model_config_resolve(&resolved, origins) != OK) err_clear();
    if (requested->preset[0] != '\0')
        snprintf(preset, sizeof preset, "model.preset: %s", requested->preset);
    for (int i = 0; i < MODEL_FIELD_COUNT; i++) {
        const Field *f = &MODEL_FIELDS[i];
        if (!config_is_default(origins, f->key) || modeldir_same_value(f, requested, used))
            continue;
        bool known = modeldir_same_value(f, &resolved, used);
        config_set_origin(origins, f->key, known ? preset : "tokenizer");
    }
}
