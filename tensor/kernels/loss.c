// Cross-entropy of rows of logits, or of a slice of the columns of such rows:
//
//   lse_t = m + log sum_v exp(x_tv - m), m = max_v x_tv      loss_t = lse_t - x_t[target]
//   dx_tv = scale w_t (exp(x_tv - lse_t) - [v = target])
//
// A slice gives its own lse and the target's logit if it has it. Between forward and backward the
// caller combines the slices' (op_loss_head); backward then is the same for a slice as for all.
//
// A logit that is not finite makes its row's loss NaN, -inf too, although its exponential would be
// an innocent 0: it can only come from an overflow, and the run must see it.
#include "tensor/kernels/kernels.h"

#include "base/status.h"
#include "tensor/kernels/vmath.h"

static const double EMPTY_LSE = -1e300;  // finite: differences of infinities are NaN

// Largest element, the same in any order. NaN loses every comparison; the sum below finds it.
static real row_max(const real *x, int V) {
    real most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int v = 0; v < V; v++) most = x[v] > most ? x[v] : most;
    return most;
}

// exp(x - most), and NaN for an infinite x.
static inline real exp_visible(real x, real most) {
    return real_exp(x - most) + 0 * x;
}

static double row_exp_sum(const real *x, real most, int V) {
    double lane[LANES] = {0}, rest = 0;
    int v = 0;
    for (; v + LANES <= V; v += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)exp_visible(x[v + l], most);
    for (; v < V; v++) rest += (double)exp_visible(x[v], most);
    return lanes_fold(lane) + rest;
}

static double row_lse(const real *x, int V) {
    if (V == 0) return EMPTY_LSE;
    real most = row_max(x, V);
    return (double)most + log(row_exp_sum(x, most, V));
}

// The target's column in the slice, -1 when it is elsewhere.
static int target_column(int32_t target, int first, int V) {
    ASSERT(target >= 0 && first >= 0);
    int v = target - first;
    return v >= 0 && v < V ? v : -1;
}

void cross_entropy_forward(double *restrict lse, double *restrict hit, const real *restrict logits,
                           const int32_t *restrict targets, int first, int N, int V) {
#pragma omp parallel for schedule(static) if (worth_threads(N, V))
    for (int t = 0; t < N; t++) {
        const real *x = logits + (size_t)t * (size_t)V;
        lse[t] = row_lse(x, V);
        hit[t] = 0;
        if (targets[t] == IGNORE_TARGET) continue;
        int v = target_column(targets[t], first, V);
        if (v >= 0) hit[t] = (double)x[v];
    }
}

void cross_entropy_backward(real *restrict logits, const double *restrict lse,
                            const int32_t *restrict targets, const real *restrict weights,
                            real scale, int first, int N, int V) {
#pragma omp parallel for schedule(static) if (worth_threads(N, V))
    for (int t = 0; t < N; t++) {
        real *x = logits + (size_t)t * (size_t)V;
        if (targets[t] == IGNORE_TARGET) {
            for (int v = 0; v < V; v++) x[v] = 0;
            continue;
        }
        real total = (real)lse[t], factor = weights != NULL ? scale * weights[t] : scale;
#pragma omp simd
        for (int v = 0; v < V; v++) x[v] = factor * real_exp(x[v] - total);
        int target = target_column(targets[t], first, V);
        if (target >= 0) x[target] -= factor;
    }
}

void logits_shape(real *restrict logits, double temperature, const uint8_t *restrict banned, int N,
                  int V) {
    real factor = (real)(1 / temperature);
    if (banned == NULL && temperature == 1) return;
#pragma omp parallel for schedule(static) if (worth_threads(N, V))
    for (int t = 0; t < N; t++) {
        real *x = logits + (size_t)t * (size_t)V;
        for (int v = 0; v < V; v++) x[v] *= factor;
        for (int v = 0; v < V && banned != NULL; v++)
            if (banned[v]) x[v] = LOGIT_BANNED;
    }
}

// A banned token's exponential is 0, and so is its part.
void logits_mean(double *restrict mean, const real *restrict logits, const double *restrict lse,
                 int N, int V) {
#pragma omp parallel for schedule(static) if (worth_threads(N, V))
    for (int t = 0; t < N; t++) {
        const real *x = logits + (size_t)t * (size_t)V;
        real total = (real)lse[t];
        double sum = 0;
        for (int v = 0; v < V; v++) sum += (double)(real_exp(x[v] - total) * x[v]);
        mean[t] = sum;
    }
}

void log_prob_backward(real *restrict logits, const double *restrict lse,
                       const double *restrict entropy, const int32_t *restrict targets,
                       const real *restrict dlogp, const real *restrict dentropy,
                       double temperature, int first, int N, int V) {
    real factor = (real)(1 / temperature);
#pragma omp parallel for schedule(static) if (worth_threads(N, V))
    for (int t = 0; t < N; t++) {
        real *x = logits + (size_t)t * (size_t)V;
        bool counts = targets[t] != IGNORE_TARGET && dlogp != NULL;
        real total = (real)lse[t], g = counts ? factor * dlogp[t] : 0;
        real h = dentropy != NULL ? factor * dentropy[t] : 0;
        real H = dentropy != NULL ? (real)entropy[t] : 0;
#pragma omp simd
        for (int v = 0; v < V; v++) {
            real log_p = x[v] - total, p = real_exp(log_p);
            x[v] = -p * (g + h * (log_p + H));
        }
        int target = counts ? target_column(targets[t], first, V) : -1;
        if (target >= 0) x[target] += g;
    }
}
