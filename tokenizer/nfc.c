// The normalizer NFC of tokenizer.json: canonical composition (Unicode Standard Annex 15,
// compose.c). Any bytes may come: what is no UTF-8 stands between stretches that are composed each
// for itself.
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

// Below U+0300 every character is composed and stays so: its first byte is below 0xCC.
static bool surely_composed(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] >= 0xCC) return false;
    }
    return true;
}

// Appends the composed form of well-formed text to *out, which has room for `used` bytes and grows.
static Status append(char **out, size_t *used, size_t *capacity, const char *text, size_t bytes) {
    if (bytes == 0) return OK;
    size_t n = 0;
    char *composed = utf8_compose(text, bytes, &n);
    if (composed == NULL)
        FAIL(E_NOMEM, "split the document", "no memory to compose %zu bytes", bytes);
    *out = memory__reserve(*out, capacity, *used + n, 1);
    memcpy(*out + *used, composed, n);
    *used += n;
    free(composed);
    return OK;
}

Status nfc__compose(char **out, size_t *out_bytes, const char *text, size_t bytes) {
    *out = NULL;
    *out_bytes = bytes;
    if (surely_composed(text, bytes)) return OK;
    size_t used = 0, capacity = 0, at = 0;
    while (at < bytes) {
        size_t good = utf8__valid_prefix(text + at, bytes - at), length = 0;
        Status st = append(out, &used, &capacity, text + at, good);
        if (st != OK) {
            free(*out);
            *out = NULL;
            return st;
        }
        at += good;
        if (at == bytes) break;
        utf8__next(text + at, bytes - at, &length);  // the bad bytes, as they are
        *out = memory__reserve(*out, &capacity, used + length, 1);
        memcpy(*out + used, text + at, length);
        used += length;
        at += length;
    }
    *out_bytes = used;
    return OK;
}
