// Causal depthwise convolution along time, as in Titans (arXiv:2501.00663, section 4.4).
#include <string.h>

#include "tensor/kernels/kernels.h"
#include "tensor/threads.h"

// The input j tokens before token t of a row, in the same document; NULL: zeros.
static const real *before(const ConvDims *d, const real *inp, const real *tail, int row, int t,
                          int j) {
    size_t at = (size_t)row * (size_t)d->T + (size_t)t;
    if (d->pos[at] < j) return NULL;
    if (t >= j) return inp + (at - (size_t)j) * (size_t)d->ld_inp;
    if (tail == NULL) return NULL;
    return tail + ((size_t)row * (size_t)(d->K - 1) + (size_t)(d->K - 1 + t - j)) * (size_t)d->C;
}

void conv_forward(real *restrict out, const real *restrict inp, const real *restrict weight,
                  const real *restrict tail, const ConvDims *d) {
#pragma omp parallel for schedule(static) if (worth_threads(d->B * d->T, d->K * d->C))
    for (int i = 0; i < d->B * d->T; i++) {
        real *to = out + (size_t)i * (size_t)d->C;
        memset(to, 0, (size_t)d->C * sizeof *to);
        for (int j = 0; j < d->K; j++) {
            const real *from = before(d, inp, tail, i / d->T, i % d->T, j);
            for (int c = 0; c < d->C && from != NULL; c++) to[c] += weight[c * d->K + j] * from[c];
        }
    }
}

// Tokens that saw token t: the next K - 1 of its document.
static void inputs_backward(real *restrict dinp, const real *restrict dout,
                            const real *restrict weight, const ConvDims *d) {
#pragma omp parallel for schedule(static) if (worth_threads(d->B * d->T, d->K * d->C))
    for (int i = 0; i < d->B * d->T; i++) {
        real *to = dinp + (size_t)i * (size_t)d->ld_dinp;
        for (int j = 0; j < d->K && i % d->T + j < d->T; j++) {
            const real *from = dout + (size_t)(i + j) * (size_t)d->C;
            if (d->pos[i + j] < j) break;
            for (int c = 0; c < d->C; c++) to[c] += weight[c * d->K + j] * from[c];
        }
    }
}

static void tails_backward(real *restrict dtail, const real *restrict dout,
                           const real *restrict weight, const ConvDims *d) {
    for (int row = 0; row < d->B; row++) {
        for (int t = 0; t < d->T && t < d->K - 1; t++) {
            size_t at = (size_t)row * (size_t)d->T + (size_t)t;
            for (int j = t + 1; j < d->K && d->pos[at] >= j; j++) {
                real *to = dtail + ((size_t)row * (size_t)(d->K - 1) + (size_t)(d->K - 1 + t - j)) *
                                       (size_t)d->C;
                for (int c = 0; c < d->C; c++)
                    to[c] += weight[c * d->K + j] * dout[at * (size_t)d->C + (size_t)c];
            }
        }
    }
}

void conv_backward(real *restrict dinp, real *restrict dweight, real *restrict dtail,
                   const real *restrict dout, const real *restrict inp, const real *restrict weight,
                   const real *restrict tail, const ConvDims *d) {
    inputs_backward(dinp, dout, weight, d);
    if (dtail != NULL) tails_backward(dtail, dout, weight, d);
    // Channels are shared out: each adds up its tokens in their order.
    enum { PANEL = 64 };
#pragma omp parallel for schedule(static) if (worth_threads(d->B * d->T, d->K * d->C))
    for (int first = 0; first < d->C; first += PANEL) {
        int last = first + PANEL < d->C ? first + PANEL : d->C;
        for (int i = 0; i < d->B * d->T; i++) {
            for (int j = 0; j < d->K; j++) {
                const real *from = before(d, inp, tail, i / d->T, i % d->T, j);
                for (int c = first; c < last && from != NULL; c++)
                    dweight[c * d->K + j] += dout[(size_t)i * (size_t)d->C + (size_t)c] * from[c];
            }
        }
    }
}

// ---- the inputs before the next row ------------------------------------------------------------

// Place k of the next tail: an input of the row, or of the tail before it.
static bool from_row(const ConvDims *d, int k, int *at) {
    *at = d->T + k;
    if (*at < d->K - 1) return false;
    *at -= d->K - 1;
    return true;
}

void conv_tail(real *next, const real *tail, const real *restrict inp, const ConvDims *d) {
    size_t C = (size_t)d->C;
    for (int row = 0; row < d->B; row++) {
        size_t first = (size_t)row * (size_t)(d->K - 1);
        for (int k = 0, at; k < d->K - 1; k++) {
            const real *from =
                from_row(d, k, &at)
                    ? inp + ((size_t)row * (size_t)d->T + (size_t)at) * (size_t)d->ld_inp
                : tail != NULL ? tail + (first + (size_t)at) * C
                               : NULL;
            real *to = next + (first + (size_t)k) * C;
            if (from == NULL)
                memset(to, 0, C * sizeof *to);
            else if (from != to)
                memmove(to, from, C * sizeof *to);
        }
    }
}

void conv_tail_backward(real *restrict dinp, real *restrict dtail, const real *restrict dnext,
                        const ConvDims *d) {
    size_t C = (size_t)d->C;
    for (int row = 0; row < d->B; row++) {
        size_t first = (size_t)row * (size_t)(d->K - 1);
        for (int k = 0, at; k < d->K - 1; k++) {
            real *to = from_row(d, k, &at)
                           ? dinp + ((size_t)row * (size_t)d->T + (size_t)at) * (size_t)d->ld_dinp
                       : dtail != NULL ? dtail + (first + (size_t)at) * C
                                       : NULL;
            const real *from = dnext + (first + (size_t)k) * C;
            for (size_t c = 0; c < C && to != NULL; c++) to[c] += from[c];
        }
    }
}
