// UTF-8 as of RFC 3629, shortest-enough decimal numbers, and the edit distance behind "did you
// mean".
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DISTANCE_BYTES = 127 };

int utf8_decode(uint32_t *code, const char *s, size_t bytes) {
    if (bytes == 0) return 0;
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) {
        *code = u[0];
        return 1;
    }
    int length = u[0] >= 0xF0 ? 4 : u[0] >= 0xE0 ? 3 : 2;
    if (u[0] < 0xC2 || u[0] > 0xF4 || bytes < (size_t)length) return 0;
    uint32_t c = u[0] & (0x7Fu >> length);
    for (int i = 1; i < length; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (u[i] & 0x3Fu);
    }

    // C0 and C1 are excluded above; these are the longer overlong forms, surrogates and the end of
    // Unicode.
    static const uint32_t SMALLEST[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < SMALLEST[length] || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF) return 0;
    *code = c;
    return length;
}

// 2028 and 2029 are line breaks to YAML and JavaScript, FEFF is the byte order mark.
bool code_is_printable(uint32_t c) {
    if (c < 0x20 || (c >= 0x7F && c <= 0x9F)) return false;
    return c != 0x2028 && c != 0x2029 && c != 0xFEFF && c != 0xFFFE && c != 0xFFFF;
}

void text_mask(char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        uint32_t code;
        int used = utf8_decode(&code, text + at, bytes - at);
        if (used == 0) {  // as a terminal of one byte a character takes it
            code = (unsigned char)text[at];
            used = 1;
        }
        bool control = code < 0x20 ? code != '\n' && code != '\t' : code >= 0x7F && code <= 0x9F;
        for (int i = 0; control && i < used; i++) text[at + (size_t)i] = '?';
        at += (size_t)used;
    }
}

int double_to_text(char out[DOUBLE_TEXT_BYTES], double v) {
    int n = 0;
    // 15 digits always survive decimal -> double -> decimal, 17 always survive the way back.
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(out, DOUBLE_TEXT_BYTES, "%.*g", digits, v);
        if (strtod(out, NULL) == v) break;
    }
    return n;
}

// Wagner and Fischer's table, one row at a time.
int text_distance(const char *a, const char *b) {
    size_t na = strnlen(a, DISTANCE_BYTES), nb = strnlen(b, DISTANCE_BYTES);
    int row[DISTANCE_BYTES + 1];  // distances of a[0..i) to every prefix of b
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[nb];
}
