// G: attention in a sliding window beside a neural memory, which gates it: the MAG of Titans
// (arXiv:2501.00663, section 4.2). Persistent rows stand before every window.
#include <stdlib.h>

#include "model/internal.h"
#include "model/mixers/memory.h"
#include "model/mixers/softmax.h"
#include "parallel/mesh.h"

typedef struct Own {
    SoftmaxPart window;
    MemoryPart memory;
    int window_norm, memory_norm, out;  // rows of parameters
} Own;

static Status check(const ModelConfig *m) {
    TRY(softmax_check(m));
    return memory_check(m);
}

static Status gated_layer_open(Model *m, Layer *layer) {
    char name[PARAM_NAME_BYTES];
    Own *own = layer->own = malloc(sizeof *own);
    if (own == NULL) FAIL(E_NOMEM, "", "out of memory");
    softmax_part_open(&own->window, m, layer, m->cfg.window, m->cfg.persistent);
    memory_part_open(&own->memory, m, layer);
    layer_param_name(name, sizeof name, m, layer->index, "out_norm.weight");
    own->window_norm = params_add_split(&m->params, name, 1, &m->cfg.width, INIT_ONE, 0, 0, 1);
    memory_param_name(name, sizeof name, layer, "out_norm.weight");
    own->memory_norm = params_add_split(&m->params, name, 1, &m->cfg.width, INIT_ONE, 0, 0, 1);
    own->out = softmax_add_out(m, layer);
    layer->late = own->memory.qkv;
    return OK;
}

static void gated_layer_close(Layer *layer) {
    free(layer->own);
}

static void costs(MixerCosts *c, const Model *m, const Layer *layer, int T) {
    const Own *own = layer->own;
    MixerCosts memory;
    softmax_part_costs(c, m, &own->window, T);
    memory_costs(&memory, m, &own->memory);
    c->flops += memory.flops + 4.0 * width_here(m) * m->cfg.persistent;
    c->state += memory.state;
    c->exchanged += memory.exchanged;
    c->rounds += memory.rounds;
}

// ---- the layer ---------------------------------------------------------------------------------

typedef struct State {
    KvCache *cache;
    MemoryState *memory;
} State;

// W_o (norm(window(x)) * sigmoid(norm(memory(x)))), norms of each head by itself.
static Tensor *gated_mix(const MixerRun *run, Tensor *x) {
    Tape *tp = run->tp;
    Model *m = run->m;
    const Own *own = run->layer->own;
    const State *state = run->state;
    Param *rows = m->params.rows;
    real eps = (real)m->cfg.norm_eps;
    int H = heads_here(m);
    Tensor *seen = softmax_part_mix(run, &own->window, x, state == NULL ? NULL : state->cache);
    Tensor *known = memory_part_read(run, &own->memory, x, state == NULL ? NULL : state->memory);
    seen = op_head_norm(tp, seen, tape_param(tp, &rows[own->window_norm]), H, eps);
    known = op_head_norm(tp, known, tape_param(tp, &rows[own->memory_norm]), H, eps);
    Tensor *y = op_sigmul(tp, seen, known);
    return op_tp_sum(tp, m->mesh, op_linear(tp, y, tape_param(tp, &rows[own->out])));
}

// ---- decode state: both ------------------------------------------------------------------------

static void state_close(void *state) {
    State *s = state;
    if (s == NULL) return;
    kvcache_close(s->cache);
    memory_state_close(s->memory);
    free(s);
}

static void *state_open(const Model *m, const Layer *layer, int B) {
    const Own *own = layer->own;
    State *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->cache = softmax_cache_open(m, &own->window, B);
    s->memory = memory_state_open(m, &own->memory, B);
    if (s->cache != NULL && s->memory != NULL) return s;
    state_close(s);
    return NULL;
}

static Status state_reserve(void *state, int T) {
    return kvcache_reserve(((State *)state)->cache, T);
}

static Status state_copy_row(void *dst, int to, const void *src, int from) {
    State *d = dst;
    const State *s = src;
    memory_state_copy_row(d->memory, to, s->memory, from);
    return kvcache_copy_row(d->cache, to, s->cache, from);
}

static size_t state_bytes(const void *state) {
    const State *s = state;
    return kvcache_bytes(s->cache) + memory_state_bytes(s->memory);
}

static size_t state_row_bytes(const void *state, int row) {
    const State *s = state;
    return memory_state_row_bytes(s->memory) + kvcache_row_bytes(s->cache, row);
}

static void state_save_row(const void *state, int row, char *to) {
    const State *s = state;
    memory_state_save_row(s->memory, row, to);
    kvcache_save_row(s->cache, row, to + memory_state_row_bytes(s->memory));
}

static Status state_load_row(void *state, int row, const char *from, size_t bytes) {
    State *s = state;
    size_t memory = memory_state_row_bytes(s->memory);
    TRY(memory_state_load_row(s->memory, row, from, bytes < memory ? bytes : memory));
    return kvcache_load_row(s->cache, row, from + memory, bytes - memory);
}

const MixerOps MIXER_GATED = {
    .letter = 'G',
    .name = "gated memory",
    .memory = true,
    .mixes = "the last model.window tokens, by softmax of q.k, gated by a neural memory of all",
    .check = check,
    .fits_tp = softmax_fits_tp,
    .open = gated_layer_open,
    .close = gated_layer_close,
    .forward = gated_mix,
    .costs = costs,
    .state_open = state_open,
    .state_close = state_close,
    .state_reserve = state_reserve,
    .state_copy_row = state_copy_row,
    .state_bytes = state_bytes,
    .state_row_bytes = state_row_bytes,
    .state_save_row = state_save_row,
    .state_load_row = state_load_row};
