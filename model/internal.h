// Shared between the files of model/ only.
#pragma once

#include "base/json.h"
#include "model/mixers/mixers.h"
#include "model/model.h"
#include "parallel/ops.h"

typedef struct Preset {
    const char *name, *family;
    int width, layers, heads, kv_heads, ffn, vocab;
    const char *pattern, *lrpe;
    bool tied;
    const char *text;
} Preset;
const Preset *preset_find(const char *name);  // NULL: unknown

// --- hf_ids.c: what pads, begins and ends a text ---
// m->vocab is known. assumed: ids that are absent are those of the reference class, 0, 1 and 2.
// E_FORMAT names file, key and value.
Status hf__read_ids(ModelConfig *m, const JsonAt *top, bool assumed) CHECKED;
void hf__write_ids(JsonOut *out, const ModelConfig *m);

// --- hf_memory.c: the neural memory in config.json, one object with the keys of model.memory_* ---
Status hf__read_memory(ModelConfig *m, const JsonAt *top) CHECKED;  // E_FORMAT names key and value
void hf__write_memory(JsonOut *out, const ModelConfig *m);  // nothing where no layer has one

struct DecodeState {
    const Model *model;
    int B;
    int64_t *pos;  // (B)
    void **layer;  // (L) mixer states
};

// "1, 2, 4": the values up to the number of heads that fit. `user` as given.
void legal_values(char *dst, size_t capacity, const ModelConfig *m,
                  bool (*fits)(const ModelConfig *m, int value, const void *user),
                  const void *user);
// Of this rank's share: heads, key/value heads, columns of all its heads.
int heads_here(const Model *m);
int kv_heads_here(const Model *m);
int width_here(const Model *m);
// Decay rates of a lightning layer, (H): slopes of the heads times the layer's factor
// (mixers/lightning.c).
void lightning_decay(double *decay, int heads, int layer, int layers);
const double *lightning_rates(const Layer *layer);  // those of one
// "model.layers.3.token_mixer.q_proj.weight"
void layer_param_name(char *dst, size_t capacity, const Model *m, int layer, const char *part);

// --- config.json (hf.c, hf_llama.c) ---
// A key that may be absent or null; any other value than this one is another model.
typedef struct FixedKey {
    const char *key;
    JsonKind kind;     // J_NONE: null only
    const char *text;  // of a J_TEXT
    double number;     // of a J_NUMBER or J_BOOL
} FixedKey;
Status hf__check_fixed(const JsonAt *top, const FixedKey *keys, int count) CHECKED;
// Null and absence leave *out as it is.
Status hf__read_positive(double *out, const JsonAt *object, const char *key) CHECKED;
// Everything beside sizes that a Llama's configuration may say and that would change its numbers.
Status hf__check_llama(const JsonAt *top) CHECKED;
// *base is what it is when the file does not say.
Status hf__read_rope(double *base, const JsonAt *top) CHECKED;
