// Lightning attention, all of it in one walk over the blocks of a row: the state comes in, the
// outputs and the state go out. The formulas are lightning_block.c; a sequence cut over ranks is
// lightning_parts.c.
//
// Not here: positions (LRPE comes before), the norm and the gate (after), exchange of states
// between ranks.
#include <string.h>

#include "tensor/kernels/lightning_block.h"
#include "tensor/progress.h"

// Arithmetic falls with the block, products become too small below 64. Forward and backward, 2
// threads of an AVX-512 EPYC, B 4, T 2048, H 4, milliseconds at blocks 64, 96, 128, 256: A = E =
// 128: 79, 80, 86, 104; A 256 (LRPE): 136, 140, 148, 174. At A = E = 64, H 8, blocks 32, 64, 128:
// 122, 107, 204 (a busy machine). The price is memory: `store` holds A * E / 64 reals a token and
// head, twice that of blocks of 128.
int lightning_default_block(int A, int E) {
    (void)A, (void)E;  // no size measured prefers another
    return 64;
}

size_t lightning_store_reals(const LightningDims *d) {
    return (size_t)d->B * (size_t)d->H * lightning__blocks(d) * (size_t)d->A * (size_t)d->E;
}

void lightning_forward(real *restrict out, real *restrict state, real *restrict store,
                       const real *restrict q, const real *restrict k, const real *restrict v,
                       real *restrict scratch, const LightningDims *d) {
    size_t states = (size_t)d->A * (size_t)d->E, blocks = lightning__blocks(d);
    // Every task is one head of one row from first to last token, whatever the thread: bits do not
    // depend on how many there are. Products inside are serial.
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, q, k, v, scratch);
        real *o = out + lightning__offset(d, i, d->ld_o, d->E), *s = state + (size_t)i * states;
        for (size_t n = 0; n < blocks; n++) {
            LightningBlock b = lightning__block(&t, n);
            if (store != NULL)
                memcpy(store + ((size_t)i * blocks + n) * states, s, states * sizeof *s);
            if (b.m == 1) {
                lightning__token(&t, &b, o, s);
                continue;
            }
            lightning__inside(&t, &b, o);
            lightning__across(&t, &b, o, s);
            lightning__state(&t, &b, s);
        }
    }
}

void lightning_backward(real *restrict dq, real *restrict dk, real *restrict dv,
                        real *restrict dstate, const real *restrict dout, const real *restrict q,
                        const real *restrict k, const real *restrict v, const real *restrict store,
                        real *restrict scratch, const LightningDims *d) {
    size_t states = (size_t)d->A * (size_t)d->E, blocks = lightning__blocks(d);
#pragma omp parallel for schedule(dynamic, 1) if (lightning__feeds_threads(d))
    for (int i = 0; i < d->B * d->H; i++) {
        LightningTask t = lightning__task(d, i, q, k, v, scratch);
        LightningGradients g = lightning__gradients(d, i, dq, dk, dv, dout);
        real *ds = dstate + (size_t)i * states;
        for (size_t n = blocks; n-- > 0;) {
            LightningBlock b = lightning__block(&t, n);
            lightning__inside_backward(&t, &b, &g);
            lightning__keys_backward(&t, &b, &g, ds);
            lightning__scale_dout(&t, &b, g.dout);
            lightning__queries_backward(&t, &b, &g, store + ((size_t)i * blocks + n) * states);
            lightning__dstate(&t, &b, ds);
        }
        progress();
    }
}
