// M: the neural memory as a layer of its own, the LMM of Titans (arXiv:2501.00663, section 3; the
// norm and gate behind it: section 4.4).
#include "model/mixers/memory.h"

#include <stdlib.h>

#include "model/internal.h"
#include "parallel/mesh.h"

typedef struct Own {
    MemoryPart memory;
    int norm, gate, out;  // rows of parameters
} Own;

static int add_matrix(Model *m, const Layer *layer, const char *part, int axis) {
    char name[PARAM_NAME_BYTES];
    memory_param_name(name, sizeof name, layer, part);
    return params_add_split(&m->params, name, 2, (int[]){m->cfg.width, m->cfg.width}, INIT_NORMAL,
                            m->cfg.init_std, axis, 1);
}

static Status memory_layer_open(Model *m, Layer *layer) {
    char name[PARAM_NAME_BYTES];
    Own *own = layer->own = malloc(sizeof *own);
    if (own == NULL) FAIL(E_NOMEM, "", "out of memory");
    memory_part_open(&own->memory, m, layer);
    memory_param_name(name, sizeof name, layer, "out_norm.weight");
    own->norm = params_add_split(&m->params, name, 1, &m->cfg.width, INIT_ONE, 0, 0, 1);
    own->gate = add_matrix(m, layer, "gate_proj.weight", 0);
    own->out = add_matrix(m, layer, "out_proj.weight", 1);
    layer->late = own->memory.qkv;
    return OK;
}

static void memory_layer_close(Layer *layer) {
    free(layer->own);
}

static bool any_tp(const ModelConfig *m, int tp) {
    (void)m, (void)tp;
    return true;
}

static void costs(MixerCosts *c, const Model *m, const Layer *layer, int T) {
    (void)T;
    memory_costs(c, m, &((const Own *)layer->own)->memory);
}

// W_o (silu(W_g x) * norm(memory(x))), the norm of each head by itself.
static Tensor *memory_mix(const MixerRun *run, Tensor *x) {
    Tape *tp = run->tp;
    Model *m = run->m;
    const Own *own = run->layer->own;
    Param *rows = m->params.rows;
    Tensor *y = memory_part_read(run, &own->memory, x, run->state);
    tape_site(tp, SITE_HEAD_OUT, run->layer->index, y);
    y = op_head_norm(tp, y, tape_param(tp, &rows[own->norm]), heads_here(m), (real)m->cfg.norm_eps);
    Tensor *gate = op_linear(tp, x, tape_param(tp, &rows[own->gate]));
    y = op_swiglu(tp, gate, y);
    return op_tp_sum(tp, m->mesh, op_linear(tp, y, tape_param(tp, &rows[own->out])));
}

// ---- decode state ------------------------------------------------------------------------------

static void *state_open(const Model *m, const Layer *layer, int B) {
    return memory_state_open(m, &((const Own *)layer->own)->memory, B);
}
static void state_close(void *state) {
    memory_state_close(state);
}
static Status state_reserve(void *state, int T) {
    (void)state, (void)T;
    return OK;
}
static Status state_copy_row(void *dst, int to, const void *src, int from) {
    memory_state_copy_row(dst, to, src, from);
    return OK;
}
static size_t state_bytes(const void *state) {
    return memory_state_bytes(state);
}
static size_t state_row_bytes(const void *state, int row) {
    (void)row;
    return memory_state_row_bytes(state);
}
static void state_save_row(const void *state, int row, char *to) {
    memory_state_save_row(state, row, to);
}
static Status state_load_row(void *state, int row, const char *from, size_t bytes) {
    return memory_state_load_row(state, row, from, bytes);
}

const MixerOps MIXER_MEMORY = {
    .letter = 'M',
    .name = "neural memory",
    .memory = true,
    .mixes = "all tokens of the document before it, which a small network a head has learned",
    .check = memory_check,
    .fits_tp = any_tp,
    .open = memory_layer_open,
    .close = memory_layer_close,
    .forward = memory_mix,
    .costs = costs,
    .state_open = state_open,
    .state_close = state_close,
    .state_reserve = state_reserve,
    .state_copy_row = state_copy_row,
    .state_bytes = state_bytes,
    .state_row_bytes = state_row_bytes,
    .state_save_row = state_save_row,
    .state_load_row = state_load_row};
