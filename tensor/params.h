// ParamSet: every parameter of a model is one row of a table, and everything done to parameters
// (initialisation, optimiser, checkpoint, import, export, gradient norm, hash) loops over rows. A rule
// about one tensor is a column, never an `if` on its name.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

enum { PARAM_NAME_BYTES = 128, PARAM_DIMS = 3 };

typedef enum { INIT_NORMAL, INIT_ONE, INIT_LRPE } InitRule;  // N(0, init_std^2); 1; 10000^(-2c/C) (docs/maths.md 4)

typedef struct Param {
    char name[PARAM_NAME_BYTES];  // the Hugging Face name where one exists
    int ndim, dim[PARAM_DIMS];    // global shape, out x in
    size_t count, offset;         // elements, and place in the flat arrays
    real *data, *grad;            // into the flat arrays; NULL while only laid out
    InitRule init;
    double init_std;
    int zero_row;                 // row zeroed at initialisation (pad), -1: none
    bool decay;                   // weight-decay class
    int tp_axis, tp_sections;     // tensor-parallel split: axis (-1: replicated), equal sections inside it
    int uses;                     // tape: uses recorded and not yet differentiated
} Param;

typedef struct ParamSet {
    Param *rows;
    int count, capacity;
    size_t total;       // elements of all rows, each row padded to 16 elements in the flat arrays
    Arena arena;        // holds data, then grad
    real *data, *grad;  // flat: (total)
} ParamSet;

// Adds a row (data not yet placed) and returns its index. Fields not given here are set by the caller
// through the row: decay defaults to ndim == 2, tp_axis to -1, zero_row to -1.
int params_add(ParamSet *ps, const char *name, int ndim, const int *dim, InitRule init, double std);
Param *params_find(const ParamSet *ps, const char *name);  // NULL: none
// Reserves data (and grad, if asked) for all rows. Fails with E_NOMEM.
Status params_reserve(ParamSet *ps, bool with_grad) CHECKED;
// Values depend on (seed, row, element) alone.
void params_init(ParamSet *ps, uint64_t seed);
void params_zero_grad(ParamSet *ps);
size_t params_elements(const ParamSet *ps);  // without padding
uint64_t params_hash(const ParamSet *ps);    // XXH3 of all weights, bit for bit
void params_free(ParamSet *ps);
