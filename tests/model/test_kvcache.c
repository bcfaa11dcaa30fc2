// The cache of keys and values: what a token may see is there, what none may see any more takes no
// memory.
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "model/mixers/kvcache.h"

enum { B = 2, WIDTH = 3 };

static real key_of(int row, int64_t token, int i) {
    return (real)((token * 7 + row * 3 + i) % 1000);
}

static void append(KvCache *c, int64_t token, int T) {
    real *keys = malloc(sizeof(real) * B * WIDTH * (size_t)T),
         *values = malloc(sizeof(real) * B * WIDTH * (size_t)T);
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++)
            for (int i = 0; i < WIDTH; i++) {
                keys[(b * T + t) * WIDTH + i] = key_of(b, token + t, i);
                values[(b * T + t) * WIDTH + i] = -key_of(b, token + t, i);
            }
    cr_assert_eq(kvcache_reserve(c, T), OK);
    kvcache_append(c, keys, values, B, T);
    free(keys), free(values);
}

// The last `count` tokens of a row are those before `end`.
static void expect_last(const KvCache *c, int row, int count, int64_t end) {
    CacheView v = kvcache_view(c);
    cr_assert_geq(v.length[row], count);
    for (int t = 0; t < count; t++) {
        size_t at =
            ((size_t)row * (size_t)v.capacity + (size_t)(v.length[row] - count + t)) * WIDTH;
        for (int i = 0; i < WIDTH; i++) {
            cr_assert_eq(v.keys[at + (size_t)i], key_of(row, end - count + t, i));
            cr_assert_eq(v.values[at + (size_t)i], -key_of(row, end - count + t, i));
        }
    }
}

Test(kvcache, without_a_window_keeps_everything) {
    KvCache *c = kvcache_open(B, WIDTH, 0);
    int64_t token = 0;
    for (int n = 1; token < 1000; token += n, n = n % 97 + 5) append(c, token, n);
    for (int b = 0; b < B; b++) expect_last(c, b, (int)token, token);
    kvcache_close(c);
}

Test(kvcache, of_a_window_is_bounded) {
    static const int WINDOWS[] = {1, 2, 50, 300};
    for (int w = 0; w < 4; w++) {
        KvCache *c = kvcache_open(B, WIDTH, WINDOWS[w]);
        size_t bytes = 0;
        for (int64_t token = 0; token < 100000; token++) {
            append(c, token, 1);
            int seen = token + 1 < WINDOWS[w] ? (int)token + 1 : WINDOWS[w];
            if (token % 997 == 0 || token < 700)
                for (int b = 0; b < B; b++) expect_last(c, b, seen, token + 1);
            if (token == 1000) bytes = kvcache_bytes(c);
        }
        cr_assert_eq(kvcache_bytes(c), bytes, "window %d", WINDOWS[w]);
        cr_assert_leq(bytes, 2 * sizeof(real) * B * WIDTH * (size_t)(2 * WINDOWS[w] + 64));
        kvcache_close(c);
    }
}

// Prefill takes chunks longer than the window.
Test(kvcache, takes_chunks_of_any_length) {
    KvCache *c = kvcache_open(B, WIDTH, 10);
    int64_t token = 0;
    static const int CHUNKS[] = {512, 1, 3, 40, 9, 512, 10, 11};
    for (int i = 0; i < 64; i++) {
        int n = CHUNKS[i % 8];
        append(c, token, n);
        token += n;
        int seen = token < n + 9 ? (int)token : n + 9;  // by the first of the chunk
        for (int b = 0; b < B; b++) expect_last(c, b, seen, token);
    }
    cr_assert_leq(kvcache_bytes(c), 2 * sizeof(real) * B * WIDTH * (512 + 2 * 512));
    kvcache_close(c);
}

Test(kvcache, copies_and_saves_rows) {
    static const int WINDOWS[] = {0, 7};
    for (int w = 0; w < 2; w++) {
        KvCache *a = kvcache_open(B, WIDTH, WINDOWS[w]), *b = kvcache_open(B, WIDTH, WINDOWS[w]);
        append(a, 0, 130);
        append(a, 130, 1);
        cr_assert_eq(kvcache_copy_row(b, 1, a, 1), OK);
        expect_last(b, 1, WINDOWS[w] == 0 ? 131 : 6, 131);
        size_t bytes = kvcache_row_bytes(a, 0);
        char *row = malloc(bytes);
        kvcache_save_row(a, 0, row);
        cr_assert_eq(kvcache_load_row(b, 0, row, bytes), OK);
        expect_last(b, 0, WINDOWS[w] == 0 ? 131 : 6, 131);
        for (size_t n = 0; n < bytes; n++) cr_assert_eq(kvcache_load_row(b, 0, row, n), E_FORMAT);
        free(row);
        kvcache_close(a);
        kvcache_close(b);
    }
}
