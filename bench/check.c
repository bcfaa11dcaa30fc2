// bench_sp check: the reference methods equal one rank. Result and gradients of each op on shared
// rows against the product's op on whole rows; chunks even, uneven and empty, documents on and off
// their borders, several batch rows.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench/bench.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

enum { H = 3, D = 5, MAX_T = 193, MAX_B = 2, MAX_SP = 8, INPUTS = 3 };
static const double RATES[H] = {0, 0.02, 0.7};
#ifdef STERNA_F64
static const double MOST = 1e-11;
#else
static const double MOST = 2e-5;
#endif

typedef struct Case {
    int B, T;
    bool uneven, documents, softmax;
    int a;  // columns of q and k; those of v are H*D
} Case;

// Rows as one rank sees them.
typedef struct Rows {
    SeqInfo seq;
    int bound[MAX_SP + 1], first[MAX_B * MAX_T];
    uint8_t start[MAX_B * MAX_T];
    int cols[INPUTS];
    real *x[INPUTS], *grad[INPUTS];  // q, k, v
    real *out, *dout;                // (B*T, H*D)
} Rows;

static real number_at(int stream, int row, int t, int c) {
    uint64_t at = ((uint64_t)row * MAX_T + (uint64_t)t) * 64 + (uint64_t)c;
    return (real)((double)(rng_u64((uint64_t)stream, STREAM_TEST, at) >> 40) / (1 << 23) - 1);
}

// Document starts of row b: none, or some that depend on it.
static bool starts_at(const Case *c, int b, int t) {
    return c->documents && (t == 0 || t == c->T / 2 || (t + b) % 61 == 40);
}

static void bounds_fill(int *bound, const Case *c, int sp) {
    split_bounds(bound, c->T, sp);
    for (int r = 1; r < sp && c->uneven; r++) bound[r] = r == 1 ? 0 : bound[r] - c->T / (4 * sp);
}

// Made-up numbers that depend on the place in the whole row alone.
static real *columns_new(const SeqInfo *s, int begin, int cols, int stream) {
    real *x = malloc(((size_t)s->B * (size_t)s->T * (size_t)cols + 1) * sizeof *x);
    ASSERT(x != NULL);
    for (int n = 0; n < s->B * s->T; n++) {
        for (int j = 0; j < cols; j++)
            x[n * cols + j] = number_at(stream, n / s->T, begin + n % s->T, j);
    }
    return x;
}

// Tokens of rank `rank` of `sp`.
static void rows_open(Rows *r, const Case *c, int sp, int rank) {
    memset(r, 0, sizeof *r);
    bounds_fill(r->bound, c, sp);
    int begin = r->bound[rank], T = r->bound[rank + 1] - begin;
    r->seq = (SeqInfo){.B = c->B, .T = T, .first = r->first, .start = r->start, .bound = r->bound};
    for (int b = 0; b < c->B; b++) {
        for (int t = 0, first = 0; t < begin + T; t++) {
            if (starts_at(c, b, t)) first = t;
            if (t < begin) continue;
            r->first[b * T + t - begin] = first;
            r->start[b * T + t - begin] = starts_at(c, b, t);
        }
    }
    for (int i = 0; i < INPUTS; i++) {
        r->cols[i] = i == 2 ? H * D : c->a;
        r->x[i] = columns_new(&r->seq, begin, r->cols[i], i);
        r->grad[i] = columns_new(&r->seq, begin, r->cols[i], i);
    }
    r->out = columns_new(&r->seq, begin, H * D, INPUTS);
    r->dout = columns_new(&r->seq, begin, H * D, INPUTS);
}

static void rows_close(Rows *r) {
    for (int i = 0; i < INPUTS; i++) {
        free(r->x[i]);
        free(r->grad[i]);
    }
    free(r->out);
    free(r->dout);
}

static Tensor *record(Tape *tp, const Mesh *mesh, const Case *c, Rows *r, Tensor *x[INPUTS]) {
    for (int i = 0; i < INPUTS; i++) x[i] = tape_leaf(tp, r->x[i], c->B * r->seq.T, r->cols[i]);
    LightningArgs linear = {.heads = H, .block = 16, .decay = RATES};
    AttentionArgs softmax = {.heads = H, .kv_heads = H};
    if (mesh->sp == 1 && c->softmax) return op_attention(tp, x[0], x[1], x[2], &r->seq, &softmax);
    if (mesh->sp == 1) return op_lightning(tp, x[0], x[1], x[2], &r->seq, &linear);
    if (c->softmax) return op_rsa(tp, mesh, x[0], x[1], x[2], &r->seq, &softmax);
    return op_ring_linear(tp, mesh, x[0], x[1], x[2], &r->seq, &linear);
}

static void keep(real *to, const real *from, const Tensor *x) {
    memcpy(to, from, (size_t)x->rows * (size_t)x->cols * sizeof *to);
}

static void differentiate(const Mesh *mesh, const Case *c, Rows *r) {
    Tape *tp = tape_new();
    Tensor *x[INPUTS];
    tape_dry(tp, true);
    tape_backward_from(tp, record(tp, mesh, c, r, x), r->dout);
    Status st = tape_reserve(tp);
    ASSERT(st == OK);
    tape_begin(tp, true);
    Tensor *o = record(tp, mesh, c, r, x);
    tape_backward_from(tp, o, r->dout);
    keep(r->out, o->data, o);
    for (int i = 0; i < INPUTS; i++) keep(r->grad[i], tape_grad(tp, x[i]), x[i]);
    tape_free(tp);
}

// Largest difference of this rank's rows from the whole ones, relative to the largest of these
// or 1.
static double rows_off(const Rows *r, const Rows *whole, const real *x, const real *y, int cols,
                       int begin) {
    double off = 0, largest = 1;
    for (int n = 0; n < whole->seq.B * whole->seq.T * cols; n++)
        largest = fmax(largest, fabs((double)y[n]));
    for (int n = 0; n < r->seq.B * r->seq.T; n++) {
        int m = n / r->seq.T * whole->seq.T + begin + n % r->seq.T;
        for (int c = 0; c < cols; c++)
            off = fmax(off, fabs((double)x[n * cols + c] - (double)y[m * cols + c]));
    }
    return off / largest;
}

static double case_off(const Mesh *mesh, const Case *c) {
    Mesh alone = {.size = 1, .dp = 1, .sp = 1, .tp = 1};
    Rows *mine = malloc(sizeof *mine), *whole = malloc(sizeof *whole);
    ASSERT(mine != NULL && whole != NULL);
    rows_open(mine, c, mesh->sp, mesh->sp_rank);
    rows_open(whole, c, 1, 0);
    differentiate(mesh, c, mine);
    differentiate(&alone, c, whole);
    int begin = mine->bound[mesh->sp_rank];
    double off = rows_off(mine, whole, mine->out, whole->out, H * D, begin);
    for (int i = 0; i < INPUTS; i++)
        off = fmax(off, rows_off(mine, whole, mine->grad[i], whole->grad[i], mine->cols[i], begin));
    rows_close(mine);
    rows_close(whole);
    free(mine);
    free(whole);
    return off;
}

static Status check_case(const Mesh *mesh, const Case *c) {
    double off = case_off(mesh, c);
    if (off <= MOST) return OK;
    FAIL(E_BUG, "", "%s: B %d T %d a %d%s%s: off by %.3g, more than %.3g",
         c->softmax ? "rsa" : "ring_linear", c->B, c->T, c->a, c->uneven ? " uneven" : "",
         c->documents ? " documents" : "", off, MOST);
}

Status bench_check(void) {
    static const int LENGTHS[] = {1, 7, 97, MAX_T};
    Mesh mesh;
    int cases = 0, ranks;
    TRY(bench_ranks(&ranks));
    if (ranks < 2 || ranks > MAX_SP) FAIL(E_USAGE, "", "check runs on 2 to %d ranks", MAX_SP);
    Status st = mesh_open(&mesh, &(ParallelConfig){.sp = ranks});
    for (int i = 0; st == OK && i < 4 * 2 * 2 * 2 * 2; i++, cases++) {
        Case c = {.B = 1 + i / 4 % 2,
                  .T = LENGTHS[i % 4],
                  .uneven = i / 8 % 2 == 1,
                  .documents = i / 16 % 2 == 1,
                  .softmax = i / 32 % 2 == 1};
        c.a = c.softmax ? H * D : H * (D + 2);
        st = agree(check_case(&mesh, &c), mesh.world);
    }
    if (st == OK && mesh.rank == 0)
        printf("%d cases on %d ranks agree with one rank\n", cases, mesh.size);
    mesh_close(&mesh);
    return st;
}
