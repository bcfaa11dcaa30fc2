// Opening a Hugging Face directory: configuration, weights, tokenizer.
#include "train/modeldir.h"

#include "base/file.h"
#include "checkpoints/checkpoint.h"

// The words of the command line, over whatever m and p hold; config.json, when given, is read first.
static Status read_settings(ModelConfig *m, ParallelConfig *p, const char *config_json,
                            const Arguments *settings) {
    Section sections[] = {{MODEL_FIELDS, MODEL_FIELD_COUNT, m},
                          {PARALLEL_FIELDS, PARALLEL_FIELD_COUNT, p}};
    Config *c = config_new(sections, 2);
    Status st = config_json == NULL ? OK : model_config_read_hf(m, config_json);
    for (int i = 0; st == OK && settings != NULL && i < settings->setting_count; i++) {
        st = config_set(c, settings->settings[i], "command line");
    }
    config_free(c);
    return st;
}

static Status read_config(ModelConfig *m, const char *dir, const Arguments *settings) {
    char path[PATH_BYTES];
    ParallelConfig unused;
    path_join(path, dir, "config.json");
    TRY(read_settings(m, &unused, path, settings));
    return model_config_resolve(m, NULL);
}

Status modeldir_mesh(Mesh *mesh, const Arguments *settings) {
    ModelConfig unused;
    ParallelConfig p;
    TRY(parallel_agree(read_settings(&unused, &p, NULL, settings)));
    return mesh_open(mesh, &p);
}

static Status open_tokenizer(ModelDir *d, const char *dir) {
    char path[PATH_BYTES];
    path_join(path, dir, "tokenizer.json");
    Status there = path_look(path);
    if (there == E_MISSING) return OK;  // ids alone mean nothing: no token ends a text
    TRY(there);
    TRY(bpe_read_hf(&d->bpe, path));
    d->eos = d->model.cfg.eos_id;
    return OK;
}

Status modeldir_open(ModelDir *d, const char *dir, const Arguments *settings, const Mesh *mesh,
                     bool with_grad) {
    *d = (ModelDir){.eos = -1};
    ModelConfig cfg;
    if (!path_is_dir(dir)) {
        FAIL(E_IO, "a directory with config.json and *.safetensors", "%s: no such directory", dir);
    }
    TRY(read_config(&cfg, dir, settings));
    bool head, differs;
    TRY(hf_peek_tied(dir, &head, &differs));
    if (cfg.tied && differs) cfg.tied = false;
    TRY(model_open(&d->model, &cfg, mesh));
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
