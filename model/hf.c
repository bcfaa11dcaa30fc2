// Hugging Face config.json <-> ModelConfig.
//
// Two kinds are known: "transnormer" (TransNormerLLM) and "llama". A value that would make another
// model than the one written here is refused by name; keys that do not change the numbers are
// passed over. Hybrids, which Hugging Face has no names for, add keys of our own: layer_pattern,
// window, conv, persistent, kv_heads, rope_base, memory. A Llama with other mixers calls itself
// "sterna-llama", so that no other program takes it for a plain one.
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

static const char TNL_TYPE[] = "transnormer", LLAMA_TYPE[] = "llama",
                  HYBRID_TYPE[] = "sterna-llama";
static const char HINT[] = "only models of these kinds can be read: see docs/formats.md";
static const double TNL_EPS = 1e-6, TNL_STD = 0.02, LLAMA_EPS = 1e-6, LLAMA_STD = 0.02,
                    ROPE_BASE = 10000;
enum { REQUIRED = INT_MIN, WINDOW_DEFAULT = 1024, MAX_WIDTH = 1 << 22, MAX_VOCAB = 1 << 24 };

typedef struct IntKey {
    const char *key;
    size_t offset;  // into ModelConfig
    int min, max, fallback;
} IntKey;

#define AT(member) offsetof(ModelConfig, member)
// clang-format off
static const IntKey TNL_INTS[] = {
    {"vocab_size", AT(vocab), 1, MAX_VOCAB, REQUIRED},
    {"decoder_embed_dim", AT(width), 1, MAX_WIDTH, REQUIRED},
    {"decoder_layers", AT(layers), 1, MAX_LAYERS, REQUIRED},
    {"decoder_attention_heads", AT(heads), 1, MAX_WIDTH, REQUIRED},
    {"glu_dim", AT(ffn), -1, MAX_WIDTH, -1},  // -1: the width
};
static const FixedKey TNL_FIXED[] = {
    {"linear_act_fun", J_TEXT, "silu", 0}, {"norm_type", J_TEXT, "simplermsnorm", 0}, {"bias", J_BOOL, "", 0},
    {"quantization_config", J_NONE, "", 0},
};
static const IntKey LLAMA_INTS[] = {
    {"vocab_size", AT(vocab), 1, MAX_VOCAB, REQUIRED},
    {"hidden_size", AT(width), 1, MAX_WIDTH, REQUIRED},
    {"num_hidden_layers", AT(layers), 1, MAX_LAYERS, REQUIRED},
    {"num_attention_heads", AT(heads), 1, MAX_WIDTH, REQUIRED},
    {"num_key_value_heads", AT(kv_heads), 1, MAX_WIDTH, 0},  // 0: as many as heads
    {"intermediate_size", AT(ffn), 1, MAX_WIDTH, REQUIRED},
};
static const IntKey COMMON_INTS[] = {
    {"max_position_embeddings", AT(max_positions), 1, INT_MAX, 0},  // changes no number
};
static const IntKey HYBRID_INTS[] = {
    {"window", AT(window), 1, 1 << 24, WINDOW_DEFAULT},
    {"conv", AT(conv), 0, 64, 0},
    {"persistent", AT(persistent), 0, 1 << 20, 0},
    {"kv_heads", AT(kv_heads), 1, MAX_WIDTH, 0},
};
// clang-format on
#define COUNT(table) (int)(sizeof(table) / sizeof(table)[0])

static void set_text(Text dst, const char *src) {
    memset(dst, 0, TEXT_BYTES);
    memcpy(dst, src, strnlen(src, TEXT_BYTES - 1));
}

// --- reading ---

// null counts as absent, as in the reference library.
static Status read_ints(ModelConfig *m, const JsonAt *top, const IntKey *keys, int count) {
    for (int i = 0; i < count; i++) {
        const IntKey *k = &keys[i];
        JsonAt v;
        int64_t value = k->fallback;
        TRY(json_member(&v, top, k->key));
        bool given = json_kind(&v) != J_NONE;
        if (!given && k->fallback == REQUIRED)
            return json_refuse(&v, "a whole number from %d to %d", k->min, k->max);
        if (given) TRY(json_int(&value, &v));
        if (given && (value < k->min || value > k->max))
            return json_refuse(&v, "a whole number from %d to %d", k->min, k->max);
        *(int *)(void *)((char *)m + k->offset) = (int)value;
    }
    return OK;
}

static bool is_fixed(const FixedKey *k, const JsonAt *v) {
    double number;
    bool flag;
    const char *text;
    if (json_kind(v) == J_NONE) return true;
    if (json_kind(v) != k->kind) return false;
    if (k->kind == J_TEXT) return json_text(&text, v) == OK && strcmp(text, k->text) == 0;
    if (k->kind == J_BOOL) return json_bool(&flag, v) == OK && flag == (k->number != 0);
    return json_number(&number, v) == OK && number == k->number;
}

Status hf__check_fixed(const JsonAt *top, const FixedKey *keys, int count) {
    for (int i = 0; i < count; i++) {
        const FixedKey *k = &keys[i];
        JsonAt v;
        TRY(json_member(&v, top, k->key));
        if (is_fixed(k, &v)) continue;
        if (k->kind == J_TEXT) return json_refuse(&v, "\"%s\"", k->text);
        if (k->kind == J_BOOL) return json_refuse(&v, "%s", k->number != 0 ? "true" : "false");
        if (k->kind == J_NUMBER) return json_refuse(&v, "%g", k->number);
        return json_refuse(&v, "null");
    }
    return OK;
}

Status hf__read_positive(double *out, const JsonAt *object, const char *key) {
    JsonAt v;
    TRY(json_member(&v, object, key));
    if (json_kind(&v) == J_NONE) return OK;
    TRY(json_number(out, &v));
    return *out > 0 ? OK : json_refuse(&v, "a positive number");
}

// A number that must be what follows from others, if it is there.
static Status check_equal(const JsonAt *top, const char *key, int value, const char *expected) {
    JsonAt v;
    int64_t given = value;
    TRY(json_member(&v, top, key));
    if (json_kind(&v) != J_NONE) TRY(json_int(&given, &v));
    return given == value ? OK : json_refuse(&v, "%s", expected);
}

static Status refuse_key(const JsonAt *top, const char *key, const char *expected) {
    JsonAt v;
    TRY(json_member(&v, top, key));
    return json_refuse(&v, "%s", expected);
}

// Shares of heads, checked here under the names the file uses.
static Status check_heads(ModelConfig *m, const JsonAt *top, const char *heads_key,
                          const char *kv_key) {
    if (m->width % m->heads != 0) return refuse_key(top, heads_key, "a divisor of the width");
    if (m->kv_heads == 0) m->kv_heads = m->heads;
    if (m->heads % m->kv_heads != 0)
        return refuse_key(top, kv_key, "a divisor of the number of heads");
    return OK;
}

// 0, 1, true or false.
static Status read_flag(bool *out, const JsonAt *v) {
    int64_t number;
    if (json_kind(v) == J_BOOL) return json_bool(out, v);
    TRY(json_int(&number, v));
    *out = number == 1;
    return number == 0 || number == 1 ? OK : json_refuse(v, "0 or 1");
}

// A list of flags, one a layer -> "0,2". All layers -> "all", which also fits when the list of
// numbers would not.
static Status read_lrpe(ModelConfig *m, const JsonAt *top) {
    JsonAt list, v;
    TRY(json_member(&list, top, "linear_use_lrpe_list"));
    if (json_kind(&list) != J_LIST || json_count(&list) != (size_t)m->layers)
        return json_refuse(&list, "a list with 0 or 1 for each layer");
    Text numbers = "";
    size_t used = 0;
    int flagged = 0;
    for (int l = 0; l < m->layers; l++) {
        bool flag;
        TRY(json_item(&v, &list, (size_t)l));
        TRY(read_flag(&flag, &v));
        if (!flag) continue;
        if (used < sizeof numbers) {
            used += (size_t)snprintf(numbers + used, sizeof numbers - used,
                                     flagged > 0 ? ",%d" : "%d", l);
        }
        flagged++;
    }
    if (flagged == m->layers && used >= sizeof numbers)
        set_text(m->lrpe, "all");
    else if (used >= sizeof numbers)
        return json_refuse(&list, "a list with fewer layers, or all of them");
    else
        set_text(m->lrpe, flagged == 0 ? "none" : numbers);
    return OK;
}

// Ours only: the mixer of each layer, as in model.pattern.
static Status read_pattern(ModelConfig *m, const JsonAt *top, const char *pure) {
    const char *pattern = pure;
    TRY(json_opt_text(&pattern, top, "layer_pattern"));
    size_t n = strlen(pattern), known = 0;
    while (known < n && mixer_find(pattern[known]) != NULL) known++;
    if (n == 0 || n > MAX_LAYERS || known < n)
        return refuse_key(top, "layer_pattern", "a text of the letters of docs/formats.md");
    set_text(m->pattern, pattern);
    return OK;
}

// Defaults are those of the reference class; sizes have none, for every file states them.
static Status read_transnormer(ModelConfig *m, const JsonAt *top) {
    set_text(m->family, "tnl");
    TRY(hf__check_fixed(top, TNL_FIXED, COUNT(TNL_FIXED)));
    TRY(read_ints(m, top, TNL_INTS, COUNT(TNL_INTS)));
    TRY(read_ints(m, top, HYBRID_INTS, COUNT(HYBRID_INTS)));
    if (m->ffn == -1) m->ffn = m->width;
    if (m->ffn == 0) return refuse_key(top, "glu_dim", "a positive number, or -1 for the width,");
    TRY(check_equal(top, "hidden_dim", m->width, "decoder_embed_dim"));
    TRY(check_heads(m, top, "decoder_attention_heads", "kv_heads"));
    TRY(read_pattern(m, top, "L"));
    TRY(read_lrpe(m, top));
    bool unscaled = false;
    TRY(json_opt_bool(&unscaled, top, "no_scale_embedding"));
    m->scale_embedding = !unscaled;
    m->tied = true;
    TRY(json_opt_bool(&m->tied, top, "tie_word_embeddings"));
    m->init_std = TNL_STD, m->norm_eps = TNL_EPS, m->rope_base = ROPE_BASE;
    TRY(hf__read_positive(&m->init_std, top, "init_std"));
    TRY(hf__read_positive(&m->norm_eps, top, "norm_eps"));
    TRY(hf__read_positive(&m->rope_base, top, "rope_base"));
    return hf__read_ids(m, top, true);
}

static Status read_llama(ModelConfig *m, const JsonAt *top, bool hybrid) {
    set_text(m->family, "llama");
    TRY(hf__check_llama(top));
    TRY(read_ints(m, top, LLAMA_INTS, COUNT(LLAMA_INTS)));
    TRY(check_heads(m, top, "num_attention_heads", "num_key_value_heads"));
    TRY(check_equal(top, "head_dim", m->width / m->heads, "hidden_size / num_attention_heads"));
    set_text(m->pattern, "N");
    set_text(m->lrpe, "none");
    m->window = WINDOW_DEFAULT;
    if (hybrid) {
        TRY(read_pattern(m, top, "N"));
        TRY(read_lrpe(m, top));
        TRY(read_ints(m, top, HYBRID_INTS, 3));  // kv_heads has its Llama name
    }
    m->scale_embedding = m->tied = false;
    TRY(json_opt_bool(&m->tied, top, "tie_word_embeddings"));
    m->init_std = LLAMA_STD, m->norm_eps = LLAMA_EPS, m->rope_base = ROPE_BASE;
    TRY(hf__read_positive(&m->init_std, top, "initializer_range"));
    TRY(hf__read_positive(&m->norm_eps, top, "rms_norm_eps"));
    TRY(hf__read_rope(&m->rope_base, top));
    return hf__read_ids(m, top, false);
}

// A name that is kept; who has text for the model knows what it means.
static Status read_normalisation(ModelConfig *m, const JsonAt *top) {
    JsonAt v;
    const char *name = "";
    memset(m->normalisation, 0, sizeof m->normalisation);
    TRY(json_member(&v, top, "text_normalisation"));
    if (json_kind(&v) == J_NONE) return OK;
    TRY(json_text(&name, &v));
    size_t n = strlen(name);
    if (n == 0 || n >= sizeof m->normalisation) return json_refuse(&v, "a name of 1 to 31 bytes");
    memcpy(m->normalisation, name, n);
    return OK;
}

static Status read_root(ModelConfig *m, const JsonAt *top) {
    JsonAt type;
    const char *name;
    TRY(json_member(&type, top, "model_type"));
    TRY(json_text(&name, &type));
    set_text(m->preset, "");
    TRY(read_ints(m, top, COMMON_INTS, COUNT(COMMON_INTS)));
    if (strcmp(name, TNL_TYPE) == 0)
        TRY(read_transnormer(m, top));
    else if (strcmp(name, LLAMA_TYPE) == 0)
        TRY(read_llama(m, top, false));
    else if (strcmp(name, HYBRID_TYPE) == 0)
        TRY(read_llama(m, top, true));
    else
        return json_refuse(&type, "transnormer or llama");
    TRY(hf__read_memory(m, top));
    TRY(read_normalisation(m, top));
    Status st = model_config_resolve(m, NULL);  // what is left: relations between layers and sizes
    return st == OK ? OK : err_context(E_FORMAT, "%s", top->file);
}

Status model_config_read_hf(ModelConfig *m, const char *path) {
    Json *root = NULL;
    TRY(json_open_file(&root, path));
    JsonAt top = json_top(root, path, HINT);
    Status st = read_root(m, &top);
    json_close(root);
    return st;
}

// --- writing ---

// Pure models have names everywhere; all else needs keys of our own.
static bool is_hybrid(const ModelConfig *m) {
    char pure = m->kind == FAMILY_LLAMA ? 'N' : 'L';
    for (int l = 0; l < m->layers; l++) {
        if (m->layer[l] != pure) return true;
    }
    return false;
}

static void write_architecture(JsonOut *out, const char *name, const char *type) {
    jsonout_open_array(out, "architectures");
    jsonout_text(out, NULL, name);
    jsonout_close_array(out);
    jsonout_text(out, "model_type", type);
}

static void write_lrpe(JsonOut *out, const ModelConfig *m) {
    jsonout_open_array(out, "linear_use_lrpe_list");
    for (int l = 0; l < m->layers; l++) jsonout_int(out, NULL, m->layer_lrpe[l] ? 1 : 0);
    jsonout_close_array(out);
}

static void write_pattern(JsonOut *out, const ModelConfig *m) {
    jsonout_text_n(out, "layer_pattern", m->layer, (size_t)m->layers);
    jsonout_int(out, "window", m->window);
    if (m->persistent > 0) jsonout_int(out, "persistent", m->persistent);
}

static void write_transnormer(JsonOut *out, const ModelConfig *m) {
    write_architecture(out, "TransnormerForCausalLM", TNL_TYPE);
    jsonout_int(out, "vocab_size", m->vocab);
    jsonout_int(out, "decoder_embed_dim", m->width);
    jsonout_int(out, "decoder_layers", m->layers);
    jsonout_int(out, "decoder_attention_heads", m->heads);
    jsonout_int(out, "hidden_dim", m->width);
    jsonout_int(out, "glu_dim", m->ffn);
    write_lrpe(out, m);
    jsonout_text(out, "linear_act_fun", "silu");
    jsonout_text(out, "norm_type", "simplermsnorm");
    jsonout_number(out, "norm_eps", m->norm_eps);
    jsonout_bool(out, "no_scale_embedding", !m->scale_embedding);
    jsonout_bool(out, "bias", false);
    jsonout_number(out, "init_std", m->init_std);
    jsonout_bool(out, "add_bos_token", false);
    if (m->conv > 0) jsonout_int(out, "conv", m->conv);
    if (!is_hybrid(m)) return;
    write_pattern(out, m);
    jsonout_int(out, "kv_heads", m->kv_heads);
    jsonout_number(out, "rope_base", m->rope_base);
}

static void write_llama(JsonOut *out, const ModelConfig *m) {
    bool hybrid = is_hybrid(m);
    if (hybrid)
        write_architecture(out, "SternaLlamaForCausalLM", HYBRID_TYPE);
    else
        write_architecture(out, "LlamaForCausalLM", LLAMA_TYPE);
    jsonout_int(out, "vocab_size", m->vocab);
    jsonout_int(out, "hidden_size", m->width);
    jsonout_int(out, "num_hidden_layers", m->layers);
    jsonout_int(out, "num_attention_heads", m->heads);
    jsonout_int(out, "num_key_value_heads", m->kv_heads);
    jsonout_int(out, "intermediate_size", m->ffn);
    jsonout_text(out, "hidden_act", "silu");
    jsonout_number(out, "rms_norm_eps", m->norm_eps);
    jsonout_number(out, "rope_theta", m->rope_base);
    jsonout_none(out, "rope_scaling");
    jsonout_bool(out, "attention_bias", false);
    jsonout_bool(out, "mlp_bias", false);
    jsonout_number(out, "initializer_range", m->init_std);
    if (!hybrid) return;
    if (m->conv > 0) jsonout_int(out, "conv", m->conv);
    write_pattern(out, m);
    write_lrpe(out, m);
}

// Keys in a fixed order, no time and no version: equal models give equal files.
char *model_config_write_hf(const ModelConfig *m, const char *dtype) {
    JsonOut out = {.indent = 2};
    jsonout_open_object(&out, NULL);
    if (m->kind == FAMILY_LLAMA)
        write_llama(&out, m);
    else
        write_transnormer(&out, m);
    hf__write_memory(&out, m);
    if (m->max_positions > 0) jsonout_int(&out, "max_position_embeddings", m->max_positions);
    hf__write_ids(&out, m);
    jsonout_bool(&out, "tie_word_embeddings", m->tied);
    if (m->normalisation[0] != '\0') jsonout_text(&out, "text_normalisation", m->normalisation);
    jsonout_text(&out, "torch_dtype", dtype == NULL ? "float32" : dtype);
    jsonout_close_object(&out);

    char *text = malloc(out.bytes + 2);  // a text file ends with a newline
    ASSERT(text != NULL);
    memcpy(text, out.text, out.bytes);
    if (out.bytes > 0 && text[out.bytes - 1] == '\n') out.bytes--;
    memcpy(text + out.bytes, "\n", 2);
    jsonout_free(&out);
    return text;
}
