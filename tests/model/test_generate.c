// Sampling filters one by one, and generation against forward passes over the growing text.
#include "made_model.h"
#include "model/generate.h"

// ---- sample_next -------------------------------------------------------------------------------

enum { DRAWS = 4000 };
static const SampleConfig PLAIN = {.temperature = 1, .top_p = 1, .seed = 1};

// How often each of V ids is drawn, given probabilities.
static void draw(const double *p, int V, const SampleConfig *cfg, int *count) {
    real logits[16];
    memset(count, 0, (size_t)V * sizeof *count);
    for (int64_t step = 0; step < DRAWS; step++) {
        for (int v = 0; v < V; v++) logits[v] = (real)log(p[v]);
        int id = sample_next(logits, V, cfg, 0, step);
        cr_assert(id >= 0 && id < V);
        count[id]++;
    }
}

static const double P[5] = {0.1, 0.4, 0.05, 0.25, 0.2};  // order of likelihood: 1 3 4 0 2

static void expect_drawn(const SampleConfig *cfg, const char *which) {
    int count[5];
    draw(P, 5, cfg, count);
    for (int v = 0; v < 5; v++) {
        cr_expect_eq(count[v] > 0, which[v] == '1', "%s: id %d drawn %d times", which, v, count[v]);
    }
}

Test(sample, without_filters_follows_the_probabilities) {
    int count[5];
    draw(P, 5, &PLAIN, count);
    for (int v = 0; v < 5; v++) {
        cr_expect_float_eq((double)count[v] / DRAWS, P[v], 0.03, "id %d: %d", v, count[v]);
    }
}

Test(sample, temperature_sharpens) {
    SampleConfig cfg = PLAIN;
    cfg.temperature = 0.5;  // probabilities squared
    int count[5];
    double total = 0;
    for (int v = 0; v < 5; v++) total += P[v] * P[v];
    draw(P, 5, &cfg, count);
    for (int v = 0; v < 5; v++) {
        cr_expect_float_eq((double)count[v] / DRAWS, P[v] * P[v] / total, 0.03, "id %d", v);
    }
}

Test(sample, top_k_keeps_the_likeliest) {
    SampleConfig cfg = PLAIN;
    cfg.top_k = 1;
    expect_drawn(&cfg, "01000");
    cfg.top_k = 3;
    expect_drawn(&cfg, "01011");
    cfg.top_k = 99;
    expect_drawn(&cfg, "11111");
}

Test(sample, top_p_keeps_the_smallest_set_that_reaches_it) {
    SampleConfig cfg = PLAIN;
    cfg.top_p = 0;
    expect_drawn(&cfg, "01000");
    cfg.top_p = 0.39;
    expect_drawn(&cfg, "01000");
    cfg.top_p = 0.41;
    expect_drawn(&cfg, "01010");
    cfg.top_p = 0.86;
    expect_drawn(&cfg, "11011");
}

Test(sample, min_p_is_relative_to_the_likeliest) {
    SampleConfig cfg = PLAIN;
    cfg.min_p = 0.45;  // below 0.18
    expect_drawn(&cfg, "01011");
    cfg.min_p = 1;
    expect_drawn(&cfg, "01000");
}

// top-p counts what top-k left over, at the temperature.
Test(sample, filters_come_in_order) {
    SampleConfig cfg = PLAIN;
    cfg.top_k = 2;
    cfg.top_p = 0.6;  // of 0.4/0.65 = 0.615
    expect_drawn(&cfg, "01000");
    cfg.top_k = 0;
    cfg.top_p = 0.41;
    cfg.temperature = 0.5;  // 0.16 of 0.275 = 0.58
    expect_drawn(&cfg, "01000");
}

Test(sample, greedy_takes_the_largest_and_of_equals_the_smaller_id) {
    real logits[4] = {-3, 2, 2, -8}, one[1] = {-5};
    SampleConfig cfg = {.temperature = 0, .top_p = 1};
    cr_assert_eq(sample_next(logits, 4, &cfg, 0, 0), 1);
    cr_assert_eq(sample_next(one, 1, &cfg, 0, 0), 0);
    cr_assert_eq(sample_next(one, 1, &PLAIN, 3, 9), 0);
    cfg = PLAIN;
    cfg.top_k = 1;
    for (int step = 0; step < 50; step++) {
        real again[4] = {-3, 2, 2, -8};
        cr_assert_eq(sample_next(again, 4, &cfg, 0, step), 1);
    }
}

Test(sample, is_a_function_of_seed_row_and_step) {
    int differs[3] = {0};
    for (int step = 0; step < 64; step++) {
        int id[5];
        for (int i = 0; i < 5; i++) {
            real logits[16];
            for (int v = 0; v < 16; v++) logits[v] = (real)(0.1 * v);
            SampleConfig cfg = PLAIN;
            cfg.seed = i == 2 ? 2 : 1;
            id[i] = sample_next(logits, 16, &cfg, i == 3, i == 4 ? step + 1000 : step);
        }
        cr_assert_eq(id[0], id[1]);
        for (int i = 0; i < 3; i++) differs[i] += id[0] != id[i + 2];
    }
    for (int i = 0; i < 3; i++) cr_assert_gt(differs[i], 32, "case %d: %d", i, differs[i]);
}

Test(sample, copes_with_impossible_tokens_and_large_logits) {
    for (int step = 0; step < 20; step++) {
        real logits[3] = {-(real)INFINITY, 3e4f, -3e4f};
        cr_assert_eq(sample_next(logits, 3, &PLAIN, 0, step), 1);
    }
}

// Whatever filters there are: a draw among numbers that are none is none.
Test(sample, a_logit_that_is_not_finite_draws_nothing) {
    const SampleConfig ways[] = {{.temperature = 0, .top_p = 1},
                                 PLAIN,
                                 {.temperature = 1, .top_p = 0.5, .top_k = 2, .min_p = 0.1},
                                 {.temperature = 100, .top_p = 1, .top_k = 1}};
    const real bad[] = {(real)NAN, (real)INFINITY, (real)-INFINITY};
    for (int w = 0; w < 4; w++) {
        for (int at = 0; at < 5; at++) {
            for (int k = 0; k < 3; k++) {
                real logits[5] = {1, 5, 2, 3, 4};
                cr_assert_geq(sample_next(logits, 5, &ways[w], 0, 0), 0);
                for (int v = 0; k == 2 && v < 5; v++) logits[v] = bad[k];  // one alone is a word
                logits[at] = bad[k];
                cr_assert_eq(sample_next(logits, 5, &ways[w], 0, 0), -1, "way %d, %g", w,
                             (double)bad[k]);
            }
        }
    }
}

// ---- generate ----------------------------------------------------------------------------------

enum { V = 23, ROWS = 4, MAX_NEW = 9 };

typedef struct Got {
    int id[ROWS][MAX_NEW + 1], count[ROWS];
    int stop_row, stop_after;  // the callback ends this row after so many tokens
} Got;

static bool take(int row, int token, void *user) {
    Got *g = user;
    cr_assert(row >= 0 && row < ROWS && g->count[row] < MAX_NEW);
    g->id[row][g->count[row]++] = token;
    return !(row == g->stop_row && g->count[row] == g->stop_after);
}

static void generation_model(Model *m) {
    made_model(m, "model.width=16 model.heads=2 model.kv_heads=1 model.layers=3 model.pattern=LNW "
                  "model.window=6 model.ffn=12 model.vocab=23 model.init_std=0.3 model.pad_id=-1");
}

// Prompts of 1, 7, 530 (more than one chunk of prefill) and 64 tokens.
static const int LENGTH[ROWS] = {1, 7, 530, 64};
static void made_prompts(Prompt *p) {
    static int32_t ids[ROWS][600];
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < LENGTH[r]; i++) {
            ids[r][i] = (int32_t)(rng_u64(8, STREAM_TEST, (uint64_t)(r * 600 + i)) % V);
        }
        p[r] = (Prompt){ids[r], LENGTH[r]};
    }
}

// The likeliest next id of a text by one forward pass over all of it.
static int next_by_forward(Model *m, const int32_t *text, int count) {
    MadeBatch b = made_batch(1, count, V, false);
    memcpy(b.tokens, text, (size_t)count * sizeof *text);
    real *logits = made_forward(m, &b.b, NULL, true);
    const real *last = logits + (size_t)(count - 1) * V;
    int best = 0;
    for (int v = 1; v < V; v++) best = last[v] > last[best] ? v : best;
    free(logits);
    made_batch_free(&b);
    return best;
}

Test(generate, greedy_ids_are_those_of_forward_passes) {
    Model m;
    Prompt p[ROWS];
    Got got = {.stop_row = -1};
    SampleConfig cfg = {.temperature = 0, .top_p = 1, .max_new = MAX_NEW};
    generation_model(&m);
    made_prompts(p);
    cr_assert_eq(generate(&m, p, ROWS, false, &cfg, take, &got), OK);
    for (int r = 0; r < ROWS; r++) {
        int32_t text[600];
        memcpy(text, p[r].ids, (size_t)LENGTH[r] * sizeof *text);
        cr_assert_eq(got.count[r], MAX_NEW);
        for (int i = 0; i < MAX_NEW; i++) {
            int wanted = next_by_forward(&m, text, LENGTH[r] + i);
            cr_assert_eq(got.id[r][i], wanted, "row %d step %d: %d, not %d", r, i, got.id[r][i],
                         wanted);
            text[LENGTH[r] + i] = wanted;
        }
    }
    model_close(&m);
}

Test(generate, rows_together_are_rows_alone_even_when_one_ends) {
    Model m;
    Prompt p[ROWS];
    SampleConfig cfg = {.temperature = 0, .top_p = 1, .max_new = MAX_NEW};
    generation_model(&m);
    made_prompts(p);
    Got together = {.stop_row = 1, .stop_after = 2};
    cr_assert_eq(generate(&m, p, ROWS, false, &cfg, take, &together), OK);
    cr_assert_eq(together.count[1], 2);
    for (int r = 0; r < ROWS; r++) {
        Got alone = {.stop_row = -1};
        cr_assert_eq(generate(&m, &p[r], 1, false, &cfg, take, &alone), OK);
        cr_assert_eq(together.count[r], r == 1 ? 2 : MAX_NEW);
        cr_assert_eq(memcmp(together.id[r], alone.id[0], (size_t)together.count[r] * sizeof(int)),
                     0, "row %d", r);
    }
    model_close(&m);
}

Test(generate, ends_a_row_at_any_end_token_without_reporting_it) {
    Model m;
    Prompt p[ROWS];
    SampleConfig cfg = {.temperature = 0, .top_p = 1, .max_new = MAX_NEW};
    generation_model(&m);
    made_prompts(p);
    Got free_run = {.stop_row = -1};
    cr_assert_eq(generate(&m, p, 1, false, &cfg, take, &free_run), OK);
    int eos = free_run.id[0][3], first = 0, unseen = 0;
    while (free_run.id[0][first] != eos) first++;
    for (int i = 0; i < MAX_NEW; i++) {
        if (free_run.id[0][i] == unseen) unseen++, i = -1;
    }
    for (int listed = 0; listed < 3; listed++) {  // alone, and as one of several
        Got ended = {.stop_row = -1};
        m.cfg.eos_id = listed == 0 ? eos : unseen;
        m.cfg.more_eos_count = listed;
        m.cfg.more_eos[0] = listed == 1 ? eos : unseen;
        m.cfg.more_eos[1] = eos;
        cr_assert_eq(generate(&m, p, 1, true, &cfg, take, &ended), OK);
        cr_assert_eq(ended.count[0], first);
    }
    model_close(&m);
}

Test(generate, draws_repeat_with_their_seed) {
    Model m;
    Prompt p[ROWS];
    SampleConfig cfg = {.temperature = 1.5, .top_p = 1, .seed = 5, .max_new = MAX_NEW};
    generation_model(&m);
    made_prompts(p);
    Got a = {.stop_row = -1}, b = {.stop_row = -1}, c = {.stop_row = -1};
    cr_assert_eq(generate(&m, p, ROWS, false, &cfg, take, &a), OK);
    cr_assert_eq(generate(&m, p, ROWS, false, &cfg, take, &b), OK);
    cr_assert_eq(memcmp(a.id, b.id, sizeof a.id), 0);
    cfg.seed = 6;
    cr_assert_eq(generate(&m, p, ROWS, false, &cfg, take, &c), OK);
    cr_assert_neq(memcmp(a.id, c.id, sizeof a.id), 0);
    model_close(&m);
}

Test(generate, weights_that_are_no_numbers_are_reported) {
    const real bad[] = {(real)NAN, (real)INFINITY, (real)-INFINITY};
    for (int i = 0; i < 6; i++) {
        Model m;
        Prompt p[ROWS];
        SampleConfig cfg = {.temperature = i / 3, .top_p = 0.9, .max_new = MAX_NEW};
        Got got = {.stop_row = -1};
        generation_model(&m);
        made_prompts(p);
        m.params.rows[m.head].data[5 * m.cfg.width] = bad[i % 3];
        cr_assert_eq(generate(&m, p, ROWS, false, &cfg, take, &got), E_DIVERGED);
        cr_assert_not_null(strstr(err_message(), "prompt 1, new token 1: a logit is not a number"));
        cr_assert_not_null(strstr(err_message(), "for id 5)"), "%s", err_message());
        cr_assert_eq(got.count[0], 0);
        model_close(&m);
    }
}

Test(generate, nothing_to_do_is_no_error) {
    Model m;
    Prompt p[ROWS];
    SampleConfig cfg = {.temperature = 0, .top_p = 1, .max_new = 0};
    Got got = {.stop_row = -1};
    generation_model(&m);
    made_prompts(p);
    cr_assert_eq(generate(&m, p, ROWS, false, &cfg, take, &got), OK);
    cr_assert_eq(generate(&m, p, 0, false, &cfg, take, &got), OK);
    cr_assert_eq(got.count[0], 0);
    model_close(&m);
}

Test(generate, prompts_that_the_model_cannot_read_are_refused) {
    Model m;
    Got got = {.stop_row = -1};
    SampleConfig cfg = {.temperature = 0, .top_p = 1, .max_new = 2};
    const int32_t large[] = {1, V}, negative[] = {-1};
    generation_model(&m);
    Prompt bad[] = {{large, 2}, {negative, 1}, {large, 0}};
    const char *says[] = {"23", "-1", "empty"};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(generate(&m, &bad[i], 1, false, &cfg, take, &got), E_USAGE);
        cr_assert_not_null(strstr(err_message(), says[i]), "%s", err_message());
    }
    cr_assert_eq(got.count[0], 0);
    model_close(&m);
}

// ---- the generator -----------------------------------------------------------------------------

enum { MANY = 64, LONG = 700, STEPS = 12 };

typedef struct Texts {
    Model m;
    Tape *tp;
    Generator *g;
    Prompt prompt[MANY];
    int32_t ids[MANY][LONG + STEPS];
    int drawn[MANY];  // how many
    double logp[MANY][STEPS];
} Texts;

// Uneven prompts, two of the longest, some of one token.
static void texts_open(Texts *t) {
    *t = (Texts){.tp = tape_new()};
    generation_model(&t->m);
    for (int r = 0; r < MANY; r++) {
        int n = r == 7 || r == 40 ? LONG
                                  : 1 + (int)(rng_u64(9, STREAM_TEST, (uint64_t)r) % 97) * (r % 3);
        for (int i = 0; i < n; i++)
            t->ids[r][i] = (int32_t)(rng_u64(8, STREAM_TEST, (uint64_t)(r * LONG + i)) % V);
        t->prompt[r] = (Prompt){t->ids[r], n};
    }
    generator_measure(t->tp, &t->m, MANY);
    cr_assert_eq(tape_reserve(t->tp), OK);
    cr_assert_eq(generator_open(&t->g, &t->m, t->tp, MANY), OK);
}

static void texts_close(Texts *t) {
    generator_close(t->g);
    tape_free(t->tp);
    model_close(&t->m);
}

// Row r leaves after 1 + r % STEPS tokens.
static void texts_run(Texts *t, const SampleConfig *cfg, int first, int rows) {
    Drawn drawn[MANY];
    int count = 1;
    cr_assert_eq(generator_start(t->g, t->prompt + first, rows, first), OK, "%s", err_message());
    for (int r = first; r < first + rows; r++) t->drawn[r] = 0;
    for (int before = -1; generator_live(t->g) > 0; before = -1) {
        cr_assert_eq(generator_step(t->g, cfg, drawn, &count), OK);
        for (int i = 0; i < count; i++) {
            int r = first + drawn[i].row, n = t->drawn[r];
            cr_assert_gt(drawn[i].row, before);
            before = drawn[i].row;
            t->ids[r][t->prompt[r].count + n] = drawn[i].id;
            t->logp[r][n] = generator_log_prob(t->g, drawn[i].row);
            if (++t->drawn[r] == 1 + r % STEPS) generator_finish(t->g, drawn[i].row);
        }
    }
    cr_assert_eq(generator_step(t->g, cfg, drawn, &count), OK);
    cr_assert_eq(count, 0);
}

// One forward pass over prompt and answer says the same of every token that was drawn.
static void expect_forward(Texts *t, int r, double tolerance) {
    int n = t->prompt[r].count + t->drawn[r];
    MadeBatch b = made_batch(1, n, V, false);
    memcpy(b.tokens, t->ids[r], (size_t)n * sizeof *b.tokens);
    real *logits = made_forward(&t->m, &b.b, NULL, true);
    for (int i = 0; i < t->drawn[r]; i++) {
        const real *row = logits + (size_t)(t->prompt[r].count + i - 1) * V;
        double sum = 0;
        for (int v = 0; v < V; v++) sum += exp((double)row[v]);
        double wanted = (double)row[t->ids[r][t->prompt[r].count + i]] - log(sum);
        cr_assert_float_eq(t->logp[r][i], wanted, tolerance, "row %d, token %d", r, i);
    }
    free(logits);
    made_batch_free(&b);
}

Test(generator, many_prompts_together_are_each_alone) {
    static Texts all, alone;
    const double tolerance = GRADCHECK_RUNS ? 1e-12 : 1e-5;
    SampleConfig cfg = {.temperature = 0.9, .top_p = 1, .seed = 3};
    texts_open(&all);
    texts_open(&alone);
    texts_run(&all, &cfg, 0, MANY);
    for (int r = 0; r < MANY; r++) {
        texts_run(&alone, &cfg, r, 1);
        cr_assert_eq(all.drawn[r], 1 + r % STEPS);
        cr_assert_eq(alone.drawn[r], all.drawn[r]);
        cr_assert_arr_eq(alone.ids[r], all.ids[r],
                         (size_t)(all.prompt[r].count + all.drawn[r]) * sizeof(int32_t));
        for (int i = 0; i < all.drawn[r]; i++)
            cr_assert_float_eq(all.logp[r][i], alone.logp[r][i], tolerance, "row %d", r);
        if (r % 5 == 0 || r == 7) expect_forward(&all, r, 4 * tolerance);
    }
    texts_close(&all);
    texts_close(&alone);
}

// The same rows dealt out otherwise: each text has its own stream.
Test(generator, draws_do_not_depend_on_who_draws) {
    static Texts all, parts;
    SampleConfig cfg = {.temperature = 1.3, .top_p = 0.9, .seed = 3};
    texts_open(&all);
    texts_open(&parts);
    texts_run(&all, &cfg, 0, MANY);
    texts_run(&parts, &cfg, 0, 20);
    texts_run(&parts, &cfg, 20, 1);
    texts_run(&parts, &cfg, 21, MANY - 21);
    for (int r = 0; r < MANY; r++)
        cr_assert_arr_eq(parts.ids[r], all.ids[r], sizeof all.ids[r], "row %d", r);
    texts_close(&all);
    texts_close(&parts);
}

// Two generators, of two models, on one tape.
Test(generator, shares_its_tape) {
    static Texts t, other;
    SampleConfig cfg = {.temperature = 0, .top_p = 1};
    texts_open(&t);
    texts_run(&t, &cfg, 0, 5);
    texts_open(&other);
    tape_free(other.tp);
    generator_close(other.g);
    other.tp = tape_new();
    generator_measure(other.tp, &other.m, 2);
    generator_measure(other.tp, &t.m, 5);
    cr_assert_eq(tape_reserve(other.tp), OK);
    Generator *a, *b;
    Drawn drawn[5];
    int count;
    cr_assert_eq(generator_open(&a, &t.m, other.tp, 5), OK);
    cr_assert_eq(generator_open(&b, &other.m, other.tp, 2), OK);
    cr_assert_eq(generator_start(a, t.prompt, 5, 0), OK);
    cr_assert_eq(generator_start(b, other.prompt, 2, 0), OK);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(generator_step(a, &cfg, drawn, &count), OK);
        for (int r = 0; r < count; r++)
            if (i < t.drawn[r]) cr_assert_eq(drawn[r].id, t.ids[r][t.prompt[r].count + i]);
        cr_assert_eq(generator_step(b, &cfg, drawn, &count), OK);
        cr_assert_eq(count, 2);
    }
    generator_close(a);
    generator_close(b);
    other.g = NULL;
    texts_close(&other);
    texts_close(&t);
}

// The window's keys alone are kept.
Test(generator, memory_of_windows_is_constant) {
    Model m;
    made_model(&m, "model.width=8 model.heads=1 model.layers=2 model.pattern=WL model.window=40 "
                   "model.ffn=8 model.vocab=11");
    SampleConfig cfg = {.temperature = 1, .top_p = 1, .seed = 3};
    const int32_t first = 1;
    Prompt p = {&first, 1};
    Tape *tp = tape_new();
    Generator *g;
    Drawn drawn;
    int count;
    generator_measure(tp, &m, 1);
    cr_assert_eq(tape_reserve(tp), OK);
    cr_assert_eq(generator_open(&g, &m, tp, 1), OK);
    cr_assert_eq(generator_start(g, &p, 1, 0), OK);
    size_t bytes = 0;
    for (int i = 0; i < 100000; i++) {
        cr_assert_eq(generator_step(g, &cfg, &drawn, &count), OK);
        if (i == 200) bytes = generator_bytes(g);
    }
    cr_assert_eq(generator_bytes(g), bytes);
    generator_close(g);
    tape_free(tp);
    model_close(&m);
}
