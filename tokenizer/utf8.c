// UTF-8: well-formed sequences, and text that arrives in pieces (a token may end inside a
// character). Ill-formed input becomes one U+FFFD per maximal subpart, as the Unicode Standard
// recommends (chapter 3.9).
#include "tokenizer/internal.h"

#include <string.h>

// Continuation bytes after a lead byte and the range of the first of them (table 3-7); 0 bytes: not
// a lead.
typedef struct Lead {
    int more;
    unsigned char low, high;
} Lead;

static Lead lead_of(unsigned char c) {
    if (c >= 0xC2 && c <= 0xDF) return (Lead){1, 0x80, 0xBF};
    if (c == 0xE0) return (Lead){2, 0xA0, 0xBF};  // no overlong forms
    if (c == 0xED) return (Lead){2, 0x80, 0x9F};  // no surrogates
    if (c >= 0xE1 && c <= 0xEF) return (Lead){2, 0x80, 0xBF};
    if (c == 0xF0) return (Lead){3, 0x90, 0xBF};  // no overlong forms
    if (c == 0xF4) return (Lead){3, 0x80, 0x8F};  // nothing beyond U+10FFFF
    if (c >= 0xF1 && c <= 0xF3) return (Lead){3, 0x80, 0xBF};
    return (Lead){0, 0, 0};
}

Utf8Class utf8__next(const char *p, size_t bytes, size_t *length) {
    const unsigned char *u = (const unsigned char *)p;
    *length = 1;
    if (u[0] < 0x80) return UTF8_GOOD;
    Lead lead = lead_of(u[0]);
    if (lead.more == 0) return UTF8_BAD;
    for (int i = 1; i <= lead.more; i++) {
        *length = (size_t)i;
        if ((size_t)i >= bytes) return UTF8_CUT;
        unsigned char low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
        if (u[i] < low || u[i] > high) return UTF8_BAD;
    }
    *length = (size_t)lead.more + 1;
    return UTF8_GOOD;
}

size_t utf8__valid_prefix(const char *p, size_t bytes) {
    size_t at = 0, length;
    while (at < bytes) {
        // Most text is ASCII: eight bytes at a time.
        uint64_t word;
        while (at + sizeof word <= bytes) {
            memcpy(&word, p + at, sizeof word);
            if (word & 0x8080808080808080u) break;
            at += sizeof word;
        }
        if (at == bytes || utf8__next(p + at, bytes - at, &length) != UTF8_GOOD) break;
        at += length;
    }
    return at;
}

static size_t put_replacement(char *out) {
    memcpy(out, "\xEF\xBF\xBD", 3);
    return 3;
}

// Writes what the held bytes decide and keeps the rest: at most three bytes that may still become a
// character.
static size_t drain(Utf8Stream *s, char *out) {
    size_t written = 0;
    while (s->count > 0) {
        size_t length;
        Utf8Class class = utf8__next((const char *)s->held, (size_t)s->count, &length);
        if (class == UTF8_CUT) break;
        if (class == UTF8_GOOD) {
            memcpy(out + written, s->held, length);
            written += length;
        } else {
            written += put_replacement(out + written);
        }
        s->count -= (int)length;
        memmove(s->held, s->held + length, (size_t)s->count);
    }
    return written;
}

size_t utf8_stream(Utf8Stream *s, const char *in, size_t bytes, bool flush, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (s->count == 0 && (unsigned char)in[i] < 0x80) {
            out[written++] = in[i];
            continue;
        }
        s->held[s->count++] = (unsigned char)in[i];
        written += drain(s, out + written);
    }
    if (flush && s->count > 0) {  // what is held is one maximal subpart
        written += put_replacement(out + written);
        s->count = 0;
    }
    return written;
}
