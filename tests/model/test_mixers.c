// What every token mixer owes a model. The suite loops over the table of mixers, alone and after a
// lightning layer: a new letter is tested without being asked.
#include "made_model.h"
#include "model/mixers/mixers.h"

#ifdef STERNA_F64
#define CLOSE 1e-11
#else
#define CLOSE 2e-5
#endif

enum { LONGEST_SETTINGS = 512 };

// What was found, so that mixers that are wrong on purpose can be shown to be found out.
static int faults;
static char first_fault[256];
#define MUST(good, ...)                                                                            \
    do {                                                                                           \
        if (!(good) && faults++ == 0) snprintf(first_fault, sizeof first_fault, __VA_ARGS__);      \
    } while (0)

// Where gradients are checked: coefficients that they take for constants, and differences do not,
// are off; and norms of small rows are less curved than a difference can follow.
#if GRADCHECK_RUNS
#define FROZEN "model.memory_clip=0 model.memory_damp=false model.norm_eps=1e-3"
#else
#define FROZEN "model.memory_clip=0.3"
#endif

// Runs `check` on a model of each letter of the table alone, and of each letter after L.
static int faults_of(const MixerOps *const *table, void (*check)(Model *m)) {
    const MixerOps *const *before = mixers_use(table);
    faults = 0;
    for (const MixerOps *const *mixer = mixers(); *mixer != NULL; mixer++) {
        for (int hybrid = 0; hybrid < 2; hybrid++) {
            char settings[LONGEST_SETTINGS];
            snprintf(settings, sizeof settings,
                     "model.width=24 model.heads=3 model.layers=%d model.pattern=%s%c "
                     "model.ffn=20 model.vocab=17 model.window=5 model.block=4 model.lrpe=all "
                     "model.init_std=0.2 model.conv=3 model.persistent=3 model.memory_chunk=4 "
                     "model.memory_hidden=7 "
                     "model.memory_init_std=0.5 %s",
                     hybrid ? 3 : 1, hybrid ? "L" : "", (*mixer)->letter, FROZEN);
            Model m;
            made_model(&m, settings);
            check(&m);
            model_close(&m);
        }
    }
    mixers_use(before);
    return faults;
}

// The same for the program's own mixers, which pass.
static void each_mixer(void (*check)(Model *m)) {
    cr_assert_eq(faults_of(NULL, check), 0, "%d faults, the first: %s", faults, first_fault);
}

static bool same_rows(const Model *m, const real *a, const real *b, int from, int to) {
    size_t C = (size_t)m->cfg.width;
    return memcmp(a + (size_t)from * C, b + (size_t)from * C,
                  (size_t)(to - from) * C * sizeof(real)) == 0;
}

// ---- what a token may see ----------------------------------------------------------------------

static void check_causal(Model *m) {
    enum { T = 19 };
    MadeBatch b = made_batch(1, T, m->cfg.vocab, false);
    real *before = made_forward(m, &b.b, NULL, false);
    for (int t = 0; t < T; t++) {
        int32_t kept = b.tokens[t];
        b.tokens[t] = (kept + 1) % m->cfg.vocab;
        real *after = made_forward(m, &b.b, NULL, false);
        b.tokens[t] = kept;
        MUST(same_rows(m, before, after, 0, t), "%.3s: token %d is seen earlier", m->cfg.layer, t);
        MUST(!same_rows(m, before, after, t, t + 1), "%.3s: token %d is not seen at all",
             m->cfg.layer, t);
        free(after);
    }
    free(before);
    made_batch_free(&b);
}

Test(mixers, never_see_a_later_token) {
    each_mixer(check_causal);
}

static void check_documents_apart(Model *m) {
    enum { T = 23, FIRST = 6, SECOND = 13 };  // documents [0,6) [6,13) [13,23)
    MadeBatch b = made_batch(2, T, m->cfg.vocab, false);
    b.start[FIRST] = b.start[SECOND] = 1;
    made_positions(&b);
    real *before = made_forward(m, &b.b, NULL, false);
    for (int t = FIRST; t < SECOND; t++) {
        int32_t kept = b.tokens[t];
        b.tokens[t] = (kept + 1) % m->cfg.vocab;
        real *after = made_forward(m, &b.b, NULL, false);
        b.tokens[t] = kept;
        MUST(same_rows(m, before, after, 0, FIRST), "%.3s: into the past", m->cfg.layer);
        MUST(same_rows(m, before, after, SECOND, 2 * T), "%.3s: token %d leaks", m->cfg.layer, t);
        free(after);
    }
    free(before);
    made_batch_free(&b);
}

Test(mixers, never_leak_into_another_document_or_row) {
    each_mixer(check_documents_apart);
}

// Gradients obey the same borders: targets of one document give nothing to tokens of another.
static void check_gradients_apart(Model *m) {
    enum { T = 17, BORDER = 7 };
    MadeBatch b = made_batch(1, T, m->cfg.vocab, false);
    for (int t = 0; t < T; t++) {
        b.tokens[t] = t < BORDER ? 1 + t % 3 : 5 + t % 3;
        b.targets[t] = t < BORDER ? IGNORE_TARGET : 9;
    }
    b.start[BORDER] = 1;
    made_positions(&b);
    made_loss(m, &b.b, true);
    real *whole = numbers_copy(m->params.grad, m->params.total);
    for (int t = 0; t < BORDER; t++) b.tokens[t] = 4;
    made_loss(m, &b.b, true);
    MUST(memcmp(whole, m->params.grad, m->params.total * sizeof(real)) == 0,
         "%.3s: tokens of another document move the gradient", m->cfg.layer);
    free(whole);
    made_batch_free(&b);
}

Test(mixers, take_no_gradient_from_another_document) {
    each_mixer(check_gradients_apart);
}

static void check_reset(Model *m) {
    enum { T = 23 };
    const int border[] = {0, 1, 9, 17, T};
    MadeBatch b = made_batch(1, T, m->cfg.vocab, false);
    for (int d = 0; d < 4; d++) b.start[border[d]] = 1;
    made_positions(&b);
    real *packed = made_forward(m, &b.b, NULL, false);
    size_t C = (size_t)m->cfg.width;
    for (int d = 0; d < 4; d++) {
        int n = border[d + 1] - border[d];
        MadeBatch alone = made_batch(1, n, m->cfg.vocab, false);
        memcpy(alone.tokens, b.tokens + border[d], (size_t)n * sizeof *alone.tokens);
        real *x = made_forward(m, &alone.b, NULL, false);
        double distance = numbers_distance(packed + (size_t)border[d] * C, x, (size_t)n * C);
        MUST(distance <= CLOSE, "%.3s: document %d differs by %g", m->cfg.layer, d, distance);
        free(x);
        made_batch_free(&alone);
    }
    free(packed);
    made_batch_free(&b);
}

Test(mixers, treat_a_document_in_a_row_like_a_row_of_its_own) {
    each_mixer(check_reset);
}

static void check_rows(Model *m) {
    enum { B = 3, T = 11 };
    MadeBatch b = made_batch(B, T, m->cfg.vocab, true);
    real *together = made_forward(m, &b.b, NULL, false);
    for (int r = 0; r < B; r++) {
        Batch one = b.b;
        one.seq = (SeqInfo){.B = 1,
                            .T = T,
                            .pos = b.pos + r * T,
                            .first = b.first + r * T,
                            .start = b.start + r * T};
        one.tokens = b.tokens + r * T;
        real *alone = made_forward(m, &one, NULL, false);
        size_t count = (size_t)T * (size_t)m->cfg.width;
        double distance = numbers_distance(together + (size_t)r * count, alone, count);
        MUST(distance <= CLOSE, "%.3s: row %d differs by %g", m->cfg.layer, r, distance);
        free(alone);
    }
    free(together);
    made_batch_free(&b);
}

Test(mixers, treat_each_row_as_if_alone) {
    each_mixer(check_rows);
}

// ---- decoding ----------------------------------------------------------------------------------

// Tokens [at, at+n) of all rows of b, which begin with a document each. The flag of a start is
// given in the first chunk only, as it was in the whole.
static MadeBatch chunk_of(const MadeBatch *b, int at, int n, int V) {
    MadeBatch c = made_batch(b->b.seq.B, n, V, false);
    for (int r = 0; r < b->b.seq.B; r++) {
        for (int i = 0; i < n; i++) {
            int to = r * n + i, from = r * b->b.seq.T + at + i;
            c.tokens[to] = b->tokens[from];
            c.pos[to] = b->pos[from];
            c.first[to] = 0;
            c.start[to] = b->start[from];
        }
    }
    return c;
}

// Largest distance of logits between one forward pass and a state advanced chunk by chunk.
static double decode_distance(Model *m, const MadeBatch *b, const int *chunk, int chunks) {
    int B = b->b.seq.B, T = b->b.seq.T;
    size_t V = (size_t)m->cfg.vocab;
    real *whole = made_forward(m, &b->b, NULL, true);
    DecodeState *state;
    cr_assert_eq(decode_open(&state, m, B), OK);
    double worst = 0;
    for (int at = 0, i = 0; at < T; i++) {
        int n = chunk[i % chunks] < T - at ? chunk[i % chunks] : T - at;
        MadeBatch c = chunk_of(b, at, n, m->cfg.vocab);
        real *part = made_forward(m, &c.b, state, true);
        for (int r = 0; r < B; r++) {
            const real *wanted = whole + ((size_t)r * (size_t)T + (size_t)at) * V;
            size_t count = (size_t)n * V;
            worst = fmax(worst, numbers_distance(part + (size_t)r * count, wanted, count));
        }
        free(part);
        made_batch_free(&c);
        at += n;
        for (int r = 0; r < B; r++) cr_assert_eq(decode_pos(state)[r], at);
    }
    decode_close(state);
    free(whole);
    return worst;
}

static void check_decode(Model *m) {
    MadeBatch b = made_batch(2, 83, m->cfg.vocab, false);  // beyond the first growth of a cache
    const int by_token[] = {1}, odd[] = {3, 5, 1, 7, 66};
    double d = decode_distance(m, &b, by_token, 1);
    MUST(d <= CLOSE, "%.3s token by token: %g", m->cfg.layer, d);
    d = decode_distance(m, &b, odd, 5);
    MUST(d <= CLOSE, "%.3s in odd chunks: %g", m->cfg.layer, d);
    made_batch_free(&b);
}

Test(mixers, decode_what_a_forward_pass_computes) {
    each_mixer(check_decode);
}

// The state of the last layer hardly decays: errors of thousands of steps would add up.
Test(mixers, decode_thousands_of_tokens_without_drift) {
    enum { T = 4096 };
    Model m;
    made_model(&m, "model.width=16 model.heads=2 model.layers=2 model.ffn=16 model.vocab=13 "
                   "model.init_std=0.1");
    MadeBatch b = made_batch(1, T, m.cfg.vocab, false);
    real *whole = made_forward(&m, &b.b, NULL, true);
    DecodeState *state;
    cr_assert_eq(decode_open(&state, &m, 1), OK);
    size_t bytes = decode_bytes(state), V = (size_t)m.cfg.vocab;
    Tape *tp = tape_new();
    MadeBatch one = chunk_of(&b, 0, 1, m.cfg.vocab);
    tape_dry(tp, false);
    model_logits(tp, &m, &one.b, state);
    cr_assert_eq(tape_reserve(tp), OK);
    double worst = 0;
    for (int t = 0; t < T; t++) {
        one.tokens[0] = b.tokens[t];
        one.pos[0] = t;
        one.start[0] = b.start[t];
        cr_assert_eq(decode_reserve(state, 1), OK);
        tape_begin(tp, false);
        const Tensor *logits = model_logits(tp, &m, &one.b, state);
        for (size_t v = 0; v < V; v++) {
            worst = fmax(worst, fabs((double)logits->data[v] - (double)whole[(size_t)t * V + v]));
        }
    }
    cr_assert_leq(worst, GRADCHECK_RUNS ? 1e-10 : 1e-4, "off by %g", worst);
    cr_assert_eq(decode_bytes(state), bytes, "a lightning state is constant in length");
    tape_free(tp);
    decode_close(state);
    free(whole);
    made_batch_free(&one);
    made_batch_free(&b);
    model_close(&m);
}

// Prompts of different lengths, prefilled one by one, go on together as each would alone.
static void check_copied_rows(Model *m) {
    const int length[] = {70, 5};
    size_t V = (size_t)m->cfg.vocab;
    MadeBatch b = made_batch(2, 71, m->cfg.vocab, false);
    MadeBatch step = made_batch(2, 1, m->cfg.vocab, false);
    DecodeState *all;
    real *wanted[2];
    cr_assert_eq(decode_open(&all, m, 2), OK);
    for (int r = 1; r >= 0; r--) {
        Batch row = {.seq = {1, length[r], b.pos, b.first, b.start}, .tokens = b.tokens + r * 71};
        DecodeState *alone;
        cr_assert_eq(decode_open(&alone, m, 1), OK);
        free(made_forward(m, &row, alone, true));
        cr_assert_eq(decode_copy_row(all, r, alone, 0), OK);
        decode_close(alone);
        row.seq.T = length[r] + 1;
        wanted[r] = made_forward(m, &row, NULL, true);
        step.tokens[r] = b.tokens[r * 71 + length[r]];
        step.pos[r] = decode_pos(all)[r];
        cr_assert_eq(step.pos[r], length[r]);
        step.start[r] = 0;
        step.first[r] = 0;
    }
    real *got = made_forward(m, &step.b, all, true);
    for (int r = 0; r < 2; r++) {
        double d = numbers_distance(got + (size_t)r * V, wanted[r] + (size_t)length[r] * V, V);
        MUST(d <= CLOSE, "%.3s: row %d is off by %g", m->cfg.layer, r, d);
        free(wanted[r]);
    }
    free(got);
    decode_close(all);
    made_batch_free(&step);
    made_batch_free(&b);
}

Test(mixers, go_on_from_copied_rows_of_different_lengths) {
    each_mixer(check_copied_rows);
}

// A row that was saved goes on in another state, in another place, as it would have gone on where
// it was.
static void check_saved_rows(Model *m) {
    enum { T = 90 };
    MadeBatch b = made_batch(2, T, m->cfg.vocab, false);
    MadeBatch step = made_batch(3, 1, m->cfg.vocab, false);
    DecodeState *from, *to;
    char *bytes;
    size_t count, V = (size_t)m->cfg.vocab;
    cr_assert_eq(decode_open(&from, m, 2), OK);
    cr_assert_eq(decode_open(&to, m, 3), OK);
    free(made_forward(m, &b.b, from, true));
    cr_assert_eq(decode_save_row(from, 1, &bytes, &count), OK);
    cr_assert_eq(decode_load_row(to, 2, bytes, count), OK, "%s", err_message());
    cr_assert_eq(decode_pos(to)[2], T);
    for (int r = 0; r < 3; r++)
        step.tokens[r] = r, step.pos[r] = decode_pos(to)[r], step.start[r] = r < 2;
    real *got = made_forward(m, &step.b, to, true);
    MadeBatch two = made_batch(2, 1, m->cfg.vocab, false);
    for (int r = 0; r < 2; r++) two.tokens[r] = r + 1, two.pos[r] = T, two.start[r] = 0;
    real *wanted = made_forward(m, &two.b, from, true);
    double d = numbers_distance(got + 2 * V, wanted + V, V);
    MUST(d <= CLOSE, "%.3s: off by %g", m->cfg.layer, d);
    // What is cut short, or of another model, is refused.
    for (size_t n = 0; n < count; n += 1 + count / 50)
        cr_assert_eq(decode_load_row(to, 0, bytes, n), E_FORMAT, "%zu of %zu bytes", n, count);
    free(got), free(wanted), free(bytes);
    decode_close(from);
    decode_close(to);
    made_batch_free(&b);
    made_batch_free(&step);
    made_batch_free(&two);
}

Test(mixers, go_on_from_saved_rows) {
    each_mixer(check_saved_rows);
}

// ---- training ----------------------------------------------------------------------------------

static void check_recompute(Model *m) {
    MadeBatch b = made_batch(2, 19, m->cfg.vocab, true);
    m->cfg.recompute = false;
    double loss = made_loss(m, &b.b, true);
    real *grad = numbers_copy(m->params.grad, m->params.total);
    m->cfg.recompute = true;
    MUST(made_loss(m, &b.b, true) == loss, "%.3s: another loss", m->cfg.layer);
    MUST(memcmp(grad, m->params.grad, m->params.total * sizeof(real)) == 0, "%.3s: other gradients",
         m->cfg.layer);
    m->cfg.recompute = false;
    free(grad);
    made_batch_free(&b);
}

Test(mixers, do_not_change_a_bit_with_recomputation) {
    each_mixer(check_recompute);
}

#if GRADCHECK_RUNS
typedef struct Differences {
    Model *m;
    const Batch *b;
} Differences;

static double loss_of(void *ctx) {
    const Differences *d = ctx;
    return made_loss(d->m, d->b, false);
}

static void check_gradients(Model *m) {
    MadeBatch b = made_batch(2, 11, m->cfg.vocab, true);
    Differences d = {m, &b.b};
    made_loss(m, &b.b, true);
    real *grad = numbers_copy(m->params.grad, m->params.total);
    for (int i = 0; i < m->params.count; i++) {
        const Param *p = &m->params.rows[i];
        if (i == m->embed) continue;  // its pad row learns nothing through the lookup
        double error = gradcheck(p->name, loss_of, &d, p->data, grad + p->offset, p->count);
        MUST(error <= GRADCHECK_TOLERANCE, "%.3s: %s is off by %g", m->cfg.layer, p->name, error);
    }
    free(grad);
    made_batch_free(&b);
}

Test(mixers, have_the_gradients_of_differences) {
    each_mixer(check_gradients);
}
#endif

// ---- edges -------------------------------------------------------------------------------------

static void check_empty(Model *m) {
    const int shape[][2] = {{0, 5}, {3, 0}, {0, 0}};
    for (int recompute = 0; recompute < 2; recompute++) {
        m->cfg.recompute = recompute == 1;
        for (int i = 0; i < 3; i++) {
            MadeBatch b = made_batch(shape[i][0], shape[i][1], m->cfg.vocab, false);
            MUST(made_loss(m, &b.b, true) == 0, "%.3s: a loss of nothing", m->cfg.layer);
            for (size_t j = 0; j < m->params.total; j++)
                MUST(m->params.grad[j] == 0, "%.3s: a gradient of nothing", m->cfg.layer);
            MUST(made_loss(m, &b.b, false) == 0, "%.3s: a loss of nothing", m->cfg.layer);
            made_batch_free(&b);
        }
    }
}

Test(mixers, accept_batches_without_tokens) {
    each_mixer(check_empty);
}

typedef struct Run {
    Model *m;
    const Batch *b;
} Run;

static void run_gradients(void *ctx, real *out) {
    const Run *r = ctx;
    made_loss(r->m, r->b, true);
    memcpy(out, r->m->params.grad, r->m->params.total * sizeof(real));
}

static void run_hidden(void *ctx, real *out) {
    const Run *r = ctx;
    real *x = made_forward(r->m, r->b, NULL, false);
    memcpy(out, x,
           (size_t)r->b->seq.B * (size_t)r->b->seq.T * (size_t)r->m->cfg.width * sizeof(real));
    free(x);
}

static void check_threads(Model *m) {
    MadeBatch b = made_batch(3, 37, m->cfg.vocab, true);
    Run run = {m, &b.b};
    size_t hidden = (size_t)3 * 37 * (size_t)m->cfg.width;
    MUST(same_bits_on_any_threads(run_hidden, &run, hidden), "%.3s: hidden", m->cfg.layer);
    MUST(same_bits_on_any_threads(run_gradients, &run, m->params.total), "%.3s: gradients",
         m->cfg.layer);
    made_batch_free(&b);
}

Test(mixers, give_the_same_bits_on_any_number_of_threads) {
    each_mixer(check_threads);
}

// ---- mixers that are wrong on purpose ----------------------------------------------------------
//
// L with a fault each: what the suite is for.

extern const MixerOps MIXER_LIGHTNING;

// Adds a little of the next token to each, of any document.
static Tensor *leak_future(const MixerRun *run, Tensor *x) {
    Tensor *y = MIXER_LIGHTNING.forward(run, x);
    for (int r = 0; r + 1 < y->rows && !tape_is_dry(run->tp); r++)
        y->data[(size_t)r * (size_t)y->ld] += (real)0.01 * x->data[(size_t)(r + 1) * (size_t)x->ld];
    return y;
}

// Every state goes on into the next document.
static Tensor *forget_resets(const MixerRun *run, Tensor *x) {
    SeqInfo seq = *run->seq;
    static uint8_t none[1 << 12];
    static int first[1 << 12];
    cr_assert_leq(seq.B * seq.T, 1 << 12);
    seq.start = none;
    seq.first = first;
    MixerRun forgetful = *run;
    forgetful.seq = tape_info(run->tp, &seq, sizeof seq);
    return MIXER_LIGHTNING.forward(&forgetful, x);
}

// Generation sees another scale than training.
static Tensor *decode_otherwise(const MixerRun *run, Tensor *x) {
    Tensor *y = MIXER_LIGHTNING.forward(run, x);
    for (int r = 0; r < y->rows && run->state != NULL && !tape_is_dry(run->tp); r++)
        y->data[(size_t)r * (size_t)y->ld] *= (real)1.01;
    return y;
}

#if GRADCHECK_RUNS
// Changes values where no node of the tape knows of it.
static Tensor *differentiate_wrongly(const MixerRun *run, Tensor *x) {
    Tensor *y = MIXER_LIGHTNING.forward(run, x);
    for (int r = 0; r < y->rows && !tape_is_dry(run->tp); r++)
        y->data[(size_t)r * (size_t)y->ld] *= y->data[(size_t)r * (size_t)y->ld];
    return y;
}

#endif

static int faults_with(Tensor *(*forward)(const MixerRun *run, Tensor *x),
                       void (*check)(Model *m)) {
    MixerOps wrong = MIXER_LIGHTNING;
    wrong.forward = forward;
    wrong.letter = 'X';
    return faults_of((const MixerOps *const[]){&wrong, &MIXER_LIGHTNING, NULL}, check);
}

Test(mixers, that_are_wrong_are_found_out) {
    cr_expect_gt(faults_with(leak_future, check_causal), 0);
    cr_expect_gt(faults_with(leak_future, check_documents_apart), 0);
    cr_expect_gt(faults_with(forget_resets, check_documents_apart), 0);
    cr_expect_gt(faults_with(forget_resets, check_reset), 0);
    cr_expect_gt(faults_with(decode_otherwise, check_decode), 0);
    cr_expect_eq(faults_with(decode_otherwise, check_causal), 0);
#if GRADCHECK_RUNS
    cr_expect_gt(faults_with(differentiate_wrongly, check_gradients), 0);
#endif
    cr_expect_eq(faults_with(MIXER_LIGHTNING.forward, check_reset), 0);
}
