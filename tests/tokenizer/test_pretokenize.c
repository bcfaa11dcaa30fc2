// The split: known pieces, coverage of any bytes, long runs, patterns that must be refused.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tests/tokenizer/tools.h"

#include <pcre2.h>

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
    cr_assert_eq(splitter_run(s, text, strlen(text), collect, &p), OK, "%s", err_message());
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
        cr_assert_eq(splitter_run(s, text, bytes, collect, &p), OK);
        cr_assert_eq(p.covered, bytes);
    }
    splitter_close(s);
}

// Qwen 2 and o200k; Llama 3 has cl100k's.
static const char QWEN2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                            "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                            "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char O200K[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char *const KNOWN[] = {SPLIT_CL100K, PATTERN_GPT2, QWEN2, O200K};
enum { KNOWN_COUNT = sizeof KNOWN / sizeof *KNOWN };

// Lengths of pieces as plain PCRE2 finds them: the interpreter, no limit, no look at runs.
typedef struct Lengths {
    size_t *at, count;
} Lengths;

static void add_length(const char *piece, size_t bytes, void *user) {
    (void)piece;
    Lengths *l = user;
    l->at[l->count++] = bytes;
}

static void plain_split(Lengths *l, const char *pattern, const char *text, size_t bytes) {
    char *pcre;
    int code;
    PCRE2_SIZE where;
    cr_assert_eq(pattern__translate(&pcre, pattern), OK);
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)pcre, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                                  &code, &where, NULL);
    pcre2_match_data *m = pcre2_match_data_create(1, NULL);
    pcre2_match_context *x = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(x, UINT32_MAX);
    for (size_t at = 0; at < bytes;) {
        int rc =
            pcre2_match(c, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_JIT | PCRE2_NO_UTF_CHECK, m, x);
        cr_assert(rc > 0 || rc == PCRE2_ERROR_NOMATCH, "%d", rc);
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m);
        if (rc < 0 || span[0] > at) add_length(NULL, (rc < 0 ? bytes : span[0]) - at, l);
        if (rc > 0) add_length(NULL, span[1] - span[0], l);
        at = rc < 0 ? bytes : span[1];
    }
    pcre2_match_context_free(x);
    pcre2_match_data_free(m);
    pcre2_code_free(c);
    free(pcre);
}

// Compares the two splits of one text; returns the steps of long matches.
static uint64_t check_plain(Splitter *s, const char *pattern, const char *text, size_t bytes) {
    Lengths ours = {malloc((bytes + 1) * sizeof(size_t)), 0};
    Lengths plain = {malloc((bytes + 1) * sizeof(size_t)), 0};
    cr_assert_eq(splitter_run(s, text, bytes, add_length, &ours), OK, "%s", err_message());
    plain_split(&plain, pattern, text, bytes);
    cr_assert_eq(ours.count, plain.count, "%zu pieces, %zu", ours.count, plain.count);
    cr_assert_eq(memcmp(ours.at, plain.at, ours.count * sizeof *ours.at), 0, "of %.40s", text);
    free(ours.at);
    free(plain.at);
    return splitter__steps(s);
}

static const char *const UNITS[] = {
    " ",      "a",      "A",       "\n",     " \n",  "\n ", "日", "é",  "'",  "_",  "1",     "\r",
    "\u3000", "\u2028", "a\u0301", "\u0301", "\r\n", "'s",  "\t", "！", " a", "A1", "\u00a0"};
enum { UNIT_COUNT = sizeof UNITS / sizeof *UNITS };

Test(pretokenize, splits_random_texts_like_plain_pcre2) {
    Dice d = {.seed = 11};
    for (int p = 0; p < KNOWN_COUNT; p++) {
        Splitter *s;
        cr_assert_eq(splitter_open(&s, KNOWN[p]), OK);
        for (int round = 0; round < 1000; round++) {
            char text[512];
            size_t bytes = 0;
            for (uint64_t run = dice_below(&d, 8); run > 0; run--) {
                const char *unit = UNITS[dice_below(&d, UNIT_COUNT)];
                for (uint64_t n = dice_below(&d, 9); n > 0; n--) {
                    memcpy(text + bytes, unit, strlen(unit));
                    bytes += strlen(unit);
                }
            }
            check_plain(s, KNOWN[p], text, bytes);
        }
        splitter_close(s);
    }
}

// A run of one kind, then a run of spaces (which backtracks), then a letter.
Test(pretokenize, long_runs_are_the_patterns_own_pieces_in_linear_steps) {
    enum { LONG = 1 << 16, FACTOR = 22 };  // 4/3 * 4 of counting, two alternatives, two matches
    char *text = malloc(2 * LONG + 8);
    for (int p = 0; p < KNOWN_COUNT; p++) {
        Splitter *s;
        cr_assert_eq(splitter_open(&s, KNOWN[p]), OK);
        for (int u = 0; u < UNIT_COUNT; u++) {
            size_t unit = strlen(UNITS[u]), bytes = LONG / unit * unit;
            for (size_t i = 0; i < bytes; i++) text[i] = UNITS[u][i % unit];
            memset(text + bytes, ' ', LONG);
            text[bytes + LONG] = 'x';
            uint64_t steps = check_plain(s, KNOWN[p], text, bytes + LONG + 1);
            cr_assert_leq(steps, FACTOR * (uint64_t)(bytes + LONG), "pattern %d, unit %d", p, u);
        }
        splitter_close(s);
    }
    free(text);
}

// More blanks than PCRE2's own limit has steps: one piece, and the last blank goes with the letter.
Test(pretokenize, a_run_beyond_pcre2s_limit_is_one_piece) {
    enum { LONG = 11000000 };
    char *text = malloc(LONG + 2);
    Lengths l = {malloc((LONG + 2) * sizeof(size_t)), 0};
    memset(text, ' ', LONG);
    memcpy(text + LONG, "x", 2);
    Splitter *s;
    cr_assert_eq(splitter_open(&s, NULL), OK);
    cr_assert_eq(splitter_run(s, text, LONG + 1, add_length, &l), OK, "%s", err_message());
    cr_assert_eq(l.count, 2);
    cr_assert_eq(l.at[0], LONG - 1);
    cr_assert_eq(l.at[1], 2);
    free(l.at);
    free(text);
    splitter_close(s);
}

Test(pretokenize, invalid_bytes_in_long_runs_lose_nothing) {
    enum { LONG = 1 << 18 };
    static const char *const BROKEN[] = {"\xFF", " \xFF", "a\xC3", "\xE6\x97", "  \xF0\x9F"};
    Splitter *s;
    cr_assert_eq(splitter_open(&s, NULL), OK);
    char *text = malloc(LONG);
    for (size_t u = 0; u < sizeof BROKEN / sizeof *BROKEN; u++) {
        size_t unit = strlen(BROKEN[u]), bytes = LONG / unit * unit;
        for (size_t i = 0; i < bytes; i++) text[i] = BROKEN[u][i % unit];
        Pieces p = {.next = text};
        cr_assert_eq(splitter_run(s, text, bytes, collect, &p), OK);
        cr_assert_eq(p.covered, bytes, "unit %zu", u);
    }
    free(text);
    splitter_close(s);
}

// A pattern of cubic time is refused on the text it would not end on, and works on others.
Test(pretokenize, a_pattern_that_needs_more_than_linear_steps_is_refused_with_the_text) {
    enum { LONG = 1 << 14 };
    char *text = malloc(LONG + 1);
    memset(text, 'a', LONG);
    text[LONG] = '\0';
    Splitter *s;
    Pieces p = {0};
    cr_assert_eq(splitter_open(&s, "a*.*.*b|a"), OK, "%s", err_message());
    cr_assert_eq(splitter_run(s, text, LONG, collect, &p), E_FORMAT);
    cr_assert(strstr(err_message(), "split pattern takes more than") != NULL, "%s", err_message());
    p = (Pieces){0};
    cr_assert_eq(splitter_run(s, "aab a", 5, collect, &p), OK);
    cr_assert_str_eq(p.text, "aab| |a");
    free(text);
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
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        Splitter *s;
        cr_assert_eq(splitter_open(&s, KNOWN[i]), OK, "%s", err_message());
        splitter_close(s);
    }
}
