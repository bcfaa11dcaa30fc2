// What the report reads of metrics.jsonl, and how curves are thinned and smoothed.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "tests/base/temp.h"
#include "train/metrics_lines.h"
#include "train/report_internal.h"

static char dir[PATH_BYTES];

static Report report_of(const char *metrics) {
    char path[PATH_BYTES];
    Report r;
    temp_open(dir);
    path_join(path, dir, "metrics.jsonl");
    ASSERT_OK(file_write(path, metrics, strlen(metrics)));
    ASSERT_OK(report__read(&r, dir));
    temp_close(dir);
    return r;
}

#define LINE(step, more)                                                                           \
    "{\"kind\":\"step\",\"step\":" #step ",\"loss\":2,\"lr\":0.1,\"gnorm\":1,\"tokens\":10" more   \
    ",\"step_s\":0.5,\"tok_s\":20}\n"

Test(report, draws_what_objectives_tell_of) {
    Report r = report_of(LINE(1, ",\"second.lr\":0.5,\"gap\":3,\"note\":\"x\"") LINE(
        2, ",\"second.lr\":0.25,\"gap\":null") LINE(3, ",\"gap\":-1,\"flag\":true"));
    cr_assert_eq(r.curve_count, 2);
    cr_expect_str_eq(r.curve[0].name, "second.lr");
    cr_assert_eq(r.curve[0].points.count, 2);
    cr_expect_eq(r.curve[0].points.at[1].y, 0.25);
    cr_expect_str_eq(r.curve[1].name, "gap");
    cr_assert_eq(r.curve[1].points.count, 2);
    cr_expect_eq(r.curve[1].points.at[1].x, 3);
    cr_expect_eq(r.curve[1].points.at[1].y, -1);
    cr_expect_eq(r.loss.count, 3);
    cr_expect_eq(r.tokens_per_s, 20);
    cr_expect_eq(r.torn_lines, 0);
    report__free(&r);
}

// As many as there is room for; a name that is too long is none.
Test(report, leaves_out_curves_beyond_its_room) {
    char text[4096], *at = text;
    at += sprintf(at, "{\"kind\":\"step\",\"step\":1");
    for (int i = 0; i < REPORT_CURVES + 5; i++) at += sprintf(at, ",\"c%d\":%d", i, i);
    at += sprintf(at, "}\n{\"kind\":\"step\",\"step\":2,\"");
    for (int i = 0; i < 2 * REPORT_NAME; i++) *at++ = 'x';
    sprintf(at, "\":7}\n");
    Report r = report_of(text);
    cr_expect_eq(r.curve_count, REPORT_CURVES);
    for (int i = 0; i < REPORT_CURVES; i++) cr_expect_eq(r.curve[i].points.count, 1);
    cr_expect_eq(r.torn_lines, 0);
    report__free(&r);
}

// ---- lines -------------------------------------------------------------------------------------

typedef struct Seen {
    LineKind kind[16];
    int64_t step[16];
    int count;
} Seen;

static void see(const MetricsLine *line, const JsonAt *top, void *user) {
    Seen *s = user;
    (void)top;
    cr_assert_lt(s->count, 16);
    s->kind[s->count] = line->kind;
    s->step[s->count++] = line->step;
}

Test(metrics_lines, are_steps_evaluations_or_others) {
    static const char text[] = "{\"kind\":\"step\",\"step\":4}\n\n{\"kind\":\"eval\",\"step\":4}\n"
                               "{\"note\":1}\n{\"kind\":\"mine\",\"step\":9}\n{\"kind\":\"step\"}\n"
                               "{\"kind\":\"mine\",\"step\":\"9\"}\n[1]\n{\"kind\":\"step\",\"st";
    static const LineKind kind[] = {LINE_STEP, LINE_EMPTY, LINE_EVAL, LINE_OTHER, LINE_OTHER,
                                    LINE_BAD,  LINE_BAD,   LINE_BAD,  LINE_BAD};
    static const int64_t step[] = {4, -1, 4, -1, 9};
    Seen s = {.count = 0};
    metrics_each(text, sizeof text - 1, see, &s);
    cr_assert_eq(s.count, 9);
    for (int i = 0; i < 9; i++) cr_expect_eq(s.kind[i], kind[i], "line %d", i);
    for (int i = 0; i < 5; i++) cr_expect_eq(s.step[i], step[i], "line %d", i);
}

// ---- series ------------------------------------------------------------------------------------

static Series wave(int count) {
    Series s = {.count = count, .capacity = count};
    s.at = calloc((size_t)count + 1, sizeof *s.at);
    cr_assert_not_null(s.at);
    for (int i = 0; i < count; i++) s.at[i] = (Point){i, sin(i * 0.37) + (i == 777 ? 50 : 0)};
    return s;
}

Test(series, keep_their_extremes_when_thinned) {
    Series s = wave(5000), few, all;
    series__thin(&few, &s, 100);
    cr_assert_leq(few.count, 100);
    cr_assert_gt(few.count, 50);
    double high = -INFINITY;
    for (int i = 0; i < few.count; i++) {
        high = fmax(high, few.at[i].y);
        cr_assert(i == 0 || few.at[i].x > few.at[i - 1].x);
        cr_assert_eq(few.at[i].y, s.at[(int)few.at[i].x].y);
    }
    cr_expect_eq(high, s.at[777].y);
    series__thin(&all, &s, 5000);
    cr_expect_eq(all.count, 5000);
    series__free(&few), series__free(&all), series__free(&s);
}

Test(series, are_smoothed_by_a_centred_mean) {
    Series line = wave(400), s, none = {.at = NULL}, empty;
    for (int i = 0; i < 400; i++) line.at[i].y = 3 + 0.5 * i;
    series__smooth(&s, &line);
    cr_assert_eq(s.count, 400);
    // A straight line stays one, but for the lopsided stretch at its end.
    for (int i = 0; i < 390; i++) cr_assert_float_eq(s.at[i].y, line.at[i].y, 1e-9, "point %d", i);
    series__smooth(&empty, &none);
    cr_expect_eq(empty.count, 0);
    series__free(&s), series__free(&line), series__free(&empty);
}
