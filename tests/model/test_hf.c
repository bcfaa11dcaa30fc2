// Hugging Face config.json <-> ModelConfig: what is read, what is refused by name, and
// write(read(x)) == x.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/model.h"

static char path[PATH_BYTES];

static void path_open(void) {
    snprintf(path, sizeof path, "/tmp/sterna_hf_XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
}
static void path_close(void) {
    remove(path);
}
TestSuite(hf_config, .init = path_open, .fini = path_close);

static Status read_text(ModelConfig *m, const char *text) {
    *m = (ModelConfig){.block = 5, .recompute = true};
    cr_assert_eq(file_write(path, text, strlen(text)), OK);
    return model_config_read_hf(m, path);
}

static ModelConfig read_ok(const char *text) {
    ModelConfig m;
    cr_assert_eq(read_text(&m, text), OK, "%s: %s", text, err_message());
    return m;
}

static void expect_refused(const char *text, const char *key, const char *value,
                           const char *supported) {
    ModelConfig m;
    cr_assert_eq(read_text(&m, text), E_FORMAT, "accepted: %s", text);
    const char *parts[] = {path, key, value, supported};
    for (int i = 0; i < 4; i++) {
        cr_assert_not_null(strstr(err_message(), parts[i]), "'%s' is not in: %s", parts[i],
                           err_message());
    }
    cr_assert(err_hint()[0] != '\0');
}

#define TNL(more)                                                                                  \
    "{\"model_type\":\"transnormer\",\"vocab_size\":64,\"decoder_embed_dim\":12,"                  \
    "\"decoder_layers\":3,\"decoder_attention_heads\":2,\"glu_dim\":20" more "}"
#define LRPE ",\"linear_use_lrpe_list\":[1,0,1]"
#define LLAMA(more)                                                                                \
    "{\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":12,\"num_hidden_layers\":3,"      \
    "\"num_attention_heads\":6,\"intermediate_size\":20" more "}"

Test(hf_config, a_transnormer_is_read_with_its_defaults) {
    ModelConfig m = read_ok(TNL(LRPE));
    cr_assert_str_eq(m.family, "tnl");
    cr_assert(m.vocab == 64 && m.width == 12 && m.layers == 3 && m.heads == 2 && m.ffn == 20);
    cr_assert_str_eq(m.pattern, "L");
    cr_assert_str_eq(m.lrpe, "0,2");
    cr_assert(m.tied && m.scale_embedding && m.pad_id == 0 && m.kv_heads == 2);
    cr_assert(m.norm_eps == 1e-6 && m.init_std == 0.02 && m.rope_base == 10000);
    cr_assert(m.layer_lrpe[0] && !m.layer_lrpe[1] && m.layer_lrpe[2] && m.head_size == 6);
    cr_assert(m.block == 5 && m.recompute, "how a model is run is none of this file's business");
}

Test(hf_config, a_transnormer_keeps_what_it_says) {
    ModelConfig m = read_ok(
        TNL(",\"linear_use_lrpe_list\":[false,false,false],\"no_scale_embedding\":true,"
            "\"tie_word_embeddings\":false,\"init_std\":0.01,\"pad_token_id\":null,"
            "\"hidden_dim\":12,\"bias\":false,\"linear_act_fun\":\"silu\",\"unknown\":[1]"));
    cr_assert_str_eq(m.lrpe, "none");
    cr_assert(!m.tied && !m.scale_embedding && m.init_std == 0.01 && m.pad_id == -1);
    m = read_ok("{\"model_type\":\"transnormer\",\"vocab_size\":64,\"decoder_embed_dim\":12,"
                "\"decoder_layers\":1,"
                "\"decoder_attention_heads\":2,\"glu_dim\":-1,\"linear_use_lrpe_list\":[1]}");
    cr_assert_eq(m.ffn, 12);
}

Test(hf_config, a_llama_is_read_with_its_defaults) {
    ModelConfig m = read_ok(LLAMA(""));
    cr_assert_str_eq(m.family, "llama");
    cr_assert(m.vocab == 64 && m.width == 12 && m.layers == 3 && m.heads == 6 && m.ffn == 20);
    cr_assert(m.kv_heads == 6 && !m.tied && !m.scale_embedding && m.pad_id == -1);
    cr_assert_str_eq(m.pattern, "N");
    cr_assert_str_eq(m.lrpe, "none");
    cr_assert(m.norm_eps == 1e-6 && m.rope_base == 10000 && m.kind == FAMILY_LLAMA);
}

Test(hf_config, a_llama_keeps_what_it_says) {
    ModelConfig m =
        read_ok(LLAMA(",\"num_key_value_heads\":3,\"rms_norm_eps\":1e-5,\"rope_theta\":5e5,"
                      "\"tie_word_embeddings\":true,\"head_dim\":2,\"rope_scaling\":null"));
    cr_assert(m.kv_heads == 3 && m.norm_eps == 1e-5 && m.rope_base == 5e5 && m.tied);
    m = read_ok(LLAMA(",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":7}"));
    cr_assert_eq(m.rope_base, 7);
}

Test(hf_config, values_that_make_another_model_are_refused_by_name) {
    expect_refused(TNL(LRPE ",\"linear_act_fun\":\"relu\""), "linear_act_fun", "relu", "silu");
    expect_refused(TNL(LRPE ",\"norm_type\":\"layernorm\""), "norm_type", "layernorm",
                   "simplermsnorm");
    expect_refused(TNL(LRPE ",\"bias\":true"), "bias", "true", "false");
    expect_refused(TNL(LRPE ",\"hidden_dim\":24"), "hidden_dim", "24", "decoder_embed_dim");
    expect_refused(TNL(""), "linear_use_lrpe_list", "null", "each layer");
    expect_refused(TNL(",\"linear_use_lrpe_list\":[1,0]"), "linear_use_lrpe_list", "",
                   "each layer");
    expect_refused(TNL(",\"linear_use_lrpe_list\":[1,0,2]"), "linear_use_lrpe_list", "", "0 or 1");
    expect_refused(TNL(LRPE ",\"layer_pattern\":\"LXL\""), "layer_pattern", "LXL", "letters");
    expect_refused(TNL(LRPE ",\"kv_heads\":3"), "kv_heads", "3", "divisor");
    expect_refused(TNL(LRPE ",\"pad_token_id\":64"), "pad_token_id", "64", "vocab_size");
    expect_refused(LLAMA(",\"hidden_act\":\"gelu\""), "hidden_act", "gelu", "silu");
    expect_refused(LLAMA(",\"attention_bias\":true"), "attention_bias", "true", "false");
    expect_refused(LLAMA(",\"mlp_bias\":true"), "mlp_bias", "true", "false");
    expect_refused(LLAMA(",\"rope_scaling\":{\"rope_type\":\"llama3\"}"), "rope_scaling", "object",
                   "null");
    expect_refused(LLAMA(",\"rope_parameters\":{\"rope_type\":\"yarn\"}"), "rope_parameters",
                   "object", "default");
    expect_refused(LLAMA(",\"head_dim\":4"), "head_dim", "4", "hidden_size / num_attention_heads");
    expect_refused(LLAMA(",\"num_key_value_heads\":4"), "num_key_value_heads", "4", "divisor");
    expect_refused(LLAMA(",\"rope_theta\":-1"), "rope_theta", "-1", "positive");
    expect_refused(LLAMA(",\"tie_word_embeddings\":1"), "tie_word_embeddings", "1",
                   "true or false");
    expect_refused("{\"model_type\":\"mamba\"}", "model_type", "mamba", "transnormer or llama");
    expect_refused("{}", "model_type", "null", "transnormer or llama");
    expect_refused("[]", "", "", "not a JSON object");
    expect_refused("{\"model_type\":\"llama\"", "", "", "");
}

Test(hf_config, sizes_must_be_there_and_in_range) {
    expect_refused("{\"model_type\":\"llama\"}", "vocab_size", "", "missing");
    expect_refused("{\"model_type\":\"transnormer\"}", "vocab_size", "", "missing");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":0}", "vocab_size", "0", "from 1");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":-5}", "vocab_size", "-5", "from 1");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":4294967297}", "vocab_size",
                   "4294967297", "from 1");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":\"64\"}", "vocab_size", "64",
                   "from 1");
    expect_refused(
        "{\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":10,\"num_hidden_layers\":257}",
        "num_hidden_layers", "257", "256");
    expect_refused(
        "{\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":10,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":3,\"intermediate_size\":20}",
        "num_attention_heads", "3", "divisor");
    ModelConfig m;
    remove(path);
    cr_assert_eq(model_config_read_hf(&m, path), E_IO);
}

// Writes, reads, writes: the same text, and the same model in between.
static void expect_round_trip(const ModelConfig *m, const char *must_contain) {
    char *first = model_config_write_hf(m, "bfloat16");
    cr_assert_not_null(strstr(first, must_contain), "%s", first);
    cr_assert_not_null(strstr(first, "\"torch_dtype\": \"bfloat16\""), "%s", first);
    cr_assert_eq(first[strlen(first) - 1], '\n');
    ModelConfig back = read_ok(first);
    char *second = model_config_write_hf(&back, "bfloat16");
    cr_assert_str_eq(second, first);
    cr_assert(back.kind == m->kind && back.width == m->width && back.layers == m->layers);
    cr_assert(back.kv_heads == m->kv_heads && back.ffn == m->ffn && back.tied == m->tied);
    cr_assert(back.norm_eps == m->norm_eps && back.pad_id == m->pad_id && back.vocab == m->vocab);
    cr_assert_arr_eq(back.layer, m->layer, (size_t)m->layers);
    cr_assert_arr_eq(back.layer_lrpe, m->layer_lrpe, (size_t)m->layers);
    free(first);
    free(second);
}

static ModelConfig config(const char *family, const char *pattern, const char *lrpe) {
    ModelConfig m = {.width = 24,
                     .layers = 5,
                     .heads = 4,
                     .kv_heads = 2,
                     .ffn = 36,
                     .vocab = 99,
                     .window = 17,
                     .tied = true,
                     .norm_eps = 1e-5,
                     .init_std = 0.0173,
                     .rope_base = 12345.678,
                     .pad_id = -1};
    snprintf(m.family, sizeof m.family, "%s", family);
    snprintf(m.pattern, sizeof m.pattern, "%s", pattern);
    snprintf(m.lrpe, sizeof m.lrpe, "%s", lrpe);
    cr_assert_eq(model_config_resolve(&m, NULL), OK, "%s", err_message());
    return m;
}

Test(hf_config, what_is_written_is_read_back) {
    ModelConfig m = config("tnl", "L", "first");
    m.kv_heads = m.heads;  // has no meaning, and no key, without softmax layers
    expect_round_trip(&m, "\"model_type\": \"transnormer\"");
    m = config("tnl", "LLN", "0,3");
    m.scale_embedding = true;
    expect_round_trip(&m, "\"layer_pattern\": \"LLNLL\"");
    m = config("tnl", "LW", "all");
    m.pad_id = 3, m.tied = false;
    expect_round_trip(&m, "\"window\": 17");
    m = config("llama", "N", "none");
    expect_round_trip(&m, "\"model_type\": \"llama\"");
}

Test(hf_config, a_hybrid_llama_does_not_pass_for_a_plain_one) {
    ModelConfig m = config("llama", "NWL", "2");
    expect_round_trip(&m, "\"model_type\": \"sterna-llama\"");
}

Test(hf_config, the_deepest_model_fits) {
    ModelConfig m = config("tnl", "L", "all");
    m.layers = MAX_LAYERS, m.kv_heads = m.heads;
    cr_assert_eq(model_config_resolve(&m, NULL), OK);
    expect_round_trip(&m, "transnormer");
}

Test(hf_config, the_normalisation_of_texts_is_kept_by_its_name) {
    cr_assert_str_eq(read_ok(LLAMA("")).normalisation, "");
    cr_assert_str_eq(read_ok(TNL(LRPE ",\"text_normalisation\":null")).normalisation, "");
    ModelConfig m = read_ok(TNL(LRPE ",\"text_normalisation\":\"any-7\""));
    cr_assert_str_eq(m.normalisation, "any-7");
    expect_round_trip(&m, "\"text_normalisation\": \"any-7\"");
    m = read_ok(LLAMA(",\"text_normalisation\":\"any-7\""));
    expect_round_trip(&m, "\"text_normalisation\": \"any-7\"");
    m.normalisation[0] = '\0';
    char *text = model_config_write_hf(&m, "float32");
    cr_assert_null(strstr(text, "text_normalisation"));
    free(text);
    expect_refused(LLAMA(",\"text_normalisation\":1"), "text_normalisation", "1", "a name");
    expect_refused(LLAMA(",\"text_normalisation\":\"\""), "text_normalisation", "", "a name");
    expect_refused(LLAMA(",\"text_normalisation\":\"a name that is longer than thirty-one bytes\""),
                   "text_normalisation", "longer", "a name");
}
