// Embedding: out_t = scale * table[token_t], and its gradient, a scatter of rows. Tokens repeat, so
// threads may not share the rows among them: each owns channels instead and walks all tokens in
// order, which also fixes the order of every sum.
#include "tensor/kernels/kernels.h"

#include "base/status.h"
#include "tensor/kernels/vmath.h"

void embed_forward(real *restrict out, const real *restrict table, const int32_t *restrict tokens,
                   real scale, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        ASSERT(tokens[t] >= 0);
        const real *row = table + (size_t)tokens[t] * (size_t)C;
        real *to = out + (size_t)t * (size_t)C;
#pragma omp simd
        for (int c = 0; c < C; c++) to[c] = scale * row[c];
    }
}

void embed_backward(real *restrict dtable, const real *restrict dout,
                    const int32_t *restrict tokens, real scale, int pad, int N, int C) {
    int width = tile_width(C);
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int from = 0; from < C; from += width) {
        int to = tile_end(from, width, C);
        for (int t = 0; t < N; t++) {
            if (tokens[t] == pad) continue;
            ASSERT(tokens[t] >= 0);
            real *drow = dtable + (size_t)tokens[t] * (size_t)C;
            const real *d = dout + (size_t)t * (size_t)C;
#pragma omp simd
            for (int c = from; c < to; c++) drow[c] += scale * d[c];
        }
    }
}
