// Which of n things belongs to which of `size` ranks: contiguous, sizes differ by at most one,
// larger ones first.
#include "parallel/parallel.h"

size_t split_begin(size_t n, int size, int rank) {
    size_t each = n / (size_t)size, left = n % (size_t)size, r = (size_t)rank;
    return r * each + (r < left ? r : left);
}
