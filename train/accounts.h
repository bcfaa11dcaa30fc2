// What a run costs besides arithmetic: the exchanges of its steps by purpose, and the bytes of its
// arenas by class. Counted on every rank, gathered for comm.json, the report and `sterna bench
// step`.
#pragma once

#include "base/json.h"
#include "parallel/comm.h"

// Exchanges of this process, from its first step on: inside of steps, and all of them.
typedef struct Accounts {
    CommStat first[COMM_USE_COUNT],
        begin[COMM_USE_COUNT];  // when the first step began, and the last one
    CommStat in_steps[COMM_USE_COUNT];
    int64_t steps;
    double step_s;  // all steps together
} Accounts;

// Around each step.
void accounts_step_begin(Accounts *a);
void accounts_step_end(Accounts *a, double step_s);

// Totals over all counted steps: the mean over ranks, and the most that any rank has.
typedef struct CommShare {
    double calls, bytes, bytes_max, wait_s, wait_s_max, exposed_s, exposed_s_max;
} CommShare;
typedef struct CommTable {
    CommShare steps[COMM_USE_COUNT];  // in steps
    CommShare
        between[COMM_USE_COUNT];  // between and after them: evaluations, checkpoints, agreements
    int ranks;
    int64_t counted;  // steps
    double step_s;    // all of them together, on rank 0
} CommTable;
// The same table on every rank. Collective(world).
Status accounts_gather(CommTable *out, const Accounts *a, Comm *world) CHECKED;
// Members of an object: ranks, steps, step_s, uses, between_steps.
void accounts_json(JsonOut *w, const CommTable *t);

// Bytes of arenas. All that is reserved is used: sizes are measured by dry runs.
typedef struct Memory {
    int64_t weights, gradients, optimizer, exchange, activations;
} Memory;
int64_t memory_total(const Memory *m);
// Of each class, and of the largest resident set so far, the most that any rank has.
typedef struct MemoryUse {
    Memory arenas;
    int64_t resident;
} MemoryUse;
MemoryUse memory_gather(const Memory *mine, Comm *world);  // Collective(world)
// Members of an object: memory, resident.
void memory_json(JsonOut *w, const MemoryUse *m);
