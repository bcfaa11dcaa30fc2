// config.json with a wrong kind of value in every place.
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "model/model.h"
#include "tests/json_walk.h"

static Status read_config(const char *text, size_t bytes) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/sterna-walk-%ld.json", (long)getpid());
    FILE *file = fopen(path, "wb");  // not file_write: hundreds of files need no fsync
    cr_assert(file != NULL && fwrite(text, 1, bytes, file) == bytes);
    fclose(file);
    ModelConfig m;
    Status st = model_config_read_hf(&m, path);
    unlink(path);
    return st;
}

Test(hf_config, every_place_of_a_llama_refuses_other_kinds_of_values) {
    static const char SAMPLE[] =
        "{\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":12,\"num_hidden_layers\":3,"
        "\"num_attention_heads\":6,\"num_key_value_heads\":3,\"intermediate_size\":20,\"head_dim\":"
        "2,"
        "\"hidden_act\":\"silu\",\"hidden_activation\":\"silu\",\"attention_bias\":false,\"mlp_"
        "bias\":false,"
        "\"qkv_bias\":false,\"use_bias\":false,\"rms_norm_eps\":1e-6,\"initializer_range\":0.02,"
        "\"max_position_embeddings\":128,\"tie_word_embeddings\":true,\"rope_theta\":2.5,"
        "\"rope_scaling\":{\"rope_type\":\"default\",\"type\":\"default\",\"rope_theta\":2.5,"
        "\"factor\":1.0},"
        "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":2.5,\"partial_rotary_"
        "factor\":1.0,"
        "\"attention_factor\":1.0},\"partial_rotary_factor\":1.0,\"rotary_pct\":1.0,"
        "\"rope_interleaved\":false,\"no_rope_layers\":null,\"sliding_window\":4096,"
        "\"use_sliding_window\":false,\"layer_types\":[\"full_attention\",\"full_attention\"],"
        "\"attention_chunk_size\":null,\"attention_multiplier\":null,\"query_pre_attn_scalar\":"
        "null,"
        "\"clip_qkv\":null,\"use_qk_norm\":false,\"qk_norm\":false,\"qk_layernorm\":false,"
        "\"attn_logit_softcapping\":null,\"final_logit_softcapping\":null,\"embedding_multiplier\":"
        "1.0,"
        "\"residual_multiplier\":1.0,\"logits_scaling\":1.0,\"logit_scale\":1.0,\"scale_emb\":1.0,"
        "\"scale_depth\":null,\"dim_model_base\":null,\"num_local_experts\":null,\"num_experts\":"
        "null,"
        "\"num_kv_shared_layers\":0,\"use_parallel_residual\":false,\"quantization_config\":null,"
        "\"pad_token_id\":0,\"bos_token_id\":1,\"eos_token_id\":2,\"torch_dtype\":\"float32\","
        "\"use_cache\":true,\"pretraining_tp\":1,\"architectures\":[\"LlamaForCausalLM\"]}";
    static const char *const ALLOWED[] = {
        // not read
        "torch_dtype IFBNLO", "use_cache TIFNLO", "pretraining_tp TFBNLO", "architectures TIFBNO",
        "architectures/0 IFBNLO",
        // null counts as absent, as in the reference library
        "num_key_value_heads N", "head_dim N", "hidden_act* N", "*_bias N", "rms_norm_eps N",
        "initializer_range N", "max_position_embeddings N", "tie_word_embeddings N", "rope_* N",
        "rope_*/* N", "partial_rotary_factor N", "rotary_pct N", "sliding_window N",
        "layer_types N", "*_norm N", "qk_layernorm N", "*_multiplier N", "logits_scaling N",
        "logit_scale N", "scale_emb N", "num_kv_shared_layers N", "use_parallel_residual N",
        "*_token_id N", NULL};
    cr_assert_gt(json_walk(SAMPLE, read_config, ALLOWED), 300);
}

Test(hf_config, every_place_of_a_transnormer_refuses_other_kinds_of_values) {
    static const char SAMPLE[] =
        "{\"model_type\":\"transnormer\",\"vocab_size\":64,\"decoder_embed_dim\":12,\"decoder_"
        "layers\":3,"
        "\"decoder_attention_heads\":2,\"hidden_dim\":12,\"glu_dim\":20,\"linear_use_lrpe_list\":["
        "1,0,true],"
        "\"linear_act_fun\":\"silu\",\"norm_type\":\"simplermsnorm\",\"norm_eps\":1e-6,"
        "\"no_scale_embedding\":false,\"bias\":false,\"init_std\":0.02,\"tie_word_embeddings\":"
        "true,"
        "\"layer_pattern\":\"LLN\",\"window\":5,\"kv_heads\":2,\"rope_base\":2.5,\"quantization_"
        "config\":null,"
        "\"max_position_embeddings\":128,\"pad_token_id\":0,\"bos_token_id\":1,\"eos_token_id\":2,"
        "\"add_bos_token\":false}";
    static const char *const ALLOWED[] = {"add_bos_token TIFNLO",         // not read
                                          "linear_use_lrpe_list/[01] B",  // 0, 1, true or false
                                          "hidden_dim N",
                                          "glu_dim N",
                                          "linear_act_fun N",
                                          "norm_* N",
                                          "no_scale_embedding N",
                                          "bias N",
                                          "init_std N",
                                          "tie_word_embeddings N",
                                          "layer_pattern N",
                                          "window N",
                                          "kv_heads N",
                                          "rope_base N",
                                          "max_position_embeddings N",
                                          "*_token_id N",
                                          NULL};
    cr_assert_gt(json_walk(SAMPLE, read_config, ALLOWED), 120);
}

Test(hf_config, every_place_of_a_hybrid_llama_refuses_other_kinds_of_values) {
    static const char SAMPLE[] =
        "{\"model_type\":\"sterna-llama\",\"vocab_size\":64,\"hidden_size\":12,\"num_hidden_"
        "layers\":2,"
        "\"num_attention_heads\":6,\"intermediate_size\":20,\"layer_pattern\":\"LW\",\"window\":17,"
        "\"linear_use_lrpe_list\":[1,0]}";
    static const char *const ALLOWED[] = {"linear_use_lrpe_list/* B", "layer_pattern N", "window N",
                                          NULL};
    cr_assert_gt(json_walk(SAMPLE, read_config, ALLOWED), 50);
}
