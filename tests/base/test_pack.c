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
    packout_map(w, 7);
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
    packout_bool(w, true);
    packout_bool(w, false);
    packout_array(w, 0);
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
    const PackValue *r = pack_root(p), *a = pack_get(r, "array");
    char text[16];
    uint32_t n;
    pack_text(pack_get(r, "text"), text, sizeof text);
    cr_expect_str_eq(text, "h\xc3\xa9llo");
    const void *b = pack_bytes(pack_get(r, "bytes"), &n);
    cr_assert_eq(n, 3);
    cr_expect_eq(memcmp(b, "a\0b", 3), 0);
    cr_expect_eq(pack_u64(pack_get(r, "u64"), 0), UINT64_MAX);
    cr_expect_eq(pack_i64(pack_get(r, "i64"), 0), INT64_MIN);
    cr_expect_eq(pack_f64(pack_get(r, "f64"), 0), DBL_MIN);
    cr_expect_eq(pack_count(r), 7);
    cr_expect_eq(pack_count(a), 3);
    cr_expect(pack_bool(pack_at(a, 0), false));
    cr_expect_not(pack_bool(pack_at(a, 1), true));
    cr_expect_eq(pack_count(pack_at(a, 2)), 0);
    cr_expect_null(pack_at(a, 3));
    pack_close(p);
    pack_close(NULL);
    packout_free(NULL);
}

Test(pack, wrong_types_and_missing_values_give_the_fallback) {
    PackOut *w = sample();
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    Pack *p;
    ASSERT_OK(pack_open(&p, data, bytes, "sample"));
    const PackValue *r = pack_root(p), *t = pack_get(r, "text"), *big = pack_get(r, "u64");
    uint32_t n = 9;
    char text[4] = "xyz";
    cr_expect_null(pack_get(r, "tex"));
    cr_expect_null(pack_get(t, "text"));
    cr_expect_null(pack_get(NULL, "text"));
    cr_expect_null(pack_at(r, 0));
    cr_expect_eq(pack_u64(t, 5), 5);
    cr_expect_eq(pack_u64(pack_get(r, "i64"), 5), 5);  // negative
    cr_expect_eq(pack_i64(big, 5), 5);                 // too large
    cr_expect_eq(pack_f64(t, 0.5), 0.5);
    cr_expect_eq(pack_f64(big, 0.5), 18446744073709551616.0);
    cr_expect(pack_bool(big, true));
    cr_expect_null(pack_bytes(t, &n));
    cr_expect_eq(n, 0);
    cr_expect_eq(pack_count(t), 0);
    pack_text(big, text, sizeof text);
    cr_expect_str_eq(text, "");
    pack_text(t, text, sizeof text);  // cut
    cr_expect_str_eq(text, "h\xc3\xa9");
    pack_text(t, text, 1);
    cr_expect_str_eq(text, "");
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
        cr_expect_eq(pack_i64(pack_at(pack_root(p), i), 99), VALUES[i]);
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
    cr_expect_eq(pack_u64(pack_root(p), 0), 1);
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
    cr_expect_eq(pack_count(pack_root(p)), 0x28);
    cr_expect_eq(pack_f64(pack_at(pack_root(p), 19), 0), 1.0);  // 32 bits
    cr_expect_eq(pack_count(pack_at(pack_root(p), 37)), 1);
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
        pack_text(pack_get(pack_root(p), "text"), text, sizeof text);
        pack_close(p);
    }
    free(copy);
    packout_free(w);
}
