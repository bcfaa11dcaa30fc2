// Twin of tensor/kernels/loss.c, for moderate logits: the sum of exponentials without a shift.
#include "tests/ref/ref.h"

#include <math.h>

void ref_cross_entropy_forward(double *lse, double *hit, const real *logits, const int32_t *targets,
                               int first, int N, int V) {
    for (int t = 0; t < N; t++) {
        double sum = 0;
        hit[t] = 0;
        for (int v = 0; v < V; v++) {
            sum += exp((double)logits[t * V + v]);
            if (first + v == targets[t]) hit[t] = (double)logits[t * V + v];
        }
        lse[t] = V > 0 ? log(sum) : -1e300;
    }
}

void ref_cross_entropy_backward(real *logits, const double *lse, const int32_t *targets,
                                const real *weights, real scale, int first, int N, int V) {
    for (int t = 0; t < N; t++) {
        for (int v = 0; v < V; v++) {
            double p = exp((double)logits[t * V + v] - lse[t]);
            if (first + v == targets[t]) p -= 1;
            if (targets[t] == IGNORE_TARGET) p = 0;
            if (weights != NULL) p *= (double)weights[t];
            logits[t * V + v] = (real)((double)scale * p);
        }
    }
}
