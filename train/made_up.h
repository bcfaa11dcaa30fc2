// Made-up tokens: what benchmarks train on. The same rows for any number of ranks.
#pragma once

#include "train/run.h"

typedef struct MadeUp {
    int T, V;  // tokens a row, vocabulary
    BatchRoom room;
} MadeUp;

// Rows of cfg.train.seq tokens, at most cfg.train.micro_rows at a time, for run's mesh and
// vocabulary. On failure everything is left for made_up_close.
Status made_up_open(MadeUp *t, const Run *run) CHECKED;
RowSource made_up_source(MadeUp *t);
void made_up_close(MadeUp *t);
