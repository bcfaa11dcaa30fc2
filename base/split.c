#include "base/split.h"

size_t split_begin(size_t n, int size, int rank) {
    size_t each = n / (size_t)size, left = n % (size_t)size, r = (size_t)rank;
    return r * each + (r < left ? r : left);
}
