// A matrix times a vector against loops in double, and its bits.
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>

#include "tensor/gemm.h"
#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

typedef struct Matvec {
    real *W, *x;
    int O, C;
} Matvec;

static Matvec matvec_open(int O, int C) {
    return (Matvec){numbers_normal((size_t)O * (size_t)C, 1), numbers_normal((size_t)C, 2), O, C};
}

static void matvec_close(Matvec *m) {
    free(m->W), free(m->x);
}

static void check(int O, int C) {
    Matvec m = matvec_open(O, C);
    real *y = numbers_poison((size_t)O + 1), *z = numbers_poison((size_t)O + 1);
    double flops = gemm_flops();
    matvec_forward(y, m.W, m.x, O, C);
    linear_forward(z, O + 3, m.x, C + 7, m.W, 1, C, O);  // one row: its strides are not used
    cr_assert_eq(gemm_flops() - flops, 2.0 * O * C);
    for (int o = 0; o < O; o++) {
        double sum = 0;
        for (int c = 0; c < C; c++) sum += (double)m.W[o * C + c] * (double)m.x[c];
        cr_assert_leq(fabs(y[o] - sum), TWIN_TOLERANCE * sqrt(C + 1), "%d x %d: %d", O, C, o);
        cr_assert_eq(y[o], z[o]);
    }
    cr_assert(isnan(y[O]) && isnan(z[O]), "beyond the end");
    free(y), free(z);
    matvec_close(&m);
}

Test(matvec, agrees_with_loops_for_odd_sizes) {
    static const int SIZES[][2] = {{0, 5},  {1, 1},  {3, 0},     {4, 16},
                                   {5, 15}, {7, 33}, {130, 257}, {1031, 300}};
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) check(SIZES[i][0], SIZES[i][1]);
}

static void run(void *ctx, real *out) {
    Matvec *m = ctx;
    matvec_forward(out, m->W, m->x, m->O, m->C);
}

Test(matvec, has_the_same_bits_on_any_number_of_threads) {
    Matvec m = matvec_open(1033, 300);
    cr_assert(same_bits_on_any_threads(run, &m, 1033));
    matvec_close(&m);
}

// Whether a row is summed with others or alone.
Test(matvec, has_the_same_bits_for_any_part_of_the_rows) {
    Matvec m = matvec_open(11, 77);
    real whole[11], part[11];
    matvec_forward(whole, m.W, m.x, 11, 77);
    for (int from = 0; from < 11; from++)
        for (int to = from; to <= 11; to++) {
            matvec_forward(part, m.W + from * 77, m.x, to - from, 77);
            for (int o = from; o < to; o++)
                cr_assert_eq(part[o - from], whole[o], "%d..%d", from, to);
        }
    matvec_close(&m);
}
