// What a run takes over instead of making it: the model of train.init with its tokenizer, or the
// tokenizer of data.tokenizer. All that can be known before any text is read is checked here.
#pragma once

#include "parallel/mesh.h"
#include "train/run.h"

// The model section, resolved: as configured, or that of train.init (modeldir_config). Not
// collective.
Status start_resolve_model(RunConfig *cfg, Config *origins) CHECKED;
// Fills cfg->model, the tokenizer and the end of documents with what files decide, and says so in
// the origins. origins may belong to another RunConfig with the values as requested. E_USAGE: what
// was asked for contradicts the files; E_FORMAT, E_IO: the files do not fit together, or are not
// there. Collective(world).
Status start_take(RunConfig *cfg, Config *origins, const Mesh *mesh) CHECKED;
// Keys that nobody set, and whose value is not the default any more: the preset's, or the
// tokenizer's.
void start_tell_origins(Config *origins, const ModelConfig *requested, const ModelConfig *used);
