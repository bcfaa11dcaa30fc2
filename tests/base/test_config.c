// Configuration: what is read, what is refused and how that is told, what is written and reads
// back.
#include <criterion/criterion.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "config_setup.h"

// Reads a text that must be refused with E_USAGE, this part of the message and of the hint.
static void refuse(Setup *s, const char *yaml, const char *message, const char *hint) {
    cr_expect_eq(read_text(s, yaml), E_USAGE, "accepted: %s", yaml);
    cr_expect(strstr(err_message(), message) != NULL, "no '%s' in '%s'", message, err_message());
    cr_expect(strstr(err_hint(), hint) != NULL && err_hint()[0] != '\0', "no '%s' in '%s'", hint,
              err_hint());
    cr_expect_null(strchr(err_message(), '\n'), "more than a line: %s", err_message());
}

Test(config, targets_start_with_their_defaults) {
    Setup s;
    setup_open(&s);
    cr_expect_eq(s.model.width, 256);
    cr_expect(s.model.tied);
    cr_expect_str_eq(s.model.family, "tnl");
    cr_expect_str_eq(s.model.pattern, "");
    cr_expect_eq(s.optim.lr, 3e-4);
    cr_expect_eq(s.optim.tokens, 1000000000);
    cr_expect(config_is_default(s.config, "optim.lr"));
    cr_expect_str_eq(config_origin(s.config, "optim.lr"), "default");
    setup_close(&s);
}

Test(config, files_and_overrides_meet_in_the_table) {
    Setup s;
    setup_open(&s);
    ASSERT_OK(read_text(&s, "# a comment\n"
                            "model:\n"
                            "  width: 1_024\n"
                            "  tied: no\n"
                            "  pattern: [L, L, N]  # a list\n"
                            "optim: {lr: 1e-3, adam: {eps: 1.0e-9}}\n"
                            "optim.tokens: 2M\n"
                            "note: \"a: 'b' # c\"\n"));
    cr_expect_eq(s.model.width, 1024);
    cr_expect_not(s.model.tied);
    cr_expect_str_eq(s.model.pattern, "L,L,N");
    cr_expect_eq(s.optim.lr, 1e-3);
    cr_expect_eq(s.optim.eps, 1e-9);
    cr_expect_eq(s.optim.tokens, 2 << 20);
    cr_expect_str_eq(s.optim.note, "a: 'b' # c");
    EXPECT_OK(config_set(s.config, "model.width=64", "command line"));
    EXPECT_OK(config_set(s.config, "note=x=y", "command line"));
    cr_expect_eq(s.model.width, 64);
    cr_expect_str_eq(s.optim.note, "x=y");
    cr_expect_str_eq(config_origin(s.config, "model.width"), "command line");
    cr_expect_str_eq(config_origin(s.config, "model.family"), "default");
    cr_expect_not(config_is_default(s.config, "optim.lr"));
    char where[PATH_BYTES + 8];
    snprintf(where, sizeof where, "%s:6", s.path);
    cr_expect_str_eq(config_origin(s.config, "optim.adam.eps"), where);
    config_set_origin(s.config, "model.width", "another file");
    config_set_origin(s.config, "model.family", where);
    cr_expect_str_eq(config_origin(s.config, "model.width"), "another file");
    cr_expect_not(config_is_default(s.config, "model.family"));
    setup_close(&s);
}

Test(config, a_later_file_wins) {
    Setup s;
    setup_open(&s);
    ASSERT_OK(read_text(&s, "model.width: 1\noptim.lr: 1\n"));
    ASSERT_OK(read_text(&s, "\n\nmodel.width: 2\n"));
    cr_expect_eq(s.model.width, 2);
    cr_expect_eq(s.optim.lr, 1);
    cr_expect(strstr(config_origin(s.config, "model.width"), ":3") != NULL);
    setup_close(&s);
}

Test(config, integers_come_in_several_forms) {
    Setup s;
    setup_open(&s);
    static const struct {
        const char *text;
        int64_t value;
    } GOOD[] = {
        {"0", 0},         {"+7", 7},        {"007", 7},         {"1_000_000", 1000000},
        {"4K", 4096},     {"2M", 2097152},  {"1G", 1073741824}, {"3T", 3298534883328},
        {"1_0K", 10240},  {"1e6", 1000000}, {"1.5e6", 1500000}, {"2E+3", 2000},
        {"12.50e1", 125}, {"1000e-3", 1},   {"0e99", 0},        {"9223372036854775807", INT64_MAX}};
    for (size_t i = 0; i < sizeof GOOD / sizeof GOOD[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "optim.tokens=%s", GOOD[i].text);
        EXPECT_OK(set(&s, text));
        cr_expect_eq(s.optim.tokens, GOOD[i].value, "%s", text);
    }
    EXPECT_OK(set(&s, "model.offset=-2G"));
    cr_expect_eq(s.model.offset, INT32_MIN);

    static const char *const BAD[] = {"12abc", "abc", "1.5", "1.0", "1.5e0", "1e-1", "0x10", "1__0",
                                      "_1",    "1_",  "1K5", "1k",  "1KK",   "-",    "+",    "--1",
                                      " 1",    "1 ",  "1e",  "1e+", "e6",    ".e6",  "1.5K", "K"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "model.width=%s", BAD[i]);
        EXPECT_FAIL(set(&s, text), E_USAGE, "is not an integer");
        cr_expect(strstr(err_hint(), "1 to 65536 channels") != NULL, "%s", err_hint());
    }
    static const char *const LARGE[] = {"9223372036854775808",
                                        "1e19",
                                        "99999999999999999999999",
                                        "1e999999999999",
                                        "9000000T",
                                        "-1",
                                        "1.00000000000000000000001e23"};
    for (size_t i = 0; i < sizeof LARGE / sizeof LARGE[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "optim.tokens=%s", LARGE[i]);
        EXPECT_FAIL(set(&s, text), E_USAGE, "is out of range");
    }
    EXPECT_FAIL(set(&s, "model.offset=2G"), E_USAGE, "out of range");  // INT_MAX + 1
    EXPECT_FAIL(set(&s, "model.width=0"), E_USAGE, "test: model.width: 0 is out of range");
    EXPECT_FAIL(set(&s, "model.width=65537"), E_USAGE, "out of range");
    EXPECT_OK(set(&s, "model.width=65536"));
    setup_close(&s);
}

Test(config, numbers_are_finite_and_in_range) {
    Setup s;
    setup_open(&s);
    static const char *const GOOD[] = {"1", ".5", "5.", "1e-30", "0x1p-2", "+2", "10", "0"};
    for (size_t i = 0; i < sizeof GOOD / sizeof GOOD[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "optim.lr=%s", GOOD[i]);
        EXPECT_OK(set(&s, text));
        cr_expect_eq(s.optim.lr, strtod(GOOD[i], NULL));
    }
    static const char *const BAD[] = {"x", "1x", "1,5", "nan", " 1", "1 ", ".", "e5", "1e", "1 2"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "optim.lr=%s", BAD[i]);
        EXPECT_FAIL(set(&s, text), E_USAGE, "is not a number");
    }
    static const char *const FAR[] = {"-1e-9", "10.000001", "inf", "-inf", "1e400"};
    for (size_t i = 0; i < sizeof FAR / sizeof FAR[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "optim.lr=%s", FAR[i]);
        EXPECT_FAIL(set(&s, text), E_USAGE, "is out of range");
        cr_expect_str_eq(err_hint(), "use 0 to 10");
    }
    cr_expect_eq(s.optim.lr, 0);  // refused values change nothing
    setup_close(&s);
}

Test(config, truth_has_six_words) {
    Setup s;
    setup_open(&s);
    static const char *const WORDS[] = {"true", "false", "yes", "no", "on", "off", "True", "OFF"};
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "model.tied=%s", WORDS[i]);
        s.model.tied = i % 2 == 1;
        EXPECT_OK(set(&s, text));
        cr_expect_eq(s.model.tied, i % 2 == 0, "%s", text);
    }
    EXPECT_FAIL(set(&s, "model.tied=1"), E_USAGE, "neither true nor false");
    EXPECT_FAIL(set(&s, "model.tied=t"), E_USAGE, "neither true nor false");
    setup_close(&s);
}

Test(config, unknown_keys_name_place_and_nearest_key) {
    Setup s;
    setup_open(&s);
    refuse(&s, "model:\n  width: 3\n  widht: 4\n", "run.yaml:3: unknown key model.widht",
           "the nearest key is model.width");
    refuse(&s, "lr: 1\n", "run.yaml:1: unknown key lr", "optim.lr");
    refuse(&s, "modle:\n  tied: on\n", "run.yaml:2: unknown key modle.tied", "model.tied");
    refuse(&s, "model: {width: {x: 1}}\n", "unknown key model.width.x", "model.width");
    EXPECT_FAIL(config_set(s.config, "optim.eps=1", "command line"), E_USAGE,
                "command line: unknown key optim.eps");
    cr_expect_str_eq(err_hint(), "the nearest key is optim.adam.eps");
    EXPECT_FAIL(set(&s, "model.width"), E_USAGE, "test: \"model.width\" is not key=value");
    EXPECT_FAIL(set(&s, "=3"), E_USAGE, "not key=value");
    EXPECT_FAIL(set(&s, ""), E_USAGE, "not key=value");
    setup_close(&s);
}

Test(config, sections_are_no_keys) {
    Setup s;
    setup_open(&s);
    refuse(&s, "optim:\n  # all commented out\nnote: x\n", "run.yaml:1: optim is a section",
           "optim.");
    refuse(&s, "model: 3\n", "run.yaml:1: model is a section", "model.");
    EXPECT_FAIL(set(&s, "model=3"), E_USAGE, "model is a section");
    EXPECT_OK(read_text(&s, "model: {}\nnote: x\n"));  // says nothing, says it rightly
    setup_close(&s);
}

Test(config, choices_are_listed) {
    Setup s;
    setup_open(&s);
    refuse(&s, "model.family: lama", "run.yaml:1: model.family: \"lama\" is not among tnl|llama",
           "the nearest choice is llama");
    refuse(&s, "model.family: tnl|llama", "not among", "nearest choice");
    refuse(&s, "model.family: ll", "not among", "nearest choice");
    EXPECT_OK(set(&s, "model.family=llama"));
    cr_expect_str_eq(s.model.family, "llama");
    setup_close(&s);
}

Test(config, a_key_is_set_once_in_each_place) {
    Setup s;
    setup_open(&s);
    refuse(&s, "model:\n  width: 3\nnote: x\nmodel.width: 4\n",
           "run.yaml:4: model.width is already set in line 2", "remove one");
    EXPECT_OK(config_set(s.config, "note=a", "command line"));
    EXPECT_FAIL(config_set(s.config, "note=b", "command line"), E_USAGE,
                "command line: note is set twice");
    EXPECT_OK(config_set(s.config, "note=c", "checkpoint"));
    EXPECT_OK(config_set(s.config, "note=d", "checkpoint"));
    cr_expect_str_eq(s.optim.note, "d");
    setup_close(&s);
}

Test(config, missing_values_are_refused) {
    Setup s;
    setup_open(&s);
    static const char *const NONE[] = {"", " ~", " null", " Null", " # only a comment"};
    for (size_t i = 0; i < sizeof NONE / sizeof NONE[0]; i++) {
        char yaml[64];
        snprintf(yaml, sizeof yaml, "note: x\nmodel.width:%s\n", NONE[i]);
        refuse(&s, yaml, "run.yaml:2: model.width has no value", "the default 256");
    }
    refuse(&s, "note:\n", "note has no value", "\"\" for an empty text");
    refuse(&s, "model.width: \"\"\n", "\"\" is not an integer", "1 to 65536");
    EXPECT_FAIL(set(&s, "optim.lr="), E_USAGE, "test: optim.lr has no value");
    EXPECT_FAIL(set(&s, "note="), E_USAGE, "note has no value");
    refuse(&s, "", "run.yaml: sets no key", "at least one");
    refuse(&s, "# nothing\n---\n{}\n", "run.yaml: sets no key", "at least one");
    EXPECT_OK(read_text(&s, "note: \"null\"\n"));
    cr_expect_str_eq(s.optim.note, "null");
    EXPECT_OK(read_text(&s, "note: ''\n"));
    cr_expect_str_eq(s.optim.note, "");
    EXPECT_OK(set(&s, "note=x"));
    EXPECT_OK(set(&s, "note=\"\""));
    cr_expect_str_eq(s.optim.note, "");
    EXPECT_OK(read_text(&s, "note: []\n"));
    setup_close(&s);
}

Test(config, lists_of_words_only_and_for_texts_only) {
    Setup s;
    setup_open(&s);
    EXPECT_OK(read_text(&s, "note:\n- a b\n- 3\n"));
    cr_expect_str_eq(s.optim.note, "a b,3");
    refuse(&s, "model.width: [1]\n", "run.yaml:1: model.width takes no list", "single value");
    refuse(&s, "note: [a, [b]]\n", "run.yaml:1: note: items of a list", "[a, b, c]");
    refuse(&s, "note:\n- a\n- {b: c}\n", "run.yaml:3: note: items of a list", "[a, b, c]");
    refuse(&s, "note: [a, ~]\n", "items of a list", "[a, b, c]");
    refuse(&s, "note: [\"a,b\"]\n", "holds a comma", "one item");
    refuse(&s, "note: [a, \"\"]\n", "is empty", "one item");
    setup_close(&s);
}

Test(config, yaml_beyond_plain_maps_is_refused) {
    Setup s;
    setup_open(&s);
    refuse(&s, "note: &a x\n", "run.yaml:1: anchors (&a)", "remove the anchor");
    refuse(&s, "model: &m {width: 1}\n", "anchors (&m)", "remove");
    refuse(&s, "note: *a\n", "run.yaml:1: aliases (*a)", "write the value out");
    refuse(&s, "note: !!str x\n", "run.yaml:1: tags (", "remove the tag");
    refuse(&s, "model: !x {width: 1}\n", "tags (!x)", "remove the tag");
    refuse(&s, "note: x\n---\nnote: y\n", "run.yaml:2: a second document", "---");
    refuse(&s, "- a\n", "run.yaml:1: the file must hold keys", "key: value");
    refuse(&s, "just words\n", "run.yaml:1: the file must hold keys", "key: value");
    refuse(&s, "? [a]\n: b\n", "run.yaml:1: a key must be a word", "key: value");
    refuse(&s, "? {a: b}\n: c\n", "a key must be a word", "key: value");
    refuse(&s, "~: b\n", "a key must be a word", "key: value");
    refuse(&s, "note: \"a\\0b\"\n", "holds a NUL", "remove");
    refuse(&s, "\"no\\0te\": b\n", "a key must be a word", "key: value");
    setup_close(&s);
}

Test(config, malformed_yaml_is_told_with_its_place) {
    Setup s;
    setup_open(&s);
    refuse(&s, "note: x\nmodel: [1\nlr: 2\n", "run.yaml:3:", "");
    refuse(&s, "model:\n\twidth: 3\n", "run.yaml:2:", "indent with spaces");
    refuse(&s, "note: b: c\n", "run.yaml:1:", "key: value");
    refuse(&s, "note: \"open\n", "run.yaml:", "");
    refuse(&s, "note: \xff\n", "run.yaml: byte 6", "UTF-8");
    refuse(&s, "note: \x01\n", "run.yaml: byte 6", "UTF-8");
    char missing[PATH_BYTES];
    path_join(missing, s.dir, "none.yaml");
    EXPECT_FAIL(config_read_file(s.config, missing), E_IO, "none.yaml: No such file");
    EXPECT_FAIL(config_read_file(s.config, s.dir), E_IO, "Is a directory");
    setup_close(&s);
}

Test(config, hostile_yaml_is_refused_quickly) {
    Setup s;
    setup_open(&s);
    enum { N = 20000 };
    char *text = malloc(N + 1);
    memset(text, '{', N);
    text[N] = '\0';
    cr_expect_eq(read_text(&s, text), E_USAGE);
    for (int i = 0; i + 3 <= N; i += 3) memcpy(text + i, "{a:", 3);
    text[2000] = '\0';
    cr_expect_eq(read_text(&s, text), E_USAGE);
    memset(text, 'k', N);
    memcpy(text + 900, ": 1\n", 5);
    refuse(&s, text, "a key has more than", "long a name");
    memset(text, 'x', N);
    memcpy(text, "note: ", 6);
    text[N] = '\0';
    refuse(&s, text, "run.yaml:1: note: the text has 19994 bytes, at most 511 fit", "shorten");
    free(text);

    char *big = calloc(1, (2 << 20) + 1);
    memset(big, '#', 2 << 20);
    refuse(&s, big, "2097152 bytes", "right file");
    free(big);
    setup_close(&s);
}

// Any damage ends in OK or in a message with a hint; the sanitizers watch the rest.
Test(config, flipped_bytes_do_no_harm) {
    static const char GOOD[] =
        "model:\n  width: 1_024\n  pattern: [L, \"N\"]\noptim: {lr: 1e-3, adam: "
        "{eps: 1.0e-9}}\noptim.tokens: 2M\nnote: 'a b'  # comment\n";
    static const char BYTES[] = "{}[]:,&*!|>-#'\"\\\n \t%@0eK._";
    Setup s;
    setup_open(&s);
    for (uint64_t i = 0; i < 1500; i++) {
        char text[sizeof GOOD];
        memcpy(text, GOOD, sizeof GOOD);
        for (uint64_t k = 0; k <= i % 3; k++) {
            uint64_t r = rng_u64(9, STREAM_TEST, 4 * i + k);
            text[r % (sizeof GOOD - 1)] = BYTES[(r >> 32) % (sizeof BYTES - 1)];
        }
        err_clear();
        FILE *f = fopen(s.path, "w");  // no fsync 1500 times
        cr_assert_not_null(f);
        fputs(text, f);
        fclose(f);
        Status st = config_read_file(s.config, s.path);
        cr_assert(st == OK || (st == E_USAGE && err_hint()[0] != '\0'), "%s: %s", text,
                  err_message());
        cr_assert(s.model.width >= 1 && s.model.width <= 65536 && s.optim.lr >= 0 &&
                  s.optim.lr <= 10);
    }
    setup_close(&s);
}

Test(config, a_text_fills_its_array_to_the_last_byte) {
    Setup s;
    setup_open(&s);
    char text[TEXT_BYTES + 10] = "note=";
    memset(text + 5, 'n', TEXT_BYTES - 1);
    text[5 + TEXT_BYTES - 1] = '\0';
    EXPECT_OK(set(&s, text));
    cr_expect_eq(strlen(s.optim.note), TEXT_BYTES - 1);
    text[5 + TEXT_BYTES - 1] = 'n';
    text[5 + TEXT_BYTES] = '\0';
    EXPECT_FAIL(set(&s, text), E_USAGE, "512 bytes, at most 511 fit");
    EXPECT_FAIL(set(&s, "note=caf\xe9"), E_USAGE, "byte 4 of the text is not UTF-8");
    setup_close(&s);
}

Test(config, a_table_that_contradicts_itself_is_a_bug, .exit_code = 70) {
    if (freopen("/dev/null", "w", stderr) == NULL) _Exit(1);
    Optim target;
    static const Field TWICE[] = {
        {"a.b", CFG_F64, offsetof(Optim, lr), 0, 1, "0", NULL, "", "", KEY_FIXED},
        {"a", CFG_F64, offsetof(Optim, eps), 0, 1, "0", NULL, "", "", KEY_FIXED},
    };
    Section section = {TWICE, 2, &target};
    config_free(config_new(&section, 1));
}

Test(config, a_default_out_of_range_is_a_bug, .exit_code = 70) {
    if (freopen("/dev/null", "w", stderr) == NULL) _Exit(1);
    Optim target;
    static const Field FAR[] = {
        {"a", CFG_F64, offsetof(Optim, lr), 0, 1, "2", NULL, "", "", KEY_FIXED}};
    Section section = {FAR, 1, &target};
    config_free(config_new(&section, 1));
}

Test(config, no_options_at_all_is_fine) {
    Config *c = config_new(NULL, 0);
    EXPECT_FAIL(config_set(c, "a=b", "test"), E_USAGE, "unknown key a");
    char *dump = config_dump(c);
    cr_expect_str_eq(dump, "");
    free(dump);
    config_free(c);
    config_free(NULL);
}
