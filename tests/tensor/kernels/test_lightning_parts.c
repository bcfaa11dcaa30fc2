// Lightning attention in parts: rows cut into uneven chunks, the states between them folded here as
// ranks would fold them, equal the fused kernel on whole rows, forward and backward, for every
// rate, block size and document layout.
#include <criterion/criterion.h>

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gradcheck.h"
#include "tests/ref/ref_attention.h"

enum { CHUNKS = 4, PAD = 2, HEADS = 5 };

static const double RATES[HEADS] = {0.5, 0.25, 1.0 / 256, 4e-8, 0};

// Operands, results and states of whole rows, or of one chunk of each.
typedef struct Piece {
    LightningDims d;
    int at;  // first token of the chunk
    size_t states;
    uint8_t *start;
    real *q, *k, *v, *dout, *out, *dq, *dk, *dv;
    real *state, *dstate;  // (B,H,A,E) after the last token, before the first
    real *enter, *leave;   // before the first token, gradient after the last: given or folded
    real *store, *dstore, *scratch;
} Piece;

static size_t tokens(const Piece *p) {
    return (size_t)p->d.B * (size_t)p->d.T;
}

static Piece piece_new(const LightningDims *d, int at, int T) {
    Piece p = {.d = *d, .at = at};
    p.d.T = T;
    p.d.ld_q = p.d.ld_k = p.d.ld_dq = p.d.ld_dk = d->H * d->A + PAD;
    p.d.ld_v = p.d.ld_o = p.d.ld_dv = p.d.ld_do = d->H * d->E + PAD;
    size_t qk = tokens(&p) * (size_t)p.d.ld_q, v = tokens(&p) * (size_t)p.d.ld_v;
    p.states = (size_t)d->B * (size_t)d->H * (size_t)d->A * (size_t)d->E;
    p.start = calloc(tokens(&p) + 1, 1);
    p.d.start = p.start;
    p.q = numbers_normal(qk, 1), p.k = numbers_normal(qk, 2);
    p.v = numbers_normal(v, 3), p.dout = numbers_normal(v, 4), p.out = numbers_poison(v);
    p.dq = calloc(qk + 1, sizeof(real)), p.dk = calloc(qk + 1, sizeof(real));
    p.dv = calloc(v + 1, sizeof(real));
    p.state = numbers_poison(p.states), p.dstate = numbers_poison(p.states);
    p.enter = numbers_normal(p.states, 5), p.leave = numbers_normal(p.states, 6);
    p.store = numbers_poison(lightning_store_reals(&p.d));
    p.dstore = numbers_poison(lightning_store_reals(&p.d));
    p.scratch = numbers_poison(lightning_scratch_reals(&p.d, omp_get_max_threads()));
    return p;
}

static void piece_free(Piece *p) {
    free(p->start), free(p->q), free(p->k), free(p->v), free(p->dout), free(p->out), free(p->dq);
    free(p->dk), free(p->dv), free(p->state), free(p->dstate), free(p->enter), free(p->leave);
    free(p->store), free(p->dstore), free(p->scratch);
}

// The chunk's tokens of an operand of whole rows into that of the chunk, or back.
static void cut(const Piece *whole, const Piece *p, real *rows, real *chunk, int ld, bool back) {
    size_t bytes = (size_t)p->d.T * (size_t)ld * sizeof(real);
    for (int b = 0; b < p->d.B; b++) {
        real *r = rows + ((size_t)b * (size_t)whole->d.T + (size_t)p->at) * (size_t)ld;
        real *c = chunk + (size_t)b * (size_t)p->d.T * (size_t)ld;
        memcpy(back ? r : c, back ? c : r, bytes);
    }
}

static Piece piece_cut(const Piece *whole, int at, int T) {
    Piece p = piece_new(&whole->d, at, T);
    cut(whole, &p, whole->q, p.q, p.d.ld_q, false);
    cut(whole, &p, whole->k, p.k, p.d.ld_k, false);
    cut(whole, &p, whole->v, p.v, p.d.ld_v, false);
    cut(whole, &p, whole->dout, p.dout, p.d.ld_do, false);
    for (int b = 0; b < p.d.B; b++)
        memcpy(p.start + b * T, whole->start + b * whole->d.T + at, (size_t)T);
    return p;
}

static void fused(Piece *w) {
    memcpy(w->state, w->enter, w->states * sizeof(real));
    memcpy(w->dstate, w->leave, w->states * sizeof(real));
    lightning_forward(w->out, w->state, w->store, w->q, w->k, w->v, w->scratch, &w->d);
    lightning_backward(w->dq, w->dk, w->dv, w->dstate, w->dout, w->q, w->k, w->v, w->store,
                       w->scratch, &w->d);
}

// exp(-s T), or 0 when a document starts in the chunk, of state entry i.
static double carry(const Piece *p, size_t i) {
    size_t head = i / ((size_t)p->d.A * (size_t)p->d.E), row = head / (size_t)p->d.H;
    for (int t = 0; t < p->d.T; t++)
        if (p->start[row * (size_t)p->d.T + (size_t)t]) return 0;
    return exp(-p->d.decay[head % (size_t)p->d.H] * p->d.T);
}

// What is beyond a chunk: what was beyond its neighbour, carried through it, and what it gave.
static void fold(real *to, const Piece *neighbour, const real *beyond, const real *gave) {
    for (size_t i = 0; i < neighbour->states; i++)
        to[i] = (real)(carry(neighbour, i) * (double)beyond[i] + (double)gave[i]);
}

static void parts_forward(Piece *p, int count) {
    for (int n = 0; n < count; n++) {
        lightning_states(p[n].store, p[n].state, p[n].k, p[n].v, p[n].scratch, &p[n].d);
        if (n > 0) fold(p[n].enter, &p[n - 1], p[n - 1].enter, p[n - 1].state);
        lightning_inside(p[n].out, p[n].q, p[n].k, p[n].v, p[n].scratch, &p[n].d);
        lightning_states_enter(p[n].store, p[n].enter, &p[n].d);
        lightning_across(p[n].out, p[n].q, p[n].store, p[n].scratch, &p[n].d);
    }
}

static void parts_backward(Piece *p, int count) {
    for (int n = count - 1; n >= 0; n--) {
        Piece *c = &p[n], *next = &p[n + 1];
        lightning_dstates(c->dstore, c->dstate, c->dout, c->q, c->scratch, &c->d);
        if (n + 1 < count) fold(c->leave, next, next->leave, next->dstate);
        lightning_dstates_leave(c->dstore, c->leave, &c->d);
        lightning_inside_backward(c->dq, c->dk, c->dv, c->dout, c->q, c->k, c->v, c->scratch,
                                  &c->d);
        lightning_across_backward(c->dq, c->dk, c->dv, c->dout, c->k, c->v, c->store, c->dstore,
                                  c->scratch, &c->d);
    }
}

// The results of all chunks put together in the arrays of `whole`.
static void join(Piece *whole, Piece *p, int count) {
    for (int n = 0; n < count; n++) {
        cut(whole, &p[n], whole->out, p[n].out, whole->d.ld_o, true);
        cut(whole, &p[n], whole->dq, p[n].dq, whole->d.ld_dq, true);
        cut(whole, &p[n], whole->dk, p[n].dk, whole->d.ld_dk, true);
        cut(whole, &p[n], whole->dv, p[n].dv, whole->d.ld_dv, true);
    }
    fold(whole->state, &p[count - 1], p[count - 1].enter, p[count - 1].state);
    fold(whole->dstate, &p[0], p[0].leave, p[0].dstate);
}

// `whole` in chunks of these lengths (ends with -1), into its own arrays.
static void in_parts(Piece *whole, const int *lengths) {
    Piece p[CHUNKS];
    int count = 0, at = 0;
    for (; lengths[count] >= 0; at += lengths[count++])
        p[count] = piece_cut(whole, at, lengths[count]);
    cr_assert(count <= CHUNKS && at == whole->d.T);
    memcpy(p[0].enter, whole->enter, whole->states * sizeof(real));
    memcpy(p[count - 1].leave, whole->leave, whole->states * sizeof(real));
    parts_forward(p, count);
    parts_backward(p, count);
    join(whole, p, count);
    for (int n = 0; n < count; n++) piece_free(&p[n]);
}

// Only head columns: what stands in the pad columns is nobody's.
static double rows_distance(const Piece *p, const real *got, const real *want, int ld, int cols) {
    size_t count = tokens(p) * (size_t)ld;
    real *a = numbers_copy(got, count), *b = numbers_copy(want, count);
    for (size_t i = 0; i < count; i++)
        if (i % (size_t)ld >= (size_t)cols) a[i] = b[i] = 0;
    double e = numbers_distance(a, b, count);
    free(a), free(b);
    return e;
}

static void compare(const Piece *got, const Piece *want, const char *what, const int *lengths) {
    int HA = got->d.H * got->d.A, HE = got->d.H * got->d.E;
    double e[6] = {rows_distance(got, got->out, want->out, got->d.ld_o, HE),
                   rows_distance(got, got->dq, want->dq, got->d.ld_dq, HA),
                   rows_distance(got, got->dk, want->dk, got->d.ld_dk, HA),
                   rows_distance(got, got->dv, want->dv, got->d.ld_dv, HE),
                   numbers_distance(got->state, want->state, got->states),
                   numbers_distance(got->dstate, want->dstate, got->states)};
    for (int i = 0; i < 6; i++) {
        cr_assert(e[i] <= TWIN_TOLERANCE, "%s, chunks %d %d.., block %d: result %d is %g off", what,
                  lengths[0], lengths[1], got->d.block, i, e[i]);
    }
}

// Every block size and way of cutting rows of 67 tokens, with documents at `starts` (ends with -1)
// in row 0 and a token later in row 1.
static void check(int A, int E, const int *starts, const char *what) {
    const int blocks[] = {1, 7, 16, 64, 100};
    const int cuts[][CHUNKS + 1] = {{67, -1},          {0, 67, -1},        {66, 1, -1},
                                    {30, 37, -1},      {30, 0, 37, -1},    {1, 20, 46, -1},
                                    {9, 1, 56, 1, -1}, {0, 30, 37, 0, -1}, {21, 2, 25, 19, -1}};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        LightningDims d = {
            .B = 2, .T = 67, .H = HEADS, .A = A, .E = E, .block = blocks[b], .decay = RATES};
        Piece want = piece_new(&d, 0, d.T);
        for (const int *s = starts; *s >= 0; s++) want.start[*s] = want.start[67 + *s + 1] = 1;
        fused(&want);
        for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
            Piece got = piece_new(&d, 0, d.T);
            memcpy(got.start, want.start, tokens(&want));
            in_parts(&got, cuts[c]);
            compare(&got, &want, what, cuts[c]);
            piece_free(&got);
        }
        piece_free(&want);
    }
}

Test(lightning_parts, equal_the_whole_at_every_rate) {
    check(6, 3, (const int[]){-1}, "one document");
    check(1, 7, (const int[]){-1}, "one feature");
}

Test(lightning_parts, documents_start_on_and_off_borders) {
    check(3, 4, (const int[]){0, -1}, "first token");
    check(3, 4, (const int[]){30, -1}, "border");
    check(3, 4, (const int[]){29, 31, -1}, "around a border");
    check(3, 4, (const int[]){10, 16, 22, 48, 65, -1}, "many");
}

Test(lightning_parts, every_token_its_own_document) {
    int starts[67];
    for (int i = 0; i < 66; i++) starts[i] = i;
    starts[66] = -1;
    check(3, 2, starts, "single tokens");
}

Test(lightning_parts, no_rows_and_no_tokens_are_legal) {
    LightningDims d = {.B = 0, .T = 9, .H = HEADS, .A = 3, .E = 2, .block = 4, .decay = RATES};
    Piece none = piece_new(&d, 0, 9);
    in_parts(&none, (const int[]){4, 5, -1});
    piece_free(&none);
    d.B = 2;
    Piece empty = piece_new(&d, 0, 0);
    in_parts(&empty, (const int[]){0, 0, -1});
    for (size_t i = 0; i < empty.states; i++) cr_assert_eq(empty.state[i], empty.enter[i]);
    piece_free(&empty);
}

// A remainder of the entering state that floats cannot hold as a normal number is none.
Test(lightning_parts, forgotten_states_become_zero) {
    static const double fast[] = {0.5};
    LightningDims d = {.B = 1, .T = 400, .H = 1, .A = 3, .E = 2, .block = 16, .decay = fast};
    Piece p = piece_new(&d, 0, 400);
    memset(p.k, 0, tokens(&p) * (size_t)p.d.ld_k * sizeof(real));
    lightning_states(p.store, p.state, p.k, p.v, p.scratch, &p.d);
    lightning_states_enter(p.store, p.enter, &p.d);
    for (size_t i = 0; i < 25 * p.states; i++)
        cr_assert(p.store[i] == 0 || fabs((double)p.store[i]) >= 1e-30);
    for (size_t i = 0; i < p.states; i++) {
        cr_assert_eq(p.store[i], p.enter[i]);
        cr_assert_eq(p.store[24 * p.states + i], 0);
    }
    piece_free(&p);
}

static void run_parts(void *ctx, real *out) {
    Piece p = piece_new(ctx, 0, ((const LightningDims *)ctx)->T);
    size_t v = tokens(&p) * (size_t)p.d.ld_v;
    p.start[50] = 1;
    parts_forward(&p, 1);
    parts_backward(&p, 1);
    memcpy(out, p.dv, v * sizeof(real));
    memcpy(out + v, p.store, lightning_store_reals(&p.d) * sizeof(real));
    piece_free(&p);
}

Test(lightning_parts, same_bits_for_any_number_of_threads) {
    LightningDims d = {.B = 2, .T = 90, .H = HEADS, .A = 16, .E = 8, .block = 32, .decay = RATES};
    size_t count = 180 * (HEADS * 8 + PAD) + lightning_store_reals(&d);
    cr_assert(same_bits_on_any_threads(run_parts, &d, count));
}

#if GRADCHECK_RUNS
// The scalar that gradients are of: products of two chunks' outputs with dout, and of the state
// after the second with leave.
static double objective(void *ctx) {
    Piece *p = ctx;
    double sum = 0;
    parts_forward(p, 2);
    for (int n = 0; n < 2; n++) {
        size_t ld = (size_t)p[n].d.ld_o;
        for (size_t i = 0; i < tokens(&p[n]) * ld; i++)
            if (i % ld < ld - PAD) sum += p[n].out[i] * p[n].dout[i];
    }
    for (size_t i = 0; i < p[1].states; i++)
        sum += (carry(&p[1], i) * p[1].enter[i] + p[1].state[i]) * p[1].leave[i];
    return sum;
}

Test(lightning_parts, gradients_match_central_differences) {
    LightningDims d = {.B = 2, .T = 24, .H = HEADS, .A = 3, .E = 2, .block = 8, .decay = RATES};
    Piece p[2] = {piece_new(&d, 0, 19), piece_new(&d, 0, 24)};
    p[0].start[7] = p[1].start[24 + 8] = 1;
    parts_forward(p, 2);
    parts_backward(p, 2);
    real *before = numbers_copy(p[0].dstate, p[0].states);
    fold(before, &p[0], p[0].leave, p[0].dstate);
    for (int n = 0; n < 2; n++) {
        size_t qk = tokens(&p[n]) * (size_t)p[n].d.ld_q, v = tokens(&p[n]) * (size_t)p[n].d.ld_v;
        double e = gradcheck("q", objective, p, p[n].q, p[n].dq, qk);
        e = fmax(e, gradcheck("k", objective, p, p[n].k, p[n].dk, qk));
        e = fmax(e, gradcheck("v", objective, p, p[n].v, p[n].dv, v));
        cr_assert_leq(e, GRADCHECK_TOLERANCE, "chunk %d", n);
    }
    double e = gradcheck("enter", objective, p, p[0].enter, before, p[0].states);
    cr_assert_leq(e, GRADCHECK_TOLERANCE);
    free(before);
    piece_free(&p[0]), piece_free(&p[1]);
}
#endif
