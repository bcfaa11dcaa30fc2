// metrics.jsonl: what a cut keeps, what waits while the disk takes nothing; and what a run
// directory says about its checkpoints.
#include <criterion/criterion.h>
#include <unistd.h>

#include "tests/base/temp.h"
#include "train/run.h"

static char dir[PATH_BYTES];

static void place(char path[PATH_BYTES], const char *name) {
    path_join(path, dir, name);
}

static void put(const char *name, const char *text, size_t bytes) {
    char path[PATH_BYTES];
    place(path, name);
    ASSERT_OK(file_write(path, text, bytes));
}

static void expect_file(const char *name, const char *content) {
    char path[PATH_BYTES], *text;
    place(path, name);
    ASSERT_OK(file_read(path, &text, NULL));
    cr_expect_str_eq(text, content, "%s", name);
    free(text);
}

static bool is_there(const char *name) {
    char path[PATH_BYTES];
    place(path, name);
    return path_exists(path);
}

#define STEP(n) "{\"kind\":\"step\",\"step\":" #n "}\n"
#define EVAL(n) "{\"kind\":\"eval\",\"step\":" #n "}\n"

Test(metrics, a_cut_drops_lines_one_by_one) {
    static const struct {
        const char *before;
        size_t bytes;  // 0: a text
        int64_t step;
        const char *after, *aside;  // NULL: no such file
        bool evaluated;
    } cases[] = {
        {STEP(1) STEP(2) STEP(3), 0, 2, STEP(1) STEP(2), NULL, false},
        {STEP(1) EVAL(1) STEP(2), 0, 1, STEP(1) EVAL(1), NULL, true},
        {STEP(1) EVAL(1) STEP(2), 0, 2, STEP(1) EVAL(1) STEP(2), NULL, false},
        {STEP(1) "{\"kind\":\"st\n" STEP(2) STEP(3), 0, 3, STEP(1) STEP(2) STEP(3),
         "{\"kind\":\"st\n", false},
        {STEP(1) STEP(2) "{\"kin", 0, 2, STEP(1) STEP(2), "{\"kin\n", false},  // torn
        {STEP(1) "{\"kind\":\"step\",\"step\":2}", 0, 2, STEP(1) STEP(2), NULL, false},
        {STEP(1) "{\"step\":2}\n\n" STEP(3), 0, 3, STEP(1) "{\"step\":2}\n" STEP(3), NULL, false},
        {STEP(1) "{\"note\":\"mine\"}\n" STEP(9), 0, 1, STEP(1) "{\"note\":\"mine\"}\n", NULL,
         false},
        {STEP(1) "{\"step\":\"4\"}\n7\n" STEP(2), 0, 9, STEP(1) STEP(2), "{\"step\":\"4\"}\n7\n",
         false},
        {STEP(7) STEP(8) STEP(1), 0, 7, STEP(7) STEP(1), NULL, false},  // in any order
        {STEP(1) STEP(2) EVAL(2) STEP(2) STEP(3), 0, 3, STEP(1) EVAL(2) STEP(2) STEP(3), STEP(2),
         false},
        {STEP(1) STEP(2), 0, 0, "", NULL, false},
        {"", 0, 5, "", NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool evaluated;
        temp_open(dir);
        put("metrics.jsonl", cases[i].before, strlen(cases[i].before));
        EXPECT_OK(metrics_cut(dir, cases[i].step, &evaluated));
        cr_expect_eq(evaluated, cases[i].evaluated, "case %zu", i);
        expect_file("metrics.jsonl", cases[i].after);
        cr_expect_eq(is_there("metrics.jsonl.bad"), cases[i].aside != NULL, "case %zu", i);
        if (cases[i].aside != NULL) expect_file("metrics.jsonl.bad", cases[i].aside);
        temp_close(dir);
    }
}

Test(metrics, bytes_of_zero_harm_their_line_only_and_what_was_set_aside_stays) {
    static const char text[] = STEP(1) "{\"step\": 4, \"lo\0\n"
                                       "\0\0\0\0\n" STEP(2);
    bool evaluated;
    size_t bytes;
    char path[PATH_BYTES], *aside;
    temp_open(dir);
    put("metrics.jsonl.bad", "old", 3);
    put("metrics.jsonl", text, sizeof text - 1);
    EXPECT_OK(metrics_cut(dir, 2, &evaluated));
    expect_file("metrics.jsonl", STEP(1) STEP(2));
    place(path, "metrics.jsonl.bad");
    ASSERT_OK(file_read(path, &aside, &bytes));
    static const char wanted[] = "old\n{\"step\": 4, \"lo\0\n\0\0\0\0\n";
    cr_expect(bytes == sizeof wanted - 1 && memcmp(aside, wanted, bytes) == 0);
    free(aside);
    temp_close(dir);
}

Test(metrics, a_log_that_cannot_be_read_is_left_alone) {
    bool evaluated;
    char path[PATH_BYTES];
    temp_open(dir);
    EXPECT_OK(metrics_cut(dir, 2, &evaluated));
    cr_expect_not(is_there("metrics.jsonl"));
    place(path, "metrics.jsonl");
    cr_assert_eq(symlink("/nonexistent/disk", path), 0);
    EXPECT_FAIL(metrics_cut(dir, 2, &evaluated), E_IO, "metrics.jsonl is a link");
    temp_close(dir);
}

static void log_steps(Run *run, int64_t first, int64_t last) {
    StepResult r = {.loss = 1, .tokens = 1};
    for (run->step = first; run->step <= last; run->step++) metrics_step(run, &r, 1);
}

// Every step once, in order: from `first` to the last one logged.
static void expect_steps(const Run *run, int64_t first) {
    char path[PATH_BYTES], *text;
    place(path, "late/metrics.jsonl");
    ASSERT_OK(file_read(path, &text, NULL));
    int64_t step = first;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), step++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "{\"kind\":\"step\",\"step\":%lld,", (long long)step);
        cr_assert_eq(strncmp(line, wanted, strlen(wanted)), 0, "%s is not step %lld", line,
                     (long long)step);
    }
    cr_expect_eq(step, run->step);
    free(text);
}

static void late_run(Run *run) {
    temp_open(dir);
    *run = (Run){.objective = &LANGUAGE_MODEL};
    int n = snprintf(run->cfg.train.run_dir, sizeof run->cfg.train.run_dir, "%s/late", dir);
    cr_assert(n > 0 && (size_t)n < sizeof run->cfg.train.run_dir);
}

Test(metrics, lines_wait_until_they_can_be_written) {
    Run run;
    late_run(&run);
    log_steps(&run, 1, 20);
    ASSERT_OK(dir_make(run.cfg.train.run_dir));
    log_steps(&run, 21, 22);
    expect_steps(&run, 1);
    cr_expect_eq(run.metrics.bytes, 0);
    metrics_close(&run);
    temp_close(dir);
}

Test(metrics, the_oldest_lines_are_given_up_when_too_many_wait) {
    Run run;
    late_run(&run);
    log_steps(&run, 1, 150000);
    cr_expect_leq(run.metrics.bytes, 16 << 20);
    int64_t lost = run.metrics.lost;
    cr_expect(lost > 0 && lost < 149000, "%lld lines lost", (long long)lost);
    ASSERT_OK(dir_make(run.cfg.train.run_dir));
    log_steps(&run, 150001, 150001);
    expect_steps(&run, lost + 1);
    metrics_close(&run);
    temp_close(dir);
}

static int64_t saved(void) {
    int64_t step = 99;
    cr_assert_eq(rundir_saved(dir, &step), OK, "%s", err_message());
    return step;
}

Test(rundir, tells_of_the_newest_checkpoint) {
    static const char finished[] = "{\"reason\":\"finished\",\"status\":\"OK\",\"step\":40}";
    static const char failed[] = "{\"reason\":\"x\",\"status\":\"E_IO\",\"step\":50}";
    static const char resolved[] = "train:\n  ckpt_every: 10\n";
    temp_open(dir);
    cr_expect_eq(saved(), -1);
    // Earlier versions: only a step beyond the first save proves one.
    put("metrics.jsonl", STEP(9) STEP(10), strlen(STEP(9) STEP(10)));
    put("config.resolved.yaml", resolved, strlen(resolved));
    put("exit.json", failed, strlen(failed));
    cr_expect_eq(saved(), -1);
    put("metrics.jsonl", STEP(10) STEP(31), strlen(STEP(10) STEP(31)));
    cr_expect_eq(saved(), 30);
    put("exit.json", finished, strlen(finished));
    cr_expect_eq(saved(), 40);

    EXPECT_OK(rundir_note_saved(dir, 70));
    cr_expect_eq(saved(), 70);
    put("checkpoint.json", "{\"st", 4);
    cr_expect_eq(saved(), 0);
    temp_close(dir);
}
