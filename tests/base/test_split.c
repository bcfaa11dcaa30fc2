// Which of n things belongs to which rank.
#include <criterion/criterion.h>
#include <stdint.h>

#include "base/split.h"

Test(split, covers_everything_once_in_order) {
    const size_t counts[] = {0, 1, 3, 7, 8, 1000, ((size_t)1 << 40) + 5};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (int size = 1; size <= 9; size++) {
            cr_assert_eq(split_begin(counts[c], size, 0), 0);
            cr_assert_eq(split_begin(counts[c], size, size), counts[c]);
            for (int r = 0; r < size; r++) {
                cr_assert_leq(split_begin(counts[c], size, r), split_begin(counts[c], size, r + 1));
            }
        }
    }
}

Test(split, shares_differ_by_one_larger_first) {
    for (size_t n = 0; n < 40; n++) {
        for (int r = 0; r < 7; r++) {
            cr_assert_eq(split_count(n, 7, r), n / 7 + ((size_t)r < n % 7 ? 1 : 0));
        }
    }
}

Test(split, more_ranks_than_things_leaves_the_last_empty) {
    cr_assert_eq(split_count(2, 5, 1), 1);
    for (int r = 2; r < 5; r++) {
        cr_assert_eq(split_count(2, 5, r), 0);
        cr_assert_eq(split_begin(2, 5, r), 2);
    }
}

Test(split, does_not_overflow_near_the_largest_count) {
    size_t n = SIZE_MAX;
    cr_assert_eq(split_begin(n, 3, 1), n / 3);
    cr_assert_eq(split_begin(n, 3, 3), n);
}
