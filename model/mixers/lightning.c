// L: the gated linear attention of TransNormerLLM (Qin et al. 2023, arXiv:2307.14995) with
// lightning attention (Qin et al. 2024, arXiv:2401.04658). docs/maths.md derives it; letters q, k,
// v, u, o, y as there.
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

enum { QKVU, OUT, THETA };

static void lightning_params(Model *m, Layer *layer) {
    const ModelConfig *c = &m->cfg;
    char name[PARAM_NAME_BYTES];
    int C = c->width;
    layer_param_name(name, sizeof name, m, layer->index, "qkvu_proj.weight");
    layer->param[QKVU] =
        params_add_split(&m->params, name, 2, (int[]){4 * C, C}, INIT_NORMAL, c->init_std, 0, 4);
    layer_param_name(name, sizeof name, m, layer->index, "out_proj.weight");
    layer->param[OUT] =
        params_add_split(&m->params, name, 2, (int[]){C, C}, INIT_NORMAL, c->init_std, 1, 1);
    if (!layer->lrpe) return;
    layer_param_name(name, sizeof name, m, layer->index, "lrpe.theta");
    layer->param[THETA] = params_add_split(&m->params, name, 3, (int[]){c->heads, 1, c->head_size},
                                           INIT_LRPE, 0, 0, 1);
}

// Width of q and k inside the attention kernel: LRPE doubles it.
static int feature_size(const ModelConfig *c, const Layer *layer) {
    return layer->lrpe ? 2 * c->head_size : c->head_size;
}

typedef struct LightningState {
    int B;
    size_t row;  // reals of one row: H*A*E
    real *S;     // (B,H,A,E)
} LightningState;

// W_o (u * srms(o)), one norm over all heads: those of other ranks, too.
static Tensor *gate_and_project(const MixerRun *run, Tensor *u, Tensor *o) {
    Tape *tp = run->tp;
    Model *m = run->m;
    Tensor *out = tape_param(tp, &m->params.rows[run->layer->param[OUT]]);
    real eps = (real)m->cfg.norm_eps;
    if (m->mesh == NULL || m->mesh->tp == 1) {
        return op_linear(tp, op_mul(tp, u, op_srms(tp, o, eps)), out);
    }
    Tensor *z = op_linear(tp, op_mul(tp, u, o), out);
    return op_tp_sum_normed(tp, m->mesh, z, o, m->cfg.width, eps);
}

static Tensor *lightning_mix(const MixerRun *run, Tensor *x) {
    Tape *tp = run->tp;
    Model *m = run->m;
    const Layer *layer = run->layer;
    int C = width_here(m), H = heads_here(m);
    const Param *rows = m->params.rows;

    Tensor *qkvu = op_linear(tp, x, tape_param(tp, (Param *)&rows[layer->param[QKVU]]));
    Tensor *qk = op_silu(tp, tape_cols(tp, qkvu, 0, 2 * C));  // v and u stay linear
    Tensor *q = tape_cols(tp, qk, 0, C), *k = tape_cols(tp, qk, C, C);
    Tensor *v = tape_cols(tp, qkvu, 2 * C, C), *u = tape_cols(tp, qkvu, 3 * C, C);
    if (layer->lrpe) {
        Tensor *theta = tape_param(tp, (Param *)&rows[layer->param[THETA]]);
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
                          .decay = layer->decay + (m->mesh == NULL ? 0 : m->mesh->tp_rank * H),
                          .state = state == NULL ? NULL : state->S};
    Tensor *o = op_seq_lightning(tp, m->mesh, q, k, v, run->seq, &args);
    tape_site(tp, SITE_HEAD_OUT, layer->index, o);
    return gate_and_project(run, u, o);
}

static void *lightning_open(const Model *m, const Layer *layer, int B) {
    LightningState *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->B = B;
    s->row =
        (size_t)heads_here(m) * (size_t)feature_size(&m->cfg, layer) * (size_t)m->cfg.head_size;
    s->S = calloc((size_t)B * s->row, sizeof(real));
    if (s->S != NULL) return s;
    free(s);
    return NULL;
}

static void lightning_close(void *state) {
    LightningState *s = state;
    if (s != NULL) free(s->S);
    free(s);
}

static void lightning_copy_row(void *dst, int to, const void *src, int from) {
    LightningState *d = dst;
    const LightningState *s = src;
    memcpy(d->S + (size_t)to * d->row, s->S + (size_t)from * s->row, s->row * sizeof(real));
}

static size_t lightning_bytes(const void *state) {
    const LightningState *s = state;
    return (size_t)s->B * s->row * sizeof(real);
}

const MixerOps MIXER_LIGHTNING = {.letter = 'L',
                                  .name = "lightning attention",
                                  .params = lightning_params,
                                  .forward = lightning_mix,
                                  .state_open = lightning_open,
                                  .state_close = lightning_close,
                                  .state_copy_row = lightning_copy_row,
                                  .state_bytes = lightning_bytes};
