// The STATE driver: linear layers over sequences that several ranks share. Chunk p alone leaves the
// state M_p; what enters chunk r is the fold over all earlier chunks,
//
//     S_in(0) = 0        S_in(p+1) = c_p S_in(p) + M_p        c_p = e^{-s C_p}, 0 when a document
//     starts in p
//
// and backward the same from the right with E_p = dL/d(state before p) of the chunk alone. Three
// ways to fold: one all-gather of all M_p (LASP-2, Sun et al. 2025, arXiv:2502.07563, with the
// decay that the paper leaves out), an exclusive scan by recursive doubling, and a ring (LASP, Sun
// et al. 2024, arXiv:2404.02882). The first two are under way while the work inside blocks, which
// no state enters, is done. docs/parallelism.md counts calls and bytes.
#include <math.h>
#include <string.h>

#include "parallel/internal.h"
#include "parallel/ops.h"
#include "tensor/kernels/kernels.h"
#include "tensor/threads.h"

// One fold. Buffers hold states (B,H,A,E).
typedef struct Fold {
    Comm *comm;
    SpLinear method;
    bool backward;  // from the last rank to the first
    CommUse use;
    const SeqInfo *seq;
    const double *decay;  // (H)
    int B, H;
    size_t per, count;   // reals of one state, of all B*H
    real *mine, *enter;  // in: of the own chunk; out: what enters it
    real *room;          // fold_room reals
} Fold;

// LASP-2 gathers one state a rank; a scan holds what it sends and what it receives.
static size_t fold_room(const Mesh *mesh, size_t count) {
    return count * (mesh->sp_linear == SP_LASP2 ? (size_t)mesh->sp : 2);
}

// A document starts in tokens [from, to) of whole row b.
static bool is_cut(const SeqInfo *s, int b, int from, int to) {
    if (s->doc == NULL) return false;
    int low = s->doc_row[b], high = s->doc_row[b + 1];
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (s->doc[mid] < from)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->doc_row[b + 1] && s->doc[low] < to;
}

// out = c state + add, where c is what tokens [from, to) leave of a state. out may be either input.
static void fold_step(const Fold *f, real *out, const real *state, const real *add, int from,
                      int to) {
#pragma omp parallel for schedule(static) if (feeds_threads((size_t)(f->B * f->H) * f->per))
    for (int i = 0; i < f->B * f->H; i++) {
        bool cut = is_cut(f->seq, i / f->H, from, to);
        size_t at = (size_t)i * f->per;
        if (cut) {
            if (out != add) memcpy(out + at, add + at, f->per * sizeof *out);
            continue;
        }
        // expm1 as in the kernel: 1 - s C rounds away the small rates of late layers
        real change = (real)expm1(-f->decay[i % f->H] * (to - from));
        for (size_t j = at; j < at + f->per; j++) out[j] = state[j] + change * state[j] + add[j];
    }
}

// Ranks and tokens as seen in the direction of the fold: place 0 is where it begins.
static int place_of(const Fold *f, int rank) {
    return f->backward ? f->comm->size - 1 - rank : rank;
}
static void fold_span(const Fold *f, real *out, const real *state, const real *add, int first,
                      int last) {
    int low = f->backward ? place_of(f, last) : first,
        high = f->backward ? place_of(f, first) : last;
    fold_step(f, out, state, add, f->seq->bound[low], f->seq->bound[high + 1]);
}

// ---- LASP-2 ------------------------------------------------------------------------------------

static void gather_start(Fold *f) {
    for (int r = 0; r < f->comm->size; r++) f->comm->rows[r] = 1;
    comm_gather_rows(f->comm, f->use, f->mine, f->room, f->comm->rows, (int)f->count);
}

static void gather_finish(Fold *f) {
    comm_finish(f->comm);
    memset(f->enter, 0, f->count * sizeof *f->enter);
    for (int p = 0; p < place_of(f, f->comm->rank); p++) {
        int rank = place_of(f, p);
        fold_span(f, f->enter, f->enter, f->room + (size_t)rank * f->count, p, p);
    }
}

// ---- scan by recursive doubling ----------------------------------------------------------------

// Round d: the fold over the last d places, the own one included, goes d places on. `mine` grows to
// that fold, `enter` to the fold over the d places before.
static void scan_start(Fold *f, int d) {
    int place = place_of(f, f->comm->rank), size = f->comm->size;
    int to = place + d < size ? place_of(f, place + d) : -1;
    int from = place - d >= 0 ? place_of(f, place - d) : -1;
    memcpy(f->room, f->mine, f->count * sizeof *f->mine);  // mine changes while it is sent
    comm_shift(f->comm, f->use, f->room, 1, to, f->room + f->count, 1, from, (int)f->count);
}

static void scan_finish(Fold *f) {
    int place = place_of(f, f->comm->rank), size = f->comm->size;
    memset(f->enter, 0, f->count * sizeof *f->enter);
    for (int d = 1; d < size; d *= 2) {
        if (d > 1) scan_start(f, d);
        comm_finish(f->comm);
        if (place < d) continue;
        const real *before = f->room + f->count;
        fold_span(f, f->mine, before, f->mine, place - d + 1, place);
        if (d == 1)
            memcpy(f->enter, before, f->count * sizeof *before);
        else
            fold_span(f, f->enter, before, f->enter, place - d + 1, place - 1);
    }
}

// ---- ring --------------------------------------------------------------------------------------

static void ring_finish(Fold *f) {
    int place = place_of(f, f->comm->rank), size = f->comm->size;
    int from = place > 0 ? place_of(f, place - 1) : -1;
    int to = place + 1 < size ? place_of(f, place + 1) : -1;
    memset(f->enter, 0, f->count * sizeof *f->enter);
    if (from >= 0) {
        comm_shift(f->comm, f->use, NULL, 0, -1, f->enter, 1, from, (int)f->count);
        comm_finish(f->comm);
    }
    if (to < 0) return;
    fold_span(f, f->room, f->enter, f->mine, place, place);
    comm_shift(f->comm, f->use, f->room, 1, to, NULL, 0, -1, (int)f->count);
    comm_finish(f->comm);
}

static void fold_start(Fold *f) {
    ASSERT(f->count < INT32_MAX);
    comm__enter(f->comm, comm_use_text(f->use), (uint64_t)f->method);
    if (f->method == SP_LASP2) gather_start(f);
    if (f->method == SP_LASP2_SCAN) scan_start(f, 1);
}

static void fold_finish(Fold *f) {
    if (f->method == SP_LASP2) gather_finish(f);
    if (f->method == SP_LASP2_SCAN) scan_finish(f);
    if (f->method == SP_LASP) ring_finish(f);
}

// ---- lightning attention -----------------------------------------------------------------------

typedef struct StateInfo {
    const Mesh *mesh;
    SeqInfo seq;
    LightningDims dims;
} StateInfo;

static size_t states_count(const LightningDims *d) {
    return (size_t)d->B * (size_t)d->H * (size_t)d->A * (size_t)d->E;
}

static Fold fold_open(const StateInfo *s, bool backward, real *mine, real *enter, real *room) {
    const LightningDims *d = &s->dims;
    return (Fold){.comm = s->mesh->sp_axis,
                  .method = s->mesh->sp_linear,
                  .backward = backward,
                  .use = backward ? COMM_DSTATE : COMM_STATE,
                  .seq = &s->seq,
                  .decay = d->decay,
                  .B = d->B,
                  .H = d->H,
                  .per = (size_t)d->A * (size_t)d->E,
                  .count = states_count(d),
                  .mine = mine,
                  .enter = enter,
                  .room = room};
}

static void state_node(Tape *tp, const Node *n) {
    StateInfo s = *(const StateInfo *)n->info;
    LightningDims *d = &s.dims;
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    real *dq = tape_grad(tp, q), *dk = tape_grad(tp, k), *dv = tape_grad(tp, v);
    size_t count = states_count(d);
    real *dstore = tape_scratch(tp, lightning_store_reals(d));
    real *mine = tape_scratch(tp, count), *leave = tape_scratch(tp, count);
    real *room = tape_scratch(tp, fold_room(s.mesh, count));
    real *scratch = tape_scratch(tp, lightning_scratch_reals(d, threads_chosen()));
    if (tape_is_dry(tp)) return;
    d->ld_dq = tape_grad_ld(q);
    d->ld_dk = tape_grad_ld(k);
    d->ld_dv = tape_grad_ld(v);
    d->ld_do = n->out[0]->cols;
    Fold fold = fold_open(&s, true, mine, leave, room);
    lightning_dstates(dstore, mine, n->out[0]->grad, q->data, scratch, d);
    fold_start(&fold);
    lightning_inside_backward(dq, dk, dv, n->out[0]->grad, q->data, k->data, v->data, scratch, d);
    fold_finish(&fold);
    lightning_dstates_leave(dstore, leave, d);
    lightning_across_backward(dq, dk, dv, n->out[0]->grad, k->data, v->data, n->saved[0], dstore,
                              scratch, d);
}

Tensor *op_seq_lightning(Tape *tp, const Mesh *mesh, Tensor *q, Tensor *k, Tensor *v,
                         const SeqInfo *seq, const LightningArgs *a) {
    if (mesh == NULL || mesh->sp == 1 || a->state != NULL) return op_lightning(tp, q, k, v, seq, a);
    StateInfo s = {mesh, *seq, lightning_dims(q, k, v, seq, a)};
    const LightningDims *d = &s.dims;
    size_t count = states_count(d);
    bool known;
    Tensor *o = tape_tensor(tp, v->rows, v->cols);
    real *store = tape_saved(tp, lightning_store_reals(d));
    real *enter = tape_kept(tp, count, &known);  // O(1) in the length: never exchanged twice
    real *mine = tape_scratch(tp, count), *room = tape_scratch(tp, fold_room(mesh, count));
    real *scratch = tape_scratch(tp, lightning_scratch_reals(d, threads_chosen()));
    if (!tape_is_dry(tp)) {
        Fold fold = fold_open(&s, false, mine, enter, room);
        lightning_states(store, mine, k->data, v->data, scratch, d);
        if (!known) fold_start(&fold);
        lightning_inside(o->data, q->data, k->data, v->data, scratch, d);
        if (!known) fold_finish(&fold);
        lightning_states_enter(store, enter, d);
        lightning_across(o->data, q->data, store, scratch, d);
    }
    return tape_push(tp, &(Node){.backward = state_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v),
                                 .saved = {store},
                                 .info = tape_info(tp, &s, sizeof s)});
}
