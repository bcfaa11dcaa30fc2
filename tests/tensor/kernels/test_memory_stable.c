// The stability contract of docs/maths.md 17: with its limits a memory that reads the same key
// again and again stays bounded, whatever its momentum; without them it does not.
#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref.h"

enum { T = 10000, D = 8, HIDDEN = 16 };

typedef struct Gated {
    double alpha, eta, theta;
} Gated;

static void fill_gates(real *gates, int layers, Gated g) {
    const double kinds[] = {g.alpha, g.eta, g.theta};
    for (int i = 0; i < T * 3 * layers; i++) gates[i] = (real)kinds[i % (3 * layers) / layers];
}

// Largest weight or momentum, and largest answer, after T tokens of one key; not finite: infinity.
static double largest_after(MemoryDims d, Gated g) {
    int64_t *pos = malloc(T * sizeof *pos);
    d.B = d.H = 1, d.T = T, d.D = D, d.hidden = HIDDEN;
    d.ld_q = d.ld_k = d.ld_v = d.ld_o = D, d.ld_g = 3 * d.layers;
    d.pos = pos;
    real *k = numbers_normal(T * D, 1), *v = numbers_normal(T * D, 2), *out = numbers_poison(T * D);
    real *gates = malloc((size_t)(T * d.ld_g) * sizeof *gates);
    double length = sqrt(weighted_sum(k, k, D));
    for (int i = 0; i < T; i++) pos[i] = i;
    for (int j = 0; j < D; j++) k[j] = (real)((double)k[j] / length);
    for (int i = D; i < T * D; i++) k[i] = k[i % D], v[i] = v[i % D];
    fill_gates(gates, d.layers, g);
    real *init = numbers_normal(memory_weights(&d), 3), gain[D], shift[D];
    for (size_t i = 0; i < memory_weights(&d); i++) init[i] *= (real)0.1;
    for (int j = 0; j < D; j++) gain[j] = 1, shift[j] = 0;
    size_t count = memory_state_reals(&d);
    real *state = malloc(count * sizeof *state);
    real *scratch =
        malloc((size_t)omp_get_max_threads() * memory_scratch_reals(&d) * sizeof *scratch);
    MemoryInputs in = {k, k, v, gates, init, gain, shift};
    memory_state_begin(state, init, &d);
    memory_forward(out, state, NULL, &in, scratch, &d);
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = isfinite(state[i]) ? fmax(most, fabs((double)state[i])) : INFINITY;
    for (int i = 0; i < T * D; i++)
        most = isfinite(out[i]) ? fmax(most, fabs((double)out[i])) : INFINITY;
    free(pos), free(k), free(v), free(out), free(gates), free(init), free(state), free(scratch);
    return most;
}

// alpha 0 and the clip off: nothing but the contract holds it.
static void check(int layers, int chunk, double eta, bool hostile) {
    const double eta_max = 0.95, budget = 1.5 * (1 - eta_max);
    MemoryDims d = {
        .layers = layers, .chunk = chunk, .normed = layers > 1, .damped = true, .budget = budget};
    Gated g = {0, eta, hostile ? 1 : budget / chunk};
    double most = largest_after(d, g);
    cr_expect_leq(most, 20, "%d layers, chunk %d, eta %g%s: %g", layers, chunk, eta,
                  hostile ? ", theta 1" : "", most);
}

Test(memory_stable, stays_bounded_on_a_repeated_key) {
    const double eta[] = {0, 0.5, 0.9, 0.95};
    for (int layers = 1; layers <= 3; layers++)
        for (int chunk = 16; chunk <= 64; chunk += 48)
            for (int i = 0; i < 4; i++)
                for (int hostile = 0; hostile < 2; hostile++)
                    check(layers, chunk, eta[i], hostile == 1);
}

Test(memory_stable, is_unbounded_without_the_contract) {
    MemoryDims linear = {.layers = 1, .chunk = 16};
    cr_assert_gt(largest_after(linear, (Gated){0, 0.9, 0.05}), 1e6);
    MemoryDims plain = {.layers = 2, .chunk = 16};
    cr_assert_gt(largest_after(plain, (Gated){0, 0.95, 0.05}), 1e3);
}
