// Ids of config.json and generation_config.json: the token that pads, the one that begins a text,
// and those that end one. eos_token_id is an id or a list of ids. The first id of config.json (else
// of generation_config.json) ends the documents of training text; generation ends at any of either
// file.
#include <limits.h>
#include <string.h>

#include "base/file.h"
#include "model/internal.h"

static const char HINT[] = "is it the config.json of this model? see docs/formats.md",
                  GENERATION[] = "generation_config.json";

// What a message shows of a value that is no id.
static Status refuse(const char *path, const char *key, const Json *v, const char *supported) {
    char value[32] = "no whole number";
    if (json_is_int(v)) snprintf(value, sizeof value, "%lld", (long long)json_int(v, 0));
    FAIL(E_FORMAT, HINT, "%s: %s = %s is not supported, it must be %s", path, key, value,
         supported);
}

static Status read_id(int *id, const Json *v, int min, const ModelConfig *m, const char *path,
                      const char *key) {
    int64_t value = json_is_int(v) ? json_int(v, 0) : INT64_MIN;
    if (value < min || value >= m->vocab)
        return refuse(path, key, v,
                      min < 0 ? "null or an id below vocab_size" : "an id below vocab_size");
    *id = (int)value;
    return OK;
}

// null, like -1, is none; only a key that is absent is what the reference class assumes.
static Status read_single(int *id, const ModelConfig *m, const Json *root, const char *path,
                          const char *key, int absent) {
    const Json *v = json_get(root, key);
    *id = v == NULL ? absent : -1;
    return json_is_none(v) ? OK : read_id(id, v, -1, m, path, key);
}

static Status add_end(ModelConfig *m, int id, const char *path) {
    if (id < 0 || model_config_ends(m, id)) return OK;
    if (m->eos_id < 0) {
        m->eos_id = id;
        return OK;
    }
    if (m->more_eos_count == MAX_ENDS - 1)
        FAIL(E_FORMAT, HINT, "%s: eos_token_id: more than %d ids", path, MAX_ENDS);
    m->more_eos[m->more_eos_count++] = id;
    return OK;
}

static Status read_ends(ModelConfig *m, const Json *root, const char *path) {
    const Json *v = json_get(root, "eos_token_id");
    int id;
    if (!json_is_array(v)) {
        TRY(read_single(&id, m, root, path, "eos_token_id", -1));
        return add_end(m, id, path);
    }
    if (json_count(v) == 0)
        FAIL(E_FORMAT, HINT, "%s: eos_token_id is an empty list, it must be null or name an id",
             path);
    for (size_t i = 0; i < json_count(v); i++) {
        char key[48];
        snprintf(key, sizeof key, "eos_token_id[%zu]", i);
        TRY(read_id(&id, json_at(v, i), 0, m, path, key));
        TRY(add_end(m, id, path));
    }
    return OK;
}

static Status read_generation(ModelConfig *m, const char *config_path) {
    char path[PATH_BYTES];
    const char *slash = strrchr(config_path, '/');
    int dir = slash == NULL ? 0 : (int)(slash - config_path) + 1;
    if (snprintf(path, sizeof path, "%.*s%s", dir, config_path, GENERATION) >= PATH_BYTES ||
        !path_exists(path))
        return OK;
    Json *root = NULL;
    TRY(json_open_file(&root, path));
    Status st = json_is_object(root) ? read_ends(m, root, path)
                                     : err_set(E_FORMAT, HINT, "%s: not a JSON object", path);
    json_close(root);
    return st;
}

Status hf__read_ids(ModelConfig *m, const Json *root, const char *path, bool assumed) {
    TRY(read_single(&m->pad_id, m, root, path, "pad_token_id", assumed ? 0 : -1));
    TRY(read_single(&m->bos_id, m, root, path, "bos_token_id", assumed && m->vocab > 1 ? 1 : -1));
    m->eos_id = -1;
    m->more_eos_count = 0;
    TRY(read_ends(m, root, path));
    TRY(read_generation(m, path));
    // An assumed id that is beyond the vocabulary is none.
    bool absent = json_get(root, "eos_token_id") == NULL;
    if (m->eos_id < 0 && absent && assumed && m->vocab > 2) m->eos_id = 2;
    return OK;
}

static void write_id(JsonOut *out, const char *key, int id) {
    if (id < 0)
        jsonout_none(out, key);
    else
        jsonout_int(out, key, id);
}

void hf__write_ids(JsonOut *out, const ModelConfig *m) {
    write_id(out, "pad_token_id", m->pad_id);
    write_id(out, "bos_token_id", m->bos_id);
    if (m->more_eos_count == 0) {
        write_id(out, "eos_token_id", m->eos_id);
        return;
    }
    jsonout_open_array(out, "eos_token_id");
    jsonout_int(out, NULL, m->eos_id);
    for (int i = 0; i < m->more_eos_count; i++) jsonout_int(out, NULL, m->more_eos[i]);
    jsonout_close_array(out);
}
