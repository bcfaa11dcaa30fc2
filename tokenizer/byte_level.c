// GPT-2's byte alphabet (Radford et al. 2019): tokens are byte strings, but vocabulary files are
// text, so each byte is written as one printable character. Bytes that are printable in Latin-1
// stand for themselves, the other 68 are, in order, U+0100 and up. Ids of single bytes follow the
// order of these characters.
#include "base/text.h"
#include "tokenizer/internal.h"

enum {
    PRINTABLE_1 = 33,   // '!' .. '~'
    CONTROL_1 = 127,    // DEL .. NO-BREAK SPACE
    PRINTABLE_2 = 161,  // up to U+00FF, but for
    SOFT_HYPHEN = 173,
    FIRST_SHIFTED = 256,
};

static bool is_printable(uint32_t b) {
    return (b >= PRINTABLE_1 && b < CONTROL_1) ||
           (b >= PRINTABLE_2 && b < FIRST_SHIFTED && b != SOFT_HYPHEN);
}

static uint32_t byte_character(uint32_t b) {
    if (is_printable(b)) return b;
    if (b < PRINTABLE_1) return FIRST_SHIFTED + b;
    if (b == SOFT_HYPHEN) return FIRST_SHIFTED + PRINTABLE_1 + (PRINTABLE_2 - CONTROL_1);
    return FIRST_SHIFTED + PRINTABLE_1 + (b - CONTROL_1);
}

// The byte a character stands for, or -1. The inverse of byte_character.
static int character_byte(uint32_t cp) {
    if (cp < FIRST_SHIFTED) return is_printable(cp) ? (int)cp : -1;
    uint32_t k = cp - FIRST_SHIFTED;
    if (k < PRINTABLE_1) return (int)k;
    k -= PRINTABLE_1;
    if (k < PRINTABLE_2 - CONTROL_1) return (int)(CONTROL_1 + k);
    return k == PRINTABLE_2 - CONTROL_1 ? SOFT_HYPHEN : -1;
}

void byte_level__order(unsigned char order[256]) {
    // First the bytes that stand for themselves, then the shifted ones.
    int count = 0;
    for (int shifted = 0; shifted <= 1; shifted++) {
        for (uint32_t b = 0; b < 256; b++) {
            if (is_printable(b) != (bool)shifted) order[count++] = (unsigned char)b;
        }
    }
}

size_t byte_level__spell(char *out, const char *bytes, size_t count) {
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t cp = byte_character((unsigned char)bytes[i]);
        // No character of the alphabet needs more than two bytes of UTF-8.
        if (cp < 0x80) {
            out[at++] = (char)cp;
        } else {
            out[at++] = (char)(0xC0 | cp >> 6);
            out[at++] = (char)(0x80 | (cp & 0x3F));
        }
    }
    return at;
}

bool byte_level__unspell(char *out, size_t *count, const char *text, size_t bytes) {
    *count = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t cp;
        int length = utf8_decode(&cp, text + at, bytes - at);
        if (length == 0) return false;
        at += (size_t)length;
        int byte = character_byte(cp);
        if (byte < 0) return false;
        out[(*count)++] = (char)byte;
    }
    return true;
}
