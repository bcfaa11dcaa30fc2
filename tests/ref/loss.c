// Twin of tensor/kernels/loss.c, for moderate logits: the sum of exponentials without a shift.
#include "tests/ref/ref.h"

#include <math.h>

void ref_cross_entropy_forward(double *loss, real *lse, const real *logits, const int32_t *targets,
                               int N, int V) {
    for (int t = 0; t < N; t++) {
        double sum = 0;
        for (int v = 0; v < V; v++) sum += exp((double)logits[t * V + v]);
        lse[t] = (real)log(sum);
        loss[t] = 0;
        if (targets[t] != IGNORE_TARGET) {
            loss[t] = -log(exp((double)logits[t * V + targets[t]]) / sum);
        }
    }
}

void ref_cross_entropy_backward(real *logits, const real *lse, const int32_t *targets, real scale,
                                int N, int V) {
    for (int t = 0; t < N; t++) {
        for (int v = 0; v < V; v++) {
            double p = exp((double)logits[t * V + v] - (double)lse[t]);
            if (v == targets[t]) p -= 1;
            if (targets[t] == IGNORE_TARGET) p = 0;
            logits[t * V + v] = (real)((double)scale * p);
        }
    }
}
