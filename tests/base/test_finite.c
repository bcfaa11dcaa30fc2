// The scan for values that are not finite, with one anywhere in and around its blocks.
#include <criterion/criterion.h>
#include <math.h>

#include "base/finite.h"

enum { COUNT = 5000 };

Test(finite, the_first_of_each_kind_is_found_anywhere) {
    static real x[COUNT];
    const real bad[] = {(real)NAN, (real)-NAN, (real)INFINITY, (real)-INFINITY};
    const size_t places[] = {0, 1, 1023, 1024, 1025, 4095, COUNT - 1};
    cr_assert_eq(reals_outside(NULL, 0, (real)INFINITY), 0);
    cr_assert_eq(reals_outside(x, COUNT, (real)INFINITY), COUNT);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
            x[places[p]] = bad[k];
            x[COUNT - 1] = bad[k];
            cr_assert_eq(reals_outside(x, COUNT, (real)INFINITY), places[p], "%zu: %g", places[p],
                         (double)bad[k]);
            cr_assert_eq(reals_outside(x, places[p], (real)INFINITY), places[p]);
            x[places[p]] = x[COUNT - 1] = 1;
        }
    }
}

Test(finite, the_limit_itself_is_outside) {
    const real x[] = {(real)-1.5, (real)1.5, -2, 2};
    cr_assert_eq(reals_outside(x, 4, 2), 2);
    cr_assert_eq(reals_outside(x, 2, 2), 2);
    cr_assert_eq(reals_outside(x, 4, (real)1.5), 0);
    cr_assert_eq(reals_outside(x, 4, (real)INFINITY), 4);
}
