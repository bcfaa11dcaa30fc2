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
void modeldir_close(ModelDir *d);
Status modeldir_need_tokenizer(const ModelDir *d, const char *dir) CHECKED;
