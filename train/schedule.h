// Learning-rate schedules: functions of the step number alone.
#pragma once

#include <stdint.h>

#include "base/config.h"

typedef struct ScheduleConfig {
    Text kind;           // cosine | wsd | constant
    double lr, min_lr;   // peak, and the floor as a share of the peak
    int64_t warmup;      // steps; linear from lr/warmup
    double decay_share;  // wsd: last share of the steps that decays linearly
} ScheduleConfig;
double schedule_lr(const ScheduleConfig *cfg, int64_t step, int64_t steps);  // step counts from 0
