// A matrix times one vector, as in generation: y_o = sum_c W_oc x_c.
//
// The matrix is read once, in its own order; a matrix product would first copy it into the order of
// its microkernels. Each output is a sum of LANES partial sums, whatever rows are summed beside it
// and on whichever thread.
#include "tensor/kernels/kernels.h"

#include <string.h>

#include "tensor/kernels/vmath.h"

// Left to itself the compiler keeps arrays of partial sums in memory.
typedef real Lanes __attribute__((vector_size(LANES * sizeof(real))));

enum { ROWS = 4 };  // at a time: x is loaded once for them, and their sums wait for nobody

static inline Lanes load(const real *x) {
    Lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

// Adds up lanes as a tree.
static inline real fold(Lanes v) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++) v[l] += v[l + width];
    return v[0];
}

static inline void some_rows(real *restrict y, const real *restrict W, const real *restrict x,
                             int rows, int C) {
    Lanes sum[ROWS] = {0};
    int c = 0;
    for (; c + LANES <= C; c += LANES) {
        Lanes xs = load(x + c);
        for (int r = 0; r < rows; r++) sum[r] += load(W + (size_t)r * (size_t)C + c) * xs;
    }
    for (int r = 0; r < rows; r++) {
        real rest = 0;
        for (int i = c; i < C; i++) rest += W[(size_t)r * (size_t)C + (size_t)i] * x[i];
        y[r] = fold(sum[r]) + rest;
    }
}

void matvec_forward(real *restrict y, const real *restrict W, const real *restrict x, int O,
                    int C) {
    int groups = O / ROWS;
#pragma omp parallel for schedule(static) if (products_feed_threads((double)O * C))
    for (int g = 0; g < groups; g++) {
        size_t at = (size_t)g * ROWS;
        some_rows(y + at, W + at * (size_t)C, x, ROWS, C);
    }
    for (int o = groups * ROWS; o < O; o++) some_rows(y + o, W + (size_t)o * (size_t)C, x, 1, C);
}
