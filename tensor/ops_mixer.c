// Ops along time: position codes, lightning attention, softmax attention.
#include <math.h>
#include <string.h>

#include "tensor/kernels/kernels.h"
#include "tensor/ops.h"
#include "tensor/threads.h"

// ---- position codes ----------------------------------------------------------------------------

typedef struct RopeInfo {
    const int64_t *pos;
    double base;
    int heads;
} RopeInfo;

static void rope_node(Tape *tp, const Node *n) {
    const RopeInfo *r = n->info;
    Tensor *x = n->in[0];
    real *dx = tape_grad(tp, x);
    if (tape_is_dry(tp)) return;
    rope_backward(dx, tape_grad_ld(x), n->out[0]->grad, r->pos, r->base, x->rows, r->heads,
                  x->cols / r->heads);
}

Tensor *op_rope(Tape *tp, Tensor *x, const SeqInfo *s, double base, int heads) {
    RopeInfo r = {s->pos, base, heads};
    ASSERT(x->rows == s->B * s->T && x->cols % heads == 0);
    Tensor *y = tape_tensor(tp, x->rows, x->cols);
    if (!tape_is_dry(tp)) {
        rope_forward(y->data, x->data, x->ld, r.pos, base, x->rows, heads, x->cols / heads);
    }
    return tape_push(tp, &(Node){.backward = rope_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x),
                                 .info = tape_info(tp, &r, sizeof r)});
}

LrpeAngles op_lrpe_angles(Tape *tp, Tensor *theta, const SeqInfo *s) {
    int N = s->B * s->T, C = (int)theta->param->count;
    size_t count = (size_t)N * (size_t)C;
    real *cosine = tape_saved(tp, count), *sine = tape_saved(tp, count);
    if (!tape_is_dry(tp)) lrpe_angles(cosine, sine, theta->data, s->pos, N, C);
    return (LrpeAngles){cosine, sine, s->pos};
}

typedef struct LrpeInfo {
    LrpeAngles angles;
    int heads;
} LrpeInfo;

static void lrpe_node(Tape *tp, const Node *n) {
    const LrpeInfo *l = n->info;
    Tensor *x = n->in[0];
    real *dx = tape_grad(tp, x), *dtheta = tape_grad(tp, n->in[1]);
    if (tape_is_dry(tp)) return;
    lrpe_backward(dx, tape_grad_ld(x), dtheta, n->out[0]->grad, x->data, x->ld, l->angles.cosine,
                  l->angles.sine, l->angles.pos, x->rows, l->heads, x->cols / l->heads);
}

Tensor *op_lrpe(Tape *tp, Tensor *x, Tensor *theta, const LrpeAngles *a, int heads) {
    LrpeInfo l = {*a, heads};
    ASSERT(x->cols % heads == 0);
    Tensor *y = tape_tensor(tp, x->rows, 2 * x->cols);
    if (!tape_is_dry(tp)) {
        lrpe_forward(y->data, x->data, x->ld, a->cosine, a->sine, x->rows, heads, x->cols / heads);
    }
    return tape_push(tp, &(Node){.backward = lrpe_node,
                                 .out = TENSORS(y),
                                 .in = TENSORS(x, theta),
                                 .info = tape_info(tp, &l, sizeof l)});
}

// ---- lightning attention -----------------------------------------------------------------------

static size_t state_reals(const LightningDims *d) {
    return (size_t)d->B * (size_t)d->H * (size_t)d->A * (size_t)d->E;
}

static void lightning_node(Tape *tp, const Node *n) {
    LightningDims d = *(const LightningDims *)n->info;
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    real *dq = tape_grad(tp, q), *dk = tape_grad(tp, k), *dv = tape_grad(tp, v);
    real *dstate = tape_scratch(tp, state_reals(&d));
    real *scratch = tape_scratch(tp, lightning_scratch_reals(&d, threads_chosen()));
    if (tape_is_dry(tp)) return;
    d.ld_dq = tape_grad_ld(q);
    d.ld_dk = tape_grad_ld(k);
    d.ld_dv = tape_grad_ld(v);
    d.ld_do = n->out[0]->cols;
    memset(dstate, 0, state_reals(&d) * sizeof(real));
    lightning_backward(dq, dk, dv, dstate, n->out[0]->grad, q->data, k->data, v->data, n->saved[0],
                       scratch, &d);
}

LightningDims lightning_dims(const Tensor *q, const Tensor *k, const Tensor *v, const SeqInfo *s,
                             const LightningArgs *a) {
    int A = q->cols / a->heads, E = v->cols / a->heads;
    return (LightningDims){.B = s->B,
                           .T = s->T,
                           .H = a->heads,
                           .A = A,
                           .E = E,
                           .block = a->block > 0 ? a->block : lightning_default_block(A, E),
                           .ld_q = q->ld,
                           .ld_k = k->ld,
                           .ld_v = v->ld,
                           .ld_o = v->cols,
                           .decay = a->decay,
                           .start = s->start};
}

Tensor *op_lightning(Tape *tp, Tensor *q, Tensor *k, Tensor *v, const SeqInfo *s,
                     const LightningArgs *a) {
    LightningDims d = lightning_dims(q, k, v, s, a);
    Tensor *o = tape_tensor(tp, v->rows, v->cols);
    real *store = tape_records(tp) ? tape_saved(tp, lightning_store_reals(&d)) : NULL;
    real *state = a->state != NULL ? a->state : tape_scratch(tp, state_reals(&d));
    real *scratch = tape_scratch(tp, lightning_scratch_reals(&d, threads_chosen()));
    if (!tape_is_dry(tp)) {
        if (a->state == NULL) memset(state, 0, state_reals(&d) * sizeof(real));
        lightning_forward(o->data, state, store, q->data, k->data, v->data, scratch, &d);
    }
    return tape_push(tp, &(Node){.backward = lightning_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v),
                                 .saved = {store},
                                 .info = tape_info(tp, &d, sizeof d)});
}

// ---- softmax attention -------------------------------------------------------------------------

// All of `keys` lie before any query of one row.
static AttentionDims more_dims(const AttentionDims *d, const Tensor *keys, const Tensor *values) {
    AttentionDims m = *d;
    m.B = 1;
    m.Tk = m.offset = keys->rows;
    m.key_begin = m.window = 0;
    m.first = NULL;
    m.ld_k = keys->ld;
    m.ld_v = values->ld;
    m.ld_dk = m.ld_dv = keys->cols;
    return m;
}

size_t attention_more_reals(const AttentionDims *d, const Tensor *keys) {
    AttentionDims m = more_dims(d, keys, keys);
    size_t part = (size_t)d->Tq * (size_t)d->H * (size_t)(d->D + 1);
    return part + attention_scratch_reals(&m, threads_chosen());
}

void attention_more(real *out, real *lse, real *room, const real *q, const Tensor *keys,
                    const Tensor *values, const AttentionDims *d) {
    AttentionDims m = more_dims(d, keys, values);
    size_t T = (size_t)d->Tq, H = (size_t)d->H, width = H * (size_t)d->D;
    real *part_lse = room + T * width, *scratch = part_lse + T * H;
    for (int b = 0; b < d->B; b++) {
        size_t row = (size_t)b * T;
        attention_forward(room, part_lse, q + row * (size_t)d->ld_q, keys->data, values->data,
                          scratch, &m);
        attention_merge(out + row * width, lse + row * H, room, part_lse, 1, d->Tq, d->H, d->D);
    }
}

void attention_more_backward(real *dq, real *dkeys, real *dvalues, real *room, const real *dout,
                             const real *out, const real *lse, const real *q, const Tensor *keys,
                             const Tensor *values, const AttentionDims *d) {
    AttentionDims m = more_dims(d, keys, values);
    size_t T = (size_t)d->Tq, H = (size_t)d->H, width = H * (size_t)d->D;
    for (int b = 0; b < d->B; b++) {
        size_t row = (size_t)b * T;
        attention_backward(dq + row * (size_t)d->ld_dq, dkeys, dvalues, dout + row * width,
                           out + row * width, lse + row * H, q + row * (size_t)d->ld_q, keys->data,
                           values->data, room + T * width + T * H, &m);
    }
}

static void attention_node(Tape *tp, const Node *n) {
    AttentionDims d = *(const AttentionDims *)n->info;
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2], *more_k = n->in[3];
    Tensor *more_v = more_k != NULL ? n->in[4] : NULL;
    real *dq = tape_grad(tp, q), *dk = tape_grad(tp, k), *dv = tape_grad(tp, v);
    real *dmore_k = more_k != NULL ? tape_grad(tp, more_k) : NULL;
    real *dmore_v = more_k != NULL ? tape_grad(tp, more_v) : NULL;
    real *scratch = tape_scratch(tp, attention_scratch_reals(&d, threads_chosen()));
    real *room = more_k != NULL ? tape_scratch(tp, attention_more_reals(&d, more_k)) : NULL;
    if (tape_is_dry(tp)) return;
    d.ld_dq = tape_grad_ld(q);
    d.ld_dk = tape_grad_ld(k);
    d.ld_dv = tape_grad_ld(v);
    const real *dout = n->out[0]->grad, *out = n->out[0]->data, *lse = n->saved[0];
    attention_backward(dq, dk, dv, dout, out, lse, q->data, k->data, v->data, scratch, &d);
    if (more_k == NULL) return;
    attention_more_backward(dq, dmore_k, dmore_v, room, dout, out, lse, q->data, more_k, more_v,
                            &d);
}

AttentionDims attention_dims(const Tensor *q, const Tensor *k, const Tensor *v, const SeqInfo *s,
                             const AttentionArgs *a) {
    int D = q->cols / a->heads;
    return (AttentionDims){.B = s->B,
                           .Tq = s->T,
                           .Tk = s->T,
                           .H = a->heads,
                           .Hk = a->kv_heads,
                           .D = D,
                           .ld_q = q->ld,
                           .ld_k = k->ld,
                           .ld_v = v->ld,
                           .window = a->window,
                           .scale = (real)(1.0 / sqrt(D)),
                           .first = s->first};
}

Tensor *op_attention(Tape *tp, Tensor *q, Tensor *k, Tensor *v, const SeqInfo *s,
                     const AttentionArgs *a) {
    AttentionDims d = attention_dims(q, k, v, s, a);
    Tensor *o = tape_tensor(tp, q->rows, q->cols);
    real *lse = tape_saved(tp, (size_t)d.B * (size_t)d.H * (size_t)d.Tq);
    real *scratch = tape_scratch(tp, attention_scratch_reals(&d, threads_chosen()));
    real *room =
        a->more_keys != NULL ? tape_scratch(tp, attention_more_reals(&d, a->more_keys)) : NULL;
    if (!tape_is_dry(tp)) {
        attention_forward(o->data, lse, q->data, k->data, v->data, scratch, &d);
        if (room != NULL)
            attention_more(o->data, lse, room, q->data, a->more_keys, a->more_values, &d);
    }
    return tape_push(tp, &(Node){.backward = attention_node,
                                 .out = TENSORS(o),
                                 .in = TENSORS(q, k, v, a->more_keys, a->more_values),
                                 .saved = {lse},
                                 .info = tape_info(tp, &d, sizeof d)});
}

Tensor *op_attention_cached(Tape *tp, Tensor *q, const CacheView *c, const SeqInfo *s,
                            const AttentionArgs *a) {
    ASSERT(!tape_records(tp) && q->base == NULL);
    int D = q->cols / a->heads, width = a->kv_heads * D;
    AttentionDims d = {.B = 1,
                       .Tq = s->T,
                       .Tk = c->capacity,
                       .H = a->heads,
                       .Hk = a->kv_heads,
                       .D = D,
                       .ld_q = q->ld,
                       .ld_k = width,
                       .ld_v = width,
                       .window = a->window,
                       .scale = (real)(1.0 / sqrt(D))};
    Tensor *o = tape_tensor(tp, q->rows, q->cols);
    real *lse = tape_scratch(tp, (size_t)d.H * (size_t)d.Tq);
    real *scratch = tape_scratch(tp, attention_scratch_reals(&d, threads_chosen()));
    real *room =
        a->more_keys != NULL ? tape_scratch(tp, attention_more_reals(&d, a->more_keys)) : NULL;
    for (int b = 0; b < s->B && !tape_is_dry(tp);
         b++) {  // a cache row has its own length and stride
        size_t row = (size_t)b * (size_t)s->T * (size_t)q->cols;
        size_t cached = (size_t)b * (size_t)c->capacity * (size_t)width;
        d.Tk = c->length[b];
        d.offset = d.Tk - s->T;
        attention_forward(o->data + row, lse, q->data + row, c->keys + cached, c->values + cached,
                          scratch, &d);
        if (room != NULL)
            attention_more(o->data + row, lse, room, q->data + row, a->more_keys, a->more_values,
                           &d);
    }
    return tape_push(tp, &(Node){.out = TENSORS(o), .in = TENSORS(q)});
}
