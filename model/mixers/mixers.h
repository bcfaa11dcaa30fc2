// Token mixers: one file and one row of the table each, and no rule about a letter anywhere else. x
// is the normalised input (N,C), already inside the tp axis (op_tp_enter): a mixer works on this
// rank's heads and sums over the axis at its end. The result is added to the residual stream by the
// block.
#pragma once

#include "model/model.h"
#include "parallel/mesh.h"

typedef struct MixerRun {  // what a forward pass hands to a mixer
    Tape *tp;
    Model *m;
    const Layer *layer;
    const SeqInfo *seq;
    void *state;  // this layer's decode state, NULL outside generation
} MixerRun;

// What one layer costs beside its matrices, on one rank of the mesh that the model has.
typedef struct MixerCosts {
    double flops;      // forward, of the last of T tokens
    double state;      // bytes of a row's decode state after T tokens
    double exchanged;  // bytes sent over the sp axis in the forward pass of a row of T tokens
    int rounds;        // exchanges there that wait for one another
} MixerCosts;

struct MixerOps {
    char letter;
    const char *name;
    bool memory;        // it has a neural memory: the keys model.memory_* are about it
    const char *mixes;  // which tokens a token sees, and how
    // Do the sizes, and shares of the heads on these axes, fit? model: E_USAGE names the keys.
    Status (*check)(const ModelConfig *m);          // NULL: always
    bool (*fits_tp)(const ModelConfig *m, int tp);  // beside heads and ffn, which all need
    Status (*check_sp)(const ModelConfig *m, const Mesh *mesh);  // NULL: any number of chunks
    // Adds rows to the ParamSet and sets layer->own, which close frees, and layer->late. E_NOMEM.
    Status (*open)(Model *m, Layer *layer);
    void (*close)(Layer *layer);
    Tensor *(*forward)(const MixerRun *run, Tensor *x);  // (N,C) -> (N,C)
    void (*costs)(MixerCosts *c, const Model *m, const Layer *layer, int T);
    // Decode state of B rows. forward with a state reads and advances it by T tokens a row, for
    // which reserve made room.
    void *(*state_open)(const Model *m, const Layer *layer, int B);          // NULL: out of memory
    void (*state_close)(void *state);                                        // accepts NULL
    Status (*state_reserve)(void *state, int T);                             // E_NOMEM
    Status (*state_copy_row)(void *dst, int to, const void *src, int from);  // E_NOMEM
    size_t (*state_bytes)(const void *state);
    // A row as bytes, for this build, processor and mesh. load: E_FORMAT, E_NOMEM.
    size_t (*state_row_bytes)(const void *state, int row);
    void (*state_save_row)(const void *state, int row, char *to);
    Status (*state_load_row)(void *state, int row, const char *from, size_t bytes);
};

// The table, ended by NULL. mixers_use puts another one in its place, for tests; NULL: the
// program's own. Returns the one that was in use.
const MixerOps *const *mixers(void);
const MixerOps *const *mixers_use(const MixerOps *const *table);
const MixerOps *mixer_find(char letter);       // NULL: unknown
void mixers_help(char *dst, size_t capacity);  // "L lightning attention, N ..."
