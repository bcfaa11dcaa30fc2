// What a Llama's config.json may say beside its sizes: RoPE, and keys that its relatives on the Hub
// have. Whatever would change the numbers and is not built is refused by name; values that mean
// what a Llama does anyway are accepted. Looked through: LlamaConfig of transformers 4.0 to 5, and
// the classes whose models are offered as Llamas (Granite, Gemma, Cohere, MiniCPM, Qwen, Mistral).
#include <string.h>

#include "model/internal.h"

// clang-format off
static const FixedKey FIXED[] = {
    {"hidden_act", J_TEXT, "silu", 0}, {"hidden_activation", J_TEXT, "silu", 0},
    {"attention_bias", J_BOOL, "", 0}, {"mlp_bias", J_BOOL, "", 0}, {"qkv_bias", J_BOOL, "", 0}, {"use_bias", J_BOOL, "", 0},
    {"partial_rotary_factor", J_NUMBER, "", 1}, {"rotary_pct", J_NUMBER, "", 1}, {"rope_interleaved", J_BOOL, "", 0},
    {"no_rope_layers", J_NONE, "", 0}, {"use_sliding_window", J_BOOL, "", 0}, {"attention_chunk_size", J_NONE, "", 0},
    {"attention_multiplier", J_NONE, "", 0}, {"query_pre_attn_scalar", J_NONE, "", 0}, {"clip_qkv", J_NONE, "", 0},
    {"use_qk_norm", J_BOOL, "", 0}, {"qk_norm", J_BOOL, "", 0}, {"qk_layernorm", J_BOOL, "", 0},
    {"attn_logit_softcapping", J_NONE, "", 0}, {"final_logit_softcapping", J_NONE, "", 0},
    {"embedding_multiplier", J_NUMBER, "", 1}, {"residual_multiplier", J_NUMBER, "", 1},
    {"logits_scaling", J_NUMBER, "", 1}, {"logit_scale", J_NUMBER, "", 1},
    {"scale_emb", J_NUMBER, "", 1}, {"scale_depth", J_NONE, "", 0}, {"dim_model_base", J_NONE, "", 0},
    {"num_local_experts", J_NONE, "", 0}, {"num_experts", J_NONE, "", 0}, {"num_kv_shared_layers", J_NUMBER, "", 0},
    {"use_parallel_residual", J_BOOL, "", 0}, {"quantization_config", J_NONE, "", 0},
};
static const FixedKey ROPE_FIXED[] = {
    {"rope_type", J_TEXT, "default", 0}, {"type", J_TEXT, "default", 0},  // new and old name
    {"partial_rotary_factor", J_NUMBER, "", 1}, {"factor", J_NUMBER, "", 1}, {"attention_factor", J_NUMBER, "", 1},
};
// clang-format on
#define COUNT(table) (int)(sizeof(table) / sizeof(table)[0])

// Mistral writes a window that its switch or its absence turns on; Qwen writes one that is off.
static Status check_window(const JsonAt *top) {
    JsonAt window, on;
    int64_t tokens = 0;
    TRY(json_member(&window, top, "sliding_window"));
    TRY(json_member(&on, top, "use_sliding_window"));
    if (json_kind(&window) == J_NONE) return OK;
    TRY(json_int(&tokens, &window));
    if (json_kind(&on) != J_NONE) return OK;  // it is false: FIXED
    return json_refuse(&window, "null, or use_sliding_window false,");
}

static Status check_layer_types(const JsonAt *top) {
    JsonAt list, v;
    const char *type;
    TRY(json_member(&list, top, "layer_types"));
    if (json_kind(&list) == J_NONE) return OK;
    if (json_kind(&list) != J_LIST) return json_refuse(&list, "a list");
    for (size_t i = 0; i < json_count(&list); i++) {
        TRY(json_item(&v, &list, i));
        TRY(json_text(&type, &v));
        if (strcmp(type, "full_attention") != 0) return json_refuse(&v, "\"full_attention\"");
    }
    return OK;
}

Status hf__check_llama(const JsonAt *top) {
    TRY(hf__check_fixed(top, FIXED, COUNT(FIXED)));
    TRY(check_window(top));
    return check_layer_types(top);
}

// --- RoPE ---

// The base as the places read so far have it.
typedef struct Base {
    double value;
    const char *said;  // where; NULL: nowhere yet
} Base;

static Status read_base(Base *base, const JsonAt *object, const char *name) {
    JsonAt v;
    double value;
    TRY(json_member(&v, object, "rope_theta"));
    if (json_kind(&v) == J_NONE) return OK;
    TRY(hf__read_positive(&value, object, "rope_theta"));
    if (base->said != NULL && value != base->value)
        return json_refuse(&v, "%.17g, as %s says,", base->value, base->said);
    *base = (Base){value, name};
    return OK;
}

// Keys of other kinds of scaling, or an object for each type of layer, have no place in the default
// kind.
static Status check_rope_key(const JsonAt *member, void *user) {
    (void)user;
    if (json_kind(member) == J_NONE || strcmp(member->key, "rope_theta") == 0) return OK;
    for (int i = 0; i < COUNT(ROPE_FIXED); i++) {
        if (strcmp(member->key, ROPE_FIXED[i].key) == 0) return OK;
    }
    return json_refuse(member, "nothing but rope_theta and rope_type \"default\"");
}

static Status read_parameters(Base *base, const JsonAt *top, const char *key, const char *name) {
    JsonAt object;
    TRY(json_member(&object, top, key));
    if (json_kind(&object) == J_NONE) return OK;
    if (json_kind(&object) != J_OBJECT) return json_refuse(&object, "an object");
    TRY(hf__check_fixed(&object, ROPE_FIXED, COUNT(ROPE_FIXED)));
    TRY(json_each(&object, check_rope_key, NULL));
    return read_base(base, &object, name);
}

// Three places in use: the key of version 4 with the scaling beside it, and the object of
// version 5.
Status hf__read_rope(double *out, const JsonAt *top) {
    Base base = {.value = *out};
    TRY(read_base(&base, top, "rope_theta"));
    TRY(read_parameters(&base, top, "rope_parameters", "rope_parameters.rope_theta"));
    TRY(read_parameters(&base, top, "rope_scaling", "rope_scaling.rope_theta"));
    *out = base.value;
    return OK;
}
