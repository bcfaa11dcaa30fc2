// Which of n things belongs to which of `size` holders: contiguous shares whose sizes differ by at
// most one, larger ones first. Pure arithmetic, the same on every rank.
#pragma once

#include <stddef.h>

size_t split_begin(size_t n, int size, int rank);
static inline size_t split_count(size_t n, int size, int rank) {
    return split_begin(n, size, rank + 1) - split_begin(n, size, rank);
}
// bound[r]..bound[r+1] for every holder r: (size+1) values.
static inline void split_bounds(int *bound, int n, int size) {
    for (int r = 0; r <= size; r++) bound[r] = (int)split_begin((size_t)n, size, r);
}
