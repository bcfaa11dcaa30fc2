// The neural memory in config.json: "memory": {"layers": 2, ...}, a key for each model.memory_* of
// the configuration, with the same ranges. Who computes the model elsewhere finds every number
// there.
#include <string.h>

#include "model/internal.h"
#include "model/mixers/memory.h"

static const char PREFIX[] = "model.memory_";

static bool is_memory(const Field *f) {
    return strncmp(f->key, PREFIX, sizeof PREFIX - 1) == 0;
}

static bool has_memory(const ModelConfig *m) {
    for (int l = 0; l < m->layers; l++)
        if (mixer_find(m->layer[l])->memory) return true;
    return false;
}

// ---- reading -----------------------------------------------------------------------------------

// The value as the configuration would have it written.
static Status value_text(char text[64], const Field *f, const JsonAt *v) {
    int64_t whole;
    bool flag;
    double number;
    const char *word;
    if (f->type == CFG_INT) {
        TRY(json_int(&whole, v));
        snprintf(text, 64, "%lld", (long long)whole);
    } else if (f->type == CFG_BOOL) {
        TRY(json_bool(&flag, v));
        snprintf(text, 64, "%s", flag ? "true" : "false");
    } else if (f->type == CFG_F64) {
        TRY(json_number(&number, v));
        snprintf(text, 64, "%.17g", number);
    } else {
        TRY(json_text(&word, v));
        snprintf(text, 64, "%s", word);
    }
    return OK;
}

static Status read_field(ModelConfig *m, const Field *f, const JsonAt *object) {
    char text[64];
    JsonAt v;
    TRY(json_member(&v, object, f->key + sizeof PREFIX - 1));
    if (json_kind(&v) == J_NONE) return config_set_field(m, f, f->initial, object->file);
    TRY(value_text(text, f, &v));
    if (config_set_field(m, f, text, object->file) == OK) return OK;
    if (f->choices != NULL) return json_refuse(&v, "one of %s", f->choices);
    return json_refuse(&v, "a number from %g to %g", f->min, f->max);
}

Status hf__read_memory(ModelConfig *m, const JsonAt *top) {
    JsonAt object;
    TRY(json_member(&object, top, "memory"));
    bool given = json_kind(&object) != J_NONE;
    if (given && json_kind(&object) != J_OBJECT) return json_refuse(&object, "an object");
    for (int i = 0; i < MODEL_FIELD_COUNT; i++) {
        const Field *f = &MODEL_FIELDS[i];
        if (!is_memory(f)) continue;
        if (given)
            TRY(read_field(m, f, &object));
        else
            TRY(config_set_field(m, f, f->initial, top->file));
    }
    return OK;
}

// ---- writing -----------------------------------------------------------------------------------

void hf__write_memory(JsonOut *out, const ModelConfig *m) {
    if (!has_memory(m)) return;
    ModelConfig full = *m;
    full.memory = memory_resolved(m);
    jsonout_open_object(out, "memory");
    for (int i = 0; i < MODEL_FIELD_COUNT; i++) {
        const Field *f = &MODEL_FIELDS[i];
        if (!is_memory(f)) continue;
        const char *name = f->key + sizeof PREFIX - 1;
        const void *value = (const char *)&full + f->offset;
        if (f->type == CFG_INT)
            jsonout_int(out, name, *(const int *)value);
        else if (f->type == CFG_BOOL)
            jsonout_bool(out, name, *(const bool *)value);
        else if (f->type == CFG_F64)
            jsonout_number(out, name, *(const double *)value);
        else
            jsonout_text(out, name, value);
    }
    jsonout_close_object(out);
}
