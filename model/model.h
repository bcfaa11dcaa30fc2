// Models: TransNormerLLM and a Llama-style transformer from the same parts; a model is its
// ParamSet, a string of mixers and one page of forward code (model.c). Letters as in
// tensor/kernels/kernels.h.
#pragma once

#include "base/config.h"
#include "base/json.h"
#include "parallel/mesh.h"
#include "tensor/batch.h"
#include "tensor/ops.h"

enum { MAX_LAYERS = 256, MAX_ENDS = 16 };

typedef enum { FAMILY_TNL, FAMILY_LLAMA } Family;

// The neural memory of M and G layers, as configured; docs/maths.md 17 has the formulas.
typedef struct MemoryConfig {
    int layers, hidden, chunk;  // matrices of the network; between them, 0: 4 D; tokens
    int conv;                   // tokens that its convolution sees, 0: no convolution
    Text activation, net, loss, read;
    double init_std, huber, alpha_max, eta_max;
    double theta_max;  // 0: chosen
    double cap;        // of a chunk's step, 0: off
    bool damp;         // steps by what they would change
    double clip;       // of a token's gradient, 0: off, -1: chosen
} MemoryConfig;

// As configured (table in config.c). Text fields are resolved by model_config_resolve.
typedef struct ModelConfig {
    Text preset;     // "" or a name of presets.c; its values are defaults for the rest
    Text family;     // tnl | llama
    int width;       // C
    int layers;      // L
    int heads;       // H
    int kv_heads;    // of N and W layers; 0: heads
    int ffn;         // F
    int vocab;       // V
    Text pattern;    // one letter a layer, repeated: letters of the mixer table
    int window;      // of W layers, keys i-window+1..i
    int conv;        // tokens that the convolution of L layers sees; 0: none
    int persistent;  // of G layers, learned keys that every token sees
    MemoryConfig memory;
    Text lrpe;             // "first", "all", "none", or comma-separated layer numbers
    bool tied;             // output projection = embedding
    bool scale_embedding;  // times sqrt(C)
    double norm_eps, init_std, rope_base;
    int pad_id;  // embedding row without gradient through the lookup; -1: none
    int bos_id,
        eos_id;  // begin and end of a text; -1: none. eos_id ends the documents of training text
    int more_eos[MAX_ENDS - 1], more_eos_count;  // of config.json: generation ends at these, too
    int max_positions;       // longest text of config.json, told to other programs only; 0: unknown
    int block;               // tokens a lightning block; 0: chosen
    bool recompute;          // activation recomputation per block
    char normalisation[32];  // how training text was normalised, as the data pipeline calls it; "":
                             // nothing is known
    // resolved
    Family kind;
    int head_size;           // D
    char layer[MAX_LAYERS];  // mixer letter
    bool layer_lrpe[MAX_LAYERS];
} ModelConfig;

extern const Field MODEL_FIELDS[];
extern const int MODEL_FIELD_COUNT;

// Applies the preset to every key that is still a default, expands pattern and lrpe, checks that
// sizes fit. E_USAGE.
Status model_config_resolve(ModelConfig *m, const Config *origins) CHECKED;

// Does a generated text end with this token?
bool model_config_ends(const ModelConfig *m, int id);
void model_config_write_ends(JsonOut *out,
                             const ModelConfig *m);  // "eos_token_id": the id, null, or the list

typedef struct MixerOps MixerOps;
typedef struct Layer {
    const MixerOps *mixer;
    int index;  // counts all layers
    void *own;  // the mixer's: rows of its parameters and what else it keeps
    int late;   // row of a weight of the mixer whose gradient may come last (Node.late); -1: none
    int norm[2], mlp[3];  // rows: gains of the Llama family; up/gate/down
} Layer;

typedef struct Model {
    ModelConfig cfg;
    const Mesh *mesh;  // whose tp axis shares the parameters and whose sp axis the rows; NULL: this
                       // rank alone
    ParamSet params;
    Layer *layers;
    int embed, head, final_norm;  // rows; head == embed when tied; final_norm -1 for TNL
} Model;

// Lays out this rank's share of the parameters; data is placed by params_reserve. E_USAGE when the
// mesh does not divide the sizes. Not collective; with a mesh, passes that train or evaluate are
// (team).
Status model_open(Model *m, const ModelConfig *cfg, const Mesh *mesh) CHECKED;
void model_close(Model *m);

// State of a generation of up to B rows, the first of which a forward pass takes: one record a
// layer, behind the mixer. Lightning: (B,H,A,E), constant in length. Softmax: a key/value cache
// that grows. A forward pass with a state reads and advances it.
typedef struct DecodeState DecodeState;
Status decode_open(DecodeState **s, const Model *m, int B) CHECKED;
void decode_close(DecodeState *s);
const int64_t *decode_pos(const DecodeState *s);  // (B) tokens each row has seen
size_t decode_bytes(const DecodeState *s);
// Room for T more tokens in each row, before a forward pass takes them. E_NOMEM.
Status decode_reserve(DecodeState *s, int T) CHECKED;
// Copies row `from` of src into row `to` of dst (prefilled one by one, decoded together). E_NOMEM.
Status decode_copy_row(DecodeState *dst, int to, const DecodeState *src, int from) CHECKED;
// A row as bytes, malloc'ed, for this build, processor, model and mesh. load: E_FORMAT when they
// are not of such a row, which is then lost; E_NOMEM.
Status decode_save_row(const DecodeState *s, int row, char **bytes, size_t *count) CHECKED;
Status decode_load_row(DecodeState *s, int row, const char *bytes, size_t count) CHECKED;

// Final hidden states after the last norm, (N,C). state NULL: training and evaluation, rows start
// from zero.
Tensor *model_hidden(Tape *tp, Model *m, const Batch *b, DecodeState *state);
// Weighted sum of cross-entropies over valid targets, (1,1); losses NULL or (N), without weights.
Tensor *model_loss(Tape *tp, Model *m, const Batch *b, double *losses);
// Log-probabilities of the targets, (N,1), and of each row the entropy unless NULL: op_log_probs,
// which here finds the fold by itself.
Tensor *model_log_probs(Tape *tp, Model *m, const Batch *b, LogProbArgs args, Tensor **entropy);
Tensor *model_logits(Tape *tp, Model *m, const Batch *b, DecodeState *state);  // (N,V)

Tensor *model_project(Tape *tp, Model *m,
                      Tensor *hidden);  // hidden states -> logits of the whole vocabulary

// Costs, for plan and bench. Model FLOPs a token (forward + backward) = 6 * (non-embedding
// parameters + head).
size_t model_parameters(const Model *m);
double model_flops_per_token(const Model *m);

// --- hf.c: Hugging Face config.json <-> ModelConfig ---
// E_FORMAT names key and value. Ids that end a text come from generation_config.json beside it,
// too.
Status model_config_read_hf(ModelConfig *m, const char *path) CHECKED;
char *model_config_write_hf(const ModelConfig *m,
                            const char *dtype);  // JSON text, malloc'ed; dtype "float32"
// Presets
void model_presets_list(void (*visit)(const char *name, const char *text, void *user), void *user);
// tp must divide heads, kv_heads (N, W) and ffn; sp, with ulysses, the heads of a share. E_USAGE
// with the legal values.
Status model_check_mesh(const ModelConfig *m, const Mesh *mesh) CHECKED;
const char *model_dim_summary(const ModelConfig *m);  // one line for logs, static buffer
