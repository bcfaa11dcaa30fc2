// Ids of config.json and generation_config.json: the token that pads, the one that begins a text,
// and those that end one. eos_token_id is an id or a list of ids. The first id of config.json (else
// of generation_config.json) ends the documents of training text; generation ends at any of either
// file.
#include <string.h>

#include "base/file.h"
#include "model/internal.h"

static const char HINT[] = "is it the config.json of this model? see docs/formats.md",
                  GENERATION[] = "generation_config.json";

static Status take_id(int *id, const JsonAt *v, int min, const ModelConfig *m) {
    int64_t value = -1;
    TRY(json_int(&value, v));
    if (value < min || value >= m->vocab)
        return json_refuse(v,
                           min < 0 ? "null or an id below vocab_size" : "an id below vocab_size");
    *id = (int)value;
    return OK;
}

// null, like -1, is none; only a key that is absent is what the reference class assumes.
static Status read_single(int *id, const ModelConfig *m, const JsonAt *v, int absent) {
    *id = v->value == NULL ? absent : -1;
    return json_kind(v) == J_NONE ? OK : take_id(id, v, -1, m);
}

static Status add_end(ModelConfig *m, int id, const JsonAt *v) {
    if (id < 0 || model_config_ends(m, id)) return OK;
    if (m->eos_id < 0) {
        m->eos_id = id;
        return OK;
    }
    if (m->more_eos_count == MAX_ENDS - 1)
        return json_refuse(v, "a list of at most %d ids", MAX_ENDS);
    m->more_eos[m->more_eos_count++] = id;
    return OK;
}

static Status read_ends(ModelConfig *m, const JsonAt *top, bool *absent) {
    JsonAt v, item;
    int id = -1;
    TRY(json_member(&v, top, "eos_token_id"));
    *absent = v.value == NULL;
    if (json_kind(&v) != J_LIST) {
        TRY(read_single(&id, m, &v, -1));
        return add_end(m, id, &v);
    }
    if (json_count(&v) == 0) return json_refuse(&v, "null, an id or a list with an id");
    for (size_t i = 0; i < json_count(&v); i++) {
        TRY(json_item(&item, &v, i));
        TRY(take_id(&id, &item, 0, m));
        TRY(add_end(m, id, &v));
    }
    return OK;
}

static Status read_generation(ModelConfig *m, const char *config_path) {
    char path[PATH_BYTES];
    const char *slash = strrchr(config_path, '/');
    int dir = slash == NULL ? 0 : (int)(slash - config_path) + 1;
    if (snprintf(path, sizeof path, "%.*s%s", dir, config_path, GENERATION) >= PATH_BYTES)
        return OK;
    Status there = path_look(path);
    if (there == E_MISSING) return OK;
    TRY(there);
    Json *root = NULL;
    bool absent;
    TRY(json_open_file(&root, path));
    JsonAt top = json_top(root, path, HINT);
    Status st = read_ends(m, &top, &absent);
    json_close(root);
    return st;
}

Status hf__read_ids(ModelConfig *m, const JsonAt *top, bool assumed) {
    JsonAt pad, bos;
    bool absent;
    TRY(json_member(&pad, top, "pad_token_id"));
    TRY(json_member(&bos, top, "bos_token_id"));
    TRY(read_single(&m->pad_id, m, &pad, assumed ? 0 : -1));
    TRY(read_single(&m->bos_id, m, &bos, assumed && m->vocab > 1 ? 1 : -1));
    m->eos_id = -1;
    m->more_eos_count = 0;
    TRY(read_ends(m, top, &absent));
    TRY(read_generation(m, top->file));
    // An assumed id that is beyond the vocabulary is none.
    if (m->eos_id < 0 && absent && assumed && m->vocab > 2) m->eos_id = 2;
    return OK;
}

static void write_id(JsonOut *out, const char *key, int id) {
    if (id < 0)
        jsonout_none(out, key);
    else
        jsonout_int(out, key, id);
}

void model_config_write_ends(JsonOut *out, const ModelConfig *m) {
    if (m->more_eos_count == 0) {
        write_id(out, "eos_token_id", m->eos_id);
        return;
    }
    jsonout_open_array(out, "eos_token_id");
    jsonout_int(out, NULL, m->eos_id);
    for (int i = 0; i < m->more_eos_count; i++) jsonout_int(out, NULL, m->more_eos[i]);
    jsonout_close_array(out);
}

void hf__write_ids(JsonOut *out, const ModelConfig *m) {
    write_id(out, "pad_token_id", m->pad_id);
    write_id(out, "bos_token_id", m->bos_id);
    model_config_write_ends(out, m);
}
