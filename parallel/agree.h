// Agreement: all ranks go on, or all return the same failure.
#pragma once

#include "base/config.h"
#include "parallel/comm.h"

// Collective. All ranks return OK or all return the same failure: the highest status, and of the
// ranks that have it the lowest one's message ("rank 3: ..." with its number in the world, unless
// all ranks failed) and hint.
Status agree(Status mine, Comm *comm) CHECKED;
// All ranks have the same lines "key: value" as the first one, or all return `differs`: with the
// lowest other rank, the keys and both values. Collective.
Status agree_same(Status differs, const char *hint, const char *lines, Comm *comm) CHECKED;

// agree() over the world before there is a mesh (command line, configuration). Collective(world).
Status parallel_agree(Status mine) CHECKED;
// The same, then agree_same(E_USAGE): all ranks were told the same.
Status parallel_agree_told(Status mine, const char *lines) CHECKED;
Status parallel_agree_config(Status mine, const Config *c) CHECKED;  // no key may differ
