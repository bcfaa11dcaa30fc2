// ParamSet: every parameter of a model is one row of a table, and everything done to parameters
// (initialisation, optimiser, checkpoint, import, export, gradient norm, hash) loops over rows. A
// rule about one tensor is a column, never an `if` on its name.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

enum { PARAM_NAME_BYTES = 128, PARAM_DIMS = 3 };

typedef enum {
    INIT_NORMAL,
    INIT_ONE,
    INIT_LRPE,
    INIT_GATES
} InitRule;  // N(0, init_std^2); 1; 10000^(-2c/C) (docs/maths.md 4); -5 in the first third, 0 (17)

// Some elements of a row-major tensor: `runs` runs of `run` elements, `stride` apart, the first at
// `begin`.
typedef struct ParamRuns {
    size_t begin, run, stride, runs;
} ParamRuns;

typedef struct Param {
    char name[PARAM_NAME_BYTES];  // the Hugging Face name where one exists
    int ndim, dim[PARAM_DIMS];    // global shape, out x in
    int local[PARAM_DIMS];  // shape of this rank's share: `dim` unless tensor parallelism splits
                            // the row
    size_t whole;           // elements of the global tensor
    size_t count, offset;   // elements of the share, and its place in the flat arrays
    ParamRuns share;        // where the share's elements stand in the global tensor
    real *data, *grad;      // into the flat arrays; NULL while only laid out
    InitRule init;
    double init_std;
    int zero_row;  // row zeroed at initialisation (pad), -1: none
    bool decay;    // weight-decay class
    int tp_axis,
        tp_sections;   // tensor-parallel split: axis (-1: replicated), equal sections inside it
    int tp_begin;      // first global index of the share on that axis (of the first section)
    bool late;         // its gradient may come after all others: see Node.late
    uint64_t version;  // another one whenever the weights are others: copies made of them know that
                       // they are old
    int uses;          // tape: uses recorded and not yet differentiated
} Param;

typedef struct ParamSet {
    Param *rows;
    int count, capacity;
    int tp,
        tp_rank;  // ranks that share the rows with a tp_axis, and which one this is; 0, 0: alone
    size_t
        total;    // elements of all local shares, each row padded to 16 elements in the flat arrays
    Arena arena;  // holds data, then grad
    real *data, *grad;  // flat: (total)
} ParamSet;

// Adds a row (data not yet placed) and returns its index. Fields not given here are set by the
// caller through the row: decay defaults to ndim == 2, zero_row to -1.
int params_add(ParamSet *ps, const char *name, int ndim, const int *dim, InitRule init, double std);
// The same for a row that tensor parallelism splits along `axis`, inside each of `sections` equal
// sections: rank r holds split_begin(section, tp, r).. of each (shares may be uneven).
int params_add_split(ParamSet *ps, const char *name, int ndim, const int *dim, InitRule init,
                     double std, int axis, int sections);
Param *params_find(const ParamSet *ps, const char *name);  // NULL: none
// Reserves data (and grad, if asked) for all rows. Fails with E_NOMEM.
Status params_reserve(ParamSet *ps, bool with_grad) CHECKED;
// Values depend on (seed, row, global element) alone.
void params_init(ParamSet *ps, uint64_t seed);
// To be called by whoever has written weights: here, and after an import, a load, an update, a
// gathering.
void params_changed(ParamSet *ps);
void params_zero_grad(ParamSet *ps);
size_t params_elements(const ParamSet *ps);  // of all global tensors
// The first row whose share holds a weight that is not finite; NULL: none.
const Param *params_find_bad(const ParamSet *ps);
uint64_t params_hash(const ParamSet *ps);  // XXH3 of all weights of this rank, bit for bit
void params_free(ParamSet *ps);
