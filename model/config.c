// The model section of the configuration and its resolution.
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"
#include "parallel/mesh.h"

#define AT(member) offsetof(ModelConfig, member)
// clang-format off
const Field MODEL_FIELDS[] = {
    {"model.preset", CFG_TEXT, AT(preset), 0, 0, "", NULL, "named size whose values are the defaults of this section", "", KEY_FIXED},
    {"model.family", CFG_TEXT, AT(family), 0, 0, "tnl", "tnl|llama", "TransNormerLLM, or a Llama-style transformer", "", KEY_FIXED},
    {"model.width", CFG_INT, AT(width), 1, 1 << 20, "256", NULL, "channels C of the residual stream", "", KEY_FIXED},
    {"model.layers", CFG_INT, AT(layers), 1, MAX_LAYERS, "6", NULL, "blocks L", "", KEY_FIXED},
    {"model.heads", CFG_INT, AT(heads), 1, 4096, "4", NULL, "heads H; C is a multiple of H", "", KEY_FIXED},
    {"model.kv_heads", CFG_INT, AT(kv_heads), 0, 4096, "0", NULL, "key/value heads of N, W and G layers, 0 = heads", "", KEY_FIXED},
    {"model.ffn", CFG_INT, AT(ffn), 1, 1 << 22, "704", NULL, "width of the channel mixer", "", KEY_FIXED},
    {"model.vocab", CFG_INT, AT(vocab), 0, 1 << 24, "0", NULL, "vocabulary, 0 = that of the tokenizer", "", KEY_FIXED},
    {"model.pattern", CFG_TEXT, AT(pattern), 0, 0, "L", NULL, "mixer of each layer, repeated; `sterna mixers` lists the letters", "", KEY_FIXED},
    {"model.window", CFG_INT, AT(window), 1, 1 << 24, "1024", NULL, "keys a W or G layer sees, itself included", "tokens", KEY_FIXED},
    {"model.conv", CFG_INT, AT(conv), 0, 64, "0", NULL, "tokens that a convolution of queries, keys and values in L layers sees, 0 = no convolution", "tokens", KEY_FIXED},
    {"model.persistent", CFG_INT, AT(persistent), 0, 1 << 20, "0", NULL, "learned keys and values that every token of a G layer sees", "", KEY_FIXED},
    {"model.memory_layers", CFG_INT, AT(memory.layers), 1, MEMORY_LAYERS, "2", NULL, "matrices of the network of an M or G layer, which learns while it reads", "", KEY_FIXED},
    {"model.memory_hidden", CFG_INT, AT(memory.hidden), 0, 1 << 20, "0", NULL, "its width between the matrices, 0 = 4 times the head's", "", KEY_FIXED},
    {"model.memory_chunk", CFG_INT, AT(memory.chunk), 1, 1 << 20, "16", NULL, "tokens whose gradients are taken at the same weights", "tokens", KEY_FIXED},
    {"model.memory_init_std", CFG_F64, AT(memory.init_std), 0, 10, "0.1", NULL, "standard deviation of the weights it begins each document with, before they are trained", "", KEY_FIXED},
    {"model.memory_activation", CFG_TEXT, AT(memory.activation), 0, 0, "gelu", "gelu|silu", "between its matrices", "", KEY_FIXED},
    {"model.memory_net", CFG_TEXT, AT(memory.net), 0, 0, "auto", "auto|plain|residual", "net(x), or x + LayerNorm(net(x)); auto: residual with two matrices or more", "", KEY_FIXED},
    {"model.memory_loss", CFG_TEXT, AT(memory.loss), 0, 0, "squared", "squared|hebbian|huber", "what it learns by, of its output for a key and the value", "", KEY_FIXED},
    {"model.memory_huber", CFG_F64, AT(memory.huber), 1e-9, 1e9, "1", NULL, "errors beyond this count as this much (huber)", "", KEY_FIXED},
    {"model.memory_read", CFG_TEXT, AT(memory.read), 0, 0, "inclusive", "inclusive|strict", "a token reads the weights after, or before, its own was learned", "", KEY_FIXED},
    {"model.memory_conv", CFG_INT, AT(memory.conv), 0, 64, "4", NULL, "tokens that its convolution of queries, keys and values sees, 0 = no convolution", "tokens", KEY_FIXED},
    {"model.memory_alpha_max", CFG_F64, AT(memory.alpha_max), 0, 1, "1", NULL, "most that a token lets it forget, 0 = nothing", "", KEY_FIXED},
    {"model.memory_eta_max", CFG_F64, AT(memory.eta_max), 0, 0.9999, "0.95", NULL, "largest momentum, 0 = none", "", KEY_FIXED},
    {"model.memory_theta_max", CFG_F64, AT(memory.theta_max), 0, 1e6, "0", NULL, "largest step of a token, 0 = a token's share of the chunk's limit, or 2/chunk without one", "", KEY_FIXED},
    {"model.memory_cap", CFG_F64, AT(memory.cap), 0, 1e6, "1.5", NULL, "the steps of a chunk add up to at most this times 1 - eta_max, 0 = no limit", "", KEY_FIXED},
    {"model.memory_damp", CFG_BOOL, AT(memory.damp), 0, 0, "true", NULL, "divide a token's gradient by what a step of 1 along it changes of its error, where that is more than 1", "", KEY_FIXED},
    {"model.memory_clip", CFG_F64, AT(memory.clip), -1, 1e9, "-1", NULL, "norm to which a token's gradient of a matrix is clipped, 0 = off, -1 = 1 with two matrices or more", "", KEY_FIXED},
    {"model.lrpe", CFG_TEXT, AT(lrpe), 0, 0, "first", NULL, "lightning layers with LRPE: first, all, none, or numbers 0,3,7", "", KEY_FIXED},
    {"model.tied", CFG_BOOL, AT(tied), 0, 0, "true", NULL, "output projection shares the embedding", "", KEY_FIXED},
    {"model.scale_embedding", CFG_BOOL, AT(scale_embedding), 0, 0, "true", NULL, "multiply embeddings by sqrt(C) (tnl only)", "", KEY_FIXED},
    {"model.norm_eps", CFG_F64, AT(norm_eps), 1e-12, 1e-2, "1e-6", NULL, "epsilon inside the norms' root", "", KEY_FIXED},
    {"model.init_std", CFG_F64, AT(init_std), 0, 10, "0.02", NULL, "standard deviation of initial matrices", "", KEY_FIXED},
    {"model.rope_base", CFG_F64, AT(rope_base), 1, 1e12, "10000", NULL, "base of RoPE in N, W and G layers", "", KEY_FIXED},
    {"model.pad_id", CFG_INT, AT(pad_id), -1, 1 << 24, "0", NULL, "embedding row that starts at zero and learns nothing through the lookup, -1 = none", "", KEY_FIXED},
    {"model.bos_id", CFG_INT, AT(bos_id), -1, 1 << 24, "1", NULL, "token that begins a text, -1 = none", "", KEY_FIXED},
    {"model.eos_id", CFG_INT, AT(eos_id), -1, 1 << 24, "2", NULL, "token that ends a text and each document of the corpus, -1 = none (documents end as the tokenizer has it)", "", KEY_FIXED},
    {"model.block", CFG_INT, AT(block), 0, 1 << 20, "0", NULL, "tokens a lightning block, 0 = chosen for the head size", "tokens", KEY_FIXED},
    {"model.recompute", CFG_BOOL, AT(recompute), 0, 0, "false", NULL, "keep only block inputs and recompute the rest in backward", "", KEY_FIXED},
};
// clang-format on
const int MODEL_FIELD_COUNT = sizeof MODEL_FIELDS / sizeof MODEL_FIELDS[0];

static void set_text(Text dst, const char *src) {
    memset(dst, 0, TEXT_BYTES);
    strncpy(dst, src, TEXT_BYTES - 1);
}

// Copies a preset's values into the keys that are still defaults.
static Status preset_apply(ModelConfig *m, const Config *origins) {
    if (m->preset[0] == '\0') return OK;
    const Preset *p = preset_find(m->preset);
    if (p == NULL) {
        FAIL(E_USAGE, "`sterna plan --presets` lists them", "model.preset: unknown preset `%s`",
             m->preset);
    }
    const struct {
        const char *key;
        int *target, value;
    } numbers[] = {
        {"model.width", &m->width, p->width}, {"model.layers", &m->layers, p->layers},
        {"model.heads", &m->heads, p->heads}, {"model.kv_heads", &m->kv_heads, p->kv_heads},
        {"model.ffn", &m->ffn, p->ffn},       {"model.vocab", &m->vocab, p->vocab},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (config_is_default(origins, numbers[i].key)) *numbers[i].target = numbers[i].value;
    }
    if (config_is_default(origins, "model.family")) set_text(m->family, p->family);
    if (config_is_default(origins, "model.pattern")) set_text(m->pattern, p->pattern);
    if (config_is_default(origins, "model.lrpe")) set_text(m->lrpe, p->lrpe);
    if (config_is_default(origins, "model.tied")) m->tied = p->tied;
    return OK;
}

static Status expand_pattern(ModelConfig *m) {
    size_t n = strlen(m->pattern);
    if (n == 0) FAIL(E_USAGE, "for example LLLN", "model.pattern is empty");
    for (int l = 0; l < m->layers; l++) {
        m->layer[l] = m->pattern[(size_t)l % n];
        if (mixer_find(m->layer[l]) != NULL) continue;
        char known[256];
        mixers_help(known, sizeof known);
        FAIL(E_USAGE, known, "model.pattern: `%c` in `%s` is no mixer", m->layer[l], m->pattern);
    }
    return OK;
}

static Status expand_lrpe(ModelConfig *m) {
    memset(m->layer_lrpe, 0, sizeof m->layer_lrpe);
    bool all = strcmp(m->lrpe, "all") == 0;
    if (all || strcmp(m->lrpe, "first") == 0) {
        for (int l = 0; l < (all ? m->layers : 1); l++) m->layer_lrpe[l] = true;
        return OK;
    }
    if (strcmp(m->lrpe, "none") == 0 || m->lrpe[0] == '\0') return OK;
    for (const char *s = m->lrpe; *s != '\0';) {
        char *end;
        long l = strtol(s, &end, 10);
        if (end == s || l < 0 || l >= m->layers || (*end != ',' && *end != '\0')) {
            FAIL(E_USAGE, "first, all, none, or numbers such as 0,3,7",
                 "model.lrpe: `%s` is not a list of layers 0..%d", m->lrpe, m->layers - 1);
        }
        m->layer_lrpe[l] = true;
        s = *end == ',' && end[1] != '\0' ? end + 1 : end;  // a last comma is no list
    }
    return OK;
}

static Status check_sizes(ModelConfig *m) {
    if (m->kv_heads == 0) m->kv_heads = m->heads;
    if (m->width % m->heads != 0) {
        FAIL(E_USAGE, "choose heads that divide the width",
             "model.width=%d is not a multiple of model.heads=%d", m->width, m->heads);
    }
    if (m->heads % m->kv_heads != 0) {
        FAIL(E_USAGE, "choose kv_heads that divide heads",
             "model.heads=%d is not a multiple of model.kv_heads=%d", m->heads, m->kv_heads);
    }
    m->head_size = m->width / m->heads;
    for (int l = 0; l < m->layers; l++) {
        const MixerOps *mixer = mixer_find(m->layer[l]);
        if (mixer->check != NULL) TRY(mixer->check(m));
    }
    return OK;
}

Status model_config_resolve(ModelConfig *m, const Config *origins) {
    if (origins != NULL) TRY(preset_apply(m, origins));
    m->kind = strcmp(m->family, "llama") == 0 ? FAMILY_LLAMA : FAMILY_TNL;
    ASSERT(m->layers <= MAX_LAYERS);  // the key's range, and import's
    TRY(expand_pattern(m));
    TRY(expand_lrpe(m));
    return check_sizes(m);
}

bool model_config_ends(const ModelConfig *m, int id) {
    bool ends = id >= 0 && id == m->eos_id;
    for (int i = 0; i < m->more_eos_count; i++) ends = ends || id == m->more_eos[i];
    return ends;
}

static bool tp_fits(const ModelConfig *m, int tp, const void *unused) {
    (void)unused;
    bool fits = m->heads % tp == 0 && m->ffn % tp == 0;
    for (int l = 0; l < m->layers && fits; l++) fits = mixer_find(m->layer[l])->fits_tp(m, tp);
    return fits;
}

void legal_values(char *dst, size_t capacity, const ModelConfig *m,
                  bool (*fits)(const ModelConfig *m, int value, const void *user),
                  const void *user) {
    size_t n = 0;
    dst[0] = '\0';
    for (int x = 1; x <= m->heads && n + 16 < capacity; x++)
        if (fits(m, x, user))
            n += (size_t)snprintf(dst + n, capacity - n, n > 0 ? ", %d" : "%d", x);
}

Status model_check_mesh(const ModelConfig *m, const Mesh *mesh) {
    char legal[256], hint[320];
    if (!tp_fits(m, mesh->tp, NULL)) {
        legal_values(legal, sizeof legal, m, tp_fits, NULL);
        snprintf(hint, sizeof hint, "parallel.tp may be %s", legal);
        FAIL(E_USAGE, hint,
             "parallel.tp=%d must divide model.heads=%d, model.kv_heads=%d and model.ffn=%d",
             mesh->tp, m->heads, m->kv_heads, m->ffn);
    }
    for (int l = 0; l < m->layers; l++) {
        const MixerOps *mixer = mixer_find(m->layer[l]);
        if (mixer->check_sp != NULL) TRY(mixer->check_sp(m, mesh));
    }
    return OK;
}

const char *model_dim_summary(const ModelConfig *m) {
    static char line[256];
    snprintf(line, sizeof line, "%s C=%d L=%d H=%d F=%d V=%d pattern %.*s%s%s",
             m->kind == FAMILY_TNL ? "TransNormerLLM" : "Llama-style", m->width, m->layers,
             m->heads, m->ffn, m->vocab, m->layers > 64 ? 64 : m->layers, m->layer,
             m->layers > 64 ? "..." : "", m->tied ? " tied" : "");
    return line;
}
