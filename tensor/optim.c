// AdamW over the owned ranges: each range is cut at row borders, because the weight-decay class is
// a row's.
#include "tensor/optim.h"

#include <math.h>

#include "tensor/kernels/kernels.h"

Status optim_open(Optim *o, const OptimConfig *cfg, const Range *ranges, int count) {
    *o = (Optim){.cfg = *cfg, .ranges = ranges, .range_count = count};
    for (int i = 0; i < count; i++) o->owned += ranges[i].count;
    TRY(arena_open(&o->arena, 2 * (o->owned * sizeof(real) + 64)));
    o->m = arena_reals(&o->arena, o->owned);
    o->v = arena_reals(&o->arena, o->owned);
    return OK;
}

void optim_close(Optim *o) {
    arena_close(&o->arena);
    *o = (Optim){0};
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

// One range; `at` is where its moments begin in the packed state.
static void update_range(Optim *o, ParamSet *ps, Range range, size_t at, AdamW a) {
    size_t end = range.begin + range.count;
    for (int i = 0; i < ps->count; i++) {
        const Param *p = &ps->rows[i];
        size_t from = p->offset > range.begin ? p->offset : range.begin;
        size_t to = least(p->offset + p->count, end);
        if (from >= to) continue;
        a.decay = p->decay ? o->cfg.weight_decay : 0.0;
        size_t moment = at + (from - range.begin);
        adamw_update(ps->data + from, o->m + moment, o->v + moment, ps->grad + from, &a, to - from);
    }
}

void optim_update(Optim *o, ParamSet *ps, int64_t step, double lr, double grad_scale) {
    AdamW a = {.lr = lr,
               .beta1 = o->cfg.beta1,
               .beta2 = o->cfg.beta2,
               .eps = o->cfg.eps,
               .correct1 = 1.0 - pow(o->cfg.beta1, (double)step),
               .correct2 = 1.0 - pow(o->cfg.beta2, (double)step),
               .grad_scale = grad_scale};
    size_t at = 0;
    for (int i = 0; i < o->range_count; i++) {
        update_range(o, ps, o->ranges[i], at, a);
        at += o->ranges[i].count;
    }
    params_changed(ps);
}
