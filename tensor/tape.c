// The tape: recording, the reverse walk, gradient buffers and recomputation. Shapes and pointers
// come from the same calls on a dry and on a live tape; the dry one has arenas without a base.
#include "tensor/tape.h"

#include <stdlib.h>
#include <string.h>

#include "tensor/progress.h"

enum { CHUNK_BYTES = 1 << 16, NO_BLOCK = -1 };

// Tensors, nodes and infos: small structs in chunks that are reused after each rewind.
typedef struct Chunk {
    struct Chunk *next;
    size_t used;
    max_align_t bytes[CHUNK_BYTES / sizeof(max_align_t)];
} Chunk;

// A gradient buffer of the pool. Freed blocks are lent again to tensors of the same size.
typedef struct Block {
    real *data;
    size_t count;
    bool lent;
} Block;

struct Tape {
    Arena activations, gradients, scratch, kept;
    size_t activation_need, gradient_need, scratch_need, kept_need;  // bytes, largest dry run
    real **kept_list;                            // what first runs of segments kept, in order
    int kept_count, kept_capacity, kept_cursor;  // cursor: of the segment that runs again
    Chunk *first, *chunk;
    Node *nodes;
    int count, capacity;
    Block *blocks;
    int block_count, block_capacity;
    Node *late;  // whose late parts are still to run; their gradient buffers are kept
    int late_count, late_capacity;
    Param **touched;  // parameters with recorded uses
    int touched_count, touched_capacity;
    bool dry, record;
    int segment;  // > 0: inside the forward run of a recomputed segment, nothing is recorded
    int replay;   // > 0: inside its second run, uses are already counted
    ReadyFn ready;
    SiteFn site;
    void *ready_user, *site_user;
};

const char *site_name(Site site) {
    static const char *const NAMES[SITE_COUNT] = {[SITE_RESIDUAL_IN] = "residual_in",
                                                  [SITE_QUERY] = "query",
                                                  [SITE_KEY] = "key",
                                                  [SITE_VALUE] = "value",
                                                  [SITE_HEAD_OUT] = "head_out",
                                                  [SITE_MIXER_OUT] = "mixer_out",
                                                  [SITE_MLP_OUT] = "mlp_out",
                                                  [SITE_RESIDUAL_OUT] = "residual_out",
                                                  [SITE_LOGITS] = "logits"};
    return NAMES[site];
}

// Makes room for one more element of a growing list.
static void *grown(void *list, int count, int *capacity, size_t size) {
    if (count < *capacity) return list;
    *capacity = *capacity == 0 ? 256 : 2 * *capacity;
    void *more = realloc(list, (size_t)*capacity * size);
    ASSERT(more != NULL);
    return more;
}

static Chunk *chunk_new(void) {
    Chunk *c = malloc(sizeof *c);
    ASSERT(c != NULL);
    c->next = NULL;
    c->used = 0;
    return c;
}

static void *object_take(Tape *tp, size_t bytes) {
    bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    ASSERT(bytes <= CHUNK_BYTES);
    if (tp->chunk->used + bytes > CHUNK_BYTES) {
        if (tp->chunk->next == NULL) tp->chunk->next = chunk_new();
        tp->chunk = tp->chunk->next;
        tp->chunk->used = 0;
    }
    void *at = (char *)tp->chunk->bytes + tp->chunk->used;
    tp->chunk->used += bytes;
    memset(at, 0, bytes);
    return at;
}

Tape *tape_new(void) {
    Tape *tp = calloc(1, sizeof *tp);
    ASSERT(tp != NULL);
    tp->first = tp->chunk = chunk_new();
    return tp;
}

void tape_free(Tape *tp) {
    if (tp == NULL) return;
    for (Chunk *c = tp->first, *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    arena_close(&tp->activations);
    arena_close(&tp->gradients);
    arena_close(&tp->scratch);
    arena_close(&tp->kept);
    free(tp->kept_list);
    free(tp->nodes);
    free(tp->late);
    free(tp->blocks);
    free(tp->touched);
    free(tp);
}

static void rewind_all(Tape *tp) {
    for (int i = 0; i < tp->touched_count; i++) tp->touched[i]->uses = 0;
    tp->touched_count = 0;
    tp->count = tp->late_count = 0;
    tp->block_count = 0;
    tp->segment = tp->replay = 0;
    tp->chunk = tp->first;
    tp->chunk->used = 0;
    arena_rewind(&tp->activations, 0);
    arena_rewind(&tp->gradients, 0);
    arena_rewind(&tp->scratch, 0);
    arena_rewind(&tp->kept, 0);
    tp->kept_count = 0;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static void note_needs(Tape *tp) {
    tp->activation_need = larger(tp->activation_need, tp->activations.peak);
    tp->gradient_need = larger(tp->gradient_need, tp->gradients.peak);
    tp->scratch_need = larger(tp->scratch_need, tp->scratch.peak);
    tp->kept_need = larger(tp->kept_need, tp->kept.peak);
}

void tape_dry(Tape *tp, bool record) {
    if (tp->dry) note_needs(tp);
    rewind_all(tp);
    arena_close(&tp->activations);
    arena_close(&tp->gradients);
    arena_close(&tp->scratch);
    arena_close(&tp->kept);
    tp->dry = true;
    tp->record = record;
}

Status tape_reserve(Tape *tp) {
    note_needs(tp);
    rewind_all(tp);
    tp->dry = false;
    TRY(arena_open(&tp->activations, tp->activation_need));
    TRY(arena_open(&tp->gradients, tp->gradient_need));
    TRY(arena_open(&tp->kept, tp->kept_need));
    return arena_open(&tp->scratch, tp->scratch_need);
}

size_t tape_bytes(const Tape *tp) {
    return tp->activation_need + tp->gradient_need + tp->scratch_need + tp->kept_need;
}

void tape_begin(Tape *tp, bool record) {
    rewind_all(tp);
    tp->record = record;
}

bool tape_is_dry(const Tape *tp) {
    return tp->dry;
}
bool tape_records(const Tape *tp) {
    return tp->record && tp->segment == 0;
}

bool tape_record(Tape *tp, bool on) {
    ASSERT(tp->segment == 0 && tp->replay == 0);
    bool was = tp->record;
    tp->record = on;
    return was;
}

void tape_on_ready(Tape *tp, ReadyFn ready, void *user) {
    tp->ready = ready;
    tp->ready_user = user;
}

void tape_at_sites(Tape *tp, SiteFn site, void *user) {
    tp->site = site;
    tp->site_user = user;
}

void tape_site(Tape *tp, Site site, int layer, Tensor *x) {
    if (tp->site != NULL && !tp->dry && tp->replay == 0) tp->site(site, layer, x, tp->site_user);
}

// ---- tensors ----------------------------------------------------------------------------------

static Tensor *tensor_new(Tape *tp, real *data, int rows, int cols) {
    Tensor *x = object_take(tp, sizeof *x);
    x->data = data;
    x->rows = rows;
    x->cols = x->ld = cols;
    x->grad_block = NO_BLOCK;
    return x;
}

Tensor *tape_tensor(Tape *tp, int rows, int cols) {
    return tensor_new(tp, arena_reals(&tp->activations, (size_t)rows * (size_t)cols), rows, cols);
}

Tensor *tape_leaf(Tape *tp, real *data, int rows, int cols) {
    return tensor_new(tp, data, rows, cols);
}

Tensor *tape_param(Tape *tp, Param *p) {
    // A share may hold no row (a small vocabulary over many ranks): its width is that of all.
    int width = p->tp_axis == 1 ? p->local[1] : (int)(p->whole / (size_t)p->dim[0]);
    Tensor *x = tensor_new(tp, p->data, p->local[0], width);
    x->param = p;
    return x;
}

static Tensor *view(Tape *tp, Tensor *x, int row, int rows, int col, int cols) {
    ASSERT(row >= 0 && row + rows <= x->rows && col >= 0 && col + cols <= x->cols);
    size_t at = (size_t)row * (size_t)x->ld + (size_t)col;
    Tensor *v = tensor_new(tp, x->data == NULL ? NULL : x->data + at, rows, cols);
    v->ld = x->ld;
    v->base = x->base != NULL ? x->base : x;
    v->row = x->row + row;
    v->col = x->col + col;
    return v;
}

Tensor *tape_cols(Tape *tp, Tensor *x, int col, int cols) {
    return view(tp, x, 0, x->rows, col, cols);
}

Tensor *tape_rows(Tape *tp, Tensor *x, int row, int rows) {
    return view(tp, x, row, rows, 0, x->cols);
}

real *tape_saved(Tape *tp, size_t count) {
    return arena_reals(&tp->activations, count);
}
// Outside of segments a result lives as long as any activation; inside, where activations are
// thrown away, in an arena of its own.
real *tape_kept(Tape *tp, size_t count, bool *filled) {
    *filled = tp->replay > 0 && !tp->dry;
    if (tp->replay > 0) {
        ASSERT(tp->kept_cursor < tp->kept_count);
        return tp->kept_list[tp->kept_cursor++];
    }
    if (tp->segment == 0 || !tp->record) return tape_saved(tp, count);
    tp->kept_list =
        (real **)grown(tp->kept_list, tp->kept_count, &tp->kept_capacity, sizeof *tp->kept_list);
    return tp->kept_list[tp->kept_count++] = arena_reals(&tp->kept, count);
}

Tensor *tape_kept_tensor(Tape *tp, int rows, int cols, bool *filled) {
    return tensor_new(tp, tape_kept(tp, (size_t)rows * (size_t)cols, filled), rows, cols);
}

Tensor *tape_alias(Tape *tp, Tensor *x) {
    ASSERT(x->base == NULL);
    return tensor_new(tp, x->data, x->rows, x->cols);
}

real *tape_scratch(Tape *tp, size_t count) {
    return arena_reals(&tp->scratch, count);
}

void *tape_info(Tape *tp, const void *bytes, size_t size) {
    void *copy = object_take(tp, size);
    memcpy(copy, bytes, size);
    return copy;
}

// The parameter that x is, or is a view of; NULL: none.
static Param *param_of(const Tensor *x) {
    return x->base != NULL ? x->base->param : x->param;
}

static void count_use(Tape *tp, const Tensor *x) {
    Param *p = param_of(x);
    if (p == NULL || tp->replay > 0) return;
    if (p->uses++ > 0) return;
    tp->touched =
        (Param **)grown(tp->touched, tp->touched_count, &tp->touched_capacity, sizeof *tp->touched);
    tp->touched[tp->touched_count++] = p;
}

static Tensor **list_copy(Tape *tp, Tensor *const *list) {
    size_t count = 1;
    while (list[count - 1] != NULL) count++;
    return tape_info(tp, list, count * sizeof *list);
}

Tensor *tape_push(Tape *tp, const Node *node) {
    arena_rewind(&tp->scratch, 0);
    if (!tp->record) return node->out[0];
    for (int i = 0; node->in[i] != NULL; i++) count_use(tp, node->in[i]);
    if (tp->segment > 0) return node->out[0];
    tp->nodes = (Node *)grown(tp->nodes, tp->count, &tp->capacity, sizeof *tp->nodes);
    Node *kept = &tp->nodes[tp->count++];
    *kept = *node;
    kept->out = list_copy(tp, node->out);
    kept->in = list_copy(tp, node->in);
    return kept->out[0];
}

// ---- gradient buffers -------------------------------------------------------------------------

static int block_lend(Tape *tp, size_t count) {
    for (int i = 0; i < tp->block_count; i++) {
        if (!tp->blocks[i].lent && tp->blocks[i].count == count) {
            tp->blocks[i].lent = true;
            return i;
        }
    }
    tp->blocks =
        (Block *)grown(tp->blocks, tp->block_count, &tp->block_capacity, sizeof *tp->blocks);
    tp->blocks[tp->block_count] =
        (Block){.data = arena_reals(&tp->gradients, count), .count = count, .lent = true};
    return tp->block_count++;
}

static void grad_release(Tape *tp, Tensor *x) {
    if (x->grad_block == NO_BLOCK) return;
    tp->blocks[x->grad_block].lent = false;
    x->grad_block = NO_BLOCK;
    x->grad = NULL;
}

static void grad_lend(Tape *tp, Tensor *x, bool zeroed) {
    size_t count = (size_t)x->rows * (size_t)x->cols;
    x->grad_block = block_lend(tp, count);
    x->grad = tp->blocks[x->grad_block].data;
    if (zeroed && !tp->dry) memset(x->grad, 0, count * sizeof(real));
}

real *tape_grad(Tape *tp, Tensor *x) {
    Tensor *owner = x->base != NULL ? x->base : x;
    real *grad = owner->grad;
    if (owner->param != NULL) {
        grad = owner->param->grad;
        ASSERT(tp->dry || grad != NULL);
    } else if (owner->grad_block == NO_BLOCK) {
        grad_lend(tp, owner, true);
        grad = owner->grad;
    }
    return tp->dry ? NULL : grad + (size_t)x->row * (size_t)owner->cols + (size_t)x->col;
}

real *tape_grad_first(Tape *tp, Tensor *x, bool *first) {
    *first = x->param == NULL && x->base == NULL && x->grad_block == NO_BLOCK;
    if (*first) grad_lend(tp, x, false);
    return tape_grad(tp, x);
}

int tape_grad_ld(const Tensor *x) {
    return x->base != NULL ? x->base->cols : x->cols;
}

// ---- the reverse walk -------------------------------------------------------------------------

static void uses_done(Tape *tp, const Node *node) {
    for (int i = 0; node->in[i] != NULL; i++) {
        Param *p = param_of(node->in[i]);
        if (p == NULL) continue;
        ASSERT(p->uses > 0);
        if (--p->uses == 0 && tp->ready != NULL && !tp->dry) tp->ready(p, tp->ready_user);
    }
}

static bool has_gradient(const Node *node) {
    bool any = false;
    for (int i = 0; node->out[i] != NULL; i++) any = any || node->out[i]->grad_block != NO_BLOCK;
    return any;
}

// One part of a node, and, when no other part is to come, what it held. A node whose outputs nobody
// used still counts as a use of its parameters.
static void differentiate(Tape *tp, const Node *node, BackwardFn part, bool last) {
    if (has_gradient(node)) part(tp, node);
    arena_rewind(&tp->scratch, 0);
    if (last) {
        for (int i = 0; node->out[i] != NULL; i++) grad_release(tp, node->out[i]);
        uses_done(tp, node);
    }
    if (!tp->dry) progress();
}

static void put_off(Tape *tp, const Node *node) {
    tp->late = (Node *)grown(tp->late, tp->late_count, &tp->late_capacity, sizeof *tp->late);
    tp->late[tp->late_count++] = *node;
}

// Differentiates nodes [from, count) in reverse and drops them.
static void walk(Tape *tp, int from, bool nested) {
    while (tp->count > from) {
        Node node = tp->nodes[--tp->count];
        differentiate(tp, &node, node.backward, node.late == NULL);
        if (node.late == NULL) continue;
        if (nested)
            differentiate(tp, &node, node.late, true);
        else
            put_off(tp, &node);
    }
}

void tape_backward_from(Tape *tp, Tensor *root, const real *grad) {
    ASSERT(tp->record && root->base == NULL && root->param == NULL);
    grad_lend(tp, root, false);
    if (!tp->dry) memcpy(root->grad, grad, (size_t)root->rows * (size_t)root->cols * sizeof(real));
    walk(tp, 0, false);
    for (int i = 0; i < tp->late_count; i++)
        differentiate(tp, &tp->late[i], tp->late[i].late, true);
    tp->late_count = 0;
}

void tape_backward(Tape *tp, Tensor *root) {
    ASSERT(root->rows == 1 && root->cols == 1);
    real one = 1;
    tape_backward_from(tp, root, &one);
}

// ---- recomputation ----------------------------------------------------------------------------

typedef struct Segment {
    SegmentFn fn;
    const void *args;
    int kept;  // first of what its first run kept
} Segment;

// Second run of the segment on top of the remaining tape, then its own reverse walk.
static void segment_backward(Tape *tp, const Node *node) {
    const Segment *s = node->info;
    int from = tp->count;
    size_t mark = arena_mark(&tp->activations);
    tp->replay++;
    tp->kept_cursor = s->kept;
    Tensor *again = s->fn(tp, node->in[0], s->args);
    tp->replay--;
    ASSERT(again->base == NULL && tp->count > from);
    Tensor *out = node->out[0];
    again->grad = out->grad;  // hands the buffer over: released with its producer
    again->grad_block = out->grad_block;
    out->grad_block = NO_BLOCK;
    walk(tp, from, true);
    arena_rewind(&tp->activations, mark);
}

Tensor *tape_checkpoint(Tape *tp, SegmentFn fn, Tensor *x, const void *args, size_t args_bytes) {
    size_t mark = arena_mark(&tp->activations);
    Segment s = {.fn = fn, .kept = tp->kept_count};
    tp->segment++;
    Tensor *inner = fn(tp, x, args);
    tp->segment--;
    ASSERT(inner->base == NULL && inner != x);

    // Only the result stays: it moves down to where the segment's activations began.
    arena_rewind(&tp->activations, mark);
    Tensor *out = tape_tensor(tp, inner->rows, inner->cols);
    if (!tp->dry) {
        memmove(out->data, inner->data, (size_t)out->rows * (size_t)out->cols * sizeof(real));
    }
    s.args = tape_info(tp, args, args_bytes);
    return tape_push(tp, &(Node){.backward = segment_backward,
                                 .out = TENSORS(out),
                                 .in = TENSORS(x),
                                 .info = tape_info(tp, &s, sizeof s)});
}
