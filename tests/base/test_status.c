// Errors: what is kept, who sees it, and what happens on a bug.
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"

static Status fails(void) {
    FAIL(E_FORMAT, "repair it", "%s:%d: broken", "file", 7);
}
static Status passes_on(void) {
    TRY(fails());
    return OK;
}

static Status cleans_up(int *closed) {
    Status st = OK;
    TRY_GOTO(fails());
    *closed = -1;  // not reached
done:
    ++*closed;
    return st;
}

Test(status, names_and_exit_codes_come_from_the_table) {
    cr_expect_eq(status_exit_code(OK), 0);
    cr_expect_eq(status_exit_code(E_USAGE), 64);
    cr_expect_str_eq(status_name(E_DIVERGED), "E_DIVERGED");
    cr_expect_neq(strlen(status_text(E_IO)), 0);
}

Test(status, a_failure_keeps_message_and_hint_on_its_way_up) {
    cr_expect_eq(passes_on(), E_FORMAT);
    cr_expect_str_eq(err_message(), "file:7: broken");
    cr_expect_str_eq(err_hint(), "repair it");
    cr_expect_eq(err_context(E_FORMAT, "shard %d", 3), E_FORMAT);
    cr_expect_str_eq(err_message(), "shard 3: file:7: broken");
    cr_expect_str_eq(err_hint(), "repair it");
    err_clear();
    cr_expect_str_eq(err_message(), "");
    cr_expect_str_eq(err_hint(), "");
}

Test(status, try_goto_runs_the_clean_up) {
    int closed = 0;
    cr_expect_eq(cleans_up(&closed), E_FORMAT);
    cr_expect_eq(closed, 1);
}

Test(status, a_message_may_quote_the_one_before) {
    (void)err_set(E_IO, "one", "first");
    (void)err_set(E_IO, err_hint(), "second after %s", err_message());
    cr_expect_str_eq(err_message(), "second after first");
    cr_expect_str_eq(err_hint(), "one");
    (void)err_set(E_IO, NULL, "no hint");
    cr_expect_str_eq(err_hint(), "");
}

Test(status, long_messages_are_cut_and_controls_masked) {
    char *text = malloc(10000);
    cr_assert_not_null(text);
    memset(text, 'x', 9999);
    text[9999] = '\0';
    (void)err_set(E_IO, text, "%s", text);
    cr_expect(strlen(err_message()) > 1000 && strlen(err_message()) < 9999);
    cr_expect(strlen(err_hint()) > 100 && strlen(err_hint()) < 9999);
    (void)err_context(E_IO, "%s", text);
    cr_expect(strlen(err_message()) < 9999);
    free(text);
    (void)err_set(E_IO, "a\rb", "name\x1b[2Jend\x7f line\n");
    cr_expect_str_eq(err_message(), "name?[2Jend? line\n");
    cr_expect_str_eq(err_hint(), "a?b");
}

static void *other_thread(void *unused) {
    (void)err_set(E_IO, "", "theirs");
    return unused;
}

Test(status, each_thread_has_its_own_message) {
    (void)err_set(E_IO, "", "mine");
    pthread_t t;
    cr_assert_eq(pthread_create(&t, NULL, other_thread, NULL), 0);
    pthread_join(t, NULL);
    cr_expect_str_eq(err_message(), "mine");
}

static void exit_with_9(int code) {
    _exit(code == 70 ? 9 : 1);
}

Test(status, a_broken_invariant_ends_the_program, .exit_code = 70) {
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
    ASSERT(1 + 1 == 3);
}

Test(status, the_panic_hook_has_the_last_word, .exit_code = 9) {
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
    panic_hook = exit_with_9;
    ASSERT(false);
}

Test(status, the_clock_goes_forward) {
    double before = clock_s();
    usleep(2000);
    double passed = clock_s() - before;
    cr_expect(passed >= 0.002 && passed < 60, "%g s", passed);
}
