// Canonical composition, NFC (Unicode Standard Annex 15), by utf8proc's tables. The order of marks
// is ours: utf8proc sorts them by exchanging neighbours, which takes quadratic time over a long run
// of them, and a text may hold a million.
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const utf8proc_option_t OPTIONS = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
enum {
    MOST_DECOMPOSED = 8,  // code points of one character: Unicode has at most four
    CLASSES = 256,
    FEW_MARKS = 16,  // up to which neighbours are exchanged: real text has one or two
};

typedef struct Codes {
    utf8proc_int32_t *at;
    size_t count, capacity;
} Codes;

static int class_of(utf8proc_int32_t code) {
    return utf8proc_get_property(code)->combining_class;
}

// Room for one more character, and for the NUL that reencoding leaves behind the last one.
static bool codes_reserve(Codes *c) {
    if (c->capacity - c->count > MOST_DECOMPOSED) return true;
    size_t capacity = c->capacity + c->capacity / 2 + 4 * MOST_DECOMPOSED;
    utf8proc_int32_t *grown = realloc(c->at, capacity * sizeof *grown);
    if (grown == NULL) return false;
    c->at = grown;
    c->capacity = capacity;
    return true;
}

// Every character by its decomposition; what is not UTF-8 by U+FFFD, byte by byte.
static bool decompose(Codes *c, const char *text, size_t bytes) {
    int boundary = 0;
    for (size_t at = 0; at < bytes;) {
        utf8proc_int32_t code = -1;
        size_t left = bytes - at;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                              (utf8proc_ssize_t)(left < 4 ? left : 4), &code);
        if (n <= 0 || code < 0) code = 0xFFFD, n = 1;
        at += (size_t)n;
        if (!codes_reserve(c)) return false;
        utf8proc_ssize_t more =
            utf8proc_decompose_char(code, c->at + c->count, MOST_DECOMPOSED, OPTIONS, &boundary);
        if (more < 0 || more > MOST_DECOMPOSED) return false;
        c->count += (size_t)more;
    }
    return codes_reserve(c);
}

// Few marks: each moves to the left past those of a higher class. Equal ones keep their order.
static void sort_few(utf8proc_int32_t *marks, size_t count) {
    for (size_t i = 1; i < count; i++) {
        utf8proc_int32_t mark = marks[i];
        size_t at = i;
        for (; at > 0 && class_of(marks[at - 1]) > class_of(mark); at--) marks[at] = marks[at - 1];
        marks[at] = mark;
    }
}

// Many: counted by class, then each to its place.
static bool sort_many(utf8proc_int32_t *marks, size_t count) {
    size_t begin[CLASSES + 1] = {0};
    utf8proc_int32_t *sorted = malloc(count * sizeof *sorted);
    if (sorted == NULL) return false;
    for (size_t i = 0; i < count; i++) begin[class_of(marks[i]) + 1]++;
    for (int k = 0; k < CLASSES; k++) begin[k + 1] += begin[k];
    for (size_t i = 0; i < count; i++) sorted[begin[class_of(marks[i])]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *sorted);
    free(sorted);
    return true;
}

// The canonical order: each run of marks by class.
static bool order_marks(Codes *c) {
    for (size_t at = 0; at < c->count; at++) {
        size_t end = at;
        while (end < c->count && class_of(c->at[end]) != 0) end++;
        if (end - at <= FEW_MARKS) {
            sort_few(c->at + at, end - at);
        } else if (!sort_many(c->at + at, end - at)) {
            return false;
        }
        at = end;  // and past the starter that ends the run
    }
    return true;
}

char *utf8_compose(const char *text, size_t bytes, size_t *out_bytes) {
    Codes c = {0};
    utf8proc_ssize_t n = -1;
    if (decompose(&c, text, bytes) && order_marks(&c)) {
        n = utf8proc_reencode(c.at, (utf8proc_ssize_t)c.count, OPTIONS);  // in place
    }
    if (n < 0) {
        free(c.at);
        return NULL;
    }
    *out_bytes = (size_t)n;
    return (char *)c.at;
}
