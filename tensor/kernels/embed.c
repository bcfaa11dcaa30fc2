// Embedding: out_t = scale * table[token_t], and its gradient, a scatter of rows. The table may be
// a slice of the vocabulary: outputs of all slices add up to those of the whole. Tokens repeat, so
// threads may not share the rows among them: each owns channels instead and walks all tokens in
// order, which also fixes the order of every sum.
#include "tensor/kernels/kernels.h"

#include <string.h>

#include "base/status.h"
#include "tensor/kernels/vmath.h"

// The token's row in the table, -1 when it is in another slice.
static int token_row(int32_t token, int first, int rows) {
    ASSERT(token >= 0 && first >= 0);
    int row = token - first;
    return row >= 0 && row < rows ? row : -1;
}

void embed_forward(real *restrict out, const real *restrict table, const int32_t *restrict tokens,
                   real scale, int first, int rows, int N, int C) {
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int t = 0; t < N; t++) {
        int at = token_row(tokens[t], first, rows);
        real *to = out + (size_t)t * (size_t)C;
        if (at < 0) {
            memset(to, 0, (size_t)C * sizeof *to);
            continue;
        }
        const real *row = table + (size_t)at * (size_t)C;
#pragma omp simd
        for (int c = 0; c < C; c++) to[c] = scale * row[c];
    }
}

void embed_backward(real *restrict dtable, const real *restrict dout,
                    const int32_t *restrict tokens, real scale, int pad, int first, int rows, int N,
                    int C) {
    int width = tile_width(C);
#pragma omp parallel for schedule(static) if (worth_threads(N, C))
    for (int from = 0; from < C; from += width) {
        int to = tile_end(from, width, C);
        for (int t = 0; t < N; t++) {
            int row = tokens[t] == pad ? -1 : token_row(tokens[t], first, rows);
            if (row < 0) continue;
            real *drow = dtable + (size_t)row * (size_t)C;
            const real *d = dout + (size_t)t * (size_t)C;
#pragma omp simd
            for (int c = from; c < to; c++) drow[c] += scale * d[c];
        }
    }
}
