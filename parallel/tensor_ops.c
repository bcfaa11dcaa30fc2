// Tensor parallelism: what happens between the ranks that share matrices. Between op_tp_enter and
// op_tp_sum every rank works on its own heads or columns; outside, all hold the same numbers, bit
// for bit, because sums are formed once and copied.
#include <math.h>
#include <string.h>

#include "parallel/internal.h"
#include "parallel/ops.h"
#include "tensor/threads.h"

static bool alone(const Mesh *mesh) {
    return mesh == NULL || mesh->tp == 1;
}

static size_t elements(const Tensor *x) {
    return (size_t)x->rows * (size_t)x->cols;
}

static void add_to(real *restrict sum, const real *restrict x, size_t count) {
#pragma omp parallel for schedule(static) if (feeds_threads(count))
    for (size_t i = 0; i < count; i++) sum[i] += x[i];
}

// ---- into and out of a split map ---------------------------------------------------------------

typedef struct TpInfo {
    const Mesh *mesh;
    int width;
} TpInfo;

static void enter_node(Tape *tp, const Node *n) {
    const TpInfo *t = n->info;
    real *dx = tape_grad(tp, n->in[0]);
    size_t count = elements(n->out[0]);
    real *scratch = tape_scratch(tp, comm_sum_scratch(t->mesh->tp, count));
    if (tape_is_dry(tp)) return;
    real *dy = n->out[0]->grad;
    comm_sum_reals(t->mesh->tp_axis, COMM_DTP, dy, count, scratch);
    add_to(dx, dy, count);
}

Tensor *op_tp_enter(Tape *tp, const Mesh *mesh, Tensor *x) {
    if (alone(mesh)) return x;
    ASSERT(x->base == NULL && x->param == NULL);
    TpInfo t = {mesh, x->cols};
    return tape_push(tp, &(Node){.backward = enter_node,
                                 .out = TENSORS(tape_alias(tp, x)),
                                 .in = TENSORS(x),
                                 .info = tape_info(tp, &t, sizeof t)});
}

static void sum_node(Tape *tp, const Node *n) {
    real *dx = tape_grad(tp, n->in[0]);
    if (tape_is_dry(tp)) return;
    add_to(dx, n->out[0]->grad, elements(n->out[0]));
}

Tensor *op_tp_sum(Tape *tp, const Mesh *mesh, Tensor *x) {
    if (alone(mesh)) return x;
    ASSERT(x->base == NULL);
    bool known;
    size_t count = elements(x);
    Tensor *y = tape_kept_tensor(tp, x->rows, x->cols, &known);
    real *scratch = tape_scratch(tp, comm_sum_scratch(mesh->tp, count));
    if (!tape_is_dry(tp) && !known) {
        memcpy(y->data, x->data, count * sizeof *y->data);
        comm_sum_reals(mesh->tp_axis, COMM_TP, y->data, count, scratch);
    }
    return tape_push(tp, &(Node){.backward = sum_node, .out = TENSORS(y), .in = TENSORS(x)});
}

// ---- the norm across heads, merged into the sum ------------------------------------------------

static double row_squares(const real *x, int count) {
    double sum = 0;
    for (int c = 0; c < count; c++) sum += (double)x[c] * (double)x[c];
    return sum;
}

// dz += rho dy;  do -= rho^2 (y.dy) / width o
static void normed_node(Tape *tp, const Node *n) {
    const TpInfo *t = n->info;
    Tensor *z = n->in[0], *o = n->in[1], *y = n->out[0];
    real *dz = tape_grad(tp, z), *dout = tape_grad(tp, o);
    const real *rho = n->saved[0];
    if (tape_is_dry(tp)) return;
    ASSERT(o->base == NULL);
#pragma omp parallel for schedule(static) if (worth_threads(y->rows, y->cols))
    for (int r = 0; r < y->rows; r++) {
        const real *dy = y->grad + (size_t)r * (size_t)y->cols;
        const real *value = y->data + (size_t)r * (size_t)y->cols;
        const real *oo = o->data + (size_t)r * (size_t)o->cols;
        real *to_z = dz + (size_t)r * (size_t)z->cols, *to_o = dout + (size_t)r * (size_t)o->cols;
        double dot = 0;
        for (int c = 0; c < y->cols; c++) {
            dot += (double)value[c] * (double)dy[c];
            to_z[c] += rho[r] * dy[c];
        }
        real pull = (real)((double)rho[r] * (double)rho[r] * dot / t->width);
        for (int c = 0; c < o->cols; c++) to_o[c] -= pull * oo[c];
    }
}

// packed (N, C+1) = [z | sum of squares of o]
static void normed_pack(real *packed, const Tensor *z, const Tensor *o) {
#pragma omp parallel for schedule(static) if (worth_threads(z->rows, z->cols))
    for (int r = 0; r < z->rows; r++) {
        real *to = packed + (size_t)r * (size_t)(z->cols + 1);
        memcpy(to, z->data + (size_t)r * (size_t)z->cols, (size_t)z->cols * sizeof *to);
        to[z->cols] = (real)row_squares(o->data + (size_t)r * (size_t)o->cols, o->cols);
    }
}

static void normed_unpack(Tensor *y, real *rho, const real *packed, int width, real eps) {
#pragma omp parallel for schedule(static) if (worth_threads(y->rows, y->cols))
    for (int r = 0; r < y->rows; r++) {
        const real *from = packed + (size_t)r * (size_t)(y->cols + 1);
        real *to = y->data + (size_t)r * (size_t)y->cols;
        rho[r] = (real)(1 / sqrt((double)from[y->cols] / width + (double)eps));
        for (int c = 0; c < y->cols; c++) to[c] = rho[r] * from[c];
    }
}

Tensor *op_tp_sum_normed(Tape *tp, const Mesh *mesh, Tensor *z, Tensor *o, int width, real eps) {
    ASSERT(!alone(mesh) && z->base == NULL && o->base == NULL);
    bool known;
    TpInfo t = {mesh, width};
    size_t count = (size_t)z->rows * ((size_t)z->cols + 1);
    Tensor *y = tape_kept_tensor(tp, z->rows, z->cols, &known);
    real *rho = tape_kept(tp, (size_t)z->rows, &known);
    real *packed = tape_scratch(tp, count);
    real *scratch = tape_scratch(tp, comm_sum_scratch(mesh->tp, count));
    if (!tape_is_dry(tp) && !known) {
        normed_pack(packed, z, o);
        comm_sum_reals(mesh->tp_axis, COMM_TP, packed, count, scratch);
        normed_unpack(y, rho, packed, width, eps);
    }
    return tape_push(tp, &(Node){.backward = normed_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(z, o),
                                 .saved = {rho},
                                 .info = tape_info(tp, &t, sizeof t)});
}

// ---- the vocabulary ----------------------------------------------------------------------------

Tensor *op_tp_gather_cols(Tape *tp, const Mesh *mesh, Tensor *x, int cols) {
    if (alone(mesh)) return x;
    ASSERT(!tape_records(tp) && x->base == NULL);
    Comm *comm = mesh->tp_axis;
    Tensor *y = tape_tensor(tp, x->rows, cols);
    real *all = tape_scratch(tp, elements(y));
    if (tape_is_dry(tp)) return tape_push(tp, &(Node){.out = TENSORS(y), .in = TENSORS(x)});
    for (int p = 0; p < mesh->tp; p++) comm->rows[p] = (int)split_count((size_t)cols, mesh->tp, p);
    if (x->rows > 0) comm_gather_rows(comm, COMM_TP, x->data, all, comm->rows, x->rows);
    comm_finish(comm);
    for (int p = 0; p < mesh->tp; p++) {
        size_t begin = split_begin((size_t)cols, mesh->tp, p);
        size_t n = split_count((size_t)cols, mesh->tp, p);
        for (int r = 0; r < x->rows; r++, all += n)
            memcpy(y->data + (size_t)r * (size_t)cols + begin, all, n * sizeof *all);
    }
    return tape_push(tp, &(Node){.out = TENSORS(y), .in = TENSORS(x)});
}

// lse = log of the sum of the ranks' exponentials, hit = the one rank's target logit, in rank
// order.
static void fold_vocabulary(double *lse, double *hit, int n, double *room, void *user) {
    Comm *comm = ((const Mesh *)user)->tp_axis;
    double *mine = room, *all = room + 2 * n;
    memcpy(mine, lse, (size_t)n * sizeof *mine);
    memcpy(mine + n, hit, (size_t)n * sizeof *mine);
    comm_gather_doubles(comm, COMM_LOSS, mine, all, 2 * n);
    for (int i = 0; i < n; i++) {
        double most = -INFINITY, sum = 0, found = 0;
        for (int p = 0; p < comm->size; p++) {
            const double *theirs = all + (size_t)p * 2 * (size_t)n;
            if (!(theirs[i] <= most)) most = theirs[i];  // a NaN reaches the sum below in any case
            found += theirs[n + i];
        }
        for (int p = 0; p < comm->size; p++)
            sum += exp(all[(size_t)p * 2 * (size_t)n + (size_t)i] - most);
        lse[i] = most + log(sum);
        hit[i] = found;
    }
}

const LossFold *tp_loss_fold(Tape *tp, const Mesh *mesh, int vocab) {
    if (alone(mesh)) return NULL;
    LossFold f = {.first = (int)split_begin((size_t)vocab, mesh->tp, mesh->tp_rank),
                  .columns_most = (int)split_count((size_t)vocab, mesh->tp, 0),
                  .fold = fold_vocabulary,
                  .ranks = mesh->tp,
                  .user = (void *)(uintptr_t)mesh};
    return tape_info(tp, &f, sizeof f);
}
