// Text helpers: UTF-8 by the letter of RFC 3629, numbers, edit distance.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"

Test(text, well_formed_utf8_is_decoded) {
    static const struct {
        const char *bytes;
        uint32_t code;
    } GOOD[] = {{"A", 'A'},
                {"\x7f", 0x7f},
                {"\xc2\x80", 0x80},
                {"\xdf\xbf", 0x7ff},
                {"\xe0\xa0\x80", 0x800},
                {"\xed\x9f\xbf", 0xd7ff},
                {"\xef\xbf\xbf", 0xffff},
                {"\xf0\x90\x80\x80", 0x10000},
                {"\xf4\x8f\xbf\xbf", 0x10ffff}};
    for (size_t i = 0; i < sizeof GOOD / sizeof GOOD[0]; i++) {
        uint32_t code = 1;
        size_t n = strlen(GOOD[i].bytes);
        cr_expect_eq(utf8_decode(&code, GOOD[i].bytes, n), (int)n);
        cr_expect_eq(code, GOOD[i].code);
        cr_expect_eq(utf8_decode(&code, GOOD[i].bytes, n - 1), 0);  // cut off
    }
    uint32_t code = 1;
    cr_expect_eq(utf8_decode(&code, "", 1), 1);  // NUL is a character
    cr_expect_eq(code, 0);
}

Test(text, malformed_utf8_is_refused) {
    static const char *const BAD[] = {
        "\x80",         "\xbf",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",         "\xc2\x41",     "\xe2\x82\x41",     "\xfe\xbf\xbf\xbf"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        uint32_t code;
        cr_expect_eq(utf8_decode(&code, BAD[i], strlen(BAD[i])), 0, "%zu", i);
    }
}

Test(text, numbers_are_short_and_exact) {
    char out[DOUBLE_TEXT_BYTES];
    cr_expect_eq(double_to_text(out, 0.1), 3);
    cr_expect_str_eq(out, "0.1");
    double_to_text(out, 1048576);
    cr_expect_str_eq(out, "1048576");
    double_to_text(out, -1.0 / 3);
    cr_expect_eq(strtod(out, NULL), -1.0 / 3);
    for (uint64_t i = 0; i < 2000; i++) {  // any bits that make a finite number
        uint64_t bits = rng_u64(1, STREAM_TEST, i);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        double_to_text(out, v);
        cr_assert_eq(strtod(out, NULL), v, "%s", out);
    }
}

Test(text, distance_counts_edits) {
    cr_expect_eq(text_distance("", ""), 0);
    cr_expect_eq(text_distance("abc", ""), 3);
    cr_expect_eq(text_distance("", "abc"), 3);
    cr_expect_eq(text_distance("kitten", "sitting"), 3);
    cr_expect_eq(text_distance("optim.lr", "optim.lr"), 0);
    cr_expect_eq(text_distance("ab", "ba"), 2);
    char long_a[500], long_b[500];
    memset(long_a, 'a', sizeof long_a);
    memset(long_b, 'b', sizeof long_b);
    long_a[499] = long_b[499] = '\0';
    cr_expect_eq(text_distance(long_a, long_b), 127);
}

Test(text, no_control_character_reaches_a_terminal) {
    static const struct {
        const char *text, *wanted;
    } CASES[] = {{"plain, \xc3\xa9 \xe2\x82\xac\n\t", "plain, \xc3\xa9 \xe2\x82\xac\n\t"},
                 {"a\x1b[31mb\rc\x7f\b", "a?[31mb?c??"},
                 {"csi \xc2\x9b 2J", "csi ?? 2J"},  // U+009B in UTF-8
                 {"csi \x9b 2J", "csi ? 2J"},       // and as one byte
                 {"cut \xe2\x82", "cut \xe2?"},     // the rest of a character
                 {"latin \xe9t\xe9", "latin \xe9t\xe9"},
                 {"\xc2\xa0", "\xc2\xa0"}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char text[64];
        strcpy(text, CASES[i].text);
        text_mask(text, strlen(text));
        cr_expect_str_eq(text, CASES[i].wanted);
    }
}
