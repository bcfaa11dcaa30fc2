// Linear warm-up, then cosine (Loshchilov & Hutter 2017), warm-up-stable-decay (Hu et al. 2024), or
// constant.
#include "train/schedule.h"

#include <math.h>
#include <string.h>

static double cosine(double done, double floor) {
    return floor + (1.0 - floor) * 0.5 * (1.0 + cos(3.14159265358979323846 * done));
}

static double stable_decay(const ScheduleConfig *cfg, double done) {
    double start = 1.0 - cfg->decay_share;
    if (done <= start || cfg->decay_share <= 0) return 1.0;
    return 1.0 - (1.0 - cfg->min_lr) * (done - start) / cfg->decay_share;
}

int64_t schedule_warmup(const ScheduleConfig *cfg, int64_t steps) {
    double warmup = cfg->warmup < 1 ? cfg->warmup * (double)steps : cfg->warmup;
    return warmup < (double)steps / 2 ? (int64_t)warmup : steps / 2;
}

double schedule_lr(const ScheduleConfig *cfg, int64_t step, int64_t steps) {
    int64_t warmup = schedule_warmup(cfg, steps), length = steps - warmup;
    if (step < warmup) return cfg->lr * (double)(step + 1) / (double)warmup;
    double done = length > 0 ? (double)(step - warmup) / (double)length : 1.0;
    if (done > 1) done = 1;
    if (strcmp(cfg->kind, "cosine") == 0) return cfg->lr * cosine(done, cfg->min_lr);
    if (strcmp(cfg->kind, "wsd") == 0) return cfg->lr * stable_decay(cfg, done);
    return cfg->lr;
}
