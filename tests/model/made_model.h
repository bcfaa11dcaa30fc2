// Small random models and batches for the tests of this folder: configured by settings as a user
// would, weights large enough for every term of a gradient to matter.
#pragma once

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/rng.h"
#include "model/model.h"
#include "tests/gradcheck.h"

// "model.width=12 model.layers=3 ...", resolved or refused.
static inline Status made_config(ModelConfig *m, const char *settings) {
    Section section = {MODEL_FIELDS, MODEL_FIELD_COUNT, m};
    Config *c = config_new(&section, 1);
    char text[1024];
    snprintf(text, sizeof text, "%s", settings);
    Status st = OK;
    char *save = NULL;
    for (char *s = strtok_r(text, " ", &save); s != NULL && st == OK;
         s = strtok_r(NULL, " ", &save)) {
        st = config_set(c, s, "test");
    }
    if (st == OK) st = model_config_resolve(m, c);
    config_free(c);
    return st;
}

// Gains are moved off 1, so that a lost gain shows.
static inline void made_model(Model *m, const char *settings) {
    ModelConfig cfg;
    cr_assert_eq(made_config(&cfg, settings), OK, "%s: %s", settings, err_message());
    cr_assert_eq(model_open(m, &cfg, NULL), OK);
    cr_assert_eq(params_reserve(&m->params, true), OK);
    params_init(&m->params, 7);
    for (int i = 0; i < m->params.count; i++) {
        Param *p = &m->params.rows[i];
        if (p->init != INIT_ONE) continue;
        for (size_t j = 0; j < p->count; j++) {
            p->data[j] += (real)(0.3 * rng_normal(9, STREAM_TEST, p->offset + j));
        }
    }
}

// A batch that owns its arrays.
typedef struct MadeBatch {
    Batch b;
    int64_t *pos;
    int *first;
    uint8_t *start;
    int32_t *tokens, *targets;
} MadeBatch;

// Fills pos and first from start. A row that does not begin with a start goes on from position 5.
static inline void made_positions(MadeBatch *m) {
    for (int r = 0; r < m->b.seq.B; r++) {
        int64_t pos = 5;
        int first = 0;
        for (int t = 0; t < m->b.seq.T; t++) {
            int i = r * m->b.seq.T + t;
            if (m->start[i]) {
                first = t;
                pos = 0;
            }
            m->first[i] = first;
            m->pos[i] = pos++;
        }
    }
}

// Random tokens and targets, a few ignored; documents start at 0 and, if asked, about every 6
// tokens.
static inline MadeBatch made_batch(int B, int T, int V, bool documents) {
    size_t n = (size_t)B * (size_t)T;
    MadeBatch m = {.pos = calloc(n + 1, sizeof(int64_t)),
                   .first = calloc(n + 1, sizeof(int)),
                   .start = calloc(n + 1, 1),
                   .tokens = calloc(n + 1, sizeof(int32_t)),
                   .targets = calloc(n + 1, sizeof(int32_t))};
    m.b = (Batch){.seq = {B, T, m.pos, m.first, m.start}, .tokens = m.tokens, .targets = m.targets};
    for (size_t i = 0; i < n; i++) {
        m.tokens[i] = (int32_t)(rng_u64(3, STREAM_TEST, i) % (uint64_t)V);
        m.targets[i] = (int32_t)(rng_u64(4, STREAM_TEST, i) % (uint64_t)V);
        if (rng_u64(5, STREAM_TEST, i) % 9 == 0) m.targets[i] = IGNORE_TARGET;
        m.b.valid += m.targets[i] != IGNORE_TARGET;
        bool inside = documents && rng_u64(6, STREAM_TEST, i) % 6 == 0;
        m.start[i] = i % (size_t)T == 0 || inside;
    }
    made_positions(&m);
    return m;
}

static inline void made_batch_free(MadeBatch *m) {
    free(m->pos);
    free(m->first);
    free(m->start);
    free(m->tokens);
    free(m->targets);
}

// Loss of one pass; gradients into the ParamSet when asked. The memory is exactly what a dry run
// measures.
static inline double made_loss(Model *m, const Batch *b, bool grads) {
    Tape *tp = tape_new();
    tape_dry(tp, grads);
    Tensor *loss = model_loss(tp, m, b, NULL);
    if (grads) tape_backward(tp, loss);
    cr_assert_eq(tape_reserve(tp), OK);
    tape_begin(tp, grads);
    loss = model_loss(tp, m, b, NULL);
    if (grads) {
        params_zero_grad(&m->params);
        tape_backward(tp, loss);
    }
    double value = tensor_item(loss);
    tape_free(tp);
    return value;
}

// Hidden states (N,C) or logits (N,V) of one pass, malloc'ed. A state is advanced.
static inline real *made_forward(Model *m, const Batch *b, DecodeState *state, bool logits) {
    Tensor *(*run)(Tape *, Model *, const Batch *, DecodeState *) =
        logits ? model_logits : model_hidden;
    Tape *tp = tape_new();
    tape_dry(tp, false);
    run(tp, m, b, state);
    cr_assert_eq(tape_reserve(tp), OK);
    if (state != NULL) cr_assert_eq(decode_reserve(state, b->seq.T), OK);
    tape_begin(tp, false);
    const Tensor *x = run(tp, m, b, state);
    real *out = numbers_copy(x->data, (size_t)x->rows * (size_t)x->cols);
    tape_free(tp);
    return out;
}
