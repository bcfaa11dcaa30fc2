// L: the gated linear attention of TransNormerLLM (Qin et al. 2023, arXiv:2307.14995) with
// lightning attention (Qin et al. 2024, arXiv:2401.04658). docs/maths.md derives it; letters q, k,
// v, u, o, y as there.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"
#include "parallel/mesh.h"

// What a layer keeps: rows of its parameters (theta -1: no LRPE, conv -1: no convolution), and the
// decay rates of all heads.
typedef struct Own {
    int qkvu, out, theta, conv;
    double decay[];  // (H)
} Own;

// Head slopes of ALiBi (Press et al. 2022): powers of 2^(-8/H); for other H the odd ones of the
// next power follow.
static double slope(int heads, int h) {
    int p = 1;
    while (2 * p <= heads) p *= 2;
    if (h < p) return pow(2.0, -8.0 * (h + 1) / p);
    return pow(2.0, -8.0 * (2 * (h - p) + 1) / (2.0 * p));
}

// The factor falls from 1 in the first layer to 1e-5 in the last, so that late layers hardly
// forget.
void lightning_decay(double *decay, int heads, int layer, int layers) {
    double depth = layers > 1 ? (double)layer / (layers - 1) : 0.0;
    for (int h = 0; h < heads; h++) decay[h] = slope(heads, h) * (1.0 - depth + 1e-5);
}

const double *lightning_rates(const Layer *layer) {
    return ((const Own *)layer->own)->decay;
}

static int add_rows(Model *m, const Layer *layer, const char *part, const int dim[2], int axis,
                    int sections) {
    char name[PARAM_NAME_BYTES];
    layer_param_name(name, sizeof name, m, layer->index, part);
    return params_add_split(&m->params, name, 2, dim, INIT_NORMAL, m->cfg.init_std, axis, sections);
}

static Status lightning_layer_open(Model *m, Layer *layer) {
    const ModelConfig *c = &m->cfg;
    char name[PARAM_NAME_BYTES];
    int C = c->width;
    Own *own = layer->own = malloc(sizeof *own + (size_t)c->heads * sizeof own->decay[0]);
    if (own == NULL) FAIL(E_NOMEM, "", "out of memory");
    lightning_decay(own->decay, c->heads, layer->index, c->layers);
    own->qkvu = layer->late = add_rows(m, layer, "qkvu_proj.weight", (int[]){4 * C, C}, 0, 4);
    own->conv = -1;
    if (c->conv > 0) {
        layer_param_name(name, sizeof name, m, layer->index, "conv.weight");
        own->conv =
            params_add_split(&m->params, name, 2, (int[]){3 * C, c->conv}, INIT_NORMAL, 0.5, 0, 3);
    }
    own->out = add_rows(m, layer, "out_proj.weight", (int[]){C, C}, 1, 1);
    own->theta = -1;
    if (!c->layer_lrpe[layer->index]) return OK;
    layer_param_name(name, sizeof name, m, layer->index, "lrpe.theta");
    own->theta = params_add_split(&m->params, name, 3, (int[]){c->heads, 1, c->head_size},
                                  INIT_LRPE, 0, 0, 1);
    return OK;
}

static void lightning_layer_close(Layer *layer) {
    free(layer->own);
}

static bool any_tp(const ModelConfig *m, int tp) {
    (void)m, (void)tp;
    return true;
}

// Width of q and k inside the attention kernel: LRPE doubles it.
static int feature_size(const Model *m, const Layer *layer) {
    const Own *own = layer->own;
    return own->theta >= 0 ? 2 * m->cfg.head_size : m->cfg.head_size;
}

// Elements of one row's state on this rank: H*A*E.
static size_t state_reals(const Model *m, const Layer *layer) {
    return (size_t)heads_here(m) * (size_t)feature_size(m, layer) * (size_t)m->cfg.head_size;
}

// Inputs of a row that its convolution still sees.
static size_t tail_reals(const Model *m) {
    return m->cfg.conv > 0 ? 3 * (size_t)(m->cfg.conv - 1) * (size_t)width_here(m) : 0;
}

static int rounds_of(const Mesh *mesh) {
    int n = 0;
    if (mesh->sp_linear == SP_LASP2) return 1;
    if (mesh->sp_linear == SP_LASP) return mesh->sp - 1;
    while (1 << n < mesh->sp) n++;
    return n;
}

// A token updates the state and reads it: 2 A E each a head; docs/parallelism.md for what is sent.
static void lightning_costs(MixerCosts *c, const Model *m, const Layer *layer, int T) {
    double state = (double)state_reals(m, layer);
    (void)T;
    double tail = (double)tail_reals(m) * sizeof(real), sums = state * sizeof(real);
    *c = (MixerCosts){.flops = 4 * state + 6.0 * m->cfg.conv * width_here(m), .state = sums + tail};
    if (m->mesh == NULL || m->mesh->sp == 1) return;
    c->rounds = rounds_of(m->mesh);
    int sends = m->mesh->sp_linear == SP_LASP2  ? m->mesh->sp - 1
                : m->mesh->sp_linear == SP_LASP ? 1
                                                : c->rounds;
    c->exchanged = sends * sums + tail;
    if (m->cfg.conv > 1) c->rounds++;
}

typedef struct LightningState {
    int B;
    size_t row, tail;  // reals of one row: H*A*E; (K-1)*3C
    real *S;           // (B,H,A,E), then (B,K-1,3C)
} LightningState;

// W_o (u * srms(o)), one norm over all heads: those of other ranks, too.
static Tensor *gate_and_project(const MixerRun *run, Tensor *u, Tensor *o) {
    Tape *tp = run->tp;
    Model *m = run->m;
    const Own *own = run->layer->own;
    Tensor *out = tape_param(tp, &m->params.rows[own->out]);
    real eps = (real)m->cfg.norm_eps;
    if (m->mesh == NULL || m->mesh->tp == 1) {
        return op_linear(tp, op_mul(tp, u, op_srms(tp, o, eps)), out);
    }
    Tensor *z = op_linear(tp, op_mul(tp, u, o), out);
    return op_tp_sum_normed(tp, m->mesh, z, o, m->cfg.width, eps);
}

// Of the decode state; what lies before a document is never read.
static real *tails_of(const MixerRun *run) {
    LightningState *s = run->state;
    return s == NULL ? NULL : s->S + (size_t)s->B * s->row;
}

static Tensor *lightning_mix(const MixerRun *run, Tensor *x) {
    Tape *tp = run->tp;
    Model *m = run->m;
    const Layer *layer = run->layer;
    int C = width_here(m), H = heads_here(m);
    const Own *own = layer->own;
    Param *rows = m->params.rows;

    Tensor *qkvu = op_linear(tp, x, tape_param(tp, &rows[own->qkvu]));
    Tensor *u = tape_cols(tp, qkvu, 3 * C, C), *qkv = qkvu;
    if (own->conv >= 0)
        qkv = op_seq_conv(tp, m->mesh, tape_cols(tp, qkvu, 0, 3 * C),
                          tape_param(tp, &rows[own->conv]), run->seq, tails_of(run));
    Tensor *qk = op_silu(tp, tape_cols(tp, qkv, 0, 2 * C));  // v and u stay linear
    Tensor *q = tape_cols(tp, qk, 0, C), *k = tape_cols(tp, qk, C, C);
    Tensor *v = tape_cols(tp, qkv, 2 * C, C);
    if (own->theta >= 0) {
        Tensor *theta = tape_param(tp, &rows[own->theta]);
        LrpeAngles angles = op_lrpe_angles(tp, theta, run->seq);
        q = op_lrpe(tp, q, theta, &angles, H);
        k = op_lrpe(tp, k, theta, &angles, H);
    }
    tape_site(tp, SITE_QUERY, layer->index, q);
    tape_site(tp, SITE_KEY, layer->index, k);
    tape_site(tp, SITE_VALUE, layer->index, v);
    LightningState *state = run->state;
    LightningArgs args = {.heads = H,
                          .block = m->cfg.block,
                          .decay = own->decay + (m->mesh == NULL ? 0 : m->mesh->tp_rank * H),
                          .state = state == NULL ? NULL : state->S};
    Tensor *o = op_seq_lightning(tp, m->mesh, q, k, v, run->seq, &args);
    tape_site(tp, SITE_HEAD_OUT, layer->index, o);
    return gate_and_project(run, u, o);
}

// ---- decode state ------------------------------------------------------------------------------

static void *lightning_open(const Model *m, const Layer *layer, int B) {
    LightningState *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->B = B;
    s->row = state_reals(m, layer);
    s->tail = tail_reals(m);
    s->S = calloc((size_t)B * (s->row + s->tail), sizeof(real));
    if (s->S != NULL) return s;
    free(s);
    return NULL;
}

static void lightning_close(void *state) {
    LightningState *s = state;
    if (s != NULL) free(s->S);
    free(s);
}

static Status lightning_reserve(void *state, int T) {
    (void)state, (void)T;
    return OK;
}

static real *tail_of(const LightningState *s, int row) {
    return s->S + (size_t)s->B * s->row + (size_t)row * s->tail;
}

static Status lightning_copy_row(void *dst, int to, const void *src, int from) {
    LightningState *d = dst;
    const LightningState *s = src;
    memcpy(d->S + (size_t)to * d->row, s->S + (size_t)from * s->row, s->row * sizeof(real));
    memcpy(tail_of(d, to), tail_of(s, from), s->tail * sizeof(real));
    return OK;
}

static size_t lightning_row_bytes(const void *state, int row) {
    const LightningState *s = state;
    (void)row;
    return (s->row + s->tail) * sizeof(real);
}

static size_t lightning_bytes(const void *state) {
    return (size_t)((const LightningState *)state)->B * lightning_row_bytes(state, 0);
}

static void lightning_save_row(const void *state, int row, char *to) {
    const LightningState *s = state;
    memcpy(to, s->S + (size_t)row * s->row, s->row * sizeof(real));
    memcpy(to + s->row * sizeof(real), tail_of(s, row), s->tail * sizeof(real));
}

static Status lightning_load_row(void *state, int row, const char *from, size_t bytes) {
    LightningState *s = state;
    if (bytes != lightning_row_bytes(s, row))
        FAIL(E_FORMAT, "was it saved by this model?", "a state of %zu bytes, not %zu", bytes,
             lightning_row_bytes(s, row));
    memcpy(s->S + (size_t)row * s->row, from, s->row * sizeof(real));
    memcpy(tail_of(s, row), from + s->row * sizeof(real), s->tail * sizeof(real));
    return OK;
}

const MixerOps MIXER_LIGHTNING = {
    .letter = 'L',
    .name = "lightning",
    .mixes =
        "all tokens of the document before it, weighted by q.k and an exponential decay a head",
    .fits_tp = any_tp,
    .open = lightning_layer_open,
    .close = lightning_layer_close,
    .forward = lightning_mix,
    .costs = lightning_costs,
    .state_open = lightning_open,
    .state_close = lightning_close,
    .state_reserve = lightning_reserve,
    .state_copy_row = lightning_copy_row,
    .state_bytes = lightning_bytes,
    .state_row_bytes = lightning_row_bytes,
    .state_save_row = lightning_save_row,
    .state_load_row = lightning_load_row};
