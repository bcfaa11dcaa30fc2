// A model directory in Hugging Face's layout, opened for use: config.json, weights, and tokenizer.json if there.
#pragma once

#include "model/model.h"
#include "tokenizer/tokenizer.h"
#include "train/commands.h"

typedef struct ModelDir {
    Model model;
    Bpe *bpe;  // NULL: no tokenizer.json
    int eos;   // id that ends a text, -1: none
} ModelDir;

// settings: model.* words of the command line override what config.json says (block, recompute, ...).
// mesh: see model_open. Not collective: every rank reads its share for itself.
Status modeldir_open(ModelDir *d, const char *dir, const Arguments *settings, const Mesh *mesh,
                     bool with_grad) CHECKED;
// Opens the mesh that parallel.* words of the command line ask for. Collective(world).
Status modeldir_mesh(Mesh *mesh, const Arguments *settings) CHECKED;
// The same words for one process, without MPI. E_LAUNCH: they ask for more ranks.
Status modeldir_check_alone(const Arguments *settings) CHECKED;
// Ranks that hold the same share of the weights read the same ones. E_LAUNCH. Collective(world).
Status weights_agree(const ParamSet *ps, const Mesh *mesh) CHECKED;
// After modeldir_open succeeded everywhere: all ranks read the same model, and the same input by its hash. E_LAUNCH.
// Collective(world).
Status modeldir_agree(const ModelDir *d, uint64_t input, const Mesh *mesh) CHECKED;
void modeldir_close(ModelDir *d);
Status modeldir_need_tokenizer(const ModelDir *d, const char *dir) CHECKED;
