// UTF-8 in pieces: well-formed text passes at every cut, ill-formed text becomes U+FFFD per maximal
// subpart.
#include "base/text.h"
#include "tests/tokenizer/tools.h"

static const char FFFD[] = "\xEF\xBF\xBD";

static size_t stream(const char *in, size_t bytes, size_t cut, char *out) {
    Utf8Stream s = {0};
    size_t n = utf8_stream(&s, in, cut, false, out);
    return n + utf8_stream(&s, in + cut, bytes - cut, true, out + n);
}

static void expect(const char *in, size_t bytes,
                   const char *parts) {  // in `parts`, '?' stands for U+FFFD
    char want[256] = "", out[256];
    for (const char *p = parts; *p != '\0'; p++) {
        char one[2] = {*p, '\0'};
        strcat(want, *p == '?' ? FFFD : one);
    }
    for (size_t cut = 0; cut <= bytes; cut++) {
        size_t n = stream(in, bytes, cut, out);
        cr_assert_eq(n, strlen(want), "cut %zu of %s: %zu bytes", cut, parts, n);
        cr_assert(memcmp(out, want, n) == 0, "cut %zu of %s", cut, parts);
    }
}
#define EXPECT(in, parts) expect(in, sizeof in - 1, parts)

Test(utf8, stream_replaces_each_maximal_subpart_once) {
    // The example of the Unicode Standard, table 3-11: 61 F1 80 80 E1 80 C2 62 80 63 80 BF 64.
    EXPECT("a\xF1\x80\x80\xE1\x80\xC2"
           "b\x80"
           "c\x80\xBF"
           "d",
           "a???b?c??d");
    EXPECT("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
           "A",
           "????????A");  // overlong: table 3-8
    EXPECT("\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
           "A",
           "????????A");  // surrogates: table 3-9
    EXPECT("\xF4\x91\x92\x93\xFF"
           "A\x80\xBF"
           "B",
           "?????A??B");  // beyond U+10FFFF: table 3-10
    EXPECT("", "");
    EXPECT("\xE2\x82", "?");  // cut short by the end
    EXPECT("\xF0\x9F\x92", "?");
}

Test(utf8, stream_passes_valid_text_at_every_cut) {
    static const char TEXT[] = "aé日\xF0\x9F\x91\xA9\xF4\x8F\xBF\xBF\xED\x9F\xBF\xEE\x80\x80\x00z";
    char out[256];
    for (size_t cut = 0; cut <= sizeof TEXT; cut++) {
        size_t n = stream(TEXT, sizeof TEXT, cut, out);
        cr_assert_eq(n, sizeof TEXT);
        cr_assert(memcmp(out, TEXT, n) == 0);
    }
}

Test(utf8, stream_byte_by_byte_equals_whole_and_stays_in_bounds) {
    Dice d = {.seed = 5};
    char in[64], whole[256], parts[256];
    for (int round = 0; round < 20000; round++) {
        size_t bytes = dice_below(&d, sizeof in);
        for (size_t i = 0; i < bytes; i++) {  // lead and continuation bytes mostly
            in[i] = (char)(dice_below(&d, 2) ? 0x80 + dice_below(&d, 128) : dice_below(&d, 256));
        }
        size_t n = stream(in, bytes, 0, whole), m = 0;
        Utf8Stream s = {0};
        for (size_t i = 0; i < bytes; i++) m += utf8_stream(&s, in + i, 1, false, parts + m);
        m += utf8_stream(&s, NULL, 0, true, parts + m);
        cr_assert_eq(n, m);
        cr_assert(memcmp(whole, parts, n) == 0);
        cr_assert_leq(n, bytes * 3);
        cr_assert_eq(utf8__valid_prefix(whole, n), n);
        // What was valid is unchanged.
        size_t good = utf8__valid_prefix(in, bytes);
        cr_assert(memcmp(in, whole, good) == 0);
    }
}

Test(utf8, byte_alphabet_is_a_bijection_in_gpt2_order) {
    unsigned char order[256];
    bool seen[256] = {false};
    byte_level__order(order);
    uint32_t last = 0;
    for (int i = 0; i < 256; i++) {
        char text[2], byte;
        size_t count, bytes = byte_level__spell(text, (const char *)&order[i], 1);
        uint32_t cp;
        cr_assert_eq(utf8_decode(&cp, text, bytes), (int)bytes);
        cr_assert(i == 0 || cp > last, "ids follow the code points of the characters");
        last = cp;
        cr_assert(byte_level__unspell(&byte, &count, text, bytes));
        cr_assert_eq(count, 1);
        cr_assert_eq((unsigned char)byte, order[i]);
        cr_assert_not(seen[order[i]]);
        seen[order[i]] = true;
    }
    char out[8];
    size_t count;
    cr_assert(byte_level__unspell(out, &count, "Ġthe", 5));
    cr_assert(count == 4 && memcmp(out, " the", 4) == 0);
    cr_assert_not(byte_level__unspell(out, &count, "a b", 3));
    cr_assert_not(byte_level__unspell(out, &count, "日", 3));
    cr_assert_not(byte_level__unspell(out, &count, "\xFF", 1));
    cr_assert_not(byte_level__unspell(out, &count, "\u0144", 2), "one beyond the last");
}
