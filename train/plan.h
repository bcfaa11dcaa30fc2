// What a configuration holds in memory on a mesh, found by dry runs of the code that will run, and
// which mesh would fit. Allocates no tensor.
#pragma once

#include "parallel/mesh.h"
#include "train/run.h"

typedef struct Plan {
    const Objective *objective;
    Mesh mesh;
    int micro_rows;
    double parameters, flops_per_token;  // of the models that are trained
    Memory arenas;  // what a run reserves, to the byte: of each class the most that any rank has
    int64_t rest;   // what else a process holds (plan.c)
} Plan;

// cfg is resolved and checked. E_LAUNCH, E_USAGE: no such mesh for these ranks or this model. Uses
// as many threads as OpenMP is set to: scratch depends on them.
Status plan_make(Plan *p, const Objective *o, const RunConfig *cfg, int ranks) CHECKED;
int64_t plan_resident(const Plan *p);  // arenas and rest

// A configuration near the first one.
typedef struct Search {
    RunConfig cfg;
    int ranks;
    Plan plan;
} Search;
// Enlarges s until it fits `bytes` a rank, always for what is largest: false when nothing is left
// to enlarge.
bool search_fit(Search *s, int64_t bytes);
// "parallel.sp=4 train.micro_rows=1": what s has otherwise than `from`.
void search_words(char *dst, size_t capacity, const Search *s, const Search *from);
