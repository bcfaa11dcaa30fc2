// A model of a run: memory, and its part of a step.
#include "train/learner.h"

#include <string.h>

#include "base/rng.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

Status learner_layout(Learner *l, const char *name, bool frozen, const LearnerConfig *cfg,
                      const Mesh *mesh) {
    *l = (Learner){.name = name, .frozen = frozen, .cfg = *cfg};
    return model_open(&l->model, &cfg->model, mesh);
}

static Status open_moments(Learner *l) {
    int count;
    const Range *ranges = reducer_ranges(l->reducer, &count);
    return optim_open(&l->optim, &l->cfg.optim, ranges, count);
}

Status learner_reserve(Learner *l, size_t bucket_bytes) {
    const Mesh *mesh = l->model.mesh;
    TRY(agree(params_reserve(&l->model.params, !l->frozen), mesh->world));
    if (l->frozen) return OK;
    Status st = reducer_open(&l->reducer, mesh, &l->model.params, bucket_bytes);
    if (st == OK) st = open_moments(l);
    return agree(st, mesh->world);
}

void learner_close(Learner *l) {
    optim_close(&l->optim);
    reducer_close(l->reducer);
    model_close(&l->model);
    *l = (Learner){0};
}

void learner_forget(Learner *l) {
    if (l->frozen) return;
    memset(l->optim.m, 0, l->optim.owned * sizeof(real));
    memset(l->optim.v, 0, l->optim.owned * sizeof(real));
}

// A sum over elements, each hashed with its place in the whole tensor; what tp does not split
// counts on its rank 0.
static uint64_t row_identity(const Param *p, int row) {
    uint64_t sum = 0;
    for (size_t j = 0; j < p->count; j++) {
        size_t at = p->share.begin + j / p->share.run * p->share.stride + j % p->share.run;
        uint64_t bits = 0;
        memcpy(&bits, &p->data[j], sizeof(real));
        sum += rng_u64(bits, STREAM_HASH, (uint64_t)row << 40 | at);
    }
    return sum;
}

void learner_identify(Learner *l) {
    const ParamSet *ps = &l->model.params;
    const Mesh *mesh = l->model.mesh;
    uint64_t mine = 0;
    for (int i = 0; i < ps->count; i++)
        if (ps->rows[i].tp_axis >= 0 || mesh->tp_rank == 0) mine += row_identity(&ps->rows[i], i);
    double halves[2] = {(double)(mine & UINT32_MAX), (double)(mine >> 32)};
    comm_sum_doubles(mesh->tp_axis, halves, 2);
    l->identity = ((uint64_t)halves[1] << 32) + (uint64_t)halves[0];
}

void learner_memory(const Learner *l, Memory *sum) {
    const ParamSet *ps = &l->model.params;
    int64_t all = (int64_t)ps->arena.peak;
    int64_t weights = ps->grad == NULL ? all : (char *)ps->grad - (char *)ps->data;
    sum->weights += weights;
    sum->gradients += all - weights;
    sum->optimizer += (int64_t)l->optim.arena.peak;
    if (l->reducer != NULL) sum->exchange += (int64_t)reducer_arena_bytes(l->reducer);
}

// ---- a step ------------------------------------------------------------------------------------

void learner_begin(Learner *l) {
    if (l->frozen) return;
    params_zero_grad(&l->model.params);
    reducer_begin(l->reducer);
}

bool learner_ready(Learner *l, const Param *p) {
    const ParamSet *ps = &l->model.params;
    if (p < ps->rows || p >= ps->rows + ps->count) return false;
    reducer_ready(l->reducer, p);
    return true;
}

void learner_reduce(Learner *l) {
    if (!l->frozen) reducer_finish(l->reducer);
}

double learner_sqnorm(const Learner *l) {
    return l->frozen ? 0 : reducer_sqnorm(l->reducer);
}

void learner_update(Learner *l, const LearnerStep *s, int64_t step, double count) {
    if (l->frozen) return;
    reducer_share(l->reducer);
    double most = l->cfg.clip, clip = most > 0 && s->grad_norm > most ? most / s->grad_norm : 1.0;
    optim_update(&l->optim, &l->model.params, step + 1, s->lr, clip / count);
}

void learner_gather(Learner *l) {
    if (!l->frozen) reducer_gather_weights(l->reducer);
}
