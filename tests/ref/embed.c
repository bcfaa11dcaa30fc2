// Twin of tensor/kernels/embed.c.
#include "tests/ref/ref.h"

#include <stdbool.h>

static bool inside(int32_t token, int first, int rows) {
    return token >= first && token < first + rows;
}

void ref_embed_forward(real *out, const real *table, const int32_t *tokens, real scale, int first,
                       int rows, int N, int C) {
    for (int t = 0; t < N; t++)
        for (int c = 0; c < C; c++)
            out[t * C + c] =
                inside(tokens[t], first, rows) ? scale * table[(tokens[t] - first) * C + c] : 0;
}

void ref_embed_backward(real *dtable, const real *dout, const int32_t *tokens, real scale, int pad,
                        int first, int rows, int N, int C) {
    for (int t = 0; t < N; t++)
        for (int c = 0; c < C; c++)
            if (tokens[t] != pad && inside(tokens[t], first, rows))
                dtable[(tokens[t] - first) * C + c] += scale * dout[t * C + c];
}
