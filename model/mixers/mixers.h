// Token mixers: one file and one row of the table each. x is the normalised input (N,C), already inside the tp axis
// (op_tp_enter): a mixer works on this rank's heads and sums over the axis at its end. The result is added to the
// residual stream by the block.
#pragma once

#include "model/model.h"

typedef struct MixerRun {      // what a forward pass hands to a mixer
    Tape *tp;
    Model *m;
    const Layer *layer;
    const SeqInfo *seq;
    void *state;               // this layer's decode state, NULL outside generation
} MixerRun;

struct MixerOps {
    char letter;
    const char *name;
    void (*params)(Model *m, Layer *layer);                  // adds rows
    Tensor *(*forward)(const MixerRun *run, Tensor *x);      // (N,C) -> (N,C)
    // Decode state of B rows; sizes may grow with tokens for caches. All NULL-safe on close.
    void *(*state_open)(const Model *m, const Layer *layer, int B);
    void (*state_close)(void *state);
    void (*state_copy_row)(void *dst, int to, const void *src, int from);
    size_t (*state_bytes)(const void *state);
};

const MixerOps *mixer_find(char letter);  // NULL: unknown
extern const char MIXER_LETTERS[];        // "LNW"
