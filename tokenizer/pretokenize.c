// The split of a text into pieces, inside which byte pairs are merged. The pattern is matched by
// PCRE2, just-in-time compiled where the system allows it. Semantics of Hugging Face's
// Split(Isolated): matches are pieces, and so is each stretch between two matches. Bytes that are
// not UTF-8 end a stretch of text: the text before and after is split on its own, and a run of such
// bytes is a piece.
//
// Time. A match of a known pattern backtracks at most once over a run of blanks, so its steps are
// linear in the piece, however long that is, and a text is linear in its length. PCRE2's own limit,
// a constant, knows nothing of that: it ends a match over ten million blanks as if it were
// exponential. Here a match may take as many steps as it needs, and what the matches of one text
// take together is limited by its length. A pattern that wants more is refused, with the text:
// other pieces than the pattern's own would be other tokens.
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
    uint64_t steps, allowed;  // of the text in hand: taken by long matches, and how many may be
};

enum { JIT_STACK_START = 32 << 10, JIT_STACK_LIMIT = 8 << 20 };
// Nearly every match needs a few dozen steps; one that needs more is tried again with GROWTH times
// as many, and only those are counted.
enum { SHORT_MATCH = 4096, GROWTH = 4 };
// What a known pattern takes over a run of n blanks is 2n, and 4/3 * GROWTH times that when
// counted.
enum { STEPS_PER_BYTE = 64, STEPS_AT_LEAST = 1 << 20 };

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
    pcre2_set_match_limit(s->context, SHORT_MATCH);
    if (s->jit) s->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_LIMIT, NULL);
    if (s->stack != NULL) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    *out = s;
    return OK;
}

uint64_t splitter__steps(const Splitter *s) {
    return s->steps;
}

void splitter_close(Splitter *s) {
    if (s == NULL) return;
    pcre2_jit_stack_free(s->stack);
    pcre2_match_context_free(s->context);
    pcre2_match_data_free(s->match);
    pcre2_code_free(s->code);
    free(s);
}

// One attempt, within the limit of the context.
static int try_match(Splitter *s, const char *text, size_t bytes, size_t from) {
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
    return rc;
}

// The same with as many steps as it takes, while the text's allowance lasts.
static int try_harder(Splitter *s, const char *text, size_t bytes, size_t from) {
    int rc = PCRE2_ERROR_MATCHLIMIT;
    uint64_t limit = SHORT_MATCH;
    while (rc == PCRE2_ERROR_MATCHLIMIT && limit < UINT32_MAX && s->steps < s->allowed) {
        limit = limit * GROWTH < UINT32_MAX ? limit * GROWTH : UINT32_MAX;
        pcre2_set_match_limit(s->context, (uint32_t)limit);
        rc = try_match(s, text, bytes, from);
        s->steps += limit;
    }
    pcre2_set_match_limit(s->context, SHORT_MATCH);
    return rc;
}

// Finds the next match at or after `from` in valid UTF-8: [*start, *end), not empty; both `bytes`
// when there is none.
static Status next_match(Splitter *s, const char *text, size_t bytes, size_t from, size_t *start,
                         size_t *end) {
    int rc = try_match(s, text, bytes, from);
    if (rc == PCRE2_ERROR_MATCHLIMIT) rc = try_harder(s, text, bytes, from);
    *start = *end = bytes;
    if (rc == PCRE2_ERROR_NOMATCH) return OK;
    if (rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT) {
        FAIL(E_FORMAT, "use the split of GPT-2, cl100k, Llama 3 or Qwen 2",
             "the tokenizer's split pattern takes more than %d steps a byte on this text",
             STEPS_PER_BYTE);
    }
    if (rc < 0) FAIL(E_NOMEM, "free some memory", "no memory to split a text (PCRE2: %d)", rc);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
    *start = span[0];
    *end = span[1];
    return OK;
}

// Splits valid UTF-8.
static Status split_valid(Splitter *s, const char *text, size_t bytes, PieceFn piece, void *user) {
    size_t at = 0;
    while (at < bytes) {
        size_t start, end;
        TRY(next_match(s, text, bytes, at, &start, &end));
        if (start > at) piece(text + at, start - at, user);
        if (end > start) piece(text + start, end - start, user);
        at = end;
    }
    return OK;
}

Status splitter_run(Splitter *s, const char *text, size_t bytes, PieceFn piece, void *user) {
    size_t at = 0;
    s->steps = 0;
    s->allowed = STEPS_AT_LEAST + (uint64_t)bytes * STEPS_PER_BYTE;
    while (at < bytes) {
        size_t good = utf8__valid_prefix(text + at, bytes - at);
        TRY(split_valid(s, text + at, good, piece, user));
        at += good;

        // Up to the next character that is whole.
        size_t bad = at, length;
        while (bad < bytes && utf8__next(text + bad, bytes - bad, &length) != UTF8_GOOD)
            bad += length;
        if (bad > at) piece(text + at, bad - at, user);
        at = bad;
    }
    return OK;
}
