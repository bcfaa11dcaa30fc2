// Composition against utf8proc's own, and over runs of marks that its order would take hours for.
#include "tests/tokenizer/tools.h"

#include <utf8proc.h>

static void check_like_utf8proc(const char *text, size_t bytes) {
    utf8proc_uint8_t *want = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes,
                                      &want, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    cr_assert_geq(n, 0);
    size_t got;
    char *out = utf8_compose(text, bytes, &got);
    cr_assert_not_null(out);
    cr_assert_eq(got, (size_t)n);
    cr_assert_eq(memcmp(out, want, got), 0, "of '%s'", text);
    cr_assert_eq(out[got], '\0');
    free(out);
    free(want);
}

Test(compose, is_utf8procs_composition) {
    static const char *const PIECES[] = {
        "a",      "e",      "\u0301", "\u0316",       "\u0327",       "\u0308",
        "\u0f71", "\u0f72", "\u0f73", "\u0344",       "\u1100",       "\u1161",
        "\u11a8", "\uac00", "\u212b", "\u1e9b\u0323", "\u09c7\u09be", "\U0001d15e",
        "\n",     "\u0345", "é"};
    enum { COUNT = sizeof PIECES / sizeof *PIECES };
    Dice d = {.seed = 21};
    check_like_utf8proc("", 0);
    for (int round = 0; round < 5000; round++) {
        char text[512] = "";
        for (uint64_t n = dice_below(&d, 60); n > 0; n--)
            strcat(text, PIECES[dice_below(&d, COUNT)]);
        check_like_utf8proc(text, strlen(text));
    }
}

Test(compose, replaces_bytes_that_are_no_utf8) {
    size_t bytes;
    char *out = utf8_compose("a\xFFz\xC3", 4, &bytes);
    cr_assert_str_eq(out, "a\uFFFDz\uFFFD");
    free(out);
}

// Exchanging neighbours would take 10^12 steps here; the test ends by its time limit then.
Test(compose, a_run_of_a_million_marks_is_put_in_order, .timeout = 60) {
    static const char *const MARKS[] = {"\u0301\u0316", "\u0f73\u0f73"};
    enum { LONG = 1 << 20 };
    for (size_t k = 0; k < 2; k++) {
        size_t unit = strlen(MARKS[k]), bytes = 1, got;
        char *text = malloc(1 + LONG * unit);
        text[0] = 'x';
        for (; bytes < LONG * unit; bytes += unit) memcpy(text + bytes, MARKS[k], unit);
        char *out = utf8_compose(text, bytes, &got);
        cr_assert_not_null(out);
        // Those of the lower class first; nothing composes with x.
        cr_assert_eq(memcmp(out + 1, k == 0 ? "\u0316\u0316" : "\u0f71\u0f71", 4), 0);
        cr_assert_eq(memcmp(out + got - 4, k == 0 ? "\u0301\u0301" : "\u0f72\u0f72" + 2, 4), 0);
        free(out);
        free(text);
    }
}
