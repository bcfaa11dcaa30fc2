// Plans: what each class of memory is on meshes, and the change that a plan advises.
#include "train/plan.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define SMALL                                                                                      \
    "model.width=64 model.heads=4 model.ffn=96 model.layers=4 model.pattern=LN model.vocab=300 "   \
    "model.tied=false train.steps=1 train.seq=256 train.batch_tokens=2048 "

// Resolved as a command does it.
static RunConfig run_setup(const char *settings) {
    RunConfig cfg = {.train = {.steps = 0}};
    Section sections[RUN_SECTIONS];
    char words[1024], *save = NULL;
    run_config_sections(&cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    cr_assert_lt(strlen(settings), sizeof words);
    strcpy(words, settings);
    for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        cr_assert_eq(config_set(c, w, "test"), OK, "%s", err_message());
    cr_assert_eq(model_config_resolve(&cfg.model, c), OK, "%s", err_message());
    config_free(c);
    return cfg;
}

static Plan plan_of(const char *settings, int ranks) {
    RunConfig cfg = run_setup(settings);
    Plan p;
    cr_assert_eq(plan_make(&p, &LANGUAGE_MODEL, &cfg, ranks), OK, "%s", err_message());
    return p;
}

Test(plan, counts_every_class_of_one_rank) {
    Plan p = plan_of(SMALL, 1);
    // Embedding and head, two L layers, two N layers, four channel mixers, LRPE of the first layer.
    double C = 64, parameters = 2 * 300 * C + 2 * 5 * C * C + 2 * 4 * C * C + 4 * 3 * 96 * C + C;
    cr_expect_eq(p.parameters, parameters);
    cr_expect_geq((double)p.arenas.weights, parameters * sizeof(real));
    cr_expect_leq((double)p.arenas.weights, (parameters + 64.0 * 64) * sizeof(real));  // padded
    cr_expect_eq(p.arenas.gradients, p.arenas.weights);
    cr_expect_eq(p.arenas.optimizer, 2 * p.arenas.weights);
    cr_expect_gt(plan_resident(&p), memory_total(&p.arenas));
    // Nothing but the numbers of 8 rows of 256 tokens can be smaller.
    cr_expect_gt(p.arenas.activations, (int64_t)(8 * 256 * 64 * sizeof(real)));
}

Test(plan, divides_what_each_axis_divides) {
    Plan one = plan_of(SMALL, 1), dp = plan_of(SMALL, 4);
    Plan whole = plan_of(SMALL "parallel.zero=false", 4), sp = plan_of(SMALL "parallel.sp=4", 4);
    Plan tp = plan_of(SMALL "parallel.tp=4", 4), again = plan_of(SMALL "model.recompute=true", 1);
    cr_expect_eq(dp.mesh.dp, 4);
    cr_expect_eq(dp.arenas.weights, one.arenas.weights);
    cr_expect_leq(dp.arenas.optimizer, one.arenas.optimizer / 4 + 65536);
    cr_expect_eq(whole.arenas.optimizer, one.arenas.optimizer);
    cr_expect_eq(one.micro_rows, 8);
    cr_expect_eq(dp.micro_rows, 2);
    cr_expect_lt(2 * sp.arenas.activations, one.arenas.activations);
    cr_expect_lt(2 * tp.arenas.weights, one.arenas.weights);
    cr_expect_lt(again.arenas.activations, one.arenas.activations);
}

Test(plan, refuses_a_mesh_that_cannot_be) {
    RunConfig three = run_setup(SMALL "parallel.tp=3"), cfg = run_setup(SMALL "parallel.sp=2");
    Plan p;
    cr_expect_eq(plan_make(&p, &LANGUAGE_MODEL, &three, 3), E_USAGE);
    cr_expect_eq(plan_make(&p, &LANGUAGE_MODEL, &cfg, 3), E_LAUNCH);
}

// The words of the advice, added to what was asked for, make the plan that was promised.
Test(plan, advice_fits_and_says_how) {
    static const double SHARES[] = {0.7, 0.45, 0.3};
    for (int i = 0; i < 3; i++) {
        RunConfig cfg = run_setup(SMALL);
        Search s = {.cfg = cfg, .ranks = 1, .plan = plan_of(SMALL, 1)}, first = s;
        int64_t spare = s.plan.rest;
        int64_t limit = spare + (int64_t)(SHARES[i] * (double)memory_total(&s.plan.arenas));
        char words[256], settings[1024];
        cr_assert(search_fit(&s, limit), "share %g", SHARES[i]);
        cr_expect_leq(plan_resident(&s.plan), limit);
        search_words(words, sizeof words, &s, &first);
        cr_expect_gt(strlen(words), 0);
        if (strncmp(words, "--ranks", 7) == 0) words[0] = '\0';
        snprintf(settings, sizeof settings, SMALL "%s", words);
        Plan again = plan_of(settings, s.ranks);
        cr_expect_eq(plan_resident(&again), plan_resident(&s.plan), "%s", words);
    }
    Search s = {.cfg = run_setup(SMALL), .ranks = 1, .plan = plan_of(SMALL, 1)};
    cr_expect_not(search_fit(&s, 1 << 20));  // the program alone is larger
}

// ---- the batch ---------------------------------------------------------------------------------

Test(run, chooses_rows_of_a_micro_batch) {
    static const struct {
        int64_t batch;
        int seq, micro, dp, sp, rows;
    } cases[] = {
        {1 << 20, 1024, 0, 1, 1, 8},   // about 8192 tokens
        {1 << 20, 1024, 0, 1, 4, 32},  // of this rank
        {1 << 20, 16384, 0, 1, 1, 1},  // at least a row
        {4096, 1024, 0, 1, 1, 4},      // no more than there are
        {5 * 1024, 1024, 0, 2, 1, 3},  // in the largest share
        {1024, 1024, 0, 4, 1, 1},      // a rank without rows has the shape of one
        {1 << 20, 1024, 3, 1, 1, 3},   // as asked for
        {4096, 1024, 1000, 2, 1, 2},   // in bounds
        {300, 100, 0, 1, 3, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        TrainConfig t = {.batch_tokens = cases[i].batch, .seq = cases[i].seq};
        t.micro_rows = cases[i].micro;
        Mesh mesh = {.dp = cases[i].dp, .sp = cases[i].sp, .tp = 1};
        cr_expect_eq(run_micro_rows(&t, &mesh), cases[i].rows, "case %zu", i);
    }
}

Test(run, checks_keys_against_one_another) {
    static const struct {
        const char *settings, *text;
    } cases[] = {
        {"train.steps=1 train.seq=100 train.batch_tokens=250", "train.batch_tokens=250"},
        {"train.steps=1 train.seq=1000000 train.batch_tokens=1000000000000 train.micro_rows=9999",
         "train.micro_rows=9999"},
        {"train.steps=0 train.minutes=0", "train.minutes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char settings[512];
        snprintf(settings, sizeof settings, "model.preset=tnl-tiny %s", cases[i].settings);
        RunConfig cfg = run_setup(settings);
        cr_expect_eq(run_config_check(&cfg), E_USAGE);
        cr_expect_not_null(strstr(err_message(), cases[i].text), "%s", err_message());
    }
    RunConfig good = run_setup("model.preset=tnl-tiny train.steps=1");
    cr_expect_eq(run_config_check(&good), OK);
}
