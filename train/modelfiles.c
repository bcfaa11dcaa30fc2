// Why each file is there. Without tokenizer_config.json transformers guesses the class of the
// tokenizer from model_type: for a Llama one that adds <s> outside of our vocabulary, for ours
// none. Without the special ids neither text generation nor padding works.
#include "train/modelfiles.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

static Status write_text(const char *dir, const char *name, const char *text, size_t bytes) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    return file_write(path, text, bytes);
}

// Ends the document that is open, and the line.
static Status write_json(const char *dir, const char *name, JsonOut *w) {
    jsonout_close_object(w);
    Status st = write_text(dir, name, w->text, w->bytes);
    jsonout_free(w);
    return st;
}

static Status write_config(const ModelFiles *f, const char *dir) {
    char *text = model_config_write_hf(f->cfg, f->dtype);
    Status st = write_text(dir, "config.json", text, strlen(text));
    free(text);
    return st;
}

static Status write_generation(const ModelFiles *f, const char *dir) {
    JsonOut w = {.indent = 2};
    jsonout_open_object(&w, NULL);
    if (f->cfg->bos_id >= 0) jsonout_int(&w, "bos_token_id", f->cfg->bos_id);
    if (f->cfg->eos_id >= 0) model_config_write_ends(&w, f->cfg);
    if (f->cfg->pad_id >= 0) jsonout_int(&w, "pad_token_id", f->cfg->pad_id);
    return write_json(dir, "generation_config.json", &w);
}

// An ordinary token cannot serve: transformers would cut it out of all texts.
static void put_special(JsonOut *w, const char *key, const Bpe *bpe, int id) {
    size_t bytes;
    const char *text = bpe_token(bpe, id, &bytes);
    if (bpe_is_special(bpe, id)) jsonout_text_n(w, key, text, bytes);
}

static void put_specials(JsonOut *w, const ModelFiles *f) {
    put_special(w, "bos_token", f->bpe, f->cfg->bos_id);
    put_special(w, "eos_token", f->bpe, f->cfg->eos_id);
    put_special(w, "pad_token", f->bpe, f->cfg->pad_id);
}

static Status write_tokenizer_config(const ModelFiles *f, const char *dir) {
    JsonOut w = {.indent = 2};
    jsonout_open_object(&w, NULL);
    jsonout_text(&w, "tokenizer_class", "PreTrainedTokenizerFast");
    if (f->cfg->max_positions > 0) jsonout_int(&w, "model_max_length", f->cfg->max_positions);
    put_specials(&w, f);
    // Either of these, whatever its value, has transformers 5 replace a template that the file has.
    if (!bpe_adds_tokens(f->bpe)) {
        jsonout_bool(&w, "add_bos_token", false);
        jsonout_bool(&w, "add_eos_token", false);
    }
    jsonout_bool(&w, "clean_up_tokenization_spaces", false);
    return write_json(dir, "tokenizer_config.json", &w);
}

static Status write_specials(const ModelFiles *f, const char *dir) {
    JsonOut w = {.indent = 2};
    jsonout_open_object(&w, NULL);
    put_specials(&w, f);
    return write_json(dir, "special_tokens_map.json", &w);
}

static Status remove_old(const char *dir, const char *name) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    return file_remove(path);
}

// *there: `from` has the file. Where not, an earlier export's does not stay: it belongs to another
// model.
static Status copy_own(const ModelFiles *f, const char *dir, const char *name, bool *there) {
    char path[PATH_BYTES];
    FileText t;
    *there = false;
    if (f->from == NULL) return remove_old(dir, name);
    path_join(path, f->from, name);
    Status st = path_look(path);
    if (st == E_MISSING) return remove_old(dir, name);
    TRY(st);
    *there = true;
    TRY(file_read(path, &t.text, &t.bytes));
    st = write_text(dir, name, t.text, t.bytes);
    free(t.text);
    return st;
}

static Status remove_tokenizer(const char *dir) {
    static const char *const NAMES[] = {"tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json", "chat_template.jinja"};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) TRY(remove_old(dir, NAMES[i]));
    return OK;
}

// The two describe the same specials: they are copied together, or both are ours.
static Status write_tokenizer(const ModelFiles *f, const char *dir) {
    bool there, unused;
    TRY(write_text(dir, "tokenizer.json", f->tokenizer.text, f->tokenizer.bytes));
    TRY(copy_own(f, dir, "tokenizer_config.json", &there));
    TRY(copy_own(f, dir, "chat_template.jinja", &unused));
    if (there) return copy_own(f, dir, "special_tokens_map.json", &unused);
    TRY(write_tokenizer_config(f, dir));
    return write_specials(f, dir);
}

Status modelfiles_write(const ModelFiles *f, const char *dir) {
    bool there;
    TRY(write_config(f, dir));
    TRY(copy_own(f, dir, "generation_config.json", &there));
    if (!there) TRY(write_generation(f, dir));
    return f->bpe == NULL ? remove_tokenizer(dir) : write_tokenizer(f, dir);
}
