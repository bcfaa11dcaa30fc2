// N and W: causal softmax attention with RoPE and grouped-query heads, over the whole document or a
// sliding window. Inside a TransNormerLLM: no gate and no output norm (docs/maths.md, hybrids).
#include "model/mixers/softmax.h"

#include <stdio.h>
#include <stdlib.h>

#include "model/internal.h"
#include "parallel/mesh.h"

// What a layer keeps.
typedef struct Own {
    SoftmaxPart part;
    int out;  // row of its parameter
} Own;

static int add_row(Model *m, const Layer *layer, const char *part, const int dim[2], int axis) {
    char name[PARAM_NAME_BYTES];
    layer_param_name(name, sizeof name, m, layer->index, part);
    return params_add_split(&m->params, name, 2, dim, INIT_NORMAL, m->cfg.init_std, axis, 1);
}

int softmax_add_out(Model *m, const Layer *layer) {
    return add_row(m, layer, "o_proj.weight", (int[]){m->cfg.width, m->cfg.width}, 1);
}

void softmax_part_open(SoftmaxPart *p, Model *m, const Layer *layer, int window, int persistent) {
    int C = m->cfg.width, kv = m->cfg.kv_heads * m->cfg.head_size;
    *p = (SoftmaxPart){.window = window, .keys = -1, .values = -1};
    p->q = add_row(m, layer, "q_proj.weight", (int[]){C, C}, 0);
    p->k = add_row(m, layer, "k_proj.weight", (int[]){kv, C}, 0);
    p->v = add_row(m, layer, "v_proj.weight", (int[]){kv, C}, 0);
    if (persistent == 0) return;
    p->keys = add_row(m, layer, "persistent_k", (int[]){persistent, kv}, 1);
    p->values = add_row(m, layer, "persistent_v", (int[]){persistent, kv}, 1);
}

static Status layer_open(Model *m, Layer *layer, int window) {
    Own *own = layer->own = malloc(sizeof *own);
    if (own == NULL) FAIL(E_NOMEM, "", "out of memory");
    softmax_part_open(&own->part, m, layer, window, 0);
    own->out = softmax_add_out(m, layer);
    layer->late = own->part.q;
    return OK;
}

static Status softmax_layer_open(Model *m, Layer *layer) {
    return layer_open(m, layer, 0);
}
static Status window_layer_open(Model *m, Layer *layer) {
    return layer_open(m, layer, m->cfg.window);
}

static void layer_close(Layer *layer) {
    free(layer->own);
}

// ---- what fits ---------------------------------------------------------------------------------

Status softmax_check(const ModelConfig *m) {
    if (m->head_size % 2 == 0) return OK;
    FAIL(E_USAGE, "RoPE rotates pairs of channels",
         "model.width/model.heads=%d is odd, but model.pattern has layers with attention",
         m->head_size);
}

bool softmax_fits_tp(const ModelConfig *m, int tp) {
    return m->kv_heads % tp == 0;
}

static bool ulysses_fits(const ModelConfig *m, int sp, const void *tp) {
    int share = *(const int *)tp;
    return m->heads / share % sp == 0 && m->kv_heads / share % sp == 0;
}

// Ulysses deals heads to chunks.
static Status check_ulysses(const ModelConfig *m, const Mesh *mesh) {
    char legal[256], hint[320];
    if (mesh->sp == 1 || mesh->sp_softmax != SP_ULYSSES || ulysses_fits(m, mesh->sp, &mesh->tp))
        return OK;
    legal_values(legal, sizeof legal, m, ulysses_fits, &mesh->tp);
    snprintf(hint, sizeof hint, "parallel.sp may be %s, or use parallel.sp_softmax=lasp2h", legal);
    FAIL(E_USAGE, hint,
         "parallel.sp_softmax=ulysses: parallel.sp=%d must divide the %d heads and %d key/value "
         "heads of each of %d parallel.tp ranks",
         mesh->sp, m->heads / mesh->tp, m->kv_heads / mesh->tp, mesh->tp);
}

// ---- costs -------------------------------------------------------------------------------------

// docs/parallelism.md, of the rank with the largest chunk: [k | v] of its own rows, or of what is
// passed on.
static void exchange_costs(MixerCosts *c, const Model *m, const SoftmaxPart *own, int T,
                           double width) {
    const Mesh *mesh = m->mesh;
    double chunk = (double)split_count((size_t)T, mesh->sp, 0), S = mesh->sp;
    double halo = own->window - 1 < T ? own->window - 1 : T;
    c->rounds = 1;
    if (own->window > 0) {
        c->exchanged = halo * width;
        return;
    }
    c->exchanged = (S - 1) * chunk * width;
    if (mesh->sp_softmax == SP_RING) c->rounds = mesh->sp - 1;
    if (mesh->sp_softmax == SP_ULYSSES) {  // q, k, v out and o back, half a row [k | v] each
        c->rounds = 4;
        c->exchanged = 2 * chunk * width * (S - 1) / S;
    }
}

// A score and its part of the output are 2 D each for every key.
void softmax_part_costs(MixerCosts *c, const Model *m, const SoftmaxPart *own, int T) {
    double D = m->cfg.head_size, width = 2.0 * kv_heads_here(m) * D * sizeof(real);
    double seen = own->window > 0 && own->window < T ? own->window : T;
    *c = (MixerCosts){.flops = 4 * heads_here(m) * D * seen, .state = seen * width};
    if (m->mesh != NULL && m->mesh->sp > 1) exchange_costs(c, m, own, T, width);
}

static void softmax_costs(MixerCosts *c, const Model *m, const Layer *layer, int T) {
    softmax_part_costs(c, m, &((const Own *)layer->own)->part, T);
}

// ---- the layer ---------------------------------------------------------------------------------

Tensor *softmax_part_mix(const MixerRun *run, const SoftmaxPart *p, Tensor *x, KvCache *cache) {
    Tape *tp = run->tp;
    const int l = run->layer->index;
    Param *rows = run->m->params.rows;

    Tensor *q = op_linear(tp, x, tape_param(tp, &rows[p->q]));
    Tensor *k = op_linear(tp, x, tape_param(tp, &rows[p->k]));
    Tensor *v = op_linear(tp, x, tape_param(tp, &rows[p->v]));
    int H = heads_here(run->m), Hk = kv_heads_here(run->m);
    q = op_rope(tp, q, run->seq, run->m->cfg.rope_base, H);
    k = op_rope(tp, k, run->seq, run->m->cfg.rope_base, Hk);
    tape_site(tp, SITE_QUERY, l, q);
    tape_site(tp, SITE_KEY, l, k);
    tape_site(tp, SITE_VALUE, l, v);
    AttentionArgs args = {.heads = H, .kv_heads = Hk, .window = p->window};
    if (p->keys >= 0) args.more_keys = tape_param(tp, &rows[p->keys]);
    if (p->keys >= 0) args.more_values = tape_param(tp, &rows[p->values]);
    Tensor *o;
    if (cache == NULL) {
        o = op_seq_attention(tp, run->m->mesh, q, k, v, run->seq, &args);
    } else {
        const SeqInfo *s = run->seq;
        if (!tape_is_dry(tp)) kvcache_append(cache, k->data, v->data, s->B, s->T);
        CacheView view = kvcache_view(cache);
        o = op_attention_cached(tp, q, &view, run->seq, &args);
    }
    tape_site(tp, SITE_HEAD_OUT, l, o);
    return o;
}

static Tensor *softmax_mix(const MixerRun *run, Tensor *x) {
    const Own *own = run->layer->own;
    Tensor *o = softmax_part_mix(run, &own->part, x, run->state);
    Tensor *out = tape_param(run->tp, &run->m->params.rows[own->out]);
    return op_tp_sum(run->tp, run->m->mesh, op_linear(run->tp, o, out));
}

KvCache *softmax_cache_open(const Model *m, const SoftmaxPart *p, int B) {
    return kvcache_open(B, kv_heads_here(m) * m->cfg.head_size, p->window);
}

// ---- decode state: the cache, as the table calls it ---------------------------------------------

static void *state_open(const Model *m, const Layer *layer, int B) {
    return softmax_cache_open(m, &((const Own *)layer->own)->part, B);
}
static void state_close(void *state) {
    kvcache_close(state);
}
static Status state_reserve(void *state, int T) {
    return kvcache_reserve(state, T);
}
static Status state_copy_row(void *dst, int to, const void *src, int from) {
    return kvcache_copy_row(dst, to, src, from);
}
static size_t state_bytes(const void *state) {
    return kvcache_bytes(state);
}
static size_t state_row_bytes(const void *state, int row) {
    return kvcache_row_bytes(state, row);
}
static void state_save_row(const void *state, int row, char *to) {
    kvcache_save_row(state, row, to);
}
static Status state_load_row(void *state, int row, const char *from, size_t bytes) {
    return kvcache_load_row(state, row, from, bytes);
}

#define SOFTMAX_ROW                                                                                \
    .check = softmax_check, .fits_tp = softmax_fits_tp, .close = layer_close,                      \
    .forward = softmax_mix, .costs = softmax_costs, .state_open = state_open,                      \
    .state_close = state_close, .state_reserve = state_reserve, .state_copy_row = state_copy_row,  \
    .state_bytes = state_bytes, .state_row_bytes = state_row_bytes,                                \
    .state_save_row = state_save_row, .state_load_row = state_load_row

const MixerOps MIXER_SOFTMAX = {.letter = 'N',
                                .name = "softmax",
                                .mixes = "all tokens of the document before it, by softmax of q.k",
                                .check_sp = check_ulysses,
                                .open = softmax_layer_open,
                                SOFTMAX_ROW};
const MixerOps MIXER_WINDOW = {
    .letter = 'W',
    .name = "sliding window",
    .mixes = "the last model.window tokens of the document, by softmax of q.k",
    .open = window_layer_open,
    SOFTMAX_ROW};
