// Opening a Hugging Face directory: configuration, weights, tokenizer.
#include "train/modeldir.h"

#include "base/file.h"
#include "checkpoints/checkpoint.h"

static Status read_config(ModelConfig *m, const char *dir, const Arguments *settings) {
    char path[PATH_BYTES];
    Section section = {MODEL_FIELDS, MODEL_FIELD_COUNT, m};
    Config *c = config_new(&section, 1);
    path_join(path, dir, "config.json");
    Status st = model_config_read_hf(m, path);
    for (int i = 0; st == OK && settings != NULL && i < settings->setting_count; i++) {
        st = config_set(c, settings->settings[i], "command line");
    }
    config_free(c);
    TRY(st);
    return model_config_resolve(m, NULL);
}

static Status open_tokenizer(ModelDir *d, const char *dir) {
    char path[PATH_BYTES];
    path_join(path, dir, "tokenizer.json");
    if (!path_exists(path)) return OK;  // ids alone mean nothing: no token ends a text
    TRY(bpe_read_hf(&d->bpe, path));
    d->eos = d->model.cfg.eos_id;
    return OK;
}

Status modeldir_open(ModelDir *d, const char *dir, const Arguments *settings, bool with_grad) {
    *d = (ModelDir){.eos = -1};
    ModelConfig cfg;
    if (!path_is_dir(dir)) {
        FAIL(E_IO, "a directory with config.json and *.safetensors", "%s: no such directory", dir);
    }
    TRY(read_config(&cfg, dir, settings));
    bool head, differs;
    TRY(hf_peek_tied(dir, &head, &differs));
    if (cfg.tied && differs) cfg.tied = false;
    TRY(model_open(&d->model, &cfg));
    TRY(params_reserve(&d->model.params, with_grad));
    Dtype stored;
    TRY(hf_import(&d->model.params, dir, cfg.tied, &stored));
    return open_tokenizer(d, dir);
}

void modeldir_close(ModelDir *d) {
    model_close(&d->model);
    bpe_close(d->bpe);
    *d = (ModelDir){0};
}

Status modeldir_need_tokenizer(const ModelDir *d, const char *dir) {
    if (d->bpe != NULL) return OK;
    FAIL(E_IO, "copy the model's tokenizer.json there, or use --prompt-ids",
         "%s/tokenizer.json: no such file", dir);
}
