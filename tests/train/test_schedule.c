// Learning rates at the corners of each schedule.
#include <criterion/criterion.h>

#include "train/schedule.h"

static ScheduleConfig made(const char *kind) {
    ScheduleConfig s = {.lr = 2e-3, .min_lr = 0.1, .warmup = 10, .decay_share = 0.25};
    snprintf(s.kind, sizeof s.kind, "%s", kind);
    return s;
}

static void expect_lr(const ScheduleConfig *s, int64_t step, int64_t steps, double share) {
    double lr = schedule_lr(s, step, steps);
    cr_expect_float_eq(lr, share * s->lr, 1e-15, "%s: step %lld of %lld: %g, not %g", s->kind,
                       (long long)step, (long long)steps, lr, share * s->lr);
}

Test(schedule, warms_up_linearly_to_the_peak_in_every_kind) {
    const char *kinds[] = {"cosine", "wsd", "constant"};
    for (int i = 0; i < 3; i++) {
        ScheduleConfig s = made(kinds[i]);
        for (int64_t step = 0; step < 10; step++) expect_lr(&s, step, 110, (double)(step + 1) / 10);
        expect_lr(&s, 10, 110, 1);
    }
}

Test(schedule, cosine_falls_to_the_floor) {
    ScheduleConfig s = made("cosine");
    expect_lr(&s, 60, 110, 0.1 + 0.9 * 0.5);  // half way
    expect_lr(&s, 110, 110, 0.1);
    expect_lr(&s, 500, 110, 0.1);  // beyond the end
    for (int64_t step = 11; step < 110; step++) {
        cr_assert_lt(schedule_lr(&s, step, 110), schedule_lr(&s, step - 1, 110));
    }
}

Test(schedule, wsd_is_flat_and_then_falls_linearly) {
    ScheduleConfig s = made("wsd");
    expect_lr(&s, 11, 110, 1);
    expect_lr(&s, 85, 110, 1);  // 75 % of the 100 steps after warm-up
    expect_lr(&s, 95, 110, 1 - 0.9 * 10 / 25.0);
    expect_lr(&s, 110, 110, 0.1);
    s.decay_share = 0;
    expect_lr(&s, 109, 110, 1);
}

Test(schedule, constant_stays) {
    ScheduleConfig s = made("constant");
    expect_lr(&s, 10, 20, 1);
    expect_lr(&s, 1000000, 20, 1);
}

Test(schedule, warm_up_below_one_is_a_share_and_never_over_half) {
    ScheduleConfig s = made("cosine");
    s.warmup = 0.05;
    cr_expect_eq(schedule_warmup(&s, 1000), 50);
    cr_expect_eq(schedule_warmup(&s, 10), 0);
    s.warmup = 100;
    cr_expect_eq(schedule_warmup(&s, 1000), 100);
    cr_expect_eq(schedule_warmup(&s, 60), 30);
    s.warmup = 0;
    cr_expect_eq(schedule_warmup(&s, 60), 0);
    expect_lr(&s, 0, 60, 1);
    expect_lr(&s, 0, 1, 1);  // a single step
}
