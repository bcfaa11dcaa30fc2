// Small text helpers shared by the writers of JSON, YAML and messages: UTF-8, numbers, edit
// distance.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DOUBLE_TEXT_BYTES = 32 };

// Decodes one code point of s[0..bytes). Returns the bytes it takes, 1 to 4, or 0 when they are no
// well-formed UTF-8 (truncated, overlong, a surrogate, above U+10FFFF) or bytes is 0.
int utf8_decode(uint32_t *code, const char *s, size_t bytes);
// Whether a code point shows: no control, no line break, no byte order mark, no non-character.
bool code_is_printable(uint32_t code);
// Nothing in a name or value that comes from a file may steer the terminal it is printed on: bytes
// of control characters, of C1 ones too (U+0080 to U+009F, alone or in UTF-8), become '?', but for
// line ends and tabs. In place.
void text_mask(char *text, size_t bytes);
// Decimal text that strtod reads back to the same bits (NaN excepted). Returns its length.
int double_to_text(char out[DOUBLE_TEXT_BYTES], double v);
// Levenshtein distance of two texts; texts beyond 127 bytes are compared by their first 127.
int text_distance(const char *a, const char *b);
