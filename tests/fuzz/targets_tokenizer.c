// Split patterns, word counts, training, tokenizer.json, encoding and decoding.
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "tokenizer/internal.h"

// --- the split: pieces are the text, in order ---

typedef struct Cover {
    const char *at;
} Cover;

static void cover_piece(const char *piece, size_t bytes, void *user) {
    Cover *c = user;
    ASSERT(piece == c->at && bytes > 0);
    c->at += bytes;
}

static void check_cover(Splitter *s, const char *text, size_t bytes) {
    Cover c = {text};
    Status st = splitter_run(s, text, bytes, cover_piece, &c);
    ASSERT(st == OK ? c.at == text + bytes : c.at <= text + bytes);
}

// A pattern, then a text.
static void run_pattern(const uint8_t *data, size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes};
    char *pattern = fuzz_text(fuzz_part(&rest));
    Splitter *s = NULL;
    if (splitter_open(&s, pattern) == OK) check_cover(s, rest.at, rest.bytes);
    splitter_close(s);
    free(pattern);
}

static const char TEXT[] = "It's 1234 o'clock,  they'LL say\r\n\n caf\xC3\xA9 "
                           "\xE6\x97\xA5\xE6\x9C\xAC!?... \xF0\x9F\x98\x80\xFF";

static void seed_pattern(void) {
    const char *parts[] = {SPLIT_CL100K, TEXT};
    const size_t bytes[] = {strlen(SPLIT_CL100K), strlen(TEXT)};
    fuzz_seed_parts(parts, bytes, 2);
    parts[0] = PATTERN_GPT2;
    fuzz_seed_parts(parts, (const size_t[]){strlen(PATTERN_GPT2), strlen(TEXT)}, 2);
    fuzz_seed_texts(
        (const char *const[]){"[^\\r\\n]{1,3}|(?i:ab)(?=c)|\\P{L}+\n%%%%\nABc\n", NULL});
}

static void run_splitter(const uint8_t *data, size_t bytes) {
    static Splitter *s;
    if (s == NULL) ASSERT(splitter_open(&s, NULL) == OK);
    check_cover(s, (const char *)data, bytes);
}

static void seed_text(void) {
    fuzz_seed_texts((const char *const[]){TEXT, " \n \r\n\t  x", NULL});
}

// --- word counts ---

// A dump that is accepted is the dump of what was counted.
static void run_word_count(const uint8_t *data, size_t bytes) {
    WordCount *w = wordcount_new();
    if (wordcount_merge(w, (const char *)data, bytes) == OK) {
        size_t again;
        char *dump = wordcount_dump(w, &again);
        ASSERT(again == bytes && memcmp(dump, data, bytes) == 0);
        free(dump);
    }
    wordcount_free(w);
}

static WordCount *count(const char *text, size_t bytes) {
    WordCount *w = wordcount_new();
    Splitter *s = NULL;
    ASSERT(splitter_open(&s, NULL) == OK && wordcount_text(w, s, text, bytes) == OK);
    splitter_close(s);
    return w;
}

static void seed_word_count(void) {
    size_t bytes;
    WordCount *w = count(TEXT, strlen(TEXT));
    char *dump = wordcount_dump(w, &bytes);
    fuzz_seed(dump, bytes);
    free(dump);
    wordcount_free(w);
}

// --- tokenizers ---

// Ids are in range, and decoding gives back the bytes.
static void check_round_trip(const Bpe *bpe, const char *text, size_t bytes) {
    Encoder *e = NULL;
    int32_t *ids = NULL;
    size_t n = 0, capacity = 0, back_bytes;
    ASSERT(encoder_open(&e, bpe) == OK);
    if (encoder_run(e, text, bytes, &ids, &n, &capacity) == OK) {
        for (size_t i = 0; i < n; i++) ASSERT(ids[i] >= 0 && ids[i] < bpe_vocab(bpe));
        char *back = bpe_decode(bpe, ids, n, true, &back_bytes);
        ASSERT(back_bytes == bytes && memcmp(back, text, bytes) == 0);
        free(back);
    }
    free(ids);
    encoder_close(e);
}

static bool same_hash(const Bpe *a, const Bpe *b) {
    uint64_t high_a, high_b;
    return bpe_hash(a, &high_a) == bpe_hash(b, &high_b) && high_a == high_b;
}

// What is written is read as the same tokenizer.
static void check_written(const Bpe *bpe) {
    const char *path = fuzz_path("written.json");
    Bpe *again = NULL;
    ASSERT(bpe_write_hf(bpe, path) == OK && bpe_read_hf(&again, path) == OK);
    ASSERT(same_hash(bpe, again) && bpe_vocab(again) == bpe_vocab(bpe) &&
           bpe_merges(again) == bpe_merges(bpe));
    bpe_close(again);
}

// tokenizer.json, then a text.
static void run_tokenizer(const uint8_t *data, size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes}, file = fuzz_part(&rest);
    Bpe *bpe = NULL;
    if (bpe_read_hf(&bpe, fuzz_file("tokenizer.json", file.at, file.bytes)) == OK) {
        check_round_trip(bpe, TEXT, strlen(TEXT));
        check_round_trip(bpe, rest.at, rest.bytes);
        check_written(bpe);
    }
    bpe_close(bpe);
}

static Bpe *trained(const char *text, size_t bytes, int vocab) {
    static const char *const SPECIALS[] = {"<|endoftext|>", "<pad>"};
    BpeTrainConfig cfg = {.vocab_size = vocab, .specials = SPECIALS, .special_count = 2};
    Bpe *bpe = NULL;
    WordCount *w = count(text, bytes);
    ASSERT(bpe_train(&bpe, w, &cfg) == OK);
    wordcount_free(w);
    return bpe;
}

static void seed_tokenizer(void) {
    for (int kind = 0; kind < 2; kind++) {
        Bpe *bpe = trained(TEXT, strlen(TEXT), 266);
        if (kind == 1) {  // as GPT-2's
            free(bpe->pattern);
            bpe->pattern = strdup(PATTERN_GPT2);
            bpe->byte_level_split = true;
        }
        JsonOut w = {0};
        bpe__write_json(bpe, &w);
        const char *parts[] = {w.text, TEXT};
        fuzz_seed_parts(parts, (const size_t[]){w.bytes, strlen(TEXT)}, 2);
        jsonout_free(&w);
        bpe_close(bpe);
    }
}

// A tokenizer trained on the input encodes it.
static void run_bpe_train(const uint8_t *data, size_t bytes) {
    Bpe *bpe = trained((const char *)data, bytes, 300);
    check_round_trip(bpe, (const char *)data, bytes);
    check_written(bpe);
    bpe_close(bpe);
}

static void run_encode(const uint8_t *data, size_t bytes) {
    static Bpe *bpe;
    if (bpe == NULL) {
        char path[PATH_BYTES], *text;
        size_t text_bytes;
        path_join(path, FUZZ_SOURCE_DIR, "tests/golden/tokenizer/text.txt");
        ASSERT(file_read(path, &text, &text_bytes) == OK);
        bpe = trained(text, text_bytes, 700);
        free(text);
    }
    check_round_trip(bpe, (const char *)data, bytes);
}

// --- UTF-8 for people, piece by piece ---

// The first byte is the length of a piece; the pieces do not matter, and what comes out is valid.
static void run_utf8_stream(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return;
    size_t step = 1 + data[0] % 7, n = bytes - 1, whole_bytes, used = 0;
    const char *in = (const char *)data + 1;
    char *whole = malloc(n * 3 + 16), *parts = malloc(n * 3 + 16 * (n + 2)), out[64];
    ASSERT(whole != NULL && parts != NULL);
    whole_bytes = utf8_stream(&(Utf8Stream){.count = 0}, in, n, true, whole);
    Utf8Stream s = {.count = 0};
    for (size_t at = 0; at < n; at += step) {
        size_t made = utf8_stream(&s, in + at, at + step < n ? step : n - at, false, out);
        memcpy(parts + used, out, made);
        used += made;
    }
    used += utf8_stream(&s, "", 0, true, parts + used);
    ASSERT(used == whole_bytes && memcmp(whole, parts, used) == 0);
    ASSERT(utf8__valid_prefix(whole, whole_bytes) == whole_bytes);
    if (utf8__valid_prefix(in, n) == n) ASSERT(whole_bytes == n && memcmp(whole, in, n) == 0);
    free(whole);
    free(parts);
}

// Valid UTF-8 comes out, and the same again.
static void run_compose(const uint8_t *data, size_t bytes) {
    size_t once_bytes, twice_bytes;
    char *once = utf8_compose((const char *)data, bytes, &once_bytes);
    char *twice = utf8_compose(once, once_bytes, &twice_bytes);
    ASSERT(utf8__valid_prefix(once, once_bytes) == once_bytes && once[once_bytes] == '\0');
    ASSERT(once_bytes == twice_bytes && memcmp(once, twice, once_bytes) == 0);
    free(once);
    free(twice);
}

static void seed_compose(void) {
    fuzz_seed_texts((const char *const[]){
        "e\xCC\x81\xCC\xA7 \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8 \xE2\x84\xAB",
        "\xE0\xBD\xB1\xE0\xBD\xB2\xE0\xBD\xB4\xE0\xBD\xB3 \xED\xA0\x80", NULL});
}

const FuzzTarget TOKENIZER_TARGETS[] = {
    {"pattern", run_pattern, seed_pattern, NULL},
    {"splitter", run_splitter, seed_text, NULL},
    {"word_count", run_word_count, seed_word_count, NULL},
    {"tokenizer", run_tokenizer, seed_tokenizer, NULL},
    {"bpe_train", run_bpe_train, seed_text, NULL},
    {"encode", run_encode, seed_text, NULL},
    {"compose", run_compose, seed_compose, NULL},
    {"utf8_stream", run_utf8_stream, seed_text, NULL},
    {NULL, NULL, NULL, NULL},
};
