// MessagePack: round trips, and input that lies about its sizes.
#include <criterion/criterion.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/pack.h"
#include "base/rng.h"
#include "temp.h"

static PackOut *sample(void) {
    PackOut *w = packout_new();
    packout_map(w, 8);
    packout_text(w, "text");
    packout_text(w, "h\xc3\xa9llo");
    packout_text(w, "bytes");
    packout_bytes(w, "a\0b", 3);
    packout_text(w, "u64");
    packout_u64(w, UINT64_MAX);
    packout_text(w, "i64");
    packout_i64(w, INT64_MIN);
    packout_text(w, "f64");
    packout_f64(w, DBL_MIN);
    packout_text(w, "array");
    packout_array(w, 3);
    packout_u64(w, 9);
    packout_i64(w, -9);
    packout_array(w, 0);
    packout_text(w, "yes");
    packout_bool(w, true);
    packout_text(w, "map");
    packout_map(w, 0);
    return w;
}

Test(pack, what_is_written_is_read) {
    PackOut *w = sample();
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    Pack *p;
    ASSERT_OK(pack_open(&p, data, bytes, "sample"));
    packout_free(w);  // the reader holds a copy
    const PackValue *r = pack_root(p), *a, *v;
    char text[16];
    uint32_t n;
    uint64_t u;
    int64_t i;
    double f;
    bool flag;
    const void *b;
    EXPECT_OK(pack_text(text, sizeof text, r, "text"));
    cr_expect_str_eq(text, "h\xc3\xa9llo");
    EXPECT_OK(pack_bytes(&b, &n, r, "bytes"));
    cr_assert_eq(n, 3);
    cr_expect_eq(memcmp(b, "a\0b", 3), 0);
    EXPECT_OK(pack_u64(&u, r, "u64"));
    EXPECT_OK(pack_i64(&i, r, "i64"));
    EXPECT_OK(pack_f64(&f, r, "f64"));
    EXPECT_OK(pack_bool(&flag, r, "yes"));
    cr_expect(u == UINT64_MAX && i == INT64_MIN && f == DBL_MIN && flag);
    EXPECT_OK(pack_f64(&f, r, "u64"));  // any number
    cr_expect_eq(f, 18446744073709551616.0);
    EXPECT_OK(pack_array(&a, &n, r, "array"));
    cr_expect_eq(n, 3);
    EXPECT_OK(pack_item_u64(&u, a, 0));
    EXPECT_OK(pack_item_i64(&i, a, 1));
    cr_expect(u == 9 && i == -9);
    EXPECT_OK(pack_item(&v, a, 2));
    EXPECT_OK(pack_map(&v, r, "map"));
    EXPECT_FAIL(pack_map(&v, r, "mop"), E_FORMAT, "'mop' is missing");
    pack_close(p);
    pack_close(NULL);
    packout_free(NULL);
}

// A getter with the types it takes, by the keys of the sample.
static Status get_as(const char *getter, const PackValue *r, const char *key) {
    const PackValue *v;
    char text[16];
    uint32_t n;
    uint64_t u;
    int64_t i;
    double f;
    bool flag;
    const void *b;
    if (strcmp(getter, "u64") == 0) return pack_u64(&u, r, key);
    if (strcmp(getter, "i64") == 0) return pack_i64(&i, r, key);
    if (strcmp(getter, "f64") == 0) return pack_f64(&f, r, key);
    if (strcmp(getter, "yes") == 0) return pack_bool(&flag, r, key);
    if (strcmp(getter, "text") == 0) return pack_text(text, sizeof text, r, key);
    if (strcmp(getter, "bytes") == 0) return pack_bytes(&b, &n, r, key);
    if (strcmp(getter, "array") == 0) return pack_array(&v, &n, r, key);
    return pack_map(&v, r, key);
}

Test(pack, no_getter_takes_another_type_or_nothing) {
    static const char *const KEYS[] = {"text", "bytes", "u64", "i64", "f64", "array", "map", "yes"};
    enum { N = sizeof KEYS / sizeof KEYS[0] };
    PackOut *w = sample();
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    Pack *p;
    ASSERT_OK(pack_open(&p, data, bytes, "sample"));
    const PackValue *r = pack_root(p), *v, *a;
    for (int g = 0; g < N; g++) {
        for (int k = 0; k < N; k++) {
            bool takes = g == k || (strcmp(KEYS[g], "f64") == 0 && strcmp(KEYS[k] + 1, "64") == 0);
            if (takes)
                EXPECT_OK(get_as(KEYS[g], r, KEYS[k]));
            else
                EXPECT_FAIL(get_as(KEYS[g], r, KEYS[k]), E_FORMAT, KEYS[k]);
        }
        EXPECT_FAIL(get_as(KEYS[g], r, "gone"), E_FORMAT, "'gone' is missing");
    }
    uint64_t u;
    int64_t i;
    uint32_t n;
    char text[4];
    EXPECT_FAIL(pack_text(text, sizeof text, r, "text"), E_FORMAT, "'text'");  // does not fit
    EXPECT_OK(pack_array(&a, &n, r, "array"));
    EXPECT_FAIL(pack_item(&v, a, 3), E_FORMAT, "item 3");
    EXPECT_FAIL(pack_item(&v, r, 0), E_FORMAT, "item 0");
    EXPECT_FAIL(pack_item_u64(&u, a, 1), E_FORMAT, "item 1");  // negative
    EXPECT_FAIL(pack_item_i64(&i, a, 2), E_FORMAT, "item 2");
    EXPECT_FAIL(pack_u64(&u, a, "u64"), E_FORMAT, "'u64' is missing");  // no map at all
    pack_close(p);
    packout_free(w);
}

Test(pack, integers_of_all_sizes_survive) {
    static const int64_t VALUES[] = {
        0,   1,    127,  128,    255,    256,       65535,     65536,     -1,         -32,
        -33, -128, -129, -32768, -32769, INT32_MAX, INT32_MIN, INT64_MAX, 4294967296, INT64_MIN};
    enum { N = sizeof VALUES / sizeof VALUES[0] };
    PackOut *w = packout_new();
    packout_array(w, N);
    for (int i = 0; i < N; i++) packout_i64(w, VALUES[i]);
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    Pack *p;
    ASSERT_OK(pack_open(&p, data, bytes, "integers"));
    for (uint32_t i = 0; i < N; i++) {
        int64_t v = 99;
        EXPECT_OK(pack_item_i64(&v, pack_root(p), i));
        cr_expect_eq(v, VALUES[i]);
    }
    pack_close(p);
    packout_free(w);
}

Test(pack, every_cut_is_refused) {
    PackOut *w = sample();
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    for (size_t n = 0; n < bytes; n++) {
        char *cut = malloc(n + 1);  // of this size, so that reading on is seen
        memcpy(cut, data, n);
        Pack *p;
        EXPECT_FAIL(pack_open(&p, cut, n, "cut"), E_FORMAT, "cut: MessagePack");
        cr_expect_null(p);
        free(cut);
    }
    packout_free(w);
}

Test(pack, bytes_after_the_end_are_refused) {
    Pack *p;
    EXPECT_FAIL(pack_open(&p, "\x01\x02", 2, "two"), E_FORMAT, "two: 1 bytes follow");
    ASSERT_OK(pack_open(&p, "\x01", 1, "one"));
    pack_close(p);
}

Test(pack, claimed_sizes_beyond_the_input_reserve_nothing) {
    static const struct {
        const char *bytes;
        size_t n;
    } LIES[] = {{"\xdd\xff\xff\xff\xff", 5},      // array of 4 G members
                {"\xdf\xff\xff\xff\xff", 5},      // map of 4 G pairs
                {"\xdf\x80\x00\x00\x00", 5},      // pairs whose double wraps 32 bits
                {"\xdb\xff\xff\xff\xff", 5},      // text of 4 GiB
                {"\xc6\xff\xff\xff\xff", 5},      // bytes of 4 GiB
                {"\xc9\xff\xff\xff\xff\x01", 6},  // extension of 4 GiB
                {"\xdc\x00\x02\x01", 4},          // array 16 with one of two
                {"\x82\x01\x02", 3},              // map with one of two pairs
                {"\xc1", 1},                      // the byte without meaning
                {"\xd8\x01", 2},                  // fixext 16 without its body
                {"\xcf\x00\x00", 3}};             // uint64 cut off
    for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; i++) {
        Pack *p;
        cr_expect_eq(pack_open(&p, LIES[i].bytes, LIES[i].n, "lie"), E_FORMAT, "lie %zu", i);
    }
}

Test(pack, every_kind_of_value_is_scanned_at_its_length) {
    // One array with each head of the specification, lengths 0 or 1: the scan must end with the
    // data.
    static const char ALL[] =
        "\xdc\x00\x28"
        "\x00\x7f\xe0\xff\x80\x81\x01\x02\x90\x91\x01\xa0\xa1x\xc0\xc2\xc3"
        "\xc4\x01x\xc5\x00\x01x\xc6\x00\x00\x00\x01x"
        "\xc7\x01\x05x\xc8\x00\x01\x05x\xc9\x00\x00\x00\x01\x05x"
        "\xca\x3f\x80\x00\x00\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"
        "\xcc\x01\xcd\x00\x01\xce\x00\x00\x00\x01\xcf\x00\x00\x00\x00\x00\x00\x00\x01"
        "\xd0\x01\xd1\x00\x01\xd2\x00\x00\x00\x01\xd3\x00\x00\x00\x00\x00\x00\x00\x01"
        "\xd4\x05x\xd5\x05xx\xd6\x05xxxx\xd7\x05xxxxxxxx\xd8\x05xxxxxxxxxxxxxxxx"
        "\xd9\x01x\xda\x00\x01x\xdb\x00\x00\x00\x01x"
        "\xdc\x00\x01\x01\xdd\x00\x00\x00\x01\x01\xde\x00\x00";
    Pack *p;
    ASSERT_OK(pack_open(&p, ALL, sizeof ALL - 1, "all"));
    const PackValue *v;
    int64_t i;
    EXPECT_OK(pack_item(&v, pack_root(p), 0x27));
    EXPECT_FAIL(pack_item(&v, pack_root(p), 0x28), E_FORMAT, "item 40");
    EXPECT_OK(pack_item(&v, pack_root(p), 37));
    EXPECT_OK(pack_item_i64(&i, v, 0));
    pack_close(p);
}

Test(pack, nesting_is_limited) {
    char deep[100];
    Pack *p;
    memset(deep, '\x91', sizeof deep);
    deep[24] = '\x01';
    ASSERT_OK(pack_open(&p, deep, 25, "deep"));
    pack_close(p);
    deep[24] = '\x91';
    deep[25] = '\x01';
    EXPECT_FAIL(pack_open(&p, deep, 26, "deep"), E_FORMAT, "nested too deeply");
    memset(deep, '\x91', sizeof deep);
    EXPECT_FAIL(pack_open(&p, deep, sizeof deep, "deep"), E_FORMAT, "nested too deeply");
}

Test(pack, random_bytes_and_flipped_bits_do_no_harm) {
    PackOut *w = sample();
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    char *copy = malloc(bytes);
    Pack *p;
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t r = rng_u64(5, STREAM_TEST, i);
        memcpy(copy, data, bytes);
        copy[r % bytes] = (char)(r >> 32);
        copy[(r >> 16) % bytes] ^= (char)(1 << (r >> 40) % 8);
        if (pack_open(&p, copy, bytes, "flipped") != OK) continue;
        char text[8];
        Status st = pack_text(text, sizeof text, pack_root(p), "text");
        cr_expect(st == OK || st == E_FORMAT);
        pack_close(p);
    }
    free(copy);
    packout_free(w);
}
