// Command lines: what is an option, a setting, a word, and what is refused.
#include <criterion/criterion.h>
#include <string.h>

#include "train/commands.h"

static const char *out, *force;
static const Option OPTIONS[] = {{"out", "FILE", "written", &out},
                                 {"force", NULL, "a flag", &force}};

#define PARSE(a, ...)                                                                              \
    arguments_parse(a, sizeof((char *[]){"cmd", __VA_ARGS__}) / sizeof(char *),                    \
                    (char *[]){"cmd", __VA_ARGS__}, OPTIONS, 2)

static void expect_refused(Status st, const char *says) {
    cr_expect_eq(st, E_USAGE);
    cr_expect_not_null(strstr(err_message(), says), "`%s` does not say `%s`", err_message(), says);
}

Test(arguments, sorts_options_settings_and_words) {
    Arguments a;
    cr_assert_eq(
        PARSE(&a, "one.yaml", "--out", "x=y", "train.seq=64", "--force", "data.mix=a=1,b=2", "two"),
        OK);
    cr_assert_eq(a.word_count, 2);
    cr_assert_str_eq(a.words[0], "one.yaml");
    cr_assert_str_eq(a.words[1], "two");
    cr_assert_eq(a.setting_count, 2);
    cr_assert_str_eq(a.settings[0], "train.seq=64");
    cr_assert_str_eq(a.settings[1], "data.mix=a=1,b=2");
    cr_assert_str_eq(out, "x=y");
    cr_assert_str_eq(force, "1");
}

Test(arguments, takes_a_value_after_an_equals_sign_or_as_the_next_word) {
    Arguments a;
    cr_assert_eq(PARSE(&a, "--out=a=b"), OK);
    cr_assert_str_eq(out, "a=b");
    cr_assert_eq(PARSE(&a, "--out="), OK);
    cr_assert_str_eq(out, "");
    cr_assert_eq(PARSE(&a, "--out", "-"), OK);
    cr_assert_str_eq(out, "-");
}

Test(arguments, a_path_with_an_equals_sign_is_a_word_and_so_is_a_dash) {
    Arguments a;
    cr_assert_eq(PARSE(&a, "./a=b", "A=b", "-", "=x", "--"), OK);
    cr_assert_eq(a.word_count, 5);
    cr_assert_eq(a.setting_count, 0);
}

Test(arguments, refuses_what_it_does_not_know) {
    Arguments a;
    expect_refused(PARSE(&a, "--outt", "x"), "--outt");
    expect_refused(PARSE(&a, "--ou", "x"), "--ou");
    expect_refused(PARSE(&a, "-o", "x"), "-o");
    expect_refused(PARSE(&a, "--out"), "--out needs FILE");
    expect_refused(PARSE(&a, "--force=yes"), "takes no value");
}

Test(arguments, refuses_more_words_than_it_can_keep) {
    Arguments a;
    char *argv[MAX_WORDS + 2];
    for (int i = 0; i < MAX_WORDS + 2; i++) argv[i] = "word";
    cr_assert_eq(arguments_parse(&a, MAX_WORDS + 1, argv, OPTIONS, 2), OK);
    expect_refused(arguments_parse(&a, MAX_WORDS + 2, argv, OPTIONS, 2), "more than 64 words");
}
