// N and W: causal softmax attention with RoPE and grouped-query heads, over the whole document or a
// sliding window. Inside a TransNormerLLM: no gate and no output norm (docs/maths.md, hybrids).
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

enum { Q, K, V, O };

static void add_projection(Model *m, Layer *layer, int slot, const char *part, const int dim[2]) {
    char name[PARAM_NAME_BYTES];
    layer_param_name(name, sizeof name, m, layer->index, part);
    layer->param[slot] = params_add_split(&m->params, name, 2, dim, INIT_NORMAL, m->cfg.init_std,
                                          slot == O ? 1 : 0, 1);
}

static void softmax_params(Model *m, Layer *layer) {
    int C = m->cfg.width, kv = m->cfg.kv_heads * m->cfg.head_size;
    add_projection(m, layer, Q, "q_proj.weight", (int[]){C, C});
    add_projection(m, layer, K, "k_proj.weight", (int[]){kv, C});
    add_projection(m, layer, V, "v_proj.weight", (int[]){kv, C});
    add_projection(m, layer, O, "o_proj.weight", (int[]){C, C});
}

// Rotated keys and values of the tokens seen so far; the only place that knows how they are kept.
typedef struct KvCache {
    int B, width, capacity;  // (B, capacity, width)
    int *length;             // (B)
    real *keys, *values;
} KvCache;

static void cache_grow(KvCache *c, int needed) {
    if (needed <= c->capacity) return;
    int capacity = c->capacity == 0 ? 64 : c->capacity;
    while (capacity < needed) capacity *= 2;
    size_t row = (size_t)capacity * (size_t)c->width;
    real *keys = calloc((size_t)c->B * row, sizeof(real));
    real *values = calloc((size_t)c->B * row, sizeof(real));
    ASSERT(keys != NULL && values != NULL);
    for (int b = 0; b < c->B; b++) {
        size_t used = (size_t)c->length[b] * (size_t)c->width * sizeof(real);
        size_t old = (size_t)b * (size_t)c->capacity * (size_t)c->width;
        if (used == 0) continue;
        memcpy(keys + (size_t)b * row, c->keys + old, used);
        memcpy(values + (size_t)b * row, c->values + old, used);
    }
    free(c->keys);
    free(c->values);
    c->keys = keys;
    c->values = values;
    c->capacity = capacity;
}

// Appends T tokens to each row. k, v: (B*T, width)
static void cache_append(KvCache *c, const Tensor *k, const Tensor *v, int T) {
    int longest = 0;
    for (int b = 0; b < c->B; b++) longest = c->length[b] > longest ? c->length[b] : longest;
    cache_grow(c, longest + T);
    size_t bytes = (size_t)T * (size_t)c->width * sizeof(real);
    for (int b = 0; b < c->B; b++) {
        size_t at = ((size_t)b * (size_t)c->capacity + (size_t)c->length[b]) * (size_t)c->width;
        size_t from = (size_t)b * (size_t)T * (size_t)c->width;
        memcpy(c->keys + at, k->data + from, bytes);
        memcpy(c->values + at, v->data + from, bytes);
        c->length[b] += T;
    }
}

static Tensor *attend(const MixerRun *run, Tensor *x, int window) {
    Tape *tp = run->tp;
    const ModelConfig *c = &run->m->cfg;
    Param *rows = run->m->params.rows;
    const int *p = run->layer->param;

    Tensor *q = op_linear(tp, x, tape_param(tp, &rows[p[Q]]));
    Tensor *k = op_linear(tp, x, tape_param(tp, &rows[p[K]]));
    Tensor *v = op_linear(tp, x, tape_param(tp, &rows[p[V]]));
    int H = heads_here(run->m), Hk = kv_heads_here(run->m);
    q = op_rope(tp, q, run->seq, c->rope_base, H);
    k = op_rope(tp, k, run->seq, c->rope_base, Hk);
    tape_site(tp, SITE_QUERY, run->layer->index, q);
    tape_site(tp, SITE_KEY, run->layer->index, k);
    tape_site(tp, SITE_VALUE, run->layer->index, v);
    AttentionArgs args = {.heads = H, .kv_heads = Hk, .window = window};
    Tensor *o;
    if (run->state == NULL) {
        o = op_seq_attention(tp, run->m->mesh, q, k, v, run->seq, &args);
    } else {
        KvCache *cache = run->state;
        if (!tape_is_dry(tp)) cache_append(cache, k, v, run->seq->T);
        CacheView view = {cache->keys, cache->values, cache->capacity, cache->length};
        o = op_attention_cached(tp, q, &view, run->seq, &args);
    }
    tape_site(tp, SITE_HEAD_OUT, run->layer->index, o);
    return op_tp_sum(tp, run->m->mesh, op_linear(tp, o, tape_param(tp, &rows[p[O]])));
}

static Tensor *softmax_mix(const MixerRun *run, Tensor *x) {
    return attend(run, x, 0);
}
static Tensor *window_mix(const MixerRun *run, Tensor *x) {
    return attend(run, x, run->m->cfg.window);
}

static void *cache_open(const Model *m, const Layer *layer, int B) {
    (void)layer;
    KvCache *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->B = B;
    c->width = kv_heads_here(m) * m->cfg.head_size;
    c->length = calloc((size_t)B, sizeof *c->length);
    if (c->length != NULL) return c;
    free(c);
    return NULL;
}

static void cache_close(void *state) {
    KvCache *c = state;
    if (c == NULL) return;
    free(c->keys);
    free(c->values);
    free(c->length);
    free(c);
}

static void cache_copy_row(void *dst, int to, const void *src, int from) {
    KvCache *d = dst;
    const KvCache *s = src;
    d->length[to] = 0;
    cache_grow(d, s->length[from]);
    size_t width = (size_t)d->width, bytes = (size_t)s->length[from] * width * sizeof(real);
    if (bytes > 0) {
        size_t a = (size_t)to * (size_t)d->capacity * width;
        size_t b = (size_t)from * (size_t)s->capacity * width;
        memcpy(d->keys + a, s->keys + b, bytes);
        memcpy(d->values + a, s->values + b, bytes);
    }
    d->length[to] = s->length[from];
}

static size_t cache_bytes(const void *state) {
    const KvCache *c = state;
    return 2 * (size_t)c->B * (size_t)c->capacity * (size_t)c->width * sizeof(real);
}

const MixerOps MIXER_SOFTMAX = {.letter = 'N',
                                .name = "softmax attention",
                                .params = softmax_params,
                                .forward = softmax_mix,
                                .state_open = cache_open,
                                .state_close = cache_close,
                                .state_copy_row = cache_copy_row,
                                .state_bytes = cache_bytes};
const MixerOps MIXER_WINDOW = {.letter = 'W',
                               .name = "sliding-window attention",
                               .params = softmax_params,
                               .forward = window_mix,
                               .state_open = cache_open,
                               .state_close = cache_close,
                               .state_copy_row = cache_copy_row,
                               .state_bytes = cache_bytes};
