// The split: known pieces, coverage of any bytes, patterns that must be refused.
#include "tests/tokenizer/tools.h"

typedef struct Pieces {
    char text[4096];  // pieces with '|' between them
    size_t bytes, covered;
    const char *next;  // where the next piece must start
} Pieces;

static void collect(const char *piece, size_t bytes, void *user) {
    Pieces *p = user;
    cr_assert_gt(bytes, 0);
    cr_assert(p->next == NULL || p->next == piece, "pieces follow each other");
    p->next = piece + bytes;
    p->covered += bytes;
    if (p->bytes + bytes + 2 > sizeof p->text) return;
    if (p->bytes > 0) p->text[p->bytes++] = '|';
    memcpy(p->text + p->bytes, piece, bytes);
    p->bytes += bytes;
}

static void expect_split(const char *pattern, const char *text, const char *want) {
    Splitter *s;
    cr_assert_eq(splitter_open(&s, pattern), OK, "%s", err_message());
    Pieces p = {0};
    splitter_run(s, text, strlen(text), collect, &p);
    cr_assert_str_eq(p.text, want);
    cr_assert_eq(p.covered, strlen(text));
    splitter_close(s);
}

Test(pretokenize, cl100k_splits_as_tiktoken) {
    expect_split(NULL, "", "");
    expect_split(NULL, "Hello world's 12345  end", "Hello| world|'s| |123|45| | end");
    expect_split(NULL, "I'LL don't x'ſ 's", "I|'LL| don|'t| x|'ſ| '|s");
    expect_split(NULL, "a\n\n b\r\n  \n  c   ", "a|\n\n| b|\r\n  \n| | c|   ");
    expect_split(NULL, "x = f(y);\n\n#z", "x| =| f|(y|);\n\n|#z");
    expect_split(NULL, "日本語１２３４ Привет", "日本語|１２３|４| Привет");
    expect_split(NULL, "a\u180e\u180e!", "a|\u180e\u180e!");  // no white space to Unicode
    expect_split(NULL, "a\xC2\x85\u3000b", "a|\xC2\x85|\u3000b");
}

Test(pretokenize, gpt2_splits_as_gpt2) {
    expect_split(PATTERN_GPT2, "I'LL don't 12345  end\n\nx",
                 "I|'|LL| don|'t| 12345| | end|\n|\n|x");
}

Test(pretokenize, stretches_between_matches_are_pieces) {
    expect_split("\\p{N}+", "ab12cd", "ab|12|cd");
    expect_split("x", "abc", "abc");
}

Test(pretokenize, invalid_bytes_are_pieces_of_their_own) {
    expect_split(NULL,
                 "ab\xFF\xFE\xC0"
                 "cd\xE6\x97 e",
                 "ab|\xFF\xFE\xC0|cd|\xE6\x97| e");
    expect_split(NULL, "\xED\xA0\x80", "\xED\xA0\x80");
}

Test(pretokenize, covers_random_bytes_exactly) {
    Dice d = {.seed = 3};
    Splitter *s;
    cr_assert_eq(splitter_open(&s, NULL), OK);
    char text[256];
    for (int round = 0; round < 20000; round++) {
        size_t bytes = dice_string(&d, text, sizeof text);
        Pieces p = {.next = text};
        splitter_run(s, text, bytes, collect, &p);
        cr_assert_eq(p.covered, bytes);
    }
    splitter_close(s);
}

Test(pretokenize, long_runs_lose_nothing) {
    enum { LONG = 1 << 20 };
    static const char *const UNITS[] = {" ",    "a", "A", "\n", " \n",   "日",
                                        "\xFF", "'", "_", "1",  "\u3000"};
    Splitter *s;
    cr_assert_eq(splitter_open(&s, NULL), OK);
    char *text = malloc(LONG);
    for (size_t u = 0; u < sizeof UNITS / sizeof *UNITS; u++) {
        size_t unit = strlen(UNITS[u]), bytes = LONG / unit * unit;
        for (size_t i = 0; i < bytes; i++) text[i] = UNITS[u][i % unit];
        Pieces p = {.next = text};
        splitter_run(s, text, bytes, collect, &p);
        cr_assert_eq(p.covered, bytes, "unit %zu", u);
    }
    free(text);
    splitter_close(s);
}

Test(pretokenize, beyond_the_limits_of_matching_no_byte_is_lost) {
    static const char TEXT[] = "abc d\xC3\xA9 \xFF 12";
    Splitter *s;
    cr_assert_eq(splitter_open(&s, NULL), OK);
    splitter__limit(s, 0);
    Pieces p = {.next = TEXT};
    splitter_run(s, TEXT, strlen(TEXT), collect, &p);
    cr_assert_eq(p.covered, strlen(TEXT));
    cr_assert_str_eq(p.text, "a|b|c| |d|\xC3\xA9| |\xFF| |1|2");
    splitter_close(s);
}

Test(pretokenize, refuses_patterns_that_oniguruma_reads_otherwise) {
    static const char *const BAD[] = {
        "",        "a*",      "(a",          "^a",
        "a$",      "\\w+",    "\\bx",        "\\h",
        "\\x41",   "\\u0041", "a{1,3}+",     "a{2}?",
        "a{2}{3}", "a{x}",    "[a[b]]",      "[a&&b]",
        "[]a]",    "[a",      "(a+)+",       "(a|b)*c",
        "(a){2}",  "(?<=a)b", "(?<n>a)",     "(*VERB)a",
        "(?R)a",   "\\p",     "\\p{L",       "\\pL",
        "\\p{}",   "\\",      "[\\",         "\\p{Nonsense}",
        "(?C1)a",  "a|",      "\xFF",        "(?i)a",
        "\\k<n>",  "\\1",     "[[:alpha:]]",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        Splitter *s;
        cr_assert_eq(splitter_open(&s, BAD[i]), E_FORMAT, "accepted: %s", BAD[i]);
        cr_assert_null(s);
        cr_assert(strstr(err_message(), "split pattern") != NULL, "%s", err_message());
    }
}

Test(pretokenize, accepts_the_patterns_of_known_tokenizers) {
    static const char *const GOOD[] = {
        SPLIT_CL100K,
        PATTERN_GPT2,
        // Qwen 2
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        // o200k
        "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|"
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    };
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        Splitter *s;
        cr_assert_eq(splitter_open(&s, GOOD[i]), OK, "%s", err_message());
        splitter_close(s);
    }
}
