// Lightning attention in parts, for a row cut into contiguous chunks over ranks (Sun et al. 2025,
// "LASP-2", with decay; docs/maths.md 6). A rank sums up its own keys and values in a state from
// zero, sends it, works inside its blocks while states travel, and adds what came before:
//
//     forward   states -> (exchange) -> states_enter ;  inside ;  across
//     backward  dstates -> (exchange) -> dstates_leave ;  inside_backward ;  across_backward
//
// Put together over all chunks the parts equal lightning_forward and lightning_backward, whose
// formulas they share; keys and values are read once more than there.
#include <stdbool.h>
#include <string.h>

#include "tensor/kernels/lightning_block.h"
#include "tensor/progress.h"

static size_t state_reals(const LightningDims *d) {
    return (size_t)d->A * (size_t)d->E;
}

// Tokens before block n; all of them behind the last block.
static size_t tokens_before(const LightningDims *d, size_t n) {
    size_t at = n * (size_t)d->block;
    return at < (size_t)d->T ? at : (size_t)d->T;
}

// Does a document start in block n of the task's row?
static bool block_starts(const LightningDims *d, int index, size_t n) {
    if (d->start == NULL) return false;
    const uint8_t *row = d->start + (size_t)(index / d->H) * (size_t)d->T;
    for (size_t t = tokens_before(d, n); t < tokens_before(d, n + 1); t++)
        if (row[t]) return true;
    return false;
}

void lightning_states(real *restrict store, real *restrict state, const real *restrict k,
                      const real *restrict v, real *restrict scratch, const LightningDims *d) {
    size_t states = state_reals(d), blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, NULL, k, v, scratch);
        real *s = state + (size_t)i * states, *kept = store + (size_t)i * blocks * states;
        memset(s, 0, states * sizeof *s);
        for (size_t n = 0; n < blocks; n++) {
            LightningBlock b = lightning__block(&t, n);
            memcpy(kept + n * states, s, states * sizeof *s);
            lightning__state(&t, &b, s);
        }
    }
}

void lightning_dstates(real *restrict dstore, real *restrict dstate, const real *restrict dout,
                       const real *restrict q, real *restrict scratch, const LightningDims *d) {
    size_t states = state_reals(d), blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, q, NULL, NULL, scratch);
        const real *dy = dout + lightning__offset(d, i, d->ld_do, d->E);
        real *s = dstate + (size_t)i * states, *kept = dstore + (size_t)i * blocks * states;
        memset(s, 0, states * sizeof *s);
        for (size_t n = blocks; n-- > 0;) {
            LightningBlock b = lightning__block(&t, n);
            memcpy(kept + n * states, s, states * sizeof *s);
            lightning__scale_dout(&t, &b, dy);
            lightning__dstate(&t, &b, s);
        }
    }
}

void lightning_states_enter(real *restrict store, const real *restrict enter,
                            const LightningDims *d) {
    size_t states = state_reals(d), blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        for (size_t n = 0; n < blocks; n++) {
            if (n > 0 && block_starts(d, i, n - 1)) break;  // nothing passes a document start
            lightning__remains(store + ((size_t)i * blocks + n) * states,
                               enter + (size_t)i * states, states, d->decay[i % d->H],
                               tokens_before(d, n));
        }
    }
}

void lightning_dstates_leave(real *restrict dstore, const real *restrict leave,
                             const LightningDims *d) {
    size_t states = state_reals(d), blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        for (size_t n = blocks; n-- > 0;) {
            if (n + 1 < blocks && block_starts(d, i, n + 1)) break;
            lightning__remains(dstore + ((size_t)i * blocks + n) * states,
                               leave + (size_t)i * states, states, d->decay[i % d->H],
                               (size_t)d->T - tokens_before(d, n + 1));
        }
    }
}

void lightning_inside(real *restrict out, const real *restrict q, const real *restrict k,
                      const real *restrict v, real *restrict scratch, const LightningDims *d) {
    size_t blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, q, k, v, scratch);
        for (size_t n = 0; n < blocks; n++) {
            LightningBlock b = lightning__block(&t, n);
            lightning__inside(&t, &b, out + lightning__offset(d, i, d->ld_o, d->E));
            progress();  // states are on their way meanwhile
        }
    }
}

void lightning_inside_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                               const real *restrict dout, const real *restrict q,
                               const real *restrict k, const real *restrict v,
                               real *restrict scratch, const LightningDims *d) {
    size_t blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, q, k, v, scratch);
        LightningGradients g = lightning__gradients(d, i, dq, dk, dv, dout);
        for (size_t n = 0; n < blocks; n++) {
            LightningBlock b = lightning__block(&t, n);
            lightning__inside_backward(&t, &b, &g);
            progress();
        }
    }
}

void lightning_across(real *restrict out, const real *restrict q, const real *restrict store,
                      real *restrict scratch, const LightningDims *d) {
    size_t states = state_reals(d), blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, q, NULL, NULL, scratch);
        for (size_t n = 0; n < blocks; n++) {
            LightningBlock b = lightning__block(&t, n);
            lightning__across(&t, &b, out + lightning__offset(d, i, d->ld_o, d->E),
                              store + ((size_t)i * blocks + n) * states);
        }
    }
}

void lightning_across_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                               const real *restrict dout, const real *restrict k,
                               const real *restrict v, const real *restrict store,
                               const real *restrict dstore, real *restrict scratch,
                               const LightningDims *d) {
    size_t states = state_reals(d), blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, NULL, k, v, scratch);
        LightningGradients g = lightning__gradients(d, i, dq, dk, dv, dout);
        for (size_t n = 0; n < blocks; n++) {
            LightningBlock b = lightning__block(&t, n);
            size_t at = ((size_t)i * blocks + n) * states;
            lightning__keys_backward(&t, &b, &g, dstore + at);
            lightning__scale_dout(&t, &b, g.dout);
            lightning__queries_backward(&t, &b, &g, store + at);
        }
    }
}
