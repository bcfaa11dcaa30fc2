// Twin of tensor/kernels/embed.c.
#include "tests/ref/ref.h"

void ref_embed_forward(real *out, const real *table, const int32_t *tokens, real scale, int N,
                       int C) {
    for (int t = 0; t < N; t++)
        for (int c = 0; c < C; c++) out[t * C + c] = scale * table[tokens[t] * C + c];
}

void ref_embed_backward(real *dtable, const real *dout, const int32_t *tokens, real scale, int pad,
                        int N, int C) {
    for (int t = 0; t < N; t++)
        for (int c = 0; c < C; c++)
            if (tokens[t] != pad) dtable[tokens[t] * C + c] += scale * dout[t * C + c];
}
