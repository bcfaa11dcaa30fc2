// Learning-rate schedules: functions of the step number alone.
#pragma once

#include <stdint.h>

#include "base/config.h"

typedef struct ScheduleConfig {
    Text kind;           // cosine | wsd | constant
    double lr, min_lr;   // peak, and the floor as a share of the peak
    double warmup;       // linear; below 1 a share of the steps, else steps
    double decay_share;  // wsd: last share of the steps that decays linearly
} ScheduleConfig;
// Steps of the warm-up, at most half of the run.
int64_t schedule_warmup(const ScheduleConfig *cfg, int64_t steps);
double schedule_lr(const ScheduleConfig *cfg, int64_t step, int64_t steps);  // step counts from 0
