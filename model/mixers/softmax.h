// Causal softmax attention as layers use it: from the layer's input to what each head sees, before
// the output projection. Queries and keys are turned by RoPE; persistent rows, which every query
// sees, are not (Titans, arXiv:2501.00663, section 3.3).
#pragma once

#include "model/mixers/kvcache.h"
#include "model/mixers/mixers.h"

typedef struct SoftmaxPart {
    int q, k, v;       // rows of its parameters
    int keys, values;  // of persistent rows, -1: none
    int window;        // keys a token sees, itself included; 0: all
} SoftmaxPart;

// Adds the rows; persistent: so many, in a window only.
void softmax_part_open(SoftmaxPart *p, Model *m, const Layer *layer, int window, int persistent);
int softmax_add_out(Model *m, const Layer *layer);  // o_proj
Status softmax_check(const ModelConfig *m) CHECKED;
bool softmax_fits_tp(const ModelConfig *m, int tp);
void softmax_part_costs(MixerCosts *c, const Model *m, const SoftmaxPart *p, int T);
KvCache *softmax_cache_open(const Model *m, const SoftmaxPart *p, int B);  // NULL: out of memory
// x (N,C), inside the tp axis -> (N, this rank's heads). cache: NULL in training.
Tensor *softmax_part_mix(const MixerRun *run, const SoftmaxPart *p, Tensor *x, KvCache *cache);
