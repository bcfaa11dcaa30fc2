// Gradient checks and numbers for tests.
#include "tests/gradcheck.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/status.h"

enum { ENTRIES = 40 };

static double central_difference(double (*loss)(void *ctx), void *ctx, real *entry) {
    const real kept = *entry, step = (real)1e-5;
    *entry = kept + step;
    double above = loss(ctx);
    *entry = kept - step;
    double below = loss(ctx);
    *entry = kept;
    return (above - below) / (2 * (double)step);
}

double gradcheck(const char *name, double (*loss)(void *ctx), void *ctx, real *x, const real *dx,
                 size_t count) {
    // A gradient of zeros is compared on an absolute scale.
    double scale = 1e-3, worst = 0;
    for (size_t i = 0; i < count; i++) scale = fmax(scale, fabs((double)dx[i]));
    size_t tries = count < ENTRIES ? count : ENTRIES, at = 0;
    for (size_t n = 0; n < tries; n++) {
        size_t i = count <= ENTRIES ? n : (size_t)(rng_u64(1, STREAM_TEST, n) % count);
        double error = fabs(central_difference(loss, ctx, &x[i]) - (double)dx[i]) / scale;
        if (error <= worst) continue;
        worst = isnan(error) ? INFINITY : error;
        at = i;
    }
    if (worst > GRADCHECK_TOLERANCE) {
        fprintf(stderr, "gradcheck %s: entry %zu of %zu is off by %g\n", name, at, count, worst);
    }
    return worst;
}

double weighted_sum(const real *out, const real *weight, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)out[i] * (double)weight[i];
    return sum;
}

static real *numbers_new(size_t count) {
    real *x = malloc(count * sizeof(real));
    ASSERT(x != NULL || count == 0);
    return x;
}

real *numbers_normal(size_t count, uint64_t seed) {
    real *x = numbers_new(count);
    rng_fill_normal(x, count, 0, 1.0, seed, STREAM_TEST);
    return x;
}

real *numbers_poison(size_t count) {
    real *x = numbers_new(count);
    for (size_t i = 0; i < count; i++) x[i] = (real)NAN;
    return x;
}

real *numbers_copy(const real *x, size_t count) {
    real *y = numbers_new(count);
    if (count > 0) memcpy(y, x, count * sizeof(real));
    return y;
}

double numbers_distance(const real *a, const real *b, size_t count) {
    double largest = 1, worst = 0;
    for (size_t i = 0; i < count; i++) {
        double distance = fabs((double)a[i] - (double)b[i]);
        if (isnan(distance)) return INFINITY;
        worst = fmax(worst, distance);
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

bool same_bits_on_any_threads(void (*run)(void *ctx, real *out), void *ctx, size_t count) {
    int kept = omp_get_max_threads();
    bool same = true;
    real *first = numbers_new(count), *again = numbers_new(count);
    for (int threads = 1; threads <= 3; threads++) {
        real *out = threads == 1 ? first : again;
        for (size_t i = 0; i < count; i++) out[i] = (real)0.25;
        omp_set_num_threads(threads);
        run(ctx, out);
        same = same && memcmp(first, out, count * sizeof(real)) == 0;
    }
    omp_set_num_threads(kept);
    free(first);
    free(again);
    return same;
}
