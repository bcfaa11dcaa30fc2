// One option's value: from text, checked, and back to text that reads as the same value.
#include "base/internal.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

enum { HINT_BYTES = 256 };

// Integers: [+-] digits, single _ between digits, then one of K M G T (powers of 1024) or an
// exponent, which also allows a fraction as long as the value is whole: 1.5e6 is, 1.5e0 is not.

typedef enum { FINE, NO_INTEGER, TOO_LARGE } IntegerResult;

// Reads digits into *v; *count is how many.
static IntegerResult read_digits(uint64_t *v, int *count, const char **s) {
    const char *p = *s;
    for (*count = 0;; p++) {
        if (*p == '_' && *count > 0 && isdigit((unsigned char)p[1])) continue;
        if (!isdigit((unsigned char)*p)) break;
        if (__builtin_mul_overflow(*v, 10, v)) return TOO_LARGE;
        if (__builtin_add_overflow(*v, (uint64_t)(*p - '0'), v)) return TOO_LARGE;
        ++*count;
    }
    *s = p;
    return FINE;
}

// *v times a power of ten. Inexact division means the text was no integer: 1e-1.
static IntegerResult scale_by_ten(uint64_t *v, int power) {
    for (; power < 0; power++) {
        if (*v % 10 != 0) return NO_INTEGER;
        *v /= 10;
    }
    for (; power > 0; power--) {
        if (__builtin_mul_overflow(*v, 10, v)) return TOO_LARGE;
    }
    return FINE;
}

// "", "K" ... "T", or "[.digits]e[+-]digits" behind the digits read so far.
static IntegerResult read_scale(uint64_t *v, const char *s) {
    static const char SUFFIXES[] = "KMGT";
    const char *suffix = *s == '\0' ? NULL : strchr(SUFFIXES, *s);
    if (suffix != NULL && s[1] == '\0') {
        uint64_t factor = (uint64_t)1 << 10 * (suffix - SUFFIXES + 1);
        return __builtin_mul_overflow(*v, factor, v) ? TOO_LARGE : FINE;
    }
    if (*s == '\0') return FINE;

    int fraction = 0, digits;
    if (*s == '.') {
        s++;
        IntegerResult got = read_digits(v, &fraction, &s);
        if (got != FINE) return got;
    }
    if (*s != 'e' && *s != 'E') return NO_INTEGER;
    s++;
    bool minus = *s == '-';
    if (*s == '-' || *s == '+') s++;
    uint64_t exponent = 0;
    if (read_digits(&exponent, &digits, &s) != FINE || exponent > 99) return TOO_LARGE;
    if (digits == 0 || *s != '\0') return NO_INTEGER;
    return scale_by_ten(v, (minus ? -(int)exponent : (int)exponent) - fraction);
}

// The whole text. Works on the magnitude, whose range is one larger below zero than above.
static IntegerResult read_integer(int64_t *out, const char *s) {
    bool minus = *s == '-';
    if (*s == '-' || *s == '+') s++;
    uint64_t v = 0;
    int digits;
    IntegerResult got = read_digits(&v, &digits, &s);
    if (got == FINE && digits == 0) got = NO_INTEGER;
    if (got == FINE) got = read_scale(&v, s);
    if (got != FINE) return got;
    if (v > (uint64_t)INT64_MAX + (minus ? 1 : 0)) return TOO_LARGE;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return FINE;
}

// Parsing

// The message shows the value as it was typed; the hint shows what would have been right.
static Status out_of_range(const Field *f, const char *text, const char *where) {
    char range[VALUE_BYTES], hint[HINT_BYTES];
    config__range(range, f);
    snprintf(hint, sizeof hint, "use %s", range);
    FAIL(E_USAGE, hint, "%s: %s: %.80s is out of range", where, f->key, text);
}

// Int and int64_t share the way of writing and differ in what fits.
static Status parse_integer(void *target, const Field *f, const char *text, const char *where) {
    int64_t v = 0;
    IntegerResult got = read_integer(&v, text);
    if (got == NO_INTEGER) {
        char range[VALUE_BYTES], hint[HINT_BYTES];
        config__range(range, f);
        snprintf(hint, sizeof hint, "write a whole number, %s, as 4096, 4_096, 4K or 1e6", range);
        FAIL(E_USAGE, hint, "%s: %s: \"%.80s\" is not an integer", where, f->key, text);
    }
    // (double)INT64_MAX rounds up to 2^63, so the comparison cannot refuse the largest values.
    bool fits = got == FINE && (double)v >= f->min && (double)v <= f->max;
    if (f->type == CFG_INT && (v < INT_MIN || v > INT_MAX)) fits = false;
    if (!fits) return out_of_range(f, text, where);
    if (f->type == CFG_INT) {
        *(int *)target = (int)v;
    } else {
        *(int64_t *)target = v;
    }
    return OK;
}

// strtod is wider than we want: it skips leading blanks and knows inf and nan.
static Status parse_number(double *target, const Field *f, const char *text, const char *where) {
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    bool number = end != text && *end == '\0' && !isspace((unsigned char)*text);
    if (!number || isnan(v)) {
        char range[VALUE_BYTES], hint[HINT_BYTES];
        config__range(range, f);
        snprintf(hint, sizeof hint, "write a number, %s, as 0.001 or 1e-3", range);
        FAIL(E_USAGE, hint, "%s: %s: \"%.80s\" is not a number", where, f->key, text);
    }
    if (isinf(v) || v < f->min || v > f->max) return out_of_range(f, text, where);
    *target = v;
    return OK;
}

static Status parse_bool(bool *target, const Field *f, const char *text, const char *where) {
    static const char *const WORDS[] = {"false", "true", "no", "yes", "off", "on"};
    for (int i = 0; i < 6; i++) {
        if (strcasecmp(text, WORDS[i]) != 0) continue;
        *target = i % 2 == 1;
        return OK;
    }
    FAIL(E_USAGE, "write true or false (yes, no, on and off work too)",
         "%s: %s: \"%.80s\" is neither true nor false", where, f->key, text);
}

// The default is always a choice: an empty one stands for "not chosen".
static Status check_choice(const Field *f, const char *text, const char *where) {
    if (f->choices == NULL || strcmp(text, f->initial) == 0) return OK;
    char nearest[TEXT_BYTES] = "";
    int best = INT_MAX;
    for (const char *p = f->choices;; p++) {
        char choice[TEXT_BYTES];
        size_t n = strcspn(p, "|");
        snprintf(choice, sizeof choice, "%.*s", (int)n, p);
        int d = text_distance(choice, text);
        if (d == 0) return OK;
        if (d < best) memcpy(nearest, choice, sizeof choice);
        if (d < best) best = d;
        p += n;
        if (*p == '\0') break;
    }
    char hint[HINT_BYTES];
    snprintf(hint, sizeof hint, "the nearest choice is %s", nearest);
    FAIL(E_USAGE, hint, "%s: %s: \"%.80s\" is not among %s", where, f->key, text, f->choices);
}

static Status parse_text(char *target, const Field *f, const char *text, const char *where) {
    size_t n = strlen(text);
    if (n >= TEXT_BYTES) {
        FAIL(E_USAGE, "shorten it, for a path by a symbolic link",
             "%s: %s: the text has %zu bytes, at most %d fit", where, f->key, n, TEXT_BYTES - 1);
    }
    for (size_t at = 0; at < n;) {
        uint32_t code;
        int used = utf8_decode(&code, text + at, n - at);
        if (used == 0) {
            FAIL(E_USAGE, "write it in UTF-8", "%s: %s: byte %zu of the text is not UTF-8", where,
                 f->key, at + 1);
        }
        at += (size_t)used;
    }
    TRY(check_choice(f, text, where));
    // The whole array, so that equal texts are equal bytes.
    memset(target, 0, TEXT_BYTES);
    memcpy(target, text, n);
    return OK;
}

Status config__parse(void *target, const Field *f, const char *text, const char *where) {
    switch (f->type) {
    case CFG_BOOL:
        return parse_bool(target, f, text, where);
    case CFG_INT:
    case CFG_I64:
        return parse_integer(target, f, text, where);
    case CFG_F64:
        return parse_number(target, f, text, where);
    case CFG_TEXT:
        return parse_text(target, f, text, where);
    }
    return E_BUG;
}

Status config_set_field(void *section, const Field *f, const char *text, const char *where) {
    return config__parse((char *)section + f->offset, f, text, where);
}

// Printing

// Whether YAML readers of all versions take the bare word for a text: letters first, nothing
// special after, and none of the words of other types.
static bool is_bare_word(const char *text) {
    static const char *const TAKEN[] = {"true", "false", "yes",  "no", "on",
                                        "off",  "y",     "null", "n"};
    for (size_t i = 0; i < sizeof TAKEN / sizeof TAKEN[0]; i++) {
        if (strcasecmp(text, TAKEN[i]) == 0) return false;
    }
    if (!isalpha((unsigned char)text[0]) && text[0] != '/') return false;
    for (const char *p = text; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("_-./+,", *p) == NULL) return false;
    }
    return true;
}

// Double quotes are the one YAML style that can write every text: all else is escaped.
void config__quote(char out[VALUE_BYTES], const char *text) {
    size_t n = strlen(text), put = 0;
    if (is_bare_word(text)) {
        snprintf(out, VALUE_BYTES, "%s", text);
        return;
    }
    out[put++] = '"';
    for (size_t at = 0; at < n;) {
        uint32_t code;
        int used = utf8_decode(&code, text + at, n - at);
        ASSERT(put + 8 <= VALUE_BYTES);
        // A byte that is no UTF-8 cannot come in through config__parse; escaped, it cannot break
        // the file.
        if (used == 0 || (used == 1 && !code_is_printable(code))) {
            put += (size_t)snprintf(out + put, 5, "\\x%02x", (unsigned char)text[at]);
            used = 1;
        } else if (!code_is_printable(code)) {
            put += (size_t)snprintf(out + put, 7, "\\u%04x", (unsigned)code);
        } else {
            if (code == '"' || code == '\\') out[put++] = '\\';
            memcpy(out + put, text + at, (size_t)used);
            put += (size_t)used;
        }
        at += (size_t)used;
    }
    out[put++] = '"';
    out[put] = '\0';
}

// YAML 1.1 readers want a point in a number with an exponent: 1.0e-06, not 1e-06.
static void print_number(char out[VALUE_BYTES], double v) {
    char text[DOUBLE_TEXT_BYTES];
    double_to_text(text, v);
    char *e = strchr(text, 'e');
    if (e == NULL || strchr(text, '.') != NULL) {
        snprintf(out, VALUE_BYTES, "%s", text);
    } else {
        snprintf(out, VALUE_BYTES, "%.*s.0%s", (int)(e - text), text, e);
    }
}

void config__print(char out[VALUE_BYTES], const Field *f, const void *target) {
    switch (f->type) {
    case CFG_BOOL:
        snprintf(out, VALUE_BYTES, "%s", *(const bool *)target ? "true" : "false");
        break;
    case CFG_INT:
        snprintf(out, VALUE_BYTES, "%d", *(const int *)target);
        break;
    case CFG_I64:
        snprintf(out, VALUE_BYTES, "%lld", (long long)*(const int64_t *)target);
        break;
    case CFG_F64:
        print_number(out, *(const double *)target);
        break;
    case CFG_TEXT:
        config__quote(out, target);
        break;
    }
}

void config__range(char out[VALUE_BYTES], const Field *f) {
    const char *space = f->unit[0] == '\0' ? "" : " ";
    char low[DOUBLE_TEXT_BYTES], high[DOUBLE_TEXT_BYTES];
    switch (f->type) {
    case CFG_BOOL:
        snprintf(out, VALUE_BYTES, "true|false");
        break;
    case CFG_TEXT:
        snprintf(out, VALUE_BYTES, "%s", f->choices == NULL ? "text" : f->choices);
        break;
    default:
        double_to_text(low, f->min);
        double_to_text(high, f->max);
        snprintf(out, VALUE_BYTES, "%s to %s%s%s", low, high, space, f->unit);
    }
}
