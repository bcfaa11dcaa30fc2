// Neural memory: the walk over the pieces of each row and head, forward, and backward from states
// kept now and then (recomputed between, Chen et al. 2016, arXiv:1604.06174).
//
// A task is a head, for all rows in turn: the gradient of the initial weights adds up in one order,
// whatever the number of threads.
#include <math.h>
#include <string.h>

#include "tensor/kernels/memory_chunk.h"
#include "tensor/progress.h"
#include "tensor/threads.h"

static size_t layer_reals(const MemoryDims *d, int l) {
    size_t in = (size_t)(l == 0 ? d->D : d->hidden);
    return in * (size_t)(l == d->layers - 1 ? d->D : d->hidden);
}

size_t memory_weights(const MemoryDims *d) {
    size_t sum = 0;
    for (int l = 0; l < d->layers; l++) sum += layer_reals(d, l);
    return sum;
}

// W0, W, S, and the theta that each layer has used of its chunk's budget.
static size_t task_state(const MemoryDims *d) {
    return 3 * memory_weights(d) + (size_t)d->layers;
}

size_t memory_state_reals(const MemoryDims *d) {
    return (size_t)d->B * (size_t)d->H * task_state(d);
}

// W0 = W = the head's initial weights, S = 0.
static void state_begin(real *state, const real *init, const MemoryDims *d) {
    size_t weights = memory_weights(d);
    memcpy(state, init, weights * sizeof *state);
    memcpy(state + weights, init, weights * sizeof *state);
    memset(state + 2 * weights, 0, (task_state(d) - 2 * weights) * sizeof *state);
}

void memory_state_begin(real *state, const real *init, const MemoryDims *d) {
    size_t weights = memory_weights(d);
    for (int i = 0; i < d->B * d->H; i++)
        state_begin(state + (size_t)i * task_state(d), init + (size_t)(i % d->H) * weights, d);
}

// ---- pieces ------------------------------------------------------------------------------------

static bool starts(const MemoryDims *d, int row, int t) {
    return d->start != NULL && d->start[(size_t)row * (size_t)d->T + (size_t)t];
}

// A chunk begins here, be it the first of a document.
static bool chunk_begins(const MemoryDims *d, int row, int t) {
    return starts(d, row, t) || d->pos[(size_t)row * (size_t)d->T + (size_t)t] % d->chunk == 0;
}

static int piece_end(const MemoryDims *d, int row, int t) {
    int end = t + 1;
    while (end < d->T && !chunk_begins(d, row, end)) end++;
    return end;
}

// States are kept at the first piece of every stretch of so many tokens: as many stretches as a
// stretch has chunks.
static int stretch_tokens(const MemoryDims *d) {
    int chunks = d->T / d->chunk + 1, side = (int)ceil(sqrt((double)chunks));
    return side * d->chunk;
}

static size_t stretches(const MemoryDims *d) {
    return (size_t)(d->T / stretch_tokens(d) + 1);
}

// Pieces of a stretch that do not begin a document, whose states are recomputed; one more.
static size_t slots(const MemoryDims *d) {
    return (size_t)(stretch_tokens(d) / d->chunk) + 3;
}

size_t memory_store_reals(const MemoryDims *d) {
    return (size_t)d->B * (size_t)d->H * stretches(d) * task_state(d);
}

// ---- one head of one row -----------------------------------------------------------------------

typedef struct Task {
    const MemoryDims *d;
    const MemoryInputs *in;
    int row, head;
    size_t weights;
    MemoryPiece p;
    real *spent;  // in the state
} Task;

static size_t place(const Task *t, int token, int ld, int width) {
    size_t n = (size_t)t->row * (size_t)t->d->T + (size_t)token;
    return n * (size_t)ld + (size_t)t->head * (size_t)width;
}

static void copy_in(real *to, const real *from, int n, int ld, int D) {
    for (int i = 0; i < n; i++)
        memcpy(to + (size_t)i * (size_t)D, from + (size_t)i * (size_t)ld, (size_t)D * sizeof *to);
}

// Points the weights of the piece that begins at `at` into a state. Of a piece that begins a chunk
// those of the chunk's start are those of now.
static void use_state(Task *t, real *state, int at) {
    size_t start = chunk_begins(t->d, t->row, at) ? t->weights : 0;
    for (int l = 0; l < t->d->layers; l++) {
        FastWeight *w = &t->p.w[l];
        w->W0 = state + start;
        w->W = state + t->weights;
        w->S = state + 2 * t->weights;
        state += layer_reals(t->d, l);
    }
    t->spent = state + 2 * t->weights;
}

static void gate_columns(const Task *t, int l, int offset[3]) {
    for (int kind = 0; kind < 3; kind++)
        offset[kind] = (kind * t->d->layers + l) * t->d->H + t->head;
}

// Inputs and gates of tokens [at, end).
static void piece_load(Task *t, int at, int end) {
    const MemoryDims *d = t->d;
    const MemoryInputs *in = t->in;
    MemoryPiece *p = &t->p;
    p->n = end - at;
    copy_in(p->q, in->q + place(t, at, d->ld_q, d->D), p->n, d->ld_q, d->D);
    copy_in(p->k, in->k + place(t, at, d->ld_k, d->D), p->n, d->ld_k, d->D);
    copy_in(p->v, in->v + place(t, at, d->ld_v, d->D), p->n, d->ld_v, d->D);
    for (int l = 0; l < d->layers; l++) {
        int offset[3];
        double spent = (double)t->spent[l];
        gate_columns(t, l, offset);
        memory__gates(&p->g[l], p->gates[l], p->n, in->gates + place(t, at, d->ld_g, 0), d->ld_g,
                      offset, d->budget, &spent);
        t->spent[l] = (real)spent;
    }
}

// Before the piece [at, end): a document's weights are the initial ones, a chunk's gradients are
// taken at the weights of now. Those are kept where the chunk may go on in another row.
static void state_enter(Task *t, real *state, int at, int end) {
    use_state(t, state, at);
    if (starts(t->d, t->row, at))
        state_begin(state, t->in->init + (size_t)t->head * t->weights, t->d);
    else if (chunk_begins(t->d, t->row, at)) {
        if (end == t->d->T) memcpy(state, state + t->weights, t->weights * sizeof *state);
        memset(t->spent, 0, (size_t)t->d->layers * sizeof *t->spent);
    }
}

// What a state says before the piece that begins at `at`, to come back to it: less than all where a
// chunk begins.
static void state_copy(const Task *t, real *to, const real *from, int at) {
    size_t first = chunk_begins(t->d, t->row, at) ? t->weights : 0;
    memcpy(to + first, from + first, (task_state(t->d) - first) * sizeof *to);
}

static Task task_open(const MemoryDims *d, const MemoryInputs *in, int head, real *scratch) {
    Task t = {.d = d, .in = in, .head = head, .weights = memory_weights(d)};
    memory__piece_open(&t.p, d, scratch);
    if (!d->normed) return t;
    t.p.gain = in->gain + (size_t)head * (size_t)d->D;
    t.p.shift = in->shift + (size_t)head * (size_t)d->D;
    return t;
}

// ---- forward -----------------------------------------------------------------------------------

static void row_forward(Task *t, real *out, real *state, real *store) {
    const MemoryDims *d = t->d;
    int stretch = stretch_tokens(d), kept = -1;
    for (int at = 0, end; at < d->T; at = end) {
        end = piece_end(d, t->row, at);
        if (store != NULL && at / stretch > kept) {
            kept = at / stretch;
            state_copy(t, store + (size_t)kept * task_state(d), state, at);
        }
        state_enter(t, state, at, end);
        piece_load(t, at, end);
        memory__inner(&t->p);
        memory__answer(&t->p);
        memory__learn(&t->p);
        for (int i = 0; i < t->p.n; i++)
            memcpy(out + place(t, at + i, d->ld_o, d->D), t->p.y + (size_t)i * (size_t)d->D,
                   (size_t)d->D * sizeof *out);
    }
}

static size_t grads_reals(const MemoryDims *d) {
    return 4 * (size_t)d->chunk * (size_t)d->D +
           (size_t)d->layers * memory__gate_grads_reals(d->chunk);
}

size_t memory_scratch_reals(const MemoryDims *d) {
    size_t all = memory__piece_reals(d) + memory__backward_reals(d) + grads_reals(d) +
                 (slots(d) + 1) * task_state(d);
    return (all + 15) / 16 * 16;  // threads share no cache line
}

void memory_forward(real *restrict out, real *restrict state, real *restrict store,
                    const MemoryInputs *in, real *restrict scratch, const MemoryDims *d) {
#pragma omp parallel for schedule(dynamic, 1) if (worth_threads(d->B * d->T, d->H * d->D))
    for (int h = 0; h < d->H; h++) {
        Task t =
            task_open(d, in, h, scratch + (size_t)omp_get_thread_num() * memory_scratch_reals(d));
        for (t.row = 0; t.row < d->B; t.row++) {
            size_t i = (size_t)t.row * (size_t)d->H + (size_t)h;
            row_forward(&t, out, state + i * task_state(d),
                        store == NULL ? NULL : store + i * stretches(d) * task_state(d));
            progress();
        }
    }
}

// ---- backward ----------------------------------------------------------------------------------

typedef struct Back {
    const MemoryGradients *g;
    const real *dout;
    real *dstate;                         // of this task
    real *dq, *dk, *dv, *dy, *gate_room;  // of a piece
    real *room, *slots, *state;           // state: the one at work
} Back;

static Back back_open(const Task *t, const MemoryGradients *g, const real *dout, real *at) {
    const MemoryDims *d = t->d;
    size_t piece = (size_t)d->chunk * (size_t)d->D;
    Back b = {.g = g, .dout = dout};
    at += memory__piece_reals(d);
    real **const of_piece[] = {&b.dq, &b.dk, &b.dv, &b.dy};
    for (int i = 0; i < 4; i++) *of_piece[i] = memory__take(&at, piece);
    b.gate_room = memory__take(&at, (size_t)d->layers * memory__gate_grads_reals(d->chunk));
    b.room = memory__take(&at, memory__backward_reals(d));
    b.slots = memory__take(&at, slots(d) * task_state(d));
    b.state = memory__take(&at, task_state(d));
    return b;
}

static void add_out(real *to, const real *from, int n, int ld, int D) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < D; j++)
            to[(size_t)i * (size_t)ld + (size_t)j] += from[(size_t)i * (size_t)D + (size_t)j];
}

static void use_gradients(const Task *t, const Back *b, MemoryPieceGrads *g, int first) {
    const MemoryDims *d = t->d;
    real *at = b->dstate;
    size_t start = chunk_begins(d, t->row, first) ? t->weights : 0;
    size_t gate = memory__gate_grads_reals(d->chunk);
    *g = (MemoryPieceGrads){.dq = b->dq, .dk = b->dk, .dv = b->dv};
    if (d->normed) g->dgain = b->g->dgain + (size_t)t->head * (size_t)d->D;
    if (d->normed) g->dshift = b->g->dshift + (size_t)t->head * (size_t)d->D;
    for (int l = 0; l < d->layers; l++) {
        g->dW0[l] = at + start;
        g->dW[l] = at + t->weights;
        g->dS[l] = at + 2 * t->weights;
        at += layer_reals(d, l);
        memory__gate_grads(&g->g[l], b->gate_room + (size_t)l * gate, t->p.n);
    }
}

// The piece [at, end), from its state before.
static void piece_backward(Task *t, const Back *b, int at, int end) {
    const MemoryDims *d = t->d;
    MemoryPieceGrads g;
    piece_load(t, at, end);
    memory__inner(&t->p);
    memory__answer(&t->p);
    copy_in(b->dy, b->dout + place(t, at, d->ld_o, d->D), t->p.n, d->ld_o, d->D);
    memset(b->dq, 0, 3 * (size_t)d->chunk * (size_t)d->D * sizeof(real));
    use_gradients(t, b, &g, at);
    memory__piece_backward(&g, &t->p, b->dy, b->room);
    add_out(b->g->dq + place(t, at, b->g->ld_q, d->D), b->dq, t->p.n, b->g->ld_q, d->D);
    add_out(b->g->dk + place(t, at, b->g->ld_k, d->D), b->dk, t->p.n, b->g->ld_k, d->D);
    add_out(b->g->dv + place(t, at, b->g->ld_v, d->D), b->dv, t->p.n, b->g->ld_v, d->D);
    for (int l = 0; l < d->layers; l++) {
        int offset[3];
        gate_columns(t, l, offset);
        memory__gates_backward(&t->p.g[l], &g.g[l], b->room,
                               b->g->dgates + place(t, at, b->g->ld_g, 0), b->g->ld_g, offset);
    }
}

// Backward of state_enter: with the last piece a chunk's start may come from another row.
static void state_leave(const Task *t, const Back *b, int at, int end) {
    size_t n = t->weights;
    real *dW0 = b->dstate, *dW = dW0 + n, *dinit = b->g->dinit + (size_t)t->head * n;
    if (!chunk_begins(t->d, t->row, at)) return;
    for (size_t i = 0; i < n && end == t->d->T; i++) dW[i] += dW0[i];
    if (end == t->d->T) memset(dW0, 0, n * sizeof *dW0);
    if (!starts(t->d, t->row, at)) return;
    for (size_t i = 0; i < n; i++) dinit[i] += dW[i];
    memset(dW, 0, 2 * n * sizeof *dW);
}

// Pieces that begin in [first, last), where one begins at `first`: their states once more, then
// their gradients, from the last on.
static void stretch_backward(Task *t, const Back *b, const real *kept, int first, int last) {
    const MemoryDims *d = t->d;
    int used = 0;
    state_copy(t, b->state, kept, first);
    for (int at = first, end; at < last; at = end) {
        end = piece_end(d, t->row, at);
        state_enter(t, b->state, at, end);
        if (!starts(d, t->row, at))
            state_copy(t, b->slots + (size_t)used++ * task_state(d), b->state, at);
        if (end >= last) break;
        piece_load(t, at, end);
        memory__inner(&t->p);
        memory__learn(&t->p);
    }
    for (int end = last, at; end > first; end = at) {
        for (at = end - 1; at > first && !chunk_begins(d, t->row, at); at--) continue;
        if (!starts(d, t->row, at))
            state_copy(t, b->state, b->slots + (size_t)--used * task_state(d), at);
        state_enter(t, b->state, at, end);
        piece_backward(t, b, at, end);
        state_leave(t, b, at, end);
    }
}

static int first_piece(const MemoryDims *d, int row, int t) {
    while (t > 0 && t < d->T && !chunk_begins(d, row, t)) t++;
    return t < d->T ? t : d->T;
}

static void row_backward(Task *t, const Back *b, const real *store) {
    const MemoryDims *d = t->d;
    int stretch = stretch_tokens(d), last = d->T;
    for (int i = (d->T - 1) / stretch; i >= 0; i--) {
        int first = first_piece(d, t->row, i * stretch);
        if (first < last) stretch_backward(t, b, store + (size_t)i * task_state(d), first, last);
        if (first < last) last = first;
    }
}

void memory_backward(const MemoryGradients *g, real *restrict dstate, const real *restrict dout,
                     const real *restrict store, const MemoryInputs *in, real *restrict scratch,
                     const MemoryDims *d) {
#pragma omp parallel for schedule(dynamic, 1) if (worth_threads(d->B * d->T, d->H * d->D))
    for (int h = 0; h < d->H; h++) {
        real *mine = scratch + (size_t)omp_get_thread_num() * memory_scratch_reals(d);
        Task t = task_open(d, in, h, mine);
        Back b = back_open(&t, g, dout, mine);
        for (t.row = 0; t.row < d->B; t.row++) {
            size_t i = (size_t)t.row * (size_t)d->H + (size_t)h;
            b.dstate = dstate + i * task_state(d);
            row_backward(&t, &b, store + i * stretches(d) * task_state(d));
            memset(b.dstate + 3 * t.weights, 0, (size_t)d->layers * sizeof(real));
            progress();
        }
    }
}
