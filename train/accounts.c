// Counting exchanges around steps, and gathering what ranks counted.
#include "parallel/comm.h"
#include "train/accounts.h"

#include <stdlib.h>
#include <sys/resource.h>

// ---- counting ----------------------------------------------------------------------------------

static CommStat stat_minus(CommStat a, CommStat b) {
    return (CommStat){a.calls - b.calls, a.bytes - b.bytes, a.wait_s - b.wait_s,
                      a.exposed_s - b.exposed_s};
}

static CommStat stat_plus(CommStat a, CommStat b) {
    return (CommStat){a.calls + b.calls, a.bytes + b.bytes, a.wait_s + b.wait_s,
                      a.exposed_s + b.exposed_s};
}

void accounts_step_begin(Accounts *a) {
    for (int u = 0; u < COMM_USE_COUNT; u++) {
        a->begin[u] = comm_stat((CommUse)u);
        if (a->steps == 0) a->first[u] = a->begin[u];
    }
}

void accounts_step_end(Accounts *a, double step_s) {
    for (int u = 0; u < COMM_USE_COUNT; u++) {
        CommStat step = stat_minus(comm_stat((CommUse)u), a->begin[u]);
        a->in_steps[u] = stat_plus(a->in_steps[u], step);
    }
    a->steps++;
    a->step_s += step_s;
}

// ---- over all ranks ----------------------------------------------------------------------------

// What one rank tells the others.
typedef struct Told {
    CommStat steps[COMM_USE_COUNT], between[COMM_USE_COUNT];
} Told;

static double larger(double a, double b) {
    return a > b ? a : b;
}

static void share_add(CommShare *to, const CommStat *s, int ranks) {
    to->calls += (double)s->calls / ranks;
    to->bytes += s->bytes / ranks;
    to->wait_s += s->wait_s / ranks;
    to->exposed_s += s->exposed_s / ranks;
    to->bytes_max = larger(to->bytes_max, s->bytes);
    to->wait_s_max = larger(to->wait_s_max, s->wait_s);
    to->exposed_s_max = larger(to->exposed_s_max, s->exposed_s);
}

Status accounts_gather(CommTable *out, const Accounts *a, Comm *world) {
    Told mine, *all = NULL;
    int ranks = comm_size(world);
    *out = (CommTable){.ranks = ranks, .counted = a->steps, .step_s = a->step_s};
    for (int u = 0; u < COMM_USE_COUNT; u++) {
        CommStat since = stat_minus(comm_stat((CommUse)u), a->first[u]);
        mine.steps[u] = a->in_steps[u];
        mine.between[u] = stat_minus(since, a->in_steps[u]);
    }
    size_t *offsets = malloc(((size_t)ranks + 1) * sizeof *offsets);
    ASSERT(offsets != NULL);
    Status st = comm_allgather_bytes(world, &mine, sizeof mine, (char **)&all, offsets);
    for (int r = 0; st == OK && r < ranks; r++) {
        for (int u = 0; u < COMM_USE_COUNT; u++) {
            share_add(&out->steps[u], &all[r].steps[u], ranks);
            share_add(&out->between[u], &all[r].between[u], ranks);
        }
    }
    free(all);
    free(offsets);
    return st;
}

// ---- JSON --------------------------------------------------------------------------------------

static void share_json(JsonOut *w, CommUse use, const CommShare *s) {
    jsonout_open_object(w, NULL);
    jsonout_text(w, "name", comm_use_text(use));
    jsonout_number(w, "calls", s->calls);
    jsonout_number(w, "bytes", s->bytes);
    jsonout_number(w, "bytes_max", s->bytes_max);
    jsonout_number(w, "wait_s", s->wait_s);
    jsonout_number(w, "wait_s_max", s->wait_s_max);
    jsonout_number(w, "exposed_s", s->exposed_s);
    jsonout_number(w, "exposed_s_max", s->exposed_s_max);
    jsonout_close_object(w);
}

static void shares_json(JsonOut *w, const char *key, const CommShare *shares) {
    jsonout_open_array(w, key);
    for (int u = 0; u < COMM_USE_COUNT; u++) {
        if (shares[u].calls > 0) share_json(w, (CommUse)u, &shares[u]);
    }
    jsonout_close_array(w);
}

void accounts_json(JsonOut *w, const CommTable *t) {
    jsonout_int(w, "ranks", t->ranks);
    jsonout_int(w, "steps", t->counted);
    jsonout_number(w, "step_s", t->step_s);
    shares_json(w, "uses", t->steps);
    shares_json(w, "between_steps", t->between);
}

// ---- memory ------------------------------------------------------------------------------------

int64_t memory_total(const Memory *m) {
    return m->weights + m->gradients + m->optimizer + m->exchange + m->activations;
}

MemoryUse memory_gather(const Memory *mine, Comm *world) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    int64_t v[] = {mine->weights,  mine->gradients,   mine->optimizer,
                   mine->exchange, mine->activations, (int64_t)usage.ru_maxrss * 1024};  // KiB
    comm_max_i64(world, v, 6);
    return (MemoryUse){{v[0], v[1], v[2], v[3], v[4]}, v[5]};
}

void memory_json(JsonOut *w, const MemoryUse *m) {
    jsonout_open_object(w, "memory");
    jsonout_int(w, "weights", m->arenas.weights);
    jsonout_int(w, "gradients", m->arenas.gradients);
    jsonout_int(w, "optimizer", m->arenas.optimizer);
    jsonout_int(w, "exchange", m->arenas.exchange);
    jsonout_int(w, "activations", m->arenas.activations);
    jsonout_close_object(w);
    jsonout_int(w, "resident", m->resident);
}
