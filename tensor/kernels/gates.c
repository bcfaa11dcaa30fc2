// Gates that depend on the data: sigmoids with a bias, each kind up to a limit of its own.
//
//   y = most sigmoid(x + bias)      dx = dy y (1 - y / most)
#include "tensor/kernels/kernels.h"

#include "tensor/kernels/vmath.h"

void gates_forward(real *restrict out, const real *restrict inp, const real *restrict bias,
                   const double most[GATE_KINDS], int N, int G) {
#pragma omp parallel for schedule(static) if (worth_threads(N, G))
    for (int t = 0; t < N; t++) {
        for (int g = 0; g < G; g++) {
            size_t at = (size_t)t * (size_t)G + (size_t)g;
            out[at] = (real)most[g / (G / GATE_KINDS)] * real_sigmoid(inp[at] + bias[g]);
        }
    }
}

// A gate without room stays 0.
static real slope(real y, double most) {
    return most > 0 ? y * (1 - y / (real)most) : 0;
}

void gates_backward(real *restrict dinp, real *restrict dbias, const real *restrict dout,
                    const real *restrict out, const double most[GATE_KINDS], int N, int G) {
    for (int g = 0; g < G; g++) {
        double sum = 0, top = most[g / (G / GATE_KINDS)];
        for (int t = 0; t < N; t++) {
            size_t at = (size_t)t * (size_t)G + (size_t)g;
            real d = dout[at] * slope(out[at], top);
            dinp[at] += d;
            sum += (double)d;
        }
        dbias[g] += (real)sum;
    }
}
