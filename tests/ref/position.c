// Twin of tensor/kernels/position.c.
#include "tests/ref/ref.h"

#include <math.h>
#include <stdbool.h>

void ref_lrpe_angles(real *cosine, real *sine, const real *theta, const int64_t *pos, int N,
                     int C) {
    for (int t = 0; t < N; t++) {
        for (int c = 0; c < C; c++) {
            double angle = (double)pos[t] * (double)theta[c];
            cosine[t * C + c] = (real)cos(angle);
            sine[t * C + c] = (real)sin(angle);
        }
    }
}

void ref_lrpe_forward(real *out, const real *inp, int ld_inp, const real *cosine, const real *sine,
                      int N, int H, int D) {
    for (int t = 0; t < N; t++) {
        for (int h = 0; h < H; h++) {
            for (int c = 0; c < D; c++) {
                real z = inp[t * ld_inp + h * D + c];
                out[t * H * 2 * D + h * 2 * D + c] = z * cosine[t * H * D + h * D + c];
                out[t * H * 2 * D + h * 2 * D + D + c] = z * sine[t * H * D + h * D + c];
            }
        }
    }
}

void ref_lrpe_backward(real *dinp, int ld_dinp, real *dtheta, const real *dout, const real *inp,
                       int ld_inp, const real *cosine, const real *sine, const int64_t *pos, int N,
                       int H, int D) {
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < D; c++) {
            double sum = 0;
            for (int t = 0; t < N; t++) {
                double co = (double)cosine[t * H * D + h * D + c];
                double si = (double)sine[t * H * D + h * D + c];
                double d1 = (double)dout[t * H * 2 * D + h * 2 * D + c];
                double d2 = (double)dout[t * H * 2 * D + h * 2 * D + D + c];
                double z = (double)inp[t * ld_inp + h * D + c];
                dinp[t * ld_dinp + h * D + c] += (real)(d1 * co + d2 * si);
                if (pos[t] < LRPE_FROZEN_POS) sum += (double)pos[t] * z * (d2 * co - d1 * si);
            }
            dtheta[h * D + c] += (real)sum;
        }
    }
}

// Multiplies the pairs by exp(i angle), angle negative when turning back, and stores or adds.
static void turn(real *out, int ld_out, const real *inp, int ld_inp, const int64_t *pos,
                 double base, int N, int H, int D, bool back) {
    for (int t = 0; t < N; t++) {
        for (int h = 0; h < H; h++) {
            for (int c = 0; c < D / 2; c++) {
                double angle = (double)pos[t] * pow(base, -2.0 * c / D) * (back ? -1 : 1);
                const real *z = inp + t * ld_inp + h * D + c;
                real *w = out + t * ld_out + h * D + c;
                double x = (double)z[0] * cos(angle) - (double)z[D / 2] * sin(angle);
                double y = (double)z[0] * sin(angle) + (double)z[D / 2] * cos(angle);
                w[0] = (real)(x + (back ? (double)w[0] : 0));
                w[D / 2] = (real)(y + (back ? (double)w[D / 2] : 0));
            }
        }
    }
}

void ref_rope_forward(real *out, const real *inp, int ld_inp, const int64_t *pos, double base,
                      int N, int H, int D) {
    turn(out, H * D, inp, ld_inp, pos, base, N, H, D, false);
}

void ref_rope_backward(real *dinp, int ld_dinp, const real *dout, const int64_t *pos, double base,
                       int N, int H, int D) {
    turn(dinp, ld_dinp, dout, H * D, pos, base, N, H, D, true);
}
