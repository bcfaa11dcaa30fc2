// The neural memory as layers use it: projections, convolution, gates and the memory itself, from
// the layer's input to what each head's memory answers (Titans, arXiv:2501.00663; docs/maths.md
// 17).
#pragma once

#include "model/model.h"
#include "model/mixers/mixers.h"

// Rows of a layer's parameters, -1: not there; and the memory's options.
typedef struct MemoryPart {
    int qkv, conv, gate, gate_bias, init, gain, shift;
    MemoryDims options;
    double most[GATE_KINDS];  // of alpha, eta, theta
} MemoryPart;

MemoryConfig memory_resolved(const ModelConfig *m);  // with what its keys leave to be chosen
Status memory_check(const ModelConfig *m);           // E_USAGE names the keys
// Adds the rows. E_NOMEM.
void memory_part_open(MemoryPart *p, Model *m, const Layer *layer);
// "model.layers.3.memory.qkv_proj.weight"
void memory_param_name(char *dst, size_t capacity, const Layer *layer, const char *part);
void memory_costs(MixerCosts *c, const Model *m, const MemoryPart *p);

// Weights, momentum and the inputs that the convolution still sees, of B rows.
typedef struct MemoryState MemoryState;
MemoryState *memory_state_open(const Model *m, const MemoryPart *p, int B);  // NULL: out of memory
void memory_state_close(MemoryState *s);
void memory_state_copy_row(MemoryState *dst, int to, const MemoryState *src, int from);
size_t memory_state_bytes(const MemoryState *s);
size_t memory_state_row_bytes(const MemoryState *s);
void memory_state_save_row(const MemoryState *s, int row, char *to);
Status memory_state_load_row(MemoryState *s, int row, const char *from, size_t bytes) CHECKED;

// x (N,C), inside the tp axis -> (N, this rank's heads). state: NULL in training.
Tensor *memory_part_read(const MixerRun *run, const MemoryPart *p, Tensor *x, MemoryState *state);
