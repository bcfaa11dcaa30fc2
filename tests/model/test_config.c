// The model section: presets fill what the user left open, patterns and lists are expanded, and
// what does not fit is refused with a message that names key and value.
#include "made_model.h"

static ModelConfig resolved(const char *settings) {
    ModelConfig m;
    cr_assert_eq(made_config(&m, settings), OK, "%s: %s", settings, err_message());
    return m;
}

static void refused(const char *settings, const char *says) {
    ModelConfig m;
    err_clear();
    cr_expect_eq(made_config(&m, settings), E_USAGE, "accepted: %s", settings);
    cr_expect_not_null(strstr(err_message(), says), "%s: '%s' is not in: %s", settings, says,
                       err_message());
    cr_expect(err_hint()[0] != '\0', "%s: no hint", settings);
}

Test(model_config, a_pattern_is_repeated_over_the_layers) {
    ModelConfig m = resolved("model.layers=7 model.pattern=LLN");
    cr_assert_eq(memcmp(m.layer, "LLNLLNL", 7), 0);
    m = resolved("model.layers=2 model.pattern=LNW");
    cr_assert_eq(memcmp(m.layer, "LN", 2), 0);
    m = resolved("model.layers=256 model.pattern=W");
    cr_assert(m.layer[0] == 'W' && m.layer[255] == 'W');
}

Test(model_config, position_codes_are_given_by_word_or_list) {
    const struct {
        const char *settings, *flags;
    } cases[] = {{"model.layers=4", "1000"},
                 {"model.layers=4 model.lrpe=first", "1000"},
                 {"model.layers=4 model.lrpe=all", "1111"},
                 {"model.layers=4 model.lrpe=none", "0000"},
                 {"model.layers=4 model.lrpe=3", "0001"},
                 {"model.layers=4 model.lrpe=2,0", "1010"},
                 {"model.layers=1 model.lrpe=0", "1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ModelConfig m = resolved(cases[i].settings);
        for (int l = 0; l < m.layers; l++) {
            cr_expect_eq(m.layer_lrpe[l], cases[i].flags[l] == '1', "%s: layer %d",
                         cases[i].settings, l);
        }
    }
}

Test(model_config, what_does_not_fit_is_refused_by_name) {
    refused("model.pattern=LXN", "`X`");
    refused("model.pattern=l", "`l`");
    refused("model.pattern=\"\"", "model.pattern");
    refused("model.pattern=L,N", "`,`");
    refused("model.layers=3 model.lrpe=3", "`3`");
    refused("model.layers=3 model.lrpe=-1", "`-1`");
    refused("model.layers=3 model.lrpe=0,,1", "`0,,1`");
    refused("model.layers=3 model.lrpe=0;1", "`0;1`");
    refused("model.layers=3 model.lrpe=some", "`some`");
    refused("model.layers=3 model.lrpe=99999999999999999999", "model.lrpe");
    refused("model.width=30 model.heads=4", "model.heads=4");
    refused("model.width=32 model.heads=4 model.kv_heads=3 model.pattern=N", "model.kv_heads=3");
    refused("model.width=32 model.heads=4 model.kv_heads=8 model.pattern=N", "model.kv_heads=8");
    refused("model.width=12 model.heads=4 model.pattern=LLW", "odd");
    refused("model.lrpe=0,", "model.lrpe");
    refused("model.preset=tnl-2b", "`tnl-2b`");
    refused("model.layers=0", "model.layers");
    refused("model.layers=257", "model.layers");
    refused("model.family=gpt", "model.family");
}

Test(model_config, an_odd_head_size_is_fine_without_rope) {
    cr_assert_eq(resolved("model.width=12 model.heads=4").head_size, 3);
}

Test(model_config, a_model_without_vocabulary_is_refused) {
    ModelConfig cfg = resolved("model.layers=1");
    Model m;
    cr_assert_eq(model_open(&m, &cfg, NULL), E_USAGE);
    cr_assert_not_null(strstr(err_message(), "model.vocab"));
    model_close(&m);
}

Test(model_config, keys_of_the_user_win_over_the_preset) {
    ModelConfig m = resolved("model.preset=tnl-1b model.layers=4 model.pattern=LN");
    cr_assert(m.width == 2048 && m.heads == 16 && m.ffn == 5632 && m.vocab == 64000);
    cr_assert(m.layers == 4 && memcmp(m.layer, "LNLN", 4) == 0 && m.kind == FAMILY_TNL);
    m = resolved("model.preset=llama-6m model.vocab=99");
    cr_assert(m.kind == FAMILY_LLAMA && m.vocab == 99 && memcmp(m.layer, "NNNNNN", 6) == 0);
    // A value equal to the default is still the user's.
    cr_assert_eq(resolved("model.preset=tnl-1b model.width=256").width, 256);
}

static void open_preset(const char *name, const char *text, void *user) {
    char settings[128];
    snprintf(settings, sizeof settings, "model.preset=%s model.pad_id=-1", name);
    ModelConfig cfg = resolved(settings);
    if (cfg.vocab == 0) cfg.vocab = 100;
    Model m;
    cr_assert_eq(model_open(&m, &cfg, NULL), OK);
    cr_expect_gt(model_parameters(&m), 1000, "%s", name);
    cr_expect(text[0] != '\0');
    cr_expect(model_dim_summary(&cfg)[0] != '\0');
    model_close(&m);
    ++*(int *)user;
}

Test(model_config, every_preset_opens) {
    int count = 0;
    model_presets_list(open_preset, &count);
    cr_assert_geq(count, 8);
}
