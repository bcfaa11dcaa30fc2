// A model directory and what is asked of it: keys that agree or are left open are kept, others are
// refused by name, and every origin is true.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoints/checkpoint.h"
#include "train/modeldir.h"
#include "tests/ref/tree.h"

static char dir[PATH_BYTES], yaml[PATH_BYTES];
static const Field INIT[] = {{"train.init", CFG_TEXT, 0, 0, 0, "", NULL, "", "", KEY_FIXED}};

static void put(const char *name, const char *text) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    cr_assert_eq(file_write(path, text, strlen(text)), OK);
}

// A hybrid of four layers, with weights of which only the names of embedding and head matter here.
static void dir_open(void) {
    snprintf(dir, sizeof dir, "/tmp/sterna_modeldir_XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    put("config.json", "{\"model_type\":\"transnormer\",\"vocab_size\":64,\"decoder_embed_dim\":32,"
                       "\"decoder_layers\":4,"
                       "\"decoder_attention_heads\":4,\"glu_dim\":48,\"layer_pattern\":\"LNLN\","
                       "\"kv_heads\":2,\"window\":7,"
                       "\"linear_use_lrpe_list\":[1,0,0,0],\"norm_eps\":1e-5,\"pad_token_id\":null,"
                       "\"bos_token_id\":3,"
                       "\"eos_token_id\":[9,8,5]}");
    char path[PATH_BYTES];
    real zero = 0;
    path_join(path, dir, "model.safetensors");
    StSource s = {
        .t = {.name = "model.embed_tokens.weight", .dtype = DTYPE_F32, .ndim = 1, .dim = {1}},
        .data = &zero};
    cr_assert_eq(st_write(path, &s, 1), OK, "%s", err_message());
    path_join(yaml, dir, "run.yaml");
}
static void dir_close(void) {
    cr_assert_eq(tree_remove(dir), OK);
}
TestSuite(modeldir, .init = dir_open, .fini = dir_close);

typedef struct Asked {
    ModelConfig m;
    Text init;
    Config *c;
} Asked;

// The file's lines first, then the words of the command line; both separated by spaces, either may
// be empty.
static Status ask(Asked *a, const char *file, const char *words) {
    static Section sections[2];
    char copy[512], *save = NULL;
    memset(a, 0, sizeof *a);
    sections[0] = (Section){MODEL_FIELDS, MODEL_FIELD_COUNT, &a->m};
    sections[1] = (Section){INIT, 1, &a->init};
    a->c = config_new(sections, 2);
    snprintf(copy, sizeof copy, "%s", file);
    for (char *s = copy; *s != '\0'; s++) *s = *s == ' ' ? '\n' : *s == '=' ? ':' : *s;
    for (char *s = strchr(copy, ':'); s != NULL; s = strchr(s + 1, ':'))
        memmove(s + 2, s + 1, strlen(s)), s[1] = ' ';
    if (file[0] != '\0') {
        put("run.yaml", copy);
        cr_assert_eq(config_read_file(a->c, yaml), OK, "%s", err_message());
    }
    snprintf(copy, sizeof copy, "%s", words);
    for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        cr_assert_eq(config_set(a->c, w, "command line"), OK, "%s", err_message());
    return modeldir_config(&a->m, a->c, dir, "train.init");
}

static void expect_refused(const char *file, const char *words, const char *part) {
    Asked a;
    cr_assert_eq(ask(&a, file, words), E_USAGE, "accepted: %s | %s", file, words);
    cr_expect_not_null(strstr(err_message(), part), "'%s' is not in: %s", part, err_message());
    cr_expect_not_null(strstr(err_message(), dir));
    config_free(a.c);
}

static void expect_accepted(const char *file, const char *words) {
    Asked a;
    cr_assert_eq(ask(&a, file, words), OK, "%s | %s: %s", file, words, err_message());
    cr_expect(a.m.width == 32 && a.m.layers == 4 && a.m.kv_heads == 2 && a.m.norm_eps == 1e-5);
    cr_expect_str_eq(a.m.preset, "");
    const char *const decided[] = {"model.width", "model.preset", "model.lrpe", "model.bos_id"};
    for (int i = 0; i < 4; i++) {
        const char *origin = config_origin(a.c, decided[i]);
        cr_expect(strncmp(origin, "train.init: ", 12) == 0 &&
                      strstr(origin, "/config.json") != NULL,
                  "%s: %s", decided[i], origin);
    }
    config_free(a.c);
}

Test(modeldir, what_agrees_is_accepted_however_it_is_written) {
    expect_accepted("", "");
    expect_accepted(
        "", "model.layers=4 model.width=32 model.kv_heads=2 model.norm_eps=1e-5 model.family=tnl");
    expect_accepted("model.layers=4 model.tied=true", "model.ffn=48");
    expect_accepted("", "model.pattern=LN");
    expect_accepted("", "model.pattern=LNLNL model.lrpe=first");
    expect_accepted("", "model.lrpe=0");
    expect_accepted("", "model.vocab=0 model.window=7 model.rope_base=10000 model.bos_id=3");
}

Test(modeldir, what_contradicts_is_refused_with_both_values) {
    expect_refused("", "model.layers=9", "model.layers: 9 -> 4");
    expect_refused("model.layers=9", "train.init=x", "model.layers: 9 -> 4");
    expect_refused("", "model.layers=9 model.width=64", "model.width: 64 -> 32");
    expect_refused("", "model.kv_heads=0", "model.kv_heads: 4 -> 2");
    expect_refused("", "model.heads=5", "model.heads: 5 -> 4");
    expect_refused("", "model.family=llama", "model.family: llama -> tnl");
    expect_refused("", "model.pattern=LNN", "model.pattern: LNN -> LNLN");
    expect_refused("", "model.lrpe=all", "model.lrpe: all -> \"0\"");
    expect_refused("", "model.lrpe=0,7", "model.lrpe: \"0,7\" -> \"0\"");
    expect_refused("", "model.pattern=X", "model.pattern: X -> LNLN");
    expect_refused("", "model.tied=false", "model.tied: false -> true");
    expect_refused("", "model.vocab=65", "model.vocab: 65 -> 64");
    expect_refused("", "model.bos_id=1", "model.bos_id: 1 -> 3");
    expect_refused("", "model.eos_id=2", "model.eos_id: 2 -> 9");
    expect_refused("", "model.eos_id=-1", "model.eos_id: -1 -> 9");
}

Test(modeldir, a_preset_binds_unless_the_command_line_brings_another_model) {
    expect_accepted("model.preset=tnl-1b", "train.init=x");
    expect_refused("model.preset=tnl-1b train.init=x", "", "-> 4");
    expect_refused("", "model.preset=tnl-1b train.init=x", "model.width: 2048 -> 32");
    expect_refused("", "model.preset=tnl-1b", "model.width: 2048 -> 32");
    expect_refused("model.preset=tnl-1b model.layers=9", "train.init=x", "model.layers: 9 -> 4");
}

Test(modeldir, what_the_model_leaves_open_is_taken) {
    Asked a;
    cr_assert_eq(ask(&a, "", "model.block=16 model.recompute=true model.pad_id=6 model.eos_id=5"),
                 OK, "%s", err_message());
    cr_expect(a.m.block == 16 && a.m.recompute && a.m.pad_id == 6 && a.m.bos_id == 3);
    cr_expect(a.m.eos_id == 5 && a.m.more_eos_count == 2);
    cr_expect(model_config_ends(&a.m, 5) && model_config_ends(&a.m, 8) &&
              model_config_ends(&a.m, 9));
    const char *const own[] = {"model.block", "model.recompute", "model.pad_id", "model.eos_id"};
    for (int i = 0; i < 4; i++)
        cr_expect_str_eq(config_origin(a.c, own[i]), "command line", "%s", own[i]);
    config_free(a.c);
    cr_assert_eq(ask(&a, "", ""), OK);
    cr_expect_str_eq(config_origin(a.c, "model.block"), "default");
    cr_expect(a.m.eos_id == 9 && a.m.pad_id == -1);
    config_free(a.c);
}

Test(modeldir, what_changes_no_tensor_is_done) {
    Asked a;
    cr_assert_eq(ask(&a, "model.window=6",
                     "model.norm_eps=1e-4 model.rope_base=500000 model.scale_embedding=false"),
                 OK, "%s", err_message());
    cr_expect(a.m.norm_eps == 1e-4 && a.m.rope_base == 500000 && !a.m.scale_embedding &&
              a.m.window == 6);
    cr_expect_str_eq(config_origin(a.c, "model.rope_base"), "command line");
    config_free(a.c);
}

Test(modeldir, what_is_missing_is_named) {
    Asked a;
    char path[PATH_BYTES];
    path_join(path, dir, "model.safetensors");
    cr_assert_eq(remove(path), 0);
    cr_assert_eq(ask(&a, "", ""), E_IO);
    cr_expect_not_null(strstr(err_message(), "model.safetensors"));
    config_free(a.c);
    path_join(path, dir, "config.json");
    cr_assert_eq(remove(path), 0);
    cr_assert_eq(ask(&a, "", ""), E_IO);
    cr_expect_not_null(strstr(err_message(), "config.json"));
    config_free(a.c);
}
