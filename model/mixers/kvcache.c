#include "model/mixers/kvcache.h"

#include <stdlib.h>
#include <string.h>

struct KvCache {
    int B, width, window;
    int capacity;         // tokens a row
    int *length;          // (B) tokens held
    real *keys, *values;  // (B, capacity, width)
};

enum { FIRST_ROOM = 64 };

KvCache *kvcache_open(int B, int width, int window) {
    KvCache *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    *c = (KvCache){.B = B, .width = width, .window = window};
    c->length = calloc((size_t)B, sizeof *c->length);
    if (c->length != NULL) return c;
    free(c);
    return NULL;
}

void kvcache_close(KvCache *c) {
    if (c == NULL) return;
    free(c->keys);
    free(c->values);
    free(c->length);
    free(c);
}

static size_t place(const KvCache *c, int row, int token) {
    return ((size_t)row * (size_t)c->capacity + (size_t)token) * (size_t)c->width;
}

// Moves the last `keep` of a row's tokens into arrays of another capacity, or to the row's front.
static void move_row(const KvCache *c, int row, int keep, real *keys, real *values, size_t to) {
    size_t from = place(c, row, c->length[row] - keep), n = (size_t)keep * (size_t)c->width;
    if (n == 0) return;
    memmove(keys + to, c->keys + from, n * sizeof *keys);
    memmove(values + to, c->values + from, n * sizeof *values);
}

// Tokens of a row that a later one may see.
static int needed(const KvCache *c, int row) {
    int most = c->window - 1;
    return c->window > 0 && c->length[row] > most ? most : c->length[row];
}

static Status grow(KvCache *c, int capacity) {
    size_t count = (size_t)c->B * (size_t)capacity * (size_t)c->width;
    real *keys = calloc(count, sizeof *keys), *values = calloc(count, sizeof *values);
    if (keys == NULL || values == NULL) {
        free(keys);
        free(values);
        FAIL(E_NOMEM, "generate fewer prompts at a time, or shorter texts",
             "out of memory for keys and values of %d rows of %d tokens", c->B, capacity);
    }
    for (int b = 0; b < c->B; b++) {
        size_t to = (size_t)b * (size_t)capacity * (size_t)c->width;
        move_row(c, b, needed(c, b), keys, values, to);
        c->length[b] = needed(c, b);
    }
    free(c->keys);
    free(c->values);
    c->keys = keys;
    c->values = values;
    c->capacity = capacity;
    return OK;
}

// Dropping moves a window's tokens: done once in a window's length, it costs no more than appending
// them did.
static void drop_unseen(KvCache *c) {
    for (int b = 0; b < c->B; b++) {
        int keep = needed(c, b);
        if (keep < c->length[b]) move_row(c, b, keep, c->keys, c->values, place(c, b, 0));
        c->length[b] = keep;
    }
}

static int longest(const KvCache *c) {
    int most = 0;
    for (int b = 0; b < c->B; b++) most = c->length[b] > most ? c->length[b] : most;
    return most;
}

Status kvcache_reserve(KvCache *c, int T) {
    int capacity = c->capacity == 0 ? FIRST_ROOM : c->capacity, enough = 2 * c->window;
    if (longest(c) + T <= c->capacity) return OK;
    if (c->window > 0 && longest(c) + T > enough) drop_unseen(c);
    int least = longest(c) + T;
    if (least <= c->capacity) return OK;
    while (capacity < least) capacity *= 2;
    if (c->window > 0 && capacity > enough) capacity = enough > least ? enough : least;
    return grow(c, capacity);
}

void kvcache_append(KvCache *c, const real *keys, const real *values, int rows, int T) {
    size_t row = (size_t)T * (size_t)c->width;
    ASSERT(rows <= c->B);
    for (int b = 0; b < rows; b++) {
        ASSERT(c->length[b] + T <= c->capacity);
        size_t at = place(c, b, c->length[b]);
        memcpy(c->keys + at, keys + (size_t)b * row, row * sizeof *keys);
        memcpy(c->values + at, values + (size_t)b * row, row * sizeof *values);
        c->length[b] += T;
    }
}

CacheView kvcache_view(const KvCache *c) {
    return (CacheView){c->keys, c->values, c->capacity, c->length};
}

size_t kvcache_bytes(const KvCache *c) {
    return 2 * (size_t)c->B * (size_t)c->capacity * (size_t)c->width * sizeof(real);
}

// ---- rows --------------------------------------------------------------------------------------

static Status row_reserve(KvCache *c, int row, int length) {
    c->length[row] = 0;
    return length <= c->capacity ? OK : grow(c, length > FIRST_ROOM ? length : FIRST_ROOM);
}

// There is room for it.
static void row_take(KvCache *c, int row, const char *keys, const char *values, int length) {
    size_t bytes = (size_t)length * (size_t)c->width * sizeof(real), at = place(c, row, 0);
    c->length[row] = length;
    if (bytes == 0) return;
    memcpy(c->keys + at, keys, bytes);
    memcpy(c->values + at, values, bytes);
}

Status kvcache_copy_row(KvCache *dst, int to, const KvCache *src, int from) {
    int length = needed(src, from);
    size_t at = place(src, from, src->length[from] - length);
    TRY(row_reserve(dst, to, length));
    if (length > 0)
        row_take(dst, to, (const char *)(src->keys + at), (const char *)(src->values + at), length);
    return OK;
}

// The length, then keys and values.
size_t kvcache_row_bytes(const KvCache *c, int row) {
    return sizeof(int64_t) + 2 * (size_t)needed(c, row) * (size_t)c->width * sizeof(real);
}

void kvcache_save_row(const KvCache *c, int row, char *to) {
    int64_t length = needed(c, row);
    size_t at = place(c, row, c->length[row] - (int)length);
    size_t half = (size_t)length * (size_t)c->width * sizeof(real);
    memcpy(to, &length, sizeof length);
    if (half == 0) return;
    memcpy(to + sizeof length, c->keys + at, half);
    memcpy(to + sizeof length + half, c->values + at, half);
}

Status kvcache_load_row(KvCache *c, int row, const char *from, size_t bytes) {
    int64_t length = -1;
    if (bytes >= sizeof length) memcpy(&length, from, sizeof length);
    size_t token = 2 * (size_t)c->width * sizeof(real), left = bytes - sizeof length;
    if (length < 0 || left % token != 0 || left / token != (size_t)length || length > INT32_MAX)
        FAIL(E_FORMAT, "was it saved by this model?",
             "%zu bytes are no row of keys and values of %d reals a token", bytes, c->width);
    TRY(row_reserve(c, row, (int)length));
    row_take(c, row, from + sizeof length, from + sizeof length + left / 2, (int)length);
    return OK;
}
