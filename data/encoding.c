// How a text is encoded, from its bytes alone (Unicode Standard 15, 23.8: byte-order marks). What
// has a mark is decoded. What has none must be UTF-8: other encodings cannot be told from one
// another for certain, so they are guessed for the message only.
#include "data/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

// Text holds tabs, line ends, form feeds and the escapes of terminals; of other control characters
// it may hold a stray one, never one in ten.
static const double MAX_CONTROLS = 0.1;

// The longer mark first: that of UTF-32LE begins like that of UTF-16LE.
typedef struct Encoding {
    const char *name, *mark;
    size_t width;  // bytes of a unit, and of the mark
    bool big;
} Encoding;
static const Encoding ENCODINGS[] = {{"UTF-32LE", "\xFF\xFE\0\0", 4, false},
                                     {"UTF-32BE", "\0\0\xFE\xFF", 4, true},
                                     {"UTF-16LE", "\xFF\xFE", 2, false},
                                     {"UTF-16BE", "\xFE\xFF", 2, true}};

// What is no text at all, by how it begins.
static const struct {
    const char *magic, *what;
} FILES[] = {{"PK\x03\x04", "a zip archive"},
             {"BZh", "bzip2"},
             {"7z\xBC\xAF", "a 7z archive"},
             {"\x04\"M\x18", "lz4"},
             {"\x1F\x9D", "compress"},
             {"Rar!", "a rar archive"},
             {"%PDF-", "a PDF document"},
             {"PAR1", "a Parquet file"},
             {"\x89PNG", "an image"},
             {"\x7F"
              "ELF",
              "a program"}};

// --- UTF-16, UTF-32 ---

static uint32_t unit_at(const char *at, const Encoding *e) {
    uint32_t unit = 0;
    for (size_t i = 0; i < e->width; i++) {
        unit = unit << 8 | (unsigned char)at[e->big ? i : e->width - 1 - i];
    }
    return unit;
}

static bool is_surrogate(uint32_t unit, uint32_t first) {
    return unit >= first && unit < first + 0x400;
}

// The code point at the beginning of `rest`, which moves behind it. False: there is none.
static bool code_next(uint32_t *code, TextSpan *rest, const Encoding *e) {
    if (rest->bytes < e->width) return false;
    size_t used = e->width;
    *code = unit_at(rest->at, e);
    if (e->width == 2 && is_surrogate(*code, 0xD800)) {
        if (rest->bytes < 4) return false;
        uint32_t low = unit_at(rest->at + 2, e);
        if (!is_surrogate(low, 0xDC00)) return false;
        *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
        used = 4;
    }
    if (*code > 0x10FFFF || is_surrogate(*code, 0xD800) || is_surrogate(*code, 0xDC00))
        return false;
    rest->at += used;
    rest->bytes -= used;
    return true;
}

static Status decode_units(char **text, size_t *bytes, TextLook *look, const Encoding *e,
                           const char *name) {
    TextBuf out = {0};
    TextSpan rest = {*text + e->width, *bytes - e->width};
    uint32_t code;
    textbuf_add(&out, "", 0);  // an empty text is a text
    while (rest.bytes > 0 && code_next(&code, &rest, e)) {
        if (code == 0) {
            textbuf_char(&out, '\0');
        } else {
            textbuf_code_point(&out, code);
        }
    }
    if (rest.bytes > 0) {
        textbuf_free(&out);
        look->refused = "ill-formed UTF-16 or UTF-32";
        FAIL(E_FORMAT, "replace it with a whole copy in UTF-8",
             "%s: not well-formed %s at byte %zu", name, e->name, *bytes - rest.bytes);
    }
    look->from = e->name;
    free(*text);
    *text = out.text;
    *bytes = out.bytes;
    return OK;
}

// --- UTF-8, or what else? ---

typedef struct Census {
    size_t bytes, invalid, first_invalid;
    size_t controls, nuls[4];  // by place modulo 4
    size_t lone, c1;           // invalid bytes between ASCII ones; those of 0x80-0x9F
} Census;

static bool is_odd_control(unsigned char c) {
    return c < 0x20 && strchr("\t\n\v\f\r\b\x1B", c) == NULL;
}

static bool is_ascii(TextSpan text, size_t at) {
    return at >= text.bytes || (unsigned char)text.at[at] < 0x80;
}

static Census take_census(TextSpan text) {
    Census n = {.bytes = text.bytes};
    for (size_t at = 0; at < text.bytes;) {
        unsigned char c = (unsigned char)text.at[at];
        uint32_t code;
        int length = c < 0x80 ? 1 : utf8_decode(&code, text.at + at, text.bytes - at);
        if (c == '\0') n.nuls[at % 4]++;
        if (c == '\0' || is_odd_control(c)) n.controls++;
        if (length == 0) {
            if (n.invalid++ == 0) n.first_invalid = at;
            n.lone += (at == 0 || is_ascii(text, at - 1)) && is_ascii(text, at + 1);
            n.c1 += c < 0xA0;
        }
        at += length == 0 ? 1 : (size_t)length;
    }
    return n;
}

typedef struct Guess {
    const char *what, *iconv;  // iconv: its name of the encoding, NULL: nothing to convert
} Guess;

// Zeros tell the widths apart: the high bytes of most characters.
static Guess guess_units(const Census *n) {
    size_t even = n->nuls[0] + n->nuls[2], odd = n->nuls[1] + n->nuls[3], most = (even + odd) / 10;
    if (n->nuls[2] > n->bytes / 5 && n->nuls[3] > n->bytes / 5 && n->nuls[0] <= most)
        return (Guess){"UTF-32LE without a byte-order mark", "UTF-32LE"};
    if (n->nuls[0] > n->bytes / 5 && n->nuls[1] > n->bytes / 5 && n->nuls[3] <= most)
        return (Guess){"UTF-32BE without a byte-order mark", "UTF-32BE"};
    if (odd > 0 && even <= most) return (Guess){"UTF-16LE without a byte-order mark", "UTF-16LE"};
    if (even > 0 && odd <= most) return (Guess){"UTF-16BE without a byte-order mark", "UTF-16BE"};
    return (Guess){"binary data", NULL};
}

// Western letters stand alone between ASCII ones; East Asian bytes come in pairs.
static Guess guess_bytes(const Census *n) {
    if (n->lone < n->invalid / 2)
        return (Guess){"an East Asian encoding, or Cyrillic",
                       "GB18030 (SHIFT_JIS, EUC-KR, BIG5, KOI8-R, ...)"};
    if (n->c1 > 0) return (Guess){"Windows-1252", "WINDOWS-1252"};
    return (Guess){"ISO-8859-1", "ISO-8859-1"};
}

static Guess guess(TextSpan text, const Census *n, double max_invalid) {
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        if (span_starts(text, FILES[i].magic)) return (Guess){FILES[i].what, NULL};
    }
    double most = (double)n->bytes * (max_invalid > MAX_CONTROLS ? max_invalid : MAX_CONTROLS);
    if ((double)n->controls > most) return guess_units(n);
    if ((double)n->invalid > (double)n->bytes * max_invalid) {
        // A little UTF-16 is in all UTF-16 of East Asian text: spaces and line ends.
        size_t nuls = n->nuls[0] + n->nuls[1] + n->nuls[2] + n->nuls[3];
        return nuls > n->bytes / 100 ? guess_units(n) : guess_bytes(n);
    }
    return (Guess){NULL, NULL};
}

static Status check_utf8(TextSpan text, TextLook *look, double max_invalid, const char *name) {
    char hint[192] = "unpack or convert it to plain text in UTF-8 first";
    Census n = take_census(text);
    Guess g = guess(text, &n, max_invalid);
    look->refused = g.what;
    if (g.what == NULL) return OK;
    if (g.iconv != NULL) {
        snprintf(hint, sizeof hint,
                 "convert it: iconv -f %s -t UTF-8 FILE; for data.sources data.max_invalid says "
                 "how much "
                 "may be invalid",
                 g.iconv);
    }
    if (n.invalid == 0)
        FAIL(E_FORMAT, hint, "%s: not text in UTF-8: it looks like %s", name, g.what);
    FAIL(E_FORMAT, hint,
         "%s: not text in UTF-8 (%zu of %zu bytes, the first at %zu): it looks like %s", name,
         n.invalid, n.bytes, n.first_invalid, g.what);
}

Status text_decode(char **text, size_t *bytes, TextLook *look, double max_invalid,
                   const char *name) {
    *look = (TextLook){0};
    for (size_t i = 0; i < sizeof ENCODINGS / sizeof *ENCODINGS; i++) {
        const Encoding *e = &ENCODINGS[i];
        if (*bytes < e->width || memcmp(*text, e->mark, e->width) != 0) continue;
        if (*bytes % e->width != 0 && e->width == 4)
            continue;  // then it is UTF-16 that starts with a NUL
        return decode_units(text, bytes, look, e, name);
    }
    return isinf(max_invalid) ? OK : check_utf8((TextSpan){*text, *bytes}, look, max_invalid, name);
}

TextSpan text_skip_mark(TextSpan text) {
    static const char MARK[] = "\xEF\xBB\xBF";
    size_t n = span_starts(text, MARK) ? sizeof MARK - 1 : 0;
    return (TextSpan){text.at + n, text.bytes - n};
}
