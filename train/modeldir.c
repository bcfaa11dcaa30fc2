// Opening a Hugging Face directory: configuration, weights, tokenizer.
#include "train/modeldir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "checkpoints/checkpoint.h"
#include "data/data.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

// ---- the model, and what was asked of it -------------------------------------------------------

// Keys that change no tensor. The first two stand in no config.json; with the others a user
// computes with the same weights in another way, such as a longer window.
static const char *const FREE_KEYS[] = {
    "model.block",    "model.recompute",       "model.window",   "model.rope_base",
    "model.norm_eps", "model.scale_embedding", "model.init_std", "model.pad_id"};
enum { RUN_KEYS = 2 };
// What a preset decides.
static const char *const PRESET_KEYS[] = {
    "model.family", "model.width",    "model.layers", "model.heads",   "model.ffn",
    "model.vocab",  "model.kv_heads", "model.tied",   "model.pattern", "model.lrpe"};
#define COUNT(list) (int)(sizeof(list) / sizeof(list)[0])

static bool is_listed(const char *key, const char *const *list, int count) {
    for (int i = 0; i < count; i++) {
        if (strcmp(key, list[i]) == 0) return true;
    }
    return false;
}

bool modeldir_gives_way(const Config *c, const char *key, const char *to) {
    bool in_file = strrchr(config_origin(c, key), ':') != NULL;
    return in_file && to != NULL && strcmp(config_origin(c, to), "command line") == 0;
}

static const size_t FIELD_BYTES[] = {[CFG_BOOL] = sizeof(bool),
                                     [CFG_INT] = sizeof(int),
                                     [CFG_I64] = sizeof(int64_t),
                                     [CFG_F64] = sizeof(double),
                                     [CFG_TEXT] = sizeof(Text)};

static void field_copy(ModelConfig *to, const ModelConfig *from, const Field *f) {
    memcpy((char *)to + f->offset, (const char *)from + f->offset, FIELD_BYTES[f->type]);
}

bool modeldir_same_value(const Field *f, const ModelConfig *a, const ModelConfig *b) {
    const char *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
    return f->type == CFG_TEXT ? strcmp(x, y) == 0 : memcmp(x, y, FIELD_BYTES[f->type]) == 0;
}

// Patterns and lists of layers may be written in several ways: those of the same layers become the
// model's.
static void take_spelling(ModelConfig *asked, const ModelConfig *model, size_t text) {
    ModelConfig m = *model;
    memcpy((char *)&m + text, (const char *)asked + text, sizeof(Text));
    bool same = model_config_resolve(&m, NULL) == OK &&
                memcmp(m.layer, model->layer, sizeof m.layer) == 0 &&
                memcmp(m.layer_lrpe, model->layer_lrpe, sizeof m.layer_lrpe) == 0;
    err_clear();
    if (same) memcpy((char *)asked + text, (const char *)model + text, sizeof(Text));
}

// An id that config.json lacks, or has in its list, may be chosen.
static void take_ids(ModelConfig *model, const ModelConfig *asked) {
    if (model->bos_id < 0) model->bos_id = asked->bos_id;
    for (int i = 0; i < model->more_eos_count; i++) {
        if (model->more_eos[i] != asked->eos_id) continue;
        model->more_eos[i] = model->eos_id;
        model->eos_id = asked->eos_id;
    }
    if (model->eos_id < 0) model->eos_id = asked->eos_id;
}

// Every key that differs, as "key: asked -> the model's".
static Status compare(const ModelConfig *asked, const ModelConfig *model, const char *dir) {
    ModelConfig at;
    char differences[1024];
    Section section = {MODEL_FIELDS, MODEL_FIELD_COUNT, &at};
    Config *c = config_new(&section, 1);
    at = *asked;
    char *a = config_dump(c);
    at = *model;
    char *b = config_dump(c);
    int count = config_diff(a, b, differences, sizeof differences);
    config_free(c);
    free(a);
    free(b);
    if (count == 0) return OK;
    for (char *s = differences; *s != '\0'; s++) {
        if (*s == '\n') *s = s[1] == '\0' ? '\0' : ',';
    }
    FAIL(E_USAGE, "leave these keys out: the model's own config.json decides them",
         "%s/config.json is another model than asked for (asked -> it has): %s", dir, differences);
}

static bool is_chosen(const Config *c, const char *key) {
    return is_listed(key, FREE_KEYS, RUN_KEYS) ||
           (is_listed(key, FREE_KEYS, COUNT(FREE_KEYS)) && !config_is_default(c, key));
}

// What was asked for and changes no tensor is done.
static Status take_free(ModelConfig *model, const ModelConfig *asked, const Config *c) {
    for (int i = 0; i < MODEL_FIELD_COUNT; i++)
        if (is_chosen(c, MODEL_FIELDS[i].key)) field_copy(model, asked, &MODEL_FIELDS[i]);
    return model_config_resolve(model, NULL);
}

// The origin of every value that the model decides; what was chosen keeps its own.
static void tell_origins(Config *c, const ModelConfig *file, const ModelConfig *used,
                         const char *origin) {
    for (int i = 0; i < MODEL_FIELD_COUNT; i++) {
        const char *key = MODEL_FIELDS[i].key;
        bool chosen = is_chosen(c, key) ||
                      (strcmp(key, "model.bos_id") == 0 && file->bos_id != used->bos_id) ||
                      (strcmp(key, "model.eos_id") == 0 && file->eos_id != used->eos_id);
        if (!chosen) config_set_origin(c, key, origin);
    }
}

static Status read_model(ModelConfig *m, const char *dir) {
    char path[PATH_BYTES];
    if (!path_is_dir(dir))
        FAIL(E_IO, "a directory with config.json and *.safetensors", "%s: no such directory", dir);
    path_join(path, dir, "config.json");
    TRY(model_config_read_hf(m, path));
    TRY(normalisation_check(m->normalisation, path));
    return m->tied ? hf_check_tied(dir) : OK;
}

// The model's values, but for those that were asked for.
static Status read_asked(ModelConfig *asked, const ModelConfig *m, const Config *origins,
                         bool preset) {
    ModelConfig wish = *m, model = *asked;
    if (preset) TRY(model_config_resolve(&wish, origins));
    for (int i = 0; i < MODEL_FIELD_COUNT; i++) {
        const Field *f = &MODEL_FIELDS[i];
        bool wanted = (preset && is_listed(f->key, PRESET_KEYS, COUNT(PRESET_KEYS))) ||
                      !config_is_default(origins, f->key);
        if (wanted && strcmp(f->key, "model.preset") != 0) field_copy(asked, &wish, f);
    }
    if (asked->vocab == 0) asked->vocab = model.vocab;         // 0: that of the tokenizer
    if (asked->kv_heads == 0) asked->kv_heads = asked->heads;  // 0: as many as heads
    take_spelling(asked, &model, offsetof(ModelConfig, pattern));
    take_spelling(asked, &model, offsetof(ModelConfig, lrpe));
    return OK;
}

Status modeldir_config(ModelConfig *m, Config *origins, const char *dir, const char *key) {
    ModelConfig file = *m, asked, used;
    char origin[PATH_BYTES + 32];
    bool preset = m->preset[0] != '\0', yields = modeldir_gives_way(origins, "model.preset", key);
    TRY(read_model(&file, dir));
    asked = used = file;
    TRY(read_asked(&asked, m, origins, preset && !yields));
    take_ids(&used, &asked);
    TRY(take_free(&used, &asked, origins));
    TRY(compare(&asked, &used, dir));
    if (preset && yields)
        log_info("model.preset=%s (%s) gives way to the model of %s", m->preset,
                 config_origin(origins, "model.preset"), dir);
    snprintf(origin, sizeof origin, "%s%s%s/config.json", key == NULL ? "" : key,
             key == NULL ? "" : ": ", dir);
    tell_origins(origins, &file, &used, origin);
    *m = used;
    return OK;
}

// ---- a directory, opened -----------------------------------------------------------------------

// The words of the command line, over defaults.
static Status read_settings(Config *c, const Arguments *settings) {
    for (int i = 0; settings != NULL && i < settings->setting_count; i++)
        TRY(config_set(c, settings->settings[i], "command line"));
    return OK;
}

// dir NULL: the mesh alone is wanted. together: Collective(world), all ranks must have been told
// the same.
static Status read_config(ModelConfig *m, ParallelConfig *p, const char *dir,
                          const Arguments *settings, bool together) {
    Section sections[] = {{MODEL_FIELDS, MODEL_FIELD_COUNT, m},
                          {PARALLEL_FIELDS, PARALLEL_FIELD_COUNT, p}};
    Config *c = config_new(sections, 2);
    Status st = read_settings(c, settings);
    if (st == OK && dir != NULL) st = modeldir_config(m, c, dir, NULL);
    if (together) st = parallel_agree_config(st, c);
    config_free(c);
    return st;
}

Status modeldir_mesh(Mesh *mesh, const Arguments *settings) {
    ModelConfig unused = {.width = 0};
    ParallelConfig p;
    TRY(read_config(&unused, &p, NULL, settings, true));
    return mesh_open(mesh, &p);
}

Status modeldir_check_tokenizer(const Bpe *bpe, const char *path, const ModelConfig *m,
                                const char *dir) {
    if (bpe_vocab(bpe) <= m->vocab) return OK;  // fewer: the embedding is padded
    FAIL(E_FORMAT, "take the tokenizer.json the model was trained with",
         "%s: the tokenizer has %d tokens, the model of %s only %d", path, bpe_vocab(bpe), dir,
         m->vocab);
}

Status modeldir_check_alone(const Arguments *settings) {
    ModelConfig unused = {.width = 0};
    ParallelConfig p;
    Mesh mesh;
    TRY(read_config(&unused, &p, NULL, settings, false));
    return mesh_plan(&mesh, &p, 1, 0);
}

static const char HINT[] = "put the files where all nodes see the same";

Status weights_agree(const ParamSet *ps, const Mesh *mesh) {
    char line[64];
    snprintf(line, sizeof line, "weights: hash %016llx\n", (unsigned long long)params_hash(ps));
    return agree(agree_same(E_LAUNCH, HINT, line, mesh->replicas), mesh->world);
}

Status modeldir_agree(const ModelDir *d, uint64_t input, const Mesh *mesh) {
    char *config = model_config_write_hf(&d->model.cfg, ""), lines[128];
    snprintf(lines, sizeof lines, "config.json: hash %016llx\ninput: hash %016llx\n",
             (unsigned long long)hash64(config, strlen(config)), (unsigned long long)input);
    free(config);
    TRY(agree_same(E_LAUNCH, HINT, lines, mesh->world));
    return weights_agree(&d->model.params, mesh);
}

static Status open_tokenizer(ModelDir *d, const char *dir) {
    char path[PATH_BYTES];
    path_join(path, dir, "tokenizer.json");
    Status there = path_look(path);
    if (there == E_MISSING) return OK;  // ids alone mean nothing: no token ends a text
    TRY(there);
    TRY(bpe_read_hf(&d->bpe, path));
    return modeldir_check_tokenizer(d->bpe, path, &d->model.cfg, dir);
}

Status modeldir_open(ModelDir *d, const char *dir, const Arguments *settings, const Mesh *mesh,
                     bool with_grad) {
    *d = (ModelDir){.bpe = NULL};
    ModelConfig cfg = {.width = 0};
    ParallelConfig unused;
    TRY(read_config(&cfg, &unused, dir, settings, false));
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
