// The split of a text into pieces, inside which byte pairs are merged. The pattern is matched by
// PCRE2, just-in-time compiled where the system allows it. Semantics of Hugging Face's
// Split(Isolated): matches are pieces, and so is each stretch between two matches. Bytes that are
// not UTF-8 end a stretch of text: the text before and after is split on its own, and a run of such
// bytes is a piece.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/internal.h"

#include <pcre2.h>
#include <stdlib.h>

struct Splitter {
    pcre2_code *code;
    pcre2_match_data *match;       // one pair of offsets: the whole match
    pcre2_match_context *context;  // holds the stack of the compiled code
    pcre2_jit_stack *stack;
    bool jit;
};

enum { JIT_STACK_START = 32 << 10, JIT_STACK_LIMIT = 8 << 20 };

static Status splitter_compile(Splitter *s, const char *pattern) {
    char *pcre;
    TRY(pattern__translate(&pcre, pattern));
    int code;
    PCRE2_SIZE at;
    // Both flags: letters and numbers of all scripts, by code point.
    s->code = pcre2_compile((PCRE2_SPTR)pcre, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                            &at, NULL);
    free(pcre);
    if (s->code == NULL) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        FAIL(E_FORMAT, "use the split of GPT-2, cl100k, Llama 3 or Qwen 2",
             "split pattern \"%.60s\": %s", pattern, (const char *)why);
    }
    // An empty match would make a piece of nothing, forever.
    uint32_t empty = 0;
    pcre2_pattern_info(s->code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty) {
        FAIL(E_FORMAT, "use + instead of *", "split pattern \"%.60s\" matches the empty text",
             pattern);
    }
    return OK;
}

Status splitter_open(Splitter **out, const char *pattern) {
    *out = NULL;
    Splitter *s = memory__grow(NULL, 1, sizeof *s);
    *s = (Splitter){0};
    Status st = splitter_compile(s, pattern == NULL ? SPLIT_CL100K : pattern);
    if (st != OK) {
        splitter_close(s);
        return st;
    }
    s->jit =
        pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) == 0;  // else the interpreter: slower, equal
    s->match = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    ASSERT(s->match != NULL && s->context != NULL);
    if (s->jit) s->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_LIMIT, NULL);
    if (s->stack != NULL) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    *out = s;
    return OK;
}

void splitter__limit(Splitter *s, uint32_t steps) {
    pcre2_set_match_limit(s->context, steps);
}

void splitter_close(Splitter *s) {
    if (s == NULL) return;
    pcre2_jit_stack_free(s->stack);
    pcre2_match_context_free(s->context);
    pcre2_match_data_free(s->match);
    pcre2_code_free(s->code);
    free(s);
}

// Finds the next match at or after `from` in valid UTF-8: [*start, *end), not empty; both `bytes`
// when there is none.
static void next_match(Splitter *s, const char *text, size_t bytes, size_t from, size_t *start,
                       size_t *end) {
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (s->jit) {
        rc = pcre2_jit_match(s->code, subject, bytes, from, PCRE2_NO_UTF_CHECK, s->match,
                             s->context);
    }
    // Without compiled code, or when it ran out of stack: the interpreter's memory is the heap.
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(s->code, subject, bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match,
                         s->context);
    }
    *start = *end = bytes;
    if (rc == PCRE2_ERROR_NOMATCH) return;
    if (rc < 0) {  // beyond every limit: one character is a piece, nothing is lost
        *start = from;
        utf8__next(text + from, bytes - from, end);
        *end += from;
        return;
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
    *start = span[0];
    *end = span[1];
}

// Splits valid UTF-8.
static void split_valid(Splitter *s, const char *text, size_t bytes, PieceFn piece, void *user) {
    size_t at = 0;
    while (at < bytes) {
        size_t start, end;
        next_match(s, text, bytes, at, &start, &end);
        if (start > at) piece(text + at, start - at, user);
        if (end > start) piece(text + start, end - start, user);
        at = end;
    }
}

void splitter_run(Splitter *s, const char *text, size_t bytes, PieceFn piece, void *user) {
    size_t at = 0;
    while (at < bytes) {
        size_t good = utf8__valid_prefix(text + at, bytes - at);
        split_valid(s, text + at, good, piece, user);
        at += good;

        // Up to the next character that is whole.
        size_t bad = at, length;
        while (bad < bytes && utf8__next(text + bad, bytes - bad, &length) != UTF8_GOOD)
            bad += length;
        if (bad > at) piece(text + at, bad - at, user);
        at = bad;
    }
}
