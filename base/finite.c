// A scan in blocks: inside one there is no branch, so that it runs at the speed of memory, and only
// a block that holds something is walked again.
#include "base/finite.h"

#include <math.h>
#include <stdbool.h>

enum { BLOCK = 1024 };

// NaN fails every comparison.
static bool is_outside(real x, real limit) {
    return !(x < limit && x > -limit);
}

static size_t first_outside(const real *x, size_t count, real limit) {
    size_t i = 0;
    while (i < count && !is_outside(x[i], limit)) i++;
    return i;
}

size_t reals_outside(const real *x, size_t count, real limit) {
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t n = count - at < BLOCK ? count - at : BLOCK;
        int found = 0;
        for (size_t i = 0; i < n; i++) found |= is_outside(x[at + i], limit);
        if (found) return at + first_outside(x + at, n, limit);
    }
    return count;
}
