// Gradient checks, and what tests of numeric code share: reproducible numbers, poison, comparisons.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/real.h"

// How far a kernel may be from its naive twin, relative to the largest value, and what a gradient
// check must reach. Gradients are checked in the f64 build only: a difference quotient of floats
// says little.
#ifdef STERNA_F64
#define TWIN_TOLERANCE 1e-12
#define GRADCHECK_RUNS 1
#else
#define TWIN_TOLERANCE 2e-6
#define GRADCHECK_RUNS 0
#endif
#define GRADCHECK_TOLERANCE 1e-6

// Compares the gradient `dx` of `loss` to central differences at x, in up to 40 entries drawn from
// STREAM_TEST. loss(ctx) evaluates at the current contents of x, which are restored. Returns the
// largest |difference| relative to max |dx|, infinity for NaN; prints `name` and the entry when
// above tolerance.
double gradcheck(const char *name, double (*loss)(void *ctx), void *ctx, real *x, const real *dx,
                 size_t count);
// Sum of out_i * weight_i: the loss whose gradient is backward's dx for dout = weight.
double weighted_sum(const real *out, const real *weight, size_t count);

// malloc'ed, for the caller to free. Normal numbers of a seed; NaNs; a copy.
real *numbers_normal(size_t count, uint64_t seed);
real *numbers_poison(size_t count);
real *numbers_copy(const real *x, size_t count);
// Largest |a_i - b_i| relative to the largest |b_i| (at least 1); infinity when a NaN is in either.
double numbers_distance(const real *a, const real *b, size_t count);

// Runs `run` with 1, 2 and 3 threads on an output that starts as 0.25 each, and says whether all
// three results have the same bits.
bool same_bits_on_any_threads(void (*run)(void *ctx, real *out), void *ctx, size_t count);
