// Hugging Face config.json <-> ModelConfig.
//
// Two kinds are known: "transnormer" (TransNormerLLM) and "llama". A value that would make another
// model than the one written here is refused by name; keys that do not change the numbers are
// passed over. Hybrids, which Hugging Face has no names for, add keys of our own: layer_pattern,
// window, kv_heads, rope_base. A Llama with other mixers calls itself "sterna-llama", so that no
// other program takes it for a plain one.
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/internal.h"

static const char TNL_TYPE[] = "transnormer", LLAMA_TYPE[] = "llama",
                  HYBRID_TYPE[] = "sterna-llama";
static const char HINT[] = "only models of these kinds can be read: see docs/formats.md";
static const double TNL_EPS = 1e-6, TNL_STD = 0.02, LLAMA_EPS = 1e-6, LLAMA_STD = 0.02,
                    ROPE_BASE = 10000;
enum {
    REQUIRED = INT_MIN,
    WINDOW_DEFAULT = 1024,
    MAX_WIDTH = 1 << 22,
    MAX_VOCAB = 1 << 24,
    VALUE_BYTES = 80
};

// What messages need: the value asked for and the file it stands in.
typedef struct Source {
    const Json *root;
    const char *path;
} Source;

typedef struct IntKey {
    const char *key;
    size_t offset;  // into ModelConfig
    int min, max, fallback;
} IntKey;

typedef struct FixedKey {  // may be absent; any other value is another model
    const char *key, *value;
} FixedKey;

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
    {"linear_act_fun", "silu"}, {"norm_type", "simplermsnorm"}, {"bias", "false"},
};
static const IntKey LLAMA_INTS[] = {
    {"vocab_size", AT(vocab), 1, MAX_VOCAB, REQUIRED},
    {"hidden_size", AT(width), 1, MAX_WIDTH, REQUIRED},
    {"num_hidden_layers", AT(layers), 1, MAX_LAYERS, REQUIRED},
    {"num_attention_heads", AT(heads), 1, MAX_WIDTH, REQUIRED},
    {"num_key_value_heads", AT(kv_heads), 1, MAX_WIDTH, 0},  // 0: as many as heads
    {"intermediate_size", AT(ffn), 1, MAX_WIDTH, REQUIRED},
};
static const FixedKey LLAMA_FIXED[] = {
    {"hidden_act", "silu"}, {"attention_bias", "false"}, {"mlp_bias", "false"}, {"rope_scaling", "null"},
};
static const IntKey HYBRID_INTS[] = {
    {"window", AT(window), 1, 1 << 24, WINDOW_DEFAULT},
    {"kv_heads", AT(kv_heads), 1, MAX_WIDTH, 0},
};
// clang-format on
#define COUNT(table) (int)(sizeof(table) / sizeof(table)[0])

static void set_text(Text dst, const char *src) {
    memset(dst, 0, TEXT_BYTES);
    memcpy(dst, src, strnlen(src, TEXT_BYTES - 1));
}

// --- reading ---

// A value as a message shows it; FixedKey compares the same text.
static void value_text(char out[VALUE_BYTES], const Json *v) {
    if (json_is_none(v))
        snprintf(out, VALUE_BYTES, "null");
    else if (json_is_text(v))
        snprintf(out, VALUE_BYTES, "%s", json_text(v, ""));
    else if (json_is_bool(v))
        snprintf(out, VALUE_BYTES, "%s", json_bool(v, false) ? "true" : "false");
    else if (json_is_int(v))
        snprintf(out, VALUE_BYTES, "%lld", (long long)json_int(v, 0));
    else if (json_is_number(v))
        snprintf(out, VALUE_BYTES, "%g", json_number(v, 0));
    else
        snprintf(out, VALUE_BYTES, "a list or an object");
}

// Every refusal of a value: file, key, what it is and what it may be.
static Status refuse(const Source *s, const char *key, const char *supported) {
    char value[VALUE_BYTES];
    value_text(value, json_get(s->root, key));
    FAIL(E_FORMAT, HINT, "%s: %s = %s is not supported, it must be %s", s->path, key, value,
         supported);
}

// null counts as absent, as in the reference library.
static Status read_ints(ModelConfig *m, const Source *s, const IntKey *keys, int count) {
    for (int i = 0; i < count; i++) {
        const IntKey *k = &keys[i];
        const Json *v = json_get(s->root, k->key);
        int *out = (int *)(void *)((char *)m + k->offset);
        if (json_is_none(v)) {
            if (k->fallback == REQUIRED) FAIL(E_FORMAT, HINT, "%s: %s is missing", s->path, k->key);
            *out = k->fallback;
            continue;
        }
        int64_t value = json_is_int(v) ? json_int(v, 0) : INT64_MIN;
        if (value < k->min || value > k->max) {
            char range[VALUE_BYTES];
            snprintf(range, sizeof range, "a whole number from %d to %d", k->min, k->max);
            return refuse(s, k->key, range);
        }
        *out = (int)value;
    }
    return OK;
}

static Status check_fixed(const Source *s, const FixedKey *keys, int count) {
    for (int i = 0; i < count; i++) {
        const Json *v = json_get(s->root, keys[i].key);
        char value[VALUE_BYTES];
        value_text(value, v);
        if (!json_is_none(v) && strcmp(value, keys[i].value) != 0)
            return refuse(s, keys[i].key, keys[i].value);
    }
    return OK;
}

static Status read_positive(const Source *s, const char *key, double fallback, double *out) {
    const Json *v = json_get(s->root, key);
    *out = json_is_none(v) ? fallback : json_number(v, -1);
    return *out > 0 ? OK : refuse(s, key, "a positive number");
}

static Status read_bool(const Source *s, const char *key, bool fallback, bool *out) {
    const Json *v = json_get(s->root, key);
    *out = json_bool(v, fallback);
    return json_is_none(v) || json_is_bool(v) ? OK : refuse(s, key, "true or false");
}

// Shares of heads, checked here under the names the file uses.
static Status check_heads(ModelConfig *m, const Source *s, const char *heads_key,
                          const char *kv_key) {
    if (m->width % m->heads != 0) return refuse(s, heads_key, "a divisor of the width");
    if (m->kv_heads == 0) m->kv_heads = m->heads;
    if (m->heads % m->kv_heads != 0) return refuse(s, kv_key, "a divisor of the number of heads");
    return OK;
}

// A list of 0 and 1, one a layer -> "0,2". All layers -> "all", which also fits when the list of
// numbers would not.
static Status read_lrpe(ModelConfig *m, const Source *s) {
    const char *key = "linear_use_lrpe_list";
    const Json *list = json_get(s->root, key);
    if (!json_is_array(list) || json_count(list) != (size_t)m->layers) {
        return refuse(s, key, "a list with 0 or 1 for each layer");
    }
    Text numbers = "";
    size_t used = 0;
    int flagged = 0;
    for (int l = 0; l < m->layers; l++) {
        const Json *v = json_at(list, (size_t)l);
        int64_t flag = json_is_bool(v) ? (int64_t)json_bool(v, false) : json_int(v, -1);
        if (flag != 0 && flag != 1) return refuse(s, key, "a list with 0 or 1 for each layer");
        if (flag == 0) continue;
        if (used < sizeof numbers) {
            used += (size_t)snprintf(numbers + used, sizeof numbers - used,
                                     flagged > 0 ? ",%d" : "%d", l);
        }
        flagged++;
    }
    if (flagged == m->layers && used >= sizeof numbers)
        set_text(m->lrpe, "all");
    else if (used >= sizeof numbers)
        return refuse(s, key, "a list with fewer layers, or all of them");
    else
        set_text(m->lrpe, flagged == 0 ? "none" : numbers);
    return OK;
}

// Ours only: the mixer of each layer, as in model.pattern.
static Status read_pattern(ModelConfig *m, const Source *s, const char *pure) {
    const Json *v = json_get(s->root, "layer_pattern");
    const char *pattern = json_is_none(v) ? pure : json_text(v, "");
    size_t n = strlen(pattern);
    if (n == 0 || n > MAX_LAYERS || strspn(pattern, MIXER_LETTERS) != n) {
        return refuse(s, "layer_pattern", "made of the letters of docs/formats.md");
    }
    set_text(m->pattern, pattern);
    return OK;
}

// Defaults are those of the reference class; sizes have none, for every file states them.
static Status read_transnormer(ModelConfig *m, const Source *s) {
    set_text(m->family, "tnl");
    TRY(check_fixed(s, TNL_FIXED, COUNT(TNL_FIXED)));
    TRY(read_ints(m, s, TNL_INTS, COUNT(TNL_INTS)));
    TRY(read_ints(m, s, HYBRID_INTS, COUNT(HYBRID_INTS)));
    if (m->ffn == -1) m->ffn = m->width;
    if (m->ffn == 0) return refuse(s, "glu_dim", "positive, or -1 for the width");
    if (json_int(json_get(s->root, "hidden_dim"), m->width) != m->width) {
        return refuse(s, "hidden_dim", "equal to decoder_embed_dim");
    }
    TRY(check_heads(m, s, "decoder_attention_heads", "kv_heads"));
    TRY(read_pattern(m, s, "L"));
    TRY(read_lrpe(m, s));
    bool unscaled;
    TRY(read_bool(s, "no_scale_embedding", false, &unscaled));
    m->scale_embedding = !unscaled;
    TRY(read_bool(s, "tie_word_embeddings", true, &m->tied));
    TRY(read_positive(s, "init_std", TNL_STD, &m->init_std));
    TRY(read_positive(s, "norm_eps", TNL_EPS, &m->norm_eps));
    TRY(read_positive(s, "rope_base", ROPE_BASE, &m->rope_base));
    return hf__read_ids(m, s->root, s->path, true);
}

// Newer files keep the base in an object of its own, with the kind of scaling.
static Status read_rope(ModelConfig *m, const Source *s) {
    const Json *parameters = json_get(s->root, "rope_parameters");
    if (json_is_none(parameters)) return read_positive(s, "rope_theta", ROPE_BASE, &m->rope_base);
    const char *kind = json_text(json_get(parameters, "rope_type"), "default");
    if (!json_is_object(parameters) || strcmp(kind, "default") != 0) {
        return refuse(s, "rope_parameters", "an object with rope_type \"default\"");
    }
    Source inner = {parameters, s->path};
    return read_positive(&inner, "rope_theta", ROPE_BASE, &m->rope_base);
}

// rope_scaling and biases change the numbers, so they are refused, not ignored.
static Status read_llama(ModelConfig *m, const Source *s, bool hybrid) {
    set_text(m->family, "llama");
    TRY(check_fixed(s, LLAMA_FIXED, COUNT(LLAMA_FIXED)));
    TRY(read_ints(m, s, LLAMA_INTS, COUNT(LLAMA_INTS)));
    TRY(check_heads(m, s, "num_attention_heads", "num_key_value_heads"));
    if (json_int(json_get(s->root, "head_dim"), m->width / m->heads) != m->width / m->heads) {
        return refuse(s, "head_dim", "hidden_size / num_attention_heads");
    }
    set_text(m->pattern, "N");
    set_text(m->lrpe, "none");
    m->window = WINDOW_DEFAULT;
    if (hybrid) {
        TRY(read_pattern(m, s, "N"));
        TRY(read_lrpe(m, s));
        TRY(read_ints(m, s, HYBRID_INTS, 1));  // the window; kv_heads has its Llama name
    }
    m->scale_embedding = false;
    TRY(read_bool(s, "tie_word_embeddings", false, &m->tied));
    TRY(read_positive(s, "initializer_range", LLAMA_STD, &m->init_std));
    TRY(read_positive(s, "rms_norm_eps", LLAMA_EPS, &m->norm_eps));
    TRY(read_rope(m, s));
    return hf__read_ids(m, s->root, s->path, false);
}

static Status read_root(ModelConfig *m, const Source *s) {
    if (!json_is_object(s->root)) FAIL(E_FORMAT, HINT, "%s: not a JSON object", s->path);
    const char *type = json_text(json_get(s->root, "model_type"), "");
    set_text(m->preset, "");
    if (strcmp(type, TNL_TYPE) == 0)
        TRY(read_transnormer(m, s));
    else if (strcmp(type, LLAMA_TYPE) == 0)
        TRY(read_llama(m, s, false));
    else if (strcmp(type, HYBRID_TYPE) == 0)
        TRY(read_llama(m, s, true));
    else
        return refuse(s, "model_type", "transnormer or llama");
    Status st = model_config_resolve(m, NULL);  // what is left: relations between layers and sizes
    return st == OK ? OK : err_context(E_FORMAT, "%s", s->path);
}

Status model_config_read_hf(ModelConfig *m, const char *path) {
    Json *root = NULL;
    TRY(json_open_file(&root, path));
    Source s = {root, path};
    Status st = read_root(m, &s);
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
    hf__write_ids(&out, m);
    jsonout_bool(&out, "tie_word_embeddings", m->tied);
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
