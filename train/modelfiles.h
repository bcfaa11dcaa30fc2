// The small files of a model directory, from which Hugging Face's transformers opens it:
// config.json, generation_config.json, tokenizer.json and what says how to use that.
#pragma once

#include "model/model.h"
#include "tokenizer/tokenizer.h"

typedef struct FileText {
    char *text;
    size_t bytes;
} FileText;

typedef struct ModelFiles {  // all borrowed
    const ModelConfig *cfg;
    const Bpe *bpe;      // NULL: no tokenizer
    FileText tokenizer;  // tokenizer.json of bpe, as it was given: copied byte for byte
    const char *dtype;   // of the weights, as in config.json
    const char *from;  // a directory whose own files of these names are copied instead; NULL: none
} ModelFiles;

// Writes or replaces the files in `dir`, which must exist. Not collective.
Status modelfiles_write(const ModelFiles *f, const char *dir) CHECKED;
