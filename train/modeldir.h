// A model directory in Hugging Face's layout, opened for use: config.json, weights, and
// tokenizer.json if there.
#pragma once

#include "model/model.h"
#include "parallel/mesh.h"
#include "tokenizer/tokenizer.h"
#include "train/commands.h"

typedef struct ModelDir {
    Model model;
    Bpe *bpe;  // NULL: no tokenizer.json, and no token ends a text
} ModelDir;

// The model that `dir` describes. m holds the model section of a configuration, `origins` says
// which of its keys were asked for: those that agree with config.json or that it leaves open
// (block, recompute, ids it has none for, which id of its list ends a text) are kept, any other is
// refused with E_USAGE. A preset asks for all its values, unless it gives way to `key`, the one
// that names the directory (NULL: an option does). Origins become true. Not collective.
Status modeldir_config(ModelConfig *m, Config *origins, const char *dir, const char *key) CHECKED;
// A file's `key`, which only says how to make something, gives way to the command line's `to`,
// which brings it.
bool modeldir_gives_way(const Config *c, const char *key, const char *to);
bool modeldir_same_value(const Field *f, const ModelConfig *a, const ModelConfig *b);
// The tokenizer has an embedding row for each of its ids. E_FORMAT.
Status modeldir_check_tokenizer(const Bpe *bpe, const char *path, const ModelConfig *m,
                                const char *dir) CHECKED;
// settings: model.* words of the command line, as in modeldir_config. mesh: see model_open. Not
// collective: every rank reads its share for itself.
Status modeldir_open(ModelDir *d, const char *dir, const Arguments *settings, const Mesh *mesh,
                     bool with_grad) CHECKED;
// Opens the mesh that parallel.* words of the command line ask for. Collective(world).
Status modeldir_mesh(Mesh *mesh, const Arguments *settings) CHECKED;
// The same words for one process, without MPI. E_LAUNCH: they ask for more ranks.
Status modeldir_check_alone(const Arguments *settings) CHECKED;
// Ranks that hold the same share of the weights read the same ones. E_LAUNCH. Collective(world).
Status weights_agree(const ParamSet *ps, const Mesh *mesh) CHECKED;
// After modeldir_open succeeded everywhere: all ranks read the same model, and the same input by
// its hash. E_LAUNCH. Collective(world).
Status modeldir_agree(const ModelDir *d, uint64_t input, const Mesh *mesh) CHECKED;
void modeldir_close(ModelDir *d);
Status modeldir_need_tokenizer(const ModelDir *d, const char *dir) CHECKED;
