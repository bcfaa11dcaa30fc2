// The model: its parameters and its forward pass, one line an op.
//
//   x = scale * E[token]
//   x = x + mixer_l(norm(x)) ;  x = x + mlp_l(norm(x))      for each layer l
//   logits = W_head norm(x)
//
// TransNormerLLM (arXiv:2307.14995): norm = SimpleRMSNorm, mlp = SGLU, scale = sqrt(C). Llama:
// RMSNorm with a gain, SwiGLU, scale 1. Nobody writes a model's backward: the tape does.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"
#include "parallel/mesh.h"

// ---- parameters --------------------------------------------------------------------------------

void layer_param_name(char *dst, size_t capacity, const Model *m, int layer, const char *part) {
    const char *mixer = m->cfg.kind == FAMILY_TNL ? "token_mixer" : "self_attn";
    snprintf(dst, capacity, "model.layers.%d.%s.%s", layer, mixer, part);
}

static int add_matrix(Model *m, const char *name, int rows, int cols, int tp_axis) {
    return params_add_split(&m->params, name, 2, (int[]){rows, cols}, INIT_NORMAL, m->cfg.init_std,
                            tp_axis, 1);
}

static int add_gain(Model *m, const char *name) {
    if (m->cfg.kind == FAMILY_TNL) return -1;  // SimpleRMSNorm has none
    return params_add(&m->params, name, 1, &m->cfg.width, INIT_ONE, 0);
}

// The channel mixer's matrices: two up, one down.
static void add_mlp(Model *m, Layer *layer) {
    static const char *const TNL[3] = {"channel_mixer.l1", "channel_mixer.l2", "channel_mixer.l3"};
    static const char *const LLAMA[3] = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    const char *const *part = m->cfg.kind == FAMILY_TNL ? TNL : LLAMA;
    char name[PARAM_NAME_BYTES];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer->index, part[i]);
        int rows = i < 2 ? m->cfg.ffn : m->cfg.width, cols = i < 2 ? m->cfg.width : m->cfg.ffn;
        layer->mlp[i] = add_matrix(m, name, rows, cols, i < 2 ? 0 : 1);
    }
}

static Status layer_layout(Model *m, int l) {
    char name[PARAM_NAME_BYTES];
    Layer *layer = &m->layers[l];
    *layer = (Layer){.mixer = mixer_find(m->cfg.layer[l]), .index = l, .late = -1};
    snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", l);
    layer->norm[0] = add_gain(m, name);
    TRY(layer->mixer->open(m, layer));
    snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", l);
    layer->norm[1] = add_gain(m, name);
    add_mlp(m, layer);
    return OK;
}

// The embedding is the last gradient that backward finds, and a large one: weights of the first
// layer are left for the time of its exchange. Their outputs' gradients lie where no other does
// afterwards.
static void choose_late(Model *m) {
    const Layer *first = &m->layers[0];
    const int late[] = {first->late, first->mlp[0], first->mlp[1]};
    for (int i = 0; i < 3; i++)
        if (late[i] >= 0) m->params.rows[late[i]].late = true;
}

// Here the vocabulary is final: it may have come from a tokenizer.
static Status check_ids(const ModelConfig *cfg) {
    const struct {
        const char *key;
        int id;
    } ids[] = {{"pad_id", cfg->pad_id}, {"bos_id", cfg->bos_id}, {"eos_id", cfg->eos_id}};
    if (cfg->vocab < 1) {
        FAIL(E_USAGE, "set model.vocab or give a tokenizer", "model.vocab is not known");
    }
    for (int i = 0; i < 3; i++) {
        if (ids[i].id < cfg->vocab) continue;
        FAIL(E_USAGE, "-1 for none", "model.%s=%d is outside of the vocabulary of %d", ids[i].key,
             ids[i].id, cfg->vocab);
    }
    return OK;
}

Status model_open(Model *m, const ModelConfig *cfg, const Mesh *mesh) {
    *m = (Model){.cfg = *cfg, .mesh = mesh};
    TRY(check_ids(cfg));
    if (mesh != NULL) {
        TRY(model_check_mesh(cfg, mesh));
        m->params.tp = mesh->tp;
        m->params.tp_rank = mesh->tp_rank;
    }
    m->layers = calloc((size_t)cfg->layers, sizeof *m->layers);
    if (m->layers == NULL) FAIL(E_NOMEM, "", "out of memory");
    m->embed = add_matrix(m, "model.embed_tokens.weight", cfg->vocab, cfg->width, 0);
    m->params.rows[m->embed].zero_row = cfg->pad_id;
    for (int l = 0; l < cfg->layers; l++) TRY(layer_layout(m, l));
    choose_late(m);
    m->final_norm = add_gain(m, "model.norm.weight");
    m->head = cfg->tied ? m->embed : add_matrix(m, "lm_head.weight", cfg->vocab, cfg->width, 0);
    return OK;
}

void model_close(Model *m) {
    for (int l = 0; m->layers != NULL && l < m->cfg.layers; l++) {
        if (m->layers[l].mixer != NULL) m->layers[l].mixer->close(&m->layers[l]);
    }
    free(m->layers);
    params_free(&m->params);
    *m = (Model){0};
}

static int tp_of(const Model *m) {
    return m->mesh == NULL ? 1 : m->mesh->tp;
}
int heads_here(const Model *m) {
    return m->cfg.heads / tp_of(m);
}
int kv_heads_here(const Model *m) {
    return m->cfg.kv_heads / tp_of(m);
}
int width_here(const Model *m) {
    return m->cfg.width / tp_of(m);
}

// ---- forward -----------------------------------------------------------------------------------

typedef struct BlockArgs {
    Model *m;
    const Layer *layer;
    const SeqInfo *seq;
    void *state;
} BlockArgs;

static Tensor *norm(Tape *tp, Model *m, Tensor *x, int gain) {
    real eps = (real)m->cfg.norm_eps;
    if (gain < 0) return op_srms(tp, x, eps);
    return op_rmsnorm(tp, x, tape_param(tp, &m->params.rows[gain]), eps);
}

// Up maps are split by rows, the down map by columns: each rank sums up its part of the ffn.
static Tensor *channel_mixer(Tape *tp, Model *m, const Layer *layer, Tensor *x) {
    x = op_tp_enter(tp, m->mesh, x);
    Tensor *a = op_linear(tp, x, tape_param(tp, &m->params.rows[layer->mlp[0]]));
    Tensor *b = op_linear(tp, x, tape_param(tp, &m->params.rows[layer->mlp[1]]));
    Tensor *h = m->cfg.kind == FAMILY_TNL ? op_mul(tp, a, b) : op_swiglu(tp, a, b);
    Tensor *down = tape_param(tp, &m->params.rows[layer->mlp[2]]);
    return op_tp_sum(tp, m->mesh, op_linear(tp, h, down));
}

static Tensor *block_forward(Tape *tp, Tensor *x, const void *args) {
    const BlockArgs *b = args;
    int l = b->layer->index;
    MixerRun run = {tp, b->m, b->layer, b->seq, b->state};

    tape_site(tp, SITE_RESIDUAL_IN, l, x);
    Tensor *n = op_tp_enter(tp, b->m->mesh, norm(tp, b->m, x, b->layer->norm[0]));
    Tensor *mixed = b->layer->mixer->forward(&run, n);
    tape_site(tp, SITE_MIXER_OUT, l, mixed);
    x = op_add(tp, x, mixed);
    Tensor *mlp = channel_mixer(tp, b->m, b->layer, norm(tp, b->m, x, b->layer->norm[1]));
    tape_site(tp, SITE_MLP_OUT, l, mlp);
    x = op_add(tp, x, mlp);
    tape_site(tp, SITE_RESIDUAL_OUT, l, x);
    return x;
}

Tensor *model_hidden(Tape *tp, Model *m, const Batch *b, DecodeState *state) {
    const ModelConfig *c = &m->cfg;
    bool scaled = c->kind == FAMILY_TNL && c->scale_embedding;
    Tensor *table = tape_param(tp, &m->params.rows[m->embed]);
    Tensor *x = op_embed(tp, table, b, scaled ? (real)sqrt(c->width) : 1, c->pad_id,
                         table->param->tp_begin);
    x = op_tp_sum(tp, m->mesh, x);
    for (int l = 0; l < c->layers; l++) {
        BlockArgs args = {m, &m->layers[l], &b->seq, state == NULL ? NULL : state->layer[l]};
        bool keep = tape_records(tp) && !c->recompute;
        x = keep ? block_forward(tp, x, &args)
                 : tape_checkpoint(tp, block_forward, x, &args, sizeof args);
    }
    for (int r = 0; state != NULL && r < b->seq.B && !tape_is_dry(tp); r++)
        state->pos[r] += b->seq.T;
    return norm(tp, m, x, m->final_norm);
}

Tensor *model_loss(Tape *tp, Model *m, const Batch *b, double *losses) {
    Tensor *x = op_tp_enter(tp, m->mesh, model_hidden(tp, m, b, NULL));
    return op_loss_head(tp, x, tape_param(tp, &m->params.rows[m->head]), b, losses,
                        tp_loss_fold(tp, m->mesh, m->cfg.vocab));
}

Tensor *model_log_probs(Tape *tp, Model *m, const Batch *b, LogProbArgs args, Tensor **entropy) {
    Tensor *x = op_tp_enter(tp, m->mesh, model_hidden(tp, m, b, NULL));
    args.fold = tp_loss_fold(tp, m->mesh, m->cfg.vocab);
    return op_log_probs(tp, x, tape_param(tp, &m->params.rows[m->head]), b, &args, entropy);
}

Tensor *model_project(Tape *tp, Model *m, Tensor *x) {
    Tensor *logits = op_linear(tp, x, tape_param(tp, &m->params.rows[m->head]));
    return op_tp_gather_cols(tp, m->mesh, logits, m->cfg.vocab);
}

Tensor *model_logits(Tape *tp, Model *m, const Batch *b, DecodeState *state) {
    Tensor *x = model_hidden(tp, m, b, state);
    Tensor *logits = model_project(tp, m, x);
    tape_site(tp, SITE_LOGITS, -1, logits);
    return logits;
}

// ---- decode state ------------------------------------------------------------------------------

Status decode_open(DecodeState **out, const Model *m, int B) {
    DecodeState *s = calloc(1, sizeof *s);
    if (s == NULL) FAIL(E_NOMEM, "", "out of memory");
    *out = s;
    s->model = m;
    s->B = B;
    s->pos = calloc((size_t)B, sizeof *s->pos);
    s->layer = calloc((size_t)m->cfg.layers, sizeof *s->layer);
    if (s->pos == NULL || s->layer == NULL) FAIL(E_NOMEM, "", "out of memory");
    for (int l = 0; l < m->cfg.layers; l++) {
        s->layer[l] = m->layers[l].mixer->state_open(m, &m->layers[l], B);
        if (s->layer[l] == NULL) {
            FAIL(E_NOMEM, "generate fewer prompts at a time", "out of memory for %d decode states",
                 B);
        }
    }
    return OK;
}

void decode_close(DecodeState *s) {
    if (s == NULL) return;
    for (int l = 0; s->layer != NULL && l < s->model->cfg.layers; l++) {
        s->model->layers[l].mixer->state_close(s->layer[l]);
    }
    free(s->layer);
    free(s->pos);
    free(s);
}

const int64_t *decode_pos(const DecodeState *s) {
    return s->pos;
}

size_t decode_bytes(const DecodeState *s) {
    size_t sum = 0;
    for (int l = 0; l < s->model->cfg.layers; l++) {
        sum += s->model->layers[l].mixer->state_bytes(s->layer[l]);
    }
    return sum;
}

Status decode_reserve(DecodeState *s, int T) {
    for (int l = 0; l < s->model->cfg.layers; l++)
        TRY(s->model->layers[l].mixer->state_reserve(s->layer[l], T));
    return OK;
}

Status decode_copy_row(DecodeState *dst, int to, const DecodeState *src, int from) {
    for (int l = 0; l < dst->model->cfg.layers; l++)
        TRY(dst->model->layers[l].mixer->state_copy_row(dst->layer[l], to, src->layer[l], from));
    dst->pos[to] = src->pos[from];
    return OK;
}

// The row's position; then of each layer its bytes, behind their number.
Status decode_save_row(const DecodeState *s, int row, char **bytes, size_t *count) {
    *count = sizeof s->pos[row];
    for (int l = 0; l < s->model->cfg.layers; l++)
        *count += sizeof(uint64_t) + s->model->layers[l].mixer->state_row_bytes(s->layer[l], row);
    char *at = *bytes = malloc(*count);
    if (at == NULL) FAIL(E_NOMEM, "", "out of memory for a decode state of %zu bytes", *count);
    memcpy(at, &s->pos[row], sizeof s->pos[row]);
    at += sizeof s->pos[row];
    for (int l = 0; l < s->model->cfg.layers; l++) {
        const MixerOps *mixer = s->model->layers[l].mixer;
        uint64_t n = mixer->state_row_bytes(s->layer[l], row);
        memcpy(at, &n, sizeof n);
        mixer->state_save_row(s->layer[l], row, at + sizeof n);
        at += sizeof n + n;
    }
    return OK;
}

static Status refuse_state(size_t count) {
    FAIL(E_FORMAT, "was it saved by this model?", "%zu bytes are no decode state of this model",
         count);
}

Status decode_load_row(DecodeState *s, int row, const char *bytes, size_t count) {
    const char *at = bytes, *end = bytes + count;
    if (count < sizeof s->pos[row]) return refuse_state(count);
    memcpy(&s->pos[row], at, sizeof s->pos[row]);
    at += sizeof s->pos[row];
    for (int l = 0; l < s->model->cfg.layers; l++) {
        uint64_t n;
        if ((size_t)(end - at) < sizeof n) return refuse_state(count);
        memcpy(&n, at, sizeof n);
        at += sizeof n;
        if ((uint64_t)(end - at) < n) return refuse_state(count);
        TRY(s->model->layers[l].mixer->state_load_row(s->layer[l], row, at, n));
        at += n;
    }
    return at == end && s->pos[row] >= 0 ? OK : refuse_state(count);
}

// ---- costs -------------------------------------------------------------------------------------

size_t model_parameters(const Model *m) {
    return params_elements(&m->params);
}

double model_flops_per_token(const Model *m) {
    const Param *embed = &m->params.rows[m->embed], *head = &m->params.rows[m->head];
    return 6.0 * (double)(model_parameters(m) - embed->whole + (m->cfg.tied ? head->whole : 0));
}
