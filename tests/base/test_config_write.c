// Configuration: what is written and reads back, dumps, differences, help.
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "config_setup.h"

// Texts a YAML reader could take for something else, or trip over.
static const char *const TEXTS[] = {"",
                                    "x",
                                    "true",
                                    "No",
                                    "null",
                                    "~",
                                    "12",
                                    "-1.5",
                                    "1e5",
                                    "/a/b-c.d",
                                    "C:\\dir",
                                    "a: b",
                                    "a #b",
                                    "#a",
                                    "- a",
                                    "[a]",
                                    "{a}",
                                    "\"q\"",
                                    "'q'",
                                    " lead",
                                    "trail ",
                                    "a\nb\r\n\tc",
                                    "%x",
                                    "@x",
                                    "`x`",
                                    "*x",
                                    "&x",
                                    "!x",
                                    "|",
                                    ">",
                                    "?",
                                    "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
                                    "\xc2\x85\xc2\xa0\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbe\x7f\x01",
                                    "a,b,c",
                                    "tnl|llama",
                                    "\\",
                                    "\\n",
                                    "=",
                                    "2024-01-01",
                                    "1:30",
                                    "0o7",
                                    ".inf",
                                    "yes",
                                    "y",
                                    "---",
                                    "..."};

Test(config_write, the_written_file_reads_back_to_the_same_values) {
    Setup s, t;
    setup_open(&s);
    setup_open(&t);
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        // Texts set directly: the way in is not under test here, the way out and in again is.
        memset(s.optim.note, 0, sizeof s.optim.note);
        strcpy(s.optim.note, TEXTS[i]);
        s.optim.lr = rng_uniform(1, STREAM_TEST, i) * pow(10, -(double)i);
        s.optim.tokens = (int64_t)(rng_u64(2, STREAM_TEST, i) >> 1);
        s.model.offset = (int)rng_u64(3, STREAM_TEST, i);
        s.model.tied = i % 2 == 0;
        ASSERT_OK(config_write(s.config, s.path));
        ASSERT_OK(config_read_file(t.config, s.path));
        cr_expect_str_eq(t.optim.note, TEXTS[i]);
        cr_expect_eq(t.optim.lr, s.optim.lr);
        cr_expect_eq(t.optim.eps, s.optim.eps);
        cr_expect_eq(t.optim.tokens, s.optim.tokens);
        cr_expect_eq(t.model.offset, s.model.offset);
        cr_expect_eq(t.model.tied, s.model.tied);
        char *a = config_dump(s.config), *b = config_dump(t.config);
        cr_expect_str_eq(a, b);
        ASSERT_OK(file_write(t.path, a, strlen(a)));  // a dump is YAML too
        EXPECT_OK(config_read_file(t.config, t.path));
        free(a);
        free(b);
    }
    setup_close(&s);
    setup_close(&t);
}

Test(config_write, the_written_file_is_nested_and_tells_origins) {
    Setup s;
    char *text;
    setup_open(&s);
    EXPECT_OK(config_set(s.config, "optim.lr=1e-6", "command line"));
    EXPECT_OK(config_set(s.config, "note=a b", "odd\norigin \xff"));
    ASSERT_OK(config_write(s.config, s.path));
    ASSERT_OK(file_read(s.path, &text, NULL));
    const char *body = strchr(text, '\n');
    cr_assert_not_null(body);
    cr_expect_str_eq(body + 1, "model:\n"
                               "  family: tnl  # default\n"
                               "  offset: 0  # default\n"
                               "  pattern: \"\"  # default\n"
                               "  tied: true  # default\n"
                               "  width: 256  # default\n"
                               "note: \"a b\"  # odd?origin ?\n"
                               "optim:\n"
                               "  adam:\n"
                               "    eps: 1.0e-08  # default\n"
                               "  lr: 1.0e-06  # command line\n"
                               "  tokens: 1000000000  # default\n");
    free(text);
    char bad[PATH_BYTES];
    path_join(bad, s.dir, "no/such/run.yaml");
    EXPECT_FAIL(config_write(s.config, bad), E_IO, "no/such/run.yaml");
    setup_close(&s);
}

Test(config_write, a_fixed_dump_leaves_free_keys_out) {
    Setup s;
    setup_open(&s);  // `note` alone is free
    char *whole = config_dump(s.config), *fixed = config_dump_fixed(s.config);
    const char *note = strstr(whole, "note: ");
    cr_assert_not_null(note);
    size_t before = (size_t)(note - whole);
    cr_expect(strncmp(whole, fixed, before) == 0 &&
                  strcmp(strchr(note, '\n') + 1, fixed + before) == 0,
              "%s", fixed);
    free(whole);
    free(fixed);
    setup_close(&s);
}

Test(config_write, a_dump_is_sorted_and_knows_no_origin) {
    Setup s;
    setup_open(&s);
    char *before = config_dump(s.config);
    cr_expect_str_eq(before, "model.family: tnl\nmodel.offset: 0\nmodel.pattern: \"\"\n"
                             "model.tied: true\nmodel.width: 256\nnote: \"\"\n"
                             "optim.adam.eps: 1.0e-08\noptim.lr: 0.0003\n"
                             "optim.tokens: 1000000000\n");
    EXPECT_OK(set(&s, "model.width=2_56"));  // the same value from elsewhere
    char *after = config_dump(s.config);
    cr_expect_str_eq(before, after);
    free(before);
    free(after);
    setup_close(&s);
}

Test(config_write, differences_are_listed_by_key) {
    char out[200];
    cr_expect_eq(config_diff("", "", out, sizeof out), 0);
    cr_expect_str_eq(out, "");
    cr_expect_eq(config_diff("a: 1\nb: x: y\n", "a: 1\nb: x: y\n", out, sizeof out), 0);
    const char *a = "a: 1\nb: 2\nd: 4\n", *b = "a: 1\nb: 3\nc: 5\n";
    cr_expect_eq(config_diff(a, b, out, sizeof out), 3);
    cr_expect_str_eq(out, "b: 2 -> 3; c: (none) -> 5; d: 4 -> (none)");
    cr_expect_eq(config_diff("a.b: 1\n", "a: 1\n", out, sizeof out), 2);
    cr_expect_str_eq(out, "a: (none) -> 1; a.b: 1 -> (none)");
    // Too little room: whole changes only, the count stays right.
    cr_expect_eq(config_diff(a, b, out, 12), 3);
    cr_expect_str_eq(out, "b: 2 -> 3");
    cr_expect_eq(config_diff(a, b, out, 1), 3);
    cr_expect_str_eq(out, "");
    cr_expect_eq(config_diff(a, b, NULL, 0), 3);
    // Damaged dumps end too.
    cr_expect_eq(config_diff("garbage", "\n\n:\n: \n", out, sizeof out) > 0, true);
}

static char *help_of(Setup *s, HelpStyle style) {
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    config_help(s->sections, 2, style, out);
    fclose(out);
    return text;
}

Test(config_write, help_shows_every_key_with_default_range_and_meaning) {
    static const HelpStyle STYLES[] = {HELP_TEXT, HELP_MARKDOWN, HELP_MAN};
    Setup s;
    setup_open(&s);
    for (int i = 0; i < 3; i++) {
        char *text = help_of(&s, STYLES[i]);
        for (int f = 0; f < 5; f++) {
            cr_expect(strstr(text, MODEL[f].key) != NULL, "no %s in %s", MODEL[f].key, text);
            cr_expect(strstr(text, MODEL[f].help) != NULL, "no %s in %s", MODEL[f].help, text);
        }
        cr_expect(strstr(text, "1 to 65536 channels") != NULL, "%s", text);
        cr_expect(strstr(text, "256") != NULL, "%s", text);
        free(text);
    }
    setup_close(&s);
}

Test(config_write, help_fits_its_format) {
    Setup s;
    setup_open(&s);
    char *text = help_of(&s, HELP_TEXT);
    cr_expect(strstr(text, "\n  model.width     256      1 to 65536 channels") != NULL, "%s", text);
    free(text);
    text = help_of(&s, HELP_MARKDOWN);
    cr_expect(strstr(text, "\n## optim\n\n| key |") != NULL, "%s", text);
    cr_expect(strstr(text, "\n| `model.family` | text | `tnl` | tnl\\|llama | kind of model |\n") !=
                  NULL,
              "%s", text);
    free(text);
    text = help_of(&s, HELP_MAN);
    cr_expect(
        strstr(text, ".SS optim\n.TP\n\\fBoptim.lr\\fR=3e\\-4 (0 to 10)\npeak learning rate\n") !=
            NULL,
        "%s", text);
    free(text);
    setup_close(&s);
}
