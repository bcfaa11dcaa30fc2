// Shared by the tokenizer's tests: random texts, a small tokenizer, temporary files.
#pragma once

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "tokenizer/internal.h"

#define UNUSED __attribute__((unused))

// A stream of random numbers; `below` is not exactly uniform, which tests do not need.
typedef struct Dice {
    uint64_t seed, drawn;
} Dice;

UNUSED static uint64_t dice_below(Dice *d, uint64_t limit) {
    return rng_u64(d->seed, STREAM_TEST, d->drawn++) % limit;
}

// One random character of the kind real text and hostile text are made of; returns its bytes.
UNUSED static size_t dice_text(Dice *d, char *out) {
    static const char *const PIECES[] = {
        " ", "\n",   "\r\n",        "  ",     "\t",  "'s", "'LL", "the",  " and",   "7", "123",
        "é", "日本", "👩‍👧", "\u0301", "...", "_",  "#!",  "\x00", "\u2003", "٣", "Ⅷ"};
    uint64_t kind = dice_below(d, 8);
    if (kind == 0) {  // any byte
        out[0] = (char)dice_below(d, 256);
        return 1;
    }
    if (kind <= 2) {
        out[0] = (char)('a' + dice_below(d, 26));
        return 1;
    }
    const char *piece = PIECES[dice_below(d, sizeof PIECES / sizeof *PIECES)];
    size_t bytes = *piece == '\0' ? 1 : strlen(piece);
    memcpy(out, piece, bytes);
    return bytes;
}

// capacity >= 32
UNUSED static size_t dice_string(Dice *d, char *out, size_t capacity) {
    size_t parts = dice_below(d, 12), bytes = 0;
    for (size_t i = 0; i < parts && bytes + 32 <= capacity; i++) bytes += dice_text(d, out + bytes);
    return bytes;
}

UNUSED static WordCount *count_text(const char *text, size_t bytes) {
    Splitter *s;
    cr_assert_eq(splitter_open(&s, NULL), OK, "%s", err_message());
    WordCount *w = wordcount_new();
    cr_assert_eq(wordcount_text(w, s, text, bytes), OK);
    splitter_close(s);
    return w;
}

UNUSED static char *golden_read(const char *name, size_t *bytes) {
    char path[PATH_BYTES], *text;
    snprintf(path, sizeof path, "%s/golden/tokenizer/%s", TEST_SOURCE_DIR, name);
    cr_assert_eq(file_read(path, &text, bytes), OK, "%s", err_message());
    return text;
}

static const char *const GOLDEN_SPECIALS[] = {"<|endoftext|>", "<|pad|>"};
enum { GOLDEN_VOCAB = 700 };

// Trained on the golden text.
UNUSED static Bpe *golden_bpe(void) {
    size_t bytes;
    char *text = golden_read("text.txt", &bytes);
    WordCount *w = count_text(text, bytes);
    Bpe *bpe;
    BpeTrainConfig cfg = {
        .vocab_size = GOLDEN_VOCAB, .specials = GOLDEN_SPECIALS, .special_count = 2};
    cr_assert_eq(bpe_train(&bpe, w, &cfg), OK, "%s", err_message());
    wordcount_free(w);
    free(text);
    return bpe;
}

// A file of its own per process; the caller unlinks it.
UNUSED static const char *temporary_path(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/sterna-test-tokenizer-%ld.json", (long)getpid());
    return path;
}

typedef struct Ids {
    int32_t *ids;
    size_t count, capacity;
} Ids;

UNUSED static void encode(Encoder *e, Ids *out, const char *text, size_t bytes) {
    out->count = 0;
    cr_assert_eq(encoder_run(e, text, bytes, &out->ids, &out->count, &out->capacity), OK);
}

// {"text": ..., "ids": [...]}: what another program makes of a text.
UNUSED static void expect_vector(Encoder *e, Ids *got, const JsonAt *vector) {
    JsonAt text, ids, id;
    const char *bytes;
    size_t count;
    int64_t value;
    cr_assert_eq(json_member(&text, vector, "text"), OK);
    cr_assert_eq(json_bytes(&bytes, &count, &text), OK, "%s", err_message());
    cr_assert_eq(json_need_list(&ids, vector, "ids"), OK, "%s", err_message());
    encode(e, got, bytes, count);
    cr_assert_eq(got->count, json_count(&ids), "%s: %zu ids", bytes, got->count);
    for (size_t k = 0; k < got->count; k++) {
        cr_assert_eq(json_item(&id, &ids, k), OK);
        cr_assert_eq(json_int(&value, &id), OK);
        cr_assert_eq(got->ids[k], value, "%s: id %zu", bytes, k);
    }
}

// A list of vectors in tests/golden/tokenizer. Returns their number.
UNUSED static size_t expect_golden(const Bpe *bpe, const char *name) {
    Encoder *e;
    Ids got = {0};
    Json *root;
    size_t bytes;
    char *text = golden_read(name, &bytes);
    cr_assert_eq(json_open(&root, text, bytes, name), OK, "%s", err_message());
    cr_assert_eq(encoder_open(&e, bpe), OK);
    JsonAt top = json_top(root, name, NULL), vector;
    size_t count = json_count(&top);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(json_item(&vector, &top, i), OK);
        expect_vector(e, &got, &vector);
    }
    encoder_close(e);
    free(got.ids);
    json_close(root);
    free(text);
    return count;
}
