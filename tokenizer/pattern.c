// Split patterns. tokenizer.json holds them in the syntax of Oniguruma (Ruby flavour); we match
// with PCRE2. Only what both read alike is let through; \s and \S become \p{White_Space}, because
// PCRE2's own \s also matches U+180E. What is refused, and why:
//   ^ $            Oniguruma's are line anchors always
//   \w \b \h \x..  other sets or other meanings
//   {n,m}+ {n,m}?  possessive and lazy in PCRE2, a nested quantifier in Oniguruma
//   [a[b]] [a&&b]  set operations in Oniguruma only
//   (...)+ (...)*  a repeated group can take exponential time, and the file may be hostile
//   (?<=..) (*..)  look-behind, verbs, recursion: no known tokenizer needs them
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

const char SPLIT_CL100K[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char PATTERN_GPT2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                            "\\s+(?!\\S)|\\s+";

typedef struct Scan {
    const char *in;
    char *out;
    size_t at, written;
} Scan;

enum {
    WIDEST_REWRITE = 16
};  // bytes one input byte may become: half of \p{White_Space}, rounded up

// Takes bytes over as they are.
static void copy(Scan *s, size_t count) {
    memcpy(s->out + s->written, s->in + s->at, count);
    s->written += count;
    s->at += count;
}

// Writes what the input does not have.
static void put(Scan *s, const char *text) {
    size_t count = strlen(text);
    memcpy(s->out + s->written, text, count);
    s->written += count;
}

// A backslash and what follows. Returns NULL, or what is wrong.
static const char *take_escape(Scan *s) {
    char c = s->in[s->at + 1];
    if (c == 's' || c == 'S') {
        put(s, c == 's' ? "\\p{White_Space}" : "\\P{White_Space}");
        s->at += 2;
        return NULL;
    }
    if (c == 'p' || c == 'P') {
        static const char NAME[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
        bool braced = s->in[s->at + 2] == '{';
        size_t length = braced ? strspn(s->in + s->at + 3, NAME) : 0;
        if (length == 0 || s->in[s->at + 3 + length] != '}') {
            return "a property must be written \\p{Name}";
        }
        copy(s, 3 + length + 1);
        return NULL;
    }
    // An escaped letter or digit has a meaning, and only these have one meaning in both; escaped
    // punctuation stands for itself.
    bool punctuation =
        c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    if (!punctuation && (c == '\0' || strchr("rntdD", c) == NULL)) return "unknown escape";
    copy(s, 2);
    return NULL;
}

// A character class with its closing bracket.
static const char *take_class(Scan *s) {
    copy(s, s->in[s->at + 1] == '^' ? 2 : 1);
    for (bool first = true;; first = false) {
        char c = s->in[s->at];
        if (c == '\0') return "a class is not closed";
        if (c == '[') return "a class inside a class";
        if (c == '&' && s->in[s->at + 1] == '&') return "&& inside a class";
        if (c == ']' && first) return "an empty class";
        if (c == '\\') {
            const char *why = take_escape(s);
            if (why != NULL) return why;
            continue;
        }
        copy(s, 1);
        if (c == ']') return NULL;
    }
}

// {n}, {n,}, {n,m}
static const char *take_counts(Scan *s) {
    size_t length = strspn(s->in + s->at + 1, "0123456789,");
    if (length == 0 || s->in[s->at + 1 + length] != '}') return "{ is not a repeat count";
    copy(s, length + 2);
    if (s->in[s->at] != '\0' && strchr("+?*{", s->in[s->at]))
        return "a quantifier after a repeat count";
    return NULL;
}

// An opening parenthesis and what makes it special.
static const char *take_open(Scan *s) {
    static const char *const KINDS[] = {"(?:", "(?i:", "(?=", "(?!"};
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (strncmp(s->in + s->at, KINDS[i], strlen(KINDS[i])) == 0) {
            copy(s, strlen(KINDS[i]));
            return NULL;
        }
    }
    char next = s->in[s->at + 1];
    if (next == '?' || next == '*') return "a group of this kind";
    copy(s, 1);
    return NULL;
}

// One construct of the pattern. Like all above: NULL, or what is wrong at s->at.
static const char *take_one(Scan *s) {
    switch (s->in[s->at]) {
    case '\\':
        return take_escape(s);
    case '[':
        return take_class(s);
    case '{':
        return take_counts(s);
    case '(':
        return take_open(s);
    case '^':
    case '$':
        return "a line anchor";
    case ')':
        copy(s, 1);
        if (s->in[s->at] != '\0' && strchr("+*{", s->in[s->at])) return "a repeated group";
        return NULL;
    default:
        copy(s, 1);
        return NULL;
    }
}

Status pattern__translate(char **pcre, const char *pattern) {
    *pcre = NULL;
    size_t bytes = strlen(pattern);
    Scan s = {.in = pattern, .out = memory__grow(NULL, bytes * WIDEST_REWRITE + 1, 1)};
    while (s.at < bytes) {
        const char *why = take_one(&s);
        if (why == NULL) continue;
        free(s.out);
        FAIL(E_FORMAT, "use the split of GPT-2, cl100k, Llama 3 or Qwen 2",
             "split pattern, byte %zu (\"%.20s\"): %s is not supported", s.at, pattern + s.at, why);
    }
    s.out[s.written] = '\0';
    *pcre = s.out;
    return OK;
}
