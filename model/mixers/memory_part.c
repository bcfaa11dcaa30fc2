// The neural memory as layers use it; see memory.h.
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"
#include "model/mixers/memory.h"
#include "parallel/mesh.h"

static const real UNIT_EPS = (real)1e-6;  // of the lengths of queries and keys

void memory_param_name(char *dst, size_t capacity, const Layer *layer, const char *part) {
    snprintf(dst, capacity, "model.layers.%d.memory.%s", layer->index, part);
}

// ---- options -----------------------------------------------------------------------------------

static bool says(const Text text, const char *value) {
    return strcmp(text, value) == 0;
}

MemoryConfig memory_resolved(const ModelConfig *m) {
    MemoryConfig c = m->memory;
    bool deep = c.layers > 1;
    double budget = c.cap * (1 - c.eta_max);
    if (c.hidden == 0) c.hidden = 4 * m->head_size;
    if (says(c.net, "auto")) strcpy(c.net, deep ? "residual" : "plain");
    if (c.clip < 0) c.clip = deep ? 1 : 0;
    if (c.theta_max == 0) c.theta_max = (budget > 0 ? budget : 2) / c.chunk;
    return c;
}

static MemoryDims options_of(const ModelConfig *m, const MemoryConfig *c) {
    return (MemoryDims){.D = m->head_size,
                        .layers = c->layers,
                        .hidden = c->hidden,
                        .chunk = c->chunk,
                        .activation = says(c->activation, "silu") ? MEMORY_SILU : MEMORY_GELU,
                        .loss = says(c->loss, "hebbian") ? MEMORY_HEBBIAN
                                : says(c->loss, "huber") ? MEMORY_HUBER
                                                         : MEMORY_SQUARED,
                        .normed = says(c->net, "residual"),
                        .strict = says(c->read, "strict"),
                        .huber = (real)c->huber,
                        .damped = c->damp,
                        .clip = (real)c->clip,
                        .budget = c->cap * (1 - c->eta_max)};
}

Status memory_check(const ModelConfig *m) {
    MemoryConfig c = memory_resolved(m);
    double size = c.layers > 1 ? c.hidden : m->head_size;
    if (size * size * c.layers < (1 << 28)) return OK;
    FAIL(E_USAGE, "a memory's state is its weights, three times",
         "model.memory_hidden=%d: a memory of more than 2^28 weights", m->memory.hidden);
}

// ---- parameters --------------------------------------------------------------------------------

static int add_row(Model *m, const Layer *layer, const char *part, int ndim, const int *dim,
                   InitRule init, double std, int sections) {
    char name[PARAM_NAME_BYTES];
    memory_param_name(name, sizeof name, layer, part);
    return params_add_split(&m->params, name, ndim, dim, init, std, 0, sections);
}

// The gain and shift of the norm inside the memory learn without decay, as all norms do.
static void add_inner_norm(MemoryPart *p, Model *m, const Layer *layer) {
    const int dim[] = {m->cfg.heads, m->cfg.head_size};
    p->gain = p->shift = -1;
    if (!p->options.normed) return;
    p->gain = add_row(m, layer, "inner_norm.weight", 2, dim, INIT_ONE, 0, 1);
    p->shift = add_row(m, layer, "inner_norm.bias", 2, dim, INIT_NORMAL, 0, 1);
    m->params.rows[p->gain].decay = m->params.rows[p->shift].decay = false;
}

void memory_part_open(MemoryPart *p, Model *m, const Layer *layer) {
    const ModelConfig *c = &m->cfg;
    MemoryConfig memory = memory_resolved(c);
    *p = (MemoryPart){.options = options_of(c, &memory)};
    p->most[0] = memory.alpha_max;
    p->most[1] = memory.eta_max;
    p->most[2] = memory.theta_max;
    int kinds = GATE_KINDS * p->options.layers, gates = kinds * c->heads;
    int weights = (int)memory_weights(&p->options);
    p->qkv = add_row(m, layer, "qkv_proj.weight", 2, (int[]){3 * c->width, c->width}, INIT_NORMAL,
                     c->init_std, 3);
    p->conv = -1;
    if (c->memory.conv > 0)
        p->conv = add_row(m, layer, "conv.weight", 2, (int[]){3 * c->width, c->memory.conv},
                          INIT_NORMAL, 0.5, 3);
    p->gate = add_row(m, layer, "gates.weight", 2, (int[]){gates, c->width}, INIT_NORMAL, 0, kinds);
    p->gate_bias = add_row(m, layer, "gates.bias", 1, &gates, INIT_GATES, 0, kinds);
    p->init = add_row(m, layer, "init", 2, (int[]){c->heads, weights}, INIT_NORMAL,
                      c->memory.init_std, 1);
    add_inner_norm(p, m, layer);
    p->options.H = heads_here(m);
}

// ---- costs -------------------------------------------------------------------------------------

// docs/maths.md 17: of each weight the network's pass for a key, its backward (not to the key),
// reading weights and momentum, writing both; and products of c tokens with c.
void memory_costs(MixerCosts *c, const Model *m, const MemoryPart *p) {
    const MemoryDims *d = &p->options;
    double all = (double)memory_weights(d),
           first = (double)d->D * (d->layers > 1 ? d->hidden : d->D);
    double edges = 2.0 * d->D + 2.0 * d->hidden * (d->layers - 1);
    MemoryDims one = *d;
    one.B = 1;
    double state = (double)memory_state_reals(&one);
    double tail = m->cfg.memory.conv > 0 ? 3.0 * (m->cfg.memory.conv - 1) * width_here(m) : 0;
    *c = (MixerCosts){.flops = d->H * (10 * all + 2 * (all - first) + 2 * d->chunk * edges),
                      .state = (state + tail) * sizeof(real)};
    if (m->mesh == NULL || m->mesh->sp == 1) return;
    c->exchanged = c->state;
    c->rounds = m->mesh->sp - 1;
}

// ---- state -------------------------------------------------------------------------------------

struct MemoryState {
    int B;
    size_t memory, tail;  // reals of one row
    real *data;           // (B, memory), then (B, tail)
    MemoryDims one;       // of one row
};

MemoryState *memory_state_open(const Model *m, const MemoryPart *p, int B) {
    MemoryState *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->B = B;
    s->one = p->options;
    s->one.B = 1;
    s->memory = memory_state_reals(&s->one);
    if (p->conv >= 0) s->tail = 3 * (size_t)(m->cfg.memory.conv - 1) * (size_t)width_here(m);
    s->data = calloc((size_t)B * (s->memory + s->tail), sizeof(real));
    if (s->data != NULL) return s;
    free(s);
    return NULL;
}

void memory_state_close(MemoryState *s) {
    if (s != NULL) free(s->data);
    free(s);
}

static real *memory_of(const MemoryState *s, int row) {
    return s->data + (size_t)row * s->memory;
}
static real *tail_of(const MemoryState *s, int row) {
    return s->data + (size_t)s->B * s->memory + (size_t)row * s->tail;
}

void memory_state_copy_row(MemoryState *dst, int to, const MemoryState *src, int from) {
    memcpy(memory_of(dst, to), memory_of(src, from), src->memory * sizeof(real));
    memcpy(tail_of(dst, to), tail_of(src, from), src->tail * sizeof(real));
}

size_t memory_state_row_bytes(const MemoryState *s) {
    return (s->memory + s->tail) * sizeof(real);
}

size_t memory_state_bytes(const MemoryState *s) {
    return (size_t)s->B * memory_state_row_bytes(s);
}

void memory_state_save_row(const MemoryState *s, int row, char *to) {
    memcpy(to, memory_of(s, row), s->memory * sizeof(real));
    memcpy(to + s->memory * sizeof(real), tail_of(s, row), s->tail * sizeof(real));
}

Status memory_state_load_row(MemoryState *s, int row, const char *from, size_t bytes) {
    if (bytes != memory_state_row_bytes(s))
        FAIL(E_FORMAT, "was it saved by this model?", "a state of %zu bytes, not %zu", bytes,
             memory_state_row_bytes(s));
    memcpy(memory_of(s, row), from, s->memory * sizeof(real));
    memcpy(tail_of(s, row), from + s->memory * sizeof(real), s->tail * sizeof(real));
    return OK;
}

// Rows that begin a text begin with the initial weights of now.
static void begin_rows(MemoryState *s, const real *init, const SeqInfo *seq) {
    for (int r = 0; r < seq->B && seq->T > 0; r++) {
        if (seq->pos[(size_t)r * (size_t)seq->T] != 0) continue;
        memory_state_begin(memory_of(s, r), init, &s->one);
        memset(tail_of(s, r), 0, s->tail * sizeof(real));
    }
}

// ---- the layer's part --------------------------------------------------------------------------

typedef struct Sides {
    Tensor *q, *k, *v;
} Sides;

static Sides sides_of(const MixerRun *run, const MemoryPart *p, Tensor *x, MemoryState *state) {
    Tape *tp = run->tp;
    Param *rows = run->m->params.rows;
    int C = width_here(run->m), H = heads_here(run->m);
    Tensor *qkv = op_linear(tp, x, tape_param(tp, &rows[p->qkv]));
    if (p->conv >= 0)
        qkv = op_seq_conv(tp, run->m->mesh, qkv, tape_param(tp, &rows[p->conv]), run->seq,
                          state == NULL ? NULL : tail_of(state, 0));
    qkv = op_silu(tp, qkv);
    return (Sides){.q = op_head_norm(tp, tape_cols(tp, qkv, 0, C), NULL, H, UNIT_EPS),
                   .k = op_head_norm(tp, tape_cols(tp, qkv, C, C), NULL, H, UNIT_EPS),
                   .v = tape_cols(tp, qkv, 2 * C, C)};
}

Tensor *memory_part_read(const MixerRun *run, const MemoryPart *p, Tensor *x, MemoryState *state) {
    Tape *tp = run->tp;
    Param *rows = run->m->params.rows;
    int l = run->layer->index;
    if (state != NULL && !tape_is_dry(tp)) begin_rows(state, rows[p->init].data, run->seq);
    Sides s = sides_of(run, p, x, state);
    tape_site(tp, SITE_QUERY, l, s.q);
    tape_site(tp, SITE_KEY, l, s.k);
    tape_site(tp, SITE_VALUE, l, s.v);
    Tensor *gates = op_gates(tp, op_linear(tp, x, tape_param(tp, &rows[p->gate])),
                             tape_param(tp, &rows[p->gate_bias]), p->most);
    Tensor *in[8] = {s.q, s.k, s.v, gates, tape_param(tp, &rows[p->init])};
    if (p->gain >= 0) in[5] = tape_param(tp, &rows[p->gain]);
    if (p->gain >= 0) in[6] = tape_param(tp, &rows[p->shift]);
    return op_seq_memory(tp, run->m->mesh, in, run->seq, &p->options,
                         state == NULL ? NULL : memory_of(state, 0));
}
