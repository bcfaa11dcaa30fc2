// What is not a number, and what would be infinite in a narrower type: found before it leaves as a
// result.
#pragma once

#include <stddef.h>

#include "base/real.h"

// The place of the first value that is NaN or whose magnitude reaches `limit`; `count` when there
// is none. INFINITY: the first that is not finite. `x` may be NULL when count is 0.
size_t reals_outside(const real *x, size_t count, real limit);
