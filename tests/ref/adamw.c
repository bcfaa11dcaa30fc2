// Twin of tensor/kernels/adamw.c: algorithm 2 of Loshchilov & Hutter, line by line.
#include "tests/ref/ref.h"

#include <math.h>

void ref_adamw_update(real *param, real *m, real *v, const real *grad, const AdamW *a,
                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        double g = (double)grad[i] * a->grad_scale, p = (double)param[i];
        double mean = a->beta1 * (double)m[i] + (1 - a->beta1) * g;
        double square = a->beta2 * (double)v[i] + (1 - a->beta2) * g * g;
        double mean_hat = mean / a->correct1, square_hat = square / a->correct2;
        m[i] = (real)mean;
        v[i] = (real)square;
        param[i] = (real)(p - a->lr * (mean_hat / (sqrt(square_hat) + a->eps) + a->decay * p));
    }
}

double ref_sum_squares(const real *x, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}
