// The shard format: round trips, and that no damage goes unseen.
#include "data/internal.h"
#include "tests/ref/tree.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 77, DOCS = 3, EOD = 2 };
static const uint64_t ENDS[DOCS] = {1, 43, TOKENS}, IDS[DOCS] = {7, 1ULL << 52, UINT64_MAX};

typedef struct Sample {
    char dir[PATH_BYTES], path[PATH_BYTES];
    int32_t tokens[TOKENS];
    ShardInfo info;
} Sample;

static void sample_write(Sample *s, uint32_t vocab) {
    snprintf(s->dir, sizeof s->dir, "/tmp/sterna_shard_XXXXXX");
    cr_assert_not_null(mkdtemp(s->dir));
    path_join(s->path, s->dir, "a.tns");
    for (int i = 0; i < TOKENS; i++) s->tokens[i] = (int32_t)(vocab - 1 - (uint32_t)i);
    for (int d = 0; d < DOCS; d++) s->tokens[ENDS[d] - 1] = EOD;
    s->info = (ShardInfo){.tokens = TOKENS,
                          .docs = DOCS,
                          .vocab = vocab,
                          .eod = EOD,
                          .source = 5,
                          .number = 9,
                          .tokenizer = {0x1122334455667788, 0x99AABBCCDDEEFF00}};
    cr_assert_eq(shard_write(s->path, &s->info, s->tokens, ENDS, IDS), OK, "%s", err_message());
}

static void sample_remove(const Sample *s) {
    cr_assert_eq(tree_remove(s->dir), OK);
}

// Replaces the file by `bytes` of data, without waiting for the disk.
static void put_file(const char *path, const char *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

static Status try_open(const char *path, bool verify) {
    Shard *s;
    Status st = shard_open(&s, path, verify);
    cr_assert((st == OK) == (s != NULL));
    shard_close(s);
    return st;
}

static void check_round_trip(uint32_t vocab, size_t width) {
    Sample a;
    sample_write(&a, vocab);
    Shard *s;
    cr_assert_eq(shard_open(&s, a.path, true), OK, "%s", err_message());
    cr_assert_eq(memcmp(shard_info(s), &a.info, sizeof a.info), 0);
    cr_assert_eq(memcmp(shard_doc_ends(s), ENDS, sizeof ENDS), 0);
    for (uint64_t begin = 0; begin <= TOKENS; begin += 7) {
        int32_t got[TOKENS + 1] = {0};
        got[TOKENS - begin] = -5;
        shard_tokens(s, got, begin, TOKENS - begin);
        cr_assert_eq(memcmp(got, a.tokens + begin, (TOKENS - begin) * sizeof *got), 0);
        cr_assert_eq(got[TOKENS - begin], -5, "wrote too far");
    }
    shard_close(s);

    // The layout, as other programs read it.
    char *file;
    size_t bytes;
    cr_assert_eq(file_read(a.path, &file, &bytes), OK);
    uint64_t id;
    memcpy(&id, file + bytes - 8 - 64 + 16, 8);
    cr_assert_eq(file[16], (char)width);
    cr_assert_eq(id, IDS[2]);
    uint32_t first = 0;
    memcpy(&first, file + 512 + width, width);
    cr_assert_eq(first, vocab - 2);
    free(file);
    sample_remove(&a);
}

Test(shard, round_trip_of_two_byte_tokens) {
    check_round_trip(65536, 2);
}
Test(shard, round_trip_of_four_byte_tokens) {
    check_round_trip(65537, 4);
}

Test(shard, without_documents_round_trips) {
    Sample a;
    sample_write(&a, 1000);
    ShardInfo info = {.vocab = 1000, .eod = EOD};
    cr_assert_eq(shard_write(a.path, &info, NULL, NULL, NULL), OK);
    Shard *s;
    cr_assert_eq(shard_open(&s, a.path, true), OK, "%s", err_message());
    cr_assert_eq(shard_info(s)->docs, 0);
    shard_close(s);
    sample_remove(&a);
}

Test(shard, every_flipped_byte_is_detected) {
    Sample a;
    sample_write(&a, 1000);
    char *file;
    size_t bytes;
    cr_assert_eq(file_read(a.path, &file, &bytes), OK);
    for (size_t i = 0; i < bytes; i++) {
        for (int bit = 0; bit < 8; bit += 3) {
            file[i] ^= (char)(1 << bit);
            put_file(a.path, file, bytes);
            cr_assert_eq(try_open(a.path, true), E_FORMAT, "byte %zu bit %d", i, bit);
            cr_assert_not_null(strstr(err_message(), "a.tns"), "%s", err_message());
            file[i] ^= (char)(1 << bit);
        }
    }
    put_file(a.path, file, bytes);
    cr_assert_eq(try_open(a.path, true), OK);
    free(file);
    sample_remove(&a);
}

Test(shard, every_truncation_and_every_extra_byte_is_detected) {
    Sample a;
    sample_write(&a, 1000);
    char *file;
    size_t bytes;
    cr_assert_eq(file_read(a.path, &file, &bytes), OK);
    for (size_t n = 0; n < bytes; n++) {
        put_file(a.path, file, n);
        cr_assert_eq(try_open(a.path, false), E_FORMAT, "%zu bytes, header only", n);
        cr_assert_eq(try_open(a.path, true), E_FORMAT, "%zu bytes", n);
    }
    char *longer = calloc(bytes + 64, 1);
    memcpy(longer, file, bytes);
    for (size_t n = bytes + 1; n <= bytes + 64; n++) {
        put_file(a.path, longer, n);
        cr_assert_eq(try_open(a.path, false), E_FORMAT, "%zu bytes", n);
    }
    free(longer);
    free(file);
    sample_remove(&a);
}

Test(shard, missing_file_is_an_input_output_error) {
    cr_assert_eq(try_open("/tmp/sterna_no_such_shard.tns", true), E_IO);
}

// Changes `bytes` at `offset` and then makes all checksums right again: what a hostile writer does.
static void forge(const Sample *a, size_t offset, const void *value, size_t size) {
    char *file;
    size_t bytes;
    cr_assert_eq(file_read(a->path, &file, &bytes), OK);
    memcpy(file + offset, value, size);
    for (int i = 0; i < 3; i++) {
        uint64_t at, length, hash;
        memcpy(&at, file + 80 + i * 32 + 8, 8);
        memcpy(&length, file + 80 + i * 32 + 16, 8);
        if (at > bytes || length > bytes - at) continue;
        hash = hash64(file + at, length);
        memcpy(file + 80 + i * 32 + 24, &hash, 8);
    }
    uint64_t footer = hash64(file, 512);
    memcpy(file + bytes - 8, &footer, 8);
    put_file(a->path, file, bytes);
    free(file);
}

Test(shard, forged_contents_with_right_checksums_are_refused) {
    const uint64_t huge = 1ULL << 62, past = TOKENS + 1, zero = 0, early = TOKENS - 1, forty = 40,
                   one = 1;
    const uint64_t wraps = UINT64_MAX - 7;
    const uint32_t newer = 2, none = 0, narrow = 70000, big = 0x80000000, outside = 1000;
    const size_t ends = 512 + 192;  // 77 tokens of 2 bytes, rounded up to 64
    const struct {
        size_t offset;
        const void *value;
        size_t bytes;
        const char *message;
    } cases[] = {
        {8, &none, 4, "version 0"},
        {24, &huge, 8, "tokens"},
        {24, &past, 8, NULL},
        {32, &huge, 8, NULL},
        {32, &zero, 8, NULL},
        {40, &narrow, 4, "contradict"},
        {40, &big, 4, "contradict"},
        {44, &outside, 4, "contradict"},
        {80 + 8, &wraps, 8, "section"},
        {80 + 16, &huge, 8, "section"},
        {ends, &zero, 8, "document 0"},
        {ends, &past, 8, "document 0"},
        {ends + 8, &one, 8, "document 1"},
        {ends + 8, &forty, 8, "document 1"},
        {ends + 8, &huge, 8, "document 1"},
        {ends + 16, &early, 8, "document 2"},
        {512 + 8, &outside, 2, "token 1000 is outside"},
    };
    Sample a;
    sample_write(&a, 1000);
    char *file;
    size_t bytes;
    cr_assert_eq(file_read(a.path, &file, &bytes), OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_file(a.path, file, bytes);
        forge(&a, cases[i].offset, cases[i].value, cases[i].bytes);
        cr_assert_eq(try_open(a.path, true), E_FORMAT, "case %zu", i);
        if (cases[i].message != NULL)
            cr_assert_not_null(strstr(err_message(), cases[i].message), "case %zu: %s", i,
                               err_message());
    }
    put_file(a.path, file, bytes);
    forge(&a, 8, &newer, 4);
    cr_assert_eq(try_open(a.path, true), E_NEWER, "%s", err_message());
    free(file);
    sample_remove(&a);
}
