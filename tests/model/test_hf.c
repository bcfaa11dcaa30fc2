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
    expect_refused(TNL(""), "linear_use_lrpe_list", "missing", "each layer");
    expect_refused(TNL(",\"linear_use_lrpe_list\":[1,0]"), "linear_use_lrpe_list", "",
                   "each layer");
    expect_refused(TNL(",\"linear_use_lrpe_list\":[1,0,2]"), "linear_use_lrpe_list", "", "0 or 1");
    expect_refused(TNL(LRPE ",\"layer_pattern\":\"LXL\""), "layer_pattern", "LXL", "letters");
    expect_refused(TNL(LRPE ",\"kv_heads\":3"), "kv_heads", "3", "divisor");
    expect_refused(TNL(LRPE ",\"pad_token_id\":64"), "pad_token_id", "64", "vocab_size");
    expect_refused(LLAMA(",\"hidden_act\":\"gelu\""), "hidden_act", "gelu", "silu");
    expect_refused(LLAMA(",\"attention_bias\":true"), "attention_bias", "true", "false");
    expect_refused(LLAMA(",\"mlp_bias\":true"), "mlp_bias", "true", "false");
    expect_refused(LLAMA(",\"head_dim\":4"), "head_dim", "4", "hidden_size / num_attention_heads");
    expect_refused(LLAMA(",\"num_key_value_heads\":4"), "num_key_value_heads", "4", "divisor");
    expect_refused(LLAMA(",\"rope_theta\":-1"), "rope_theta", "-1", "positive");
    expect_refused(LLAMA(",\"tie_word_embeddings\":1"), "tie_word_embeddings", "1",
                   "true or false");
    expect_refused("{\"model_type\":\"mamba\"}", "model_type", "mamba", "transnormer or llama");
    expect_refused("{}", "model_type", "missing", "a text");
    expect_refused("[]", "", "a list", "an object is expected");
    expect_refused("{\"model_type\":\"llama\"", "", "", "");
}

// "default" is what is built, however a file spells it; everything else would be another model.
Test(hf_config, rope_is_read_in_every_place_and_spelling) {
    static const char *const SAID[] = {
        ",\"rope_theta\":7",
        ",\"rope_theta\":7,\"rope_scaling\":{\"rope_type\":\"default\"}",
        ",\"rope_theta\":7.0,\"rope_scaling\":{\"type\":\"default\"}",
        ",\"rope_theta\":7,\"rope_parameters\":{\"rope_type\":\"default\"}",
        ",\"rope_theta\":7,\"rope_parameters\":{\"rope_theta\":7,\"type\":\"default\"}",
        ",\"rope_theta\":null,\"rope_parameters\":{\"rope_theta\":7}",
        ",\"rope_scaling\":{\"rope_theta\":7,\"rope_type\":\"default\",\"type\":\"default\"}",
        ",\"rope_theta\":7,\"partial_rotary_factor\":1.0,\"rope_scaling\":null"};
    for (size_t i = 0; i < sizeof SAID / sizeof SAID[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, LLAMA("%s"), SAID[i]);
        cr_assert_eq(read_ok(text).rope_base, 7, "%s", text);
    }
    static const char *const NOTHING[] = {"", ",\"rope_scaling\":{}", ",\"rope_parameters\":null",
                                          ",\"rope_scaling\":{\"type\":\"default\"}"};
    for (size_t i = 0; i < sizeof NOTHING / sizeof NOTHING[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, LLAMA("%s"), NOTHING[i]);
        cr_assert_eq(read_ok(text).rope_base, 10000, "%s", text);
    }
}

Test(hf_config, rope_of_another_kind_is_refused_by_name) {
    static const char *const KINDS[] = {"linear",   "dynamic", "yarn", "llama3",
                                        "longrope", "su",      ""};
    static const char *const PLACES[] = {"rope_scaling", "rope_parameters"};
    static const char *const NAMES[] = {"rope_type", "type"};
    for (size_t k = 0; k < sizeof KINDS / sizeof KINDS[0]; k++) {
        for (int i = 0; i < 4; i++) {
            char text[512], path_in[64];
            snprintf(text, sizeof text, LLAMA(",\"%s\":{\"%s\":\"%s\",\"factor\":8.0}"),
                     PLACES[i / 2], NAMES[i % 2], KINDS[k]);
            snprintf(path_in, sizeof path_in, "%s.%s", PLACES[i / 2], NAMES[i % 2]);
            expect_refused(text, path_in, KINDS[k], "default");
        }
    }
    expect_refused(LLAMA(",\"rope_scaling\":{\"rope_type\":5}"), "rope_scaling.rope_type", "5",
                   "default");
    expect_refused(LLAMA(",\"rope_scaling\":{\"factor\":2}"), "rope_scaling.factor", "2", "1");
    expect_refused(LLAMA(",\"rope_scaling\":{\"rope_type\":\"default\",\"type\":\"yarn\"}"),
                   "rope_scaling.type", "yarn", "default");
    expect_refused(LLAMA(",\"rope_scaling\":\"default\""), "rope_scaling", "default", "an object");
    expect_refused(LLAMA(",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}"),
                   "rope_parameters.full_attention", "an object", "nothing but");
    expect_refused(LLAMA(",\"rope_parameters\":{\"rope_theta\":\"1e6\"}"),
                   "rope_parameters.rope_theta", "\"1e6\"", "a number");
    expect_refused(LLAMA(",\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":6}"),
                   "rope_parameters.rope_theta = 6", "5", "as rope_theta says");
    expect_refused(
        LLAMA(",\"rope_scaling\":{\"rope_theta\":6},\"rope_parameters\":{\"rope_theta\":5}"),
        "rope_scaling.rope_theta = 6", "5", "as rope_parameters.rope_theta says");
    expect_refused(LLAMA(",\"partial_rotary_factor\":0.5"), "partial_rotary_factor", "0.5", "1");
    expect_refused(LLAMA(",\"rope_parameters\":{\"partial_rotary_factor\":0.25}"),
                   "rope_parameters.partial_rotary_factor", "0.25", "1");
}

// Keys of models that are not quite Llamas. Each is accepted with the value that a Llama has.
Test(hf_config, what_would_change_the_numbers_is_refused) {
    static const struct {
        const char *key, *same, *other;
    } KEYS[] = {{"quantization_config", "null", "{\"quant_method\":\"gptq\"}"},
                {"sliding_window", "null", "4096"},
                {"use_sliding_window", "false", "true"},
                {"layer_types", "[\"full_attention\"]", "[\"sliding_attention\"]"},
                {"hidden_activation", "\"silu\"", "\"gelu_pytorch_tanh\""},
                {"embedding_multiplier", "1.0", "12.0"},
                {"residual_multiplier", "1", "0.22"},
                {"attention_multiplier", "null", "0.0078125"},
                {"logits_scaling", "1.0", "8.0"},
                {"logit_scale", "1.0", "0.0625"},
                {"final_logit_softcapping", "null", "30.0"},
                {"attention_bias", "false", "\"false\""},
                {"mlp_bias", "null", "0"},
                {"num_local_experts", "null", "8"},
                {"use_qk_norm", "false", "true"},
                {"no_rope_layers", "null", "[0,1]"},
                {"rotary_pct", "1.0", "0.25"}};
    for (size_t i = 0; i < sizeof KEYS / sizeof KEYS[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, LLAMA(",\"%s\":%s"), KEYS[i].key, KEYS[i].same);
        read_ok(text);
        snprintf(text, sizeof text, LLAMA(",\"%s\":%s"), KEYS[i].key, KEYS[i].other);
        expect_refused(text, KEYS[i].key, "", "expected");
    }
    read_ok(LLAMA(",\"sliding_window\":4096,\"use_sliding_window\":false"));
    read_ok(LLAMA(",\"pretraining_tp\":2,\"use_cache\":false,\"torch_dtype\":\"bfloat16\""));
    expect_refused(TNL(LRPE ",\"quantization_config\":{}"), "quantization_config", "", "null");
    expect_refused(TNL(LRPE ",\"bias\":\"false\""), "bias", "\"false\"", "false");
}

Test(hf_config, the_longest_text_is_kept) {
    cr_assert_eq(read_ok(LLAMA("")).max_positions, 0);
    ModelConfig m = read_ok(LLAMA(",\"max_position_embeddings\":4096"));
    cr_assert_eq(m.max_positions, 4096);
    char *text = model_config_write_hf(&m, NULL);
    cr_assert_not_null(strstr(text, "\"max_position_embeddings\": 4096"));
    free(text);
    expect_refused(LLAMA(",\"max_position_embeddings\":\"4096\""), "max_position_embeddings",
                   "4096", "a whole number");
}

Test(hf_config, sizes_must_be_there_and_in_range) {
    expect_refused("{\"model_type\":\"llama\"}", "vocab_size", "", "missing");
    expect_refused("{\"model_type\":\"transnormer\"}", "vocab_size", "", "missing");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":0}", "vocab_size", "0", "from 1");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":-5}", "vocab_size", "-5", "from 1");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":4294967297}", "vocab_size",
                   "4294967297", "from 1");
    expect_refused("{\"model_type\":\"llama\",\"vocab_size\":\"64\"}", "vocab_size", "64",
                   "a whole number");
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
    expect_refused(LLAMA(",\"text_normalisation\":1"), "text_normalisation", "1", "a text");
    expect_refused(LLAMA(",\"text_normalisation\":\"\""), "text_normalisation", "", "a name");
    expect_refused(LLAMA(",\"text_normalisation\":\"a name that is longer than thirty-one bytes\""),
                   "text_normalisation", "longer", "a name");
}

// ---- the neural memory -------------------------------------------------------------------------

#define MEMORY(keys)                                                                               \
    "{\"model_type\":\"sterna-llama\",\"vocab_size\":64,\"hidden_size\":12,"                       \
    "\"num_hidden_layers\":2,\"num_attention_heads\":3,\"intermediate_size\":20,"                  \
    "\"linear_use_lrpe_list\":[0,0],\"layer_pattern\":\"MW\",\"memory\":" keys "}"

Test(hf_config, a_memory_is_written_in_full_and_read_back) {
    ModelConfig m = read_ok(MEMORY("{\"chunk\":7,\"loss\":\"huber\",\"huber\":0.3}"));
    cr_assert(m.memory.chunk == 7 && m.memory.huber == 0.3 && m.memory.layers == 2);
    char *text = model_config_write_hf(&m, NULL);
    ModelConfig back = read_ok(text);
    cr_assert_str_eq(back.memory.net, "residual");
    cr_assert(back.memory.hidden == 16 && back.memory.clip == 1, "what was to be chosen is");
    cr_assert_float_eq(back.memory.theta_max, 1.5 * (1 - 0.95) / 7, 1e-15);
    char *again = model_config_write_hf(&back, NULL);
    cr_assert_str_eq(text, again);
    free(text), free(again);
    m = read_ok(TNL(LRPE));
    text = model_config_write_hf(&m, NULL);
    cr_assert_null(strstr(text, "memory"), "models without one say nothing of it");
    free(text);
}

Test(hf_config, a_memory_that_cannot_be_is_refused_by_name) {
    expect_refused(MEMORY("{\"chunk\":0}"), "memory.chunk", "0", "from 1 to");
    expect_refused(MEMORY("{\"layers\":5}"), "memory.layers", "5", "from 1 to 4");
    expect_refused(MEMORY("{\"loss\":\"l3\"}"), "memory.loss", "l3", "squared|hebbian|huber");
    expect_refused(MEMORY("{\"eta_max\":1}"), "memory.eta_max", "1", "0.9999");
    expect_refused(MEMORY("{\"chunk\":\"4\"}"), "memory.chunk", "4", "");
    expect_refused(MEMORY("[1]"), "memory", "", "an object");
}
