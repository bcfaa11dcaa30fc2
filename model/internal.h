// Shared between the files of model/ only.
#pragma once

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

struct DecodeState {
    const Model *model;
    int B;
    int64_t *pos;   // (B)
    void **layer;   // (L) mixer states
};

// Of this rank's share: heads, key/value heads, columns of all its heads.
int heads_here(const Model *m);
int kv_heads_here(const Model *m);
int width_here(const Model *m);
// Decay rates of one layer, (H): slopes of the heads times the layer's factor.
void lightning_decay(double *decay, int heads, int layer, int layers);
// "model.layers.3.token_mixer.q_proj.weight"
void layer_param_name(char *dst, size_t capacity, const Model *m, int layer, const char *part);
