// AdamW (Loshchilov & Hutter, 2019; Adam: Kingma & Ba, 2015), decoupled decay, eps outside the
// root:
//
//   m <- b1 m + (1 - b1) g      v <- b2 v + (1 - b2) g^2
//   p <- p - lr ( (m/c1) / (sqrt(v/c2) + eps) + decay p )      c1 = 1 - b1^t, c2 = 1 - b2^t
//
// and the sum of squares behind the gradient norm. Both walk fixed pieces, so an element is treated
// alike and sums are folded alike whatever the number of threads.
#include "tensor/kernels/kernels.h"

#include "tensor/kernels/vmath.h"

// PIECE: elements a thread takes at a time. GROUP: pieces whose sums wait to be folded.
enum { PIECE = 16384, GROUP = 256 };

static size_t piece_count(size_t count) {
    return count / PIECE + (count % PIECE != 0);
}

static size_t piece_size(size_t piece, size_t count) {
    size_t left = count - piece * PIECE;
    return left < PIECE ? left : PIECE;
}

// The scalars of one update, worked out in double.
typedef struct AdamStep {
    real keep1, add1, keep2, add2;  // moments
    real grad_scale;
    real step;  // lr / c1
    real root;  // 1 / sqrt(c2)
    real eps;
    real decay;  // lr * decay
} AdamStep;

static AdamStep adam_step(const AdamW *a) {
    return (AdamStep){.keep1 = (real)a->beta1,
                      .add1 = (real)(1 - a->beta1),
                      .keep2 = (real)a->beta2,
                      .add2 = (real)(1 - a->beta2),
                      .grad_scale = (real)a->grad_scale,
                      .step = (real)(a->lr / a->correct1),
                      .root = (real)(1 / sqrt(a->correct2)),
                      .eps = (real)a->eps,
                      .decay = (real)(a->lr * a->decay)};
}

static void adamw_piece(real *restrict param, real *restrict m, real *restrict v,
                        const real *restrict grad, const AdamStep *a, size_t count) {
    AdamStep s = *a;
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        real g = grad[i] * s.grad_scale;
        real mean = s.keep1 * m[i] + s.add1 * g;
        real square = s.keep2 * v[i] + s.add2 * g * g;
        m[i] = mean;
        v[i] = square;
        param[i] -= s.step * mean / (real_sqrt(square) * s.root + s.eps) + s.decay * param[i];
    }
}

void adamw_update(real *restrict param, real *restrict m, real *restrict v,
                  const real *restrict grad, const AdamW *a, size_t count) {
    AdamStep step = adam_step(a);
    size_t pieces = piece_count(count);
#pragma omp parallel for schedule(static) if (feeds_threads(count))
    for (size_t i = 0; i < pieces; i++) {
        size_t at = i * PIECE;
        adamw_piece(param + at, m + at, v + at, grad + at, &step, piece_size(i, count));
    }
}

double sum_squares(const real *x, size_t count) {
    size_t pieces = piece_count(count);
    double part[GROUP], sum = 0;
    for (size_t first = 0; first < pieces; first += GROUP) {
        size_t last = first + GROUP < pieces ? first + GROUP : pieces;
#pragma omp parallel for schedule(static) if (feeds_threads(count))
        for (size_t i = first; i < last; i++) {
            const real *from = x + i * PIECE;
            part[i - first] = row_dot(from, from, piece_size(i, count));
        }
        for (size_t i = first; i < last; i++) sum += part[i - first];
    }
    return sum;
}
