// tokenizer.json: round trips to identical bytes, both spellings of merges, vectors of GPT-2,
// hostile files.
#include <ctype.h>

#include "tests/tokenizer/tools.h"

static Status read_text(Bpe **bpe, const char *text) {
    const char *path = temporary_path();
    FILE *file = fopen(path, "wb");  // not file_write: thousands of files need no fsync
    cr_assert(file != NULL && fwrite(text, 1, strlen(text), file) == strlen(text));
    fclose(file);
    Status st = bpe_read_hf(bpe, path);
    unlink(path);
    return st;
}

static char *write_text(const Bpe *bpe) {
    JsonOut out = {.indent = 2};
    bpe__write_json(bpe, &out);
    return out.text;
}

static void expect_same_ids(const Bpe *a, const Bpe *b) {
    Encoder *x, *y;
    cr_assert_eq(encoder_open(&x, a), OK);
    cr_assert_eq(encoder_open(&y, b), OK);
    Dice d = {.seed = 21};
    Ids p = {0}, q = {0};
    char text[128];
    for (int round = 0; round < 500; round++) {
        size_t bytes = dice_string(&d, text, sizeof text);
        encode(x, &p, text, bytes);
        encode(y, &q, text, bytes);
        cr_assert(p.count == q.count &&
                  (p.count == 0 || memcmp(p.ids, q.ids, p.count * sizeof *p.ids) == 0));
    }
    free(p.ids);
    free(q.ids);
    encoder_close(x);
    encoder_close(y);
}

Test(hf_json, round_trip_gives_identical_bytes_ids_and_hash) {
    Bpe *bpe = golden_bpe(), *again;
    const char *path = temporary_path();
    cr_assert_eq(bpe_write_hf(bpe, path), OK);
    cr_assert_eq(bpe_read_hf(&again, path), OK, "%s", err_message());
    unlink(path);
    char *a = write_text(bpe), *b = write_text(again);
    cr_assert_str_eq(a, b);
    Hash128 hash = hash128(a, strlen(a));
    uint64_t high;
    cr_assert_eq(bpe_hash(again, &high), hash.low);
    cr_assert_eq(high, hash.high);
    cr_assert_eq(bpe_special(again, "<|pad|>"), 1);
    expect_same_ids(bpe, again);
    free(a);
    free(b);
    bpe_close(bpe);
    bpe_close(again);
}

// Replaces the first `from` in text by `to`; malloc'ed.
static char *replaced(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    cr_assert_not_null(at, "no %s", from);
    size_t head = (size_t)(at - text), size = strlen(text) + strlen(to) + 1;
    char *out = malloc(size);
    snprintf(out, size, "%.*s%s%s", (int)head, text, to, at + strlen(from));
    return out;
}

Test(hf_json, merges_are_read_in_both_spellings) {
    Bpe *bpe = golden_bpe(), *again;
    char *text = write_text(bpe);
    // "a b" -> ["a","b"] in the list of merges.
    char *merges = strstr(text, "\"merges\"");
    size_t size = strlen(text) * 2, n = (size_t)(merges - text) + 8;
    char *pairs = calloc(size, 1);
    memcpy(pairs, text, n);
    bool inside = false;
    for (const char *c = merges + 8; *c != '\0'; c++) {
        bool escaped = c[-1] == '\\' && c[-2] != '\\';
        if (*c == '"' && !escaped) {
            n += (size_t)sprintf(pairs + n, inside ? "\"]" : "[\"");
            inside = !inside;
        } else if (*c == ' ' && inside) {
            n += (size_t)sprintf(pairs + n, "\",\"");
        } else {
            pairs[n++] = *c;
        }
    }
    cr_assert_eq(read_text(&again, pairs), OK, "%s", err_message());
    uint64_t high;
    cr_assert_eq(bpe_hash(again, &high), bpe_hash(bpe, NULL));
    cr_assert_eq(bpe_merges(again), bpe_merges(bpe));
    bpe_close(again);
    bpe_close(bpe);
    free(pairs);
    free(text);
}

Test(hf_json, ignore_merges_takes_whole_words_first) {
    Bpe *bpe = golden_bpe(), *plain, *ignoring;
    char *text = write_text(bpe);
    // Without its last merge, the last token is out of reach, unless merges are ignored.
    size_t bytes;
    const char *token = bpe_token(bpe, GOLDEN_VOCAB - 1, &bytes);
    char *last = strrchr(text, ',');  // the comma before the last merge
    char *close = strchr(last, ']');
    memmove(last, close, strlen(close) + 1);
    char *ignore = replaced(text, "\"ignore_merges\": false", "\"ignore_merges\": true");
    cr_assert_eq(read_text(&plain, text), OK, "%s", err_message());
    cr_assert_eq(read_text(&ignoring, ignore), OK, "%s", err_message());
    Ids ids = {0};
    Encoder *e;
    cr_assert_eq(encoder_open(&e, plain), OK);
    encode(e, &ids, token, bytes);
    cr_assert_eq(ids.count, 2);
    encoder_close(e);
    cr_assert_eq(encoder_open(&e, ignoring), OK);
    encode(e, &ids, token, bytes);
    cr_assert(ids.count == 1 && ids.ids[0] == GOLDEN_VOCAB - 1);
    encoder_close(e);

    char *again = write_text(ignoring);
    cr_assert(strstr(again, "\"ignore_merges\": true") != NULL);
    free(again);
    free(ids.ids);
    free(text);
    free(ignore);
    bpe_close(bpe);
    bpe_close(plain);
    bpe_close(ignoring);
}

Test(hf_json, flags_of_special_tokens_survive) {
    Bpe *bpe = golden_bpe(), *again;
    char *text = write_text(bpe);
    char *flagged = replaced(text, "\"lstrip\": false", "\"lstrip\": true");
    cr_assert_eq(read_text(&again, flagged), OK);
    char *written = write_text(again);
    cr_assert_str_eq(written, flagged);
    cr_assert_neq(bpe_hash(again, NULL), bpe_hash(bpe, NULL));
    free(text);
    free(flagged);
    free(written);
    bpe_close(bpe);
    bpe_close(again);
}

Test(hf_json, refuses_what_it_does_not_implement_with_its_place) {
    static const struct {
        const char *from, *to, *place;
    } CHANGES[] = {
        {"\"version\": \"1.0\"", "\"version\": \"2.0\"", "version"},
        {"\"truncation\": null", "\"truncation\": {}", "truncation = an object"},
        {"\"padding\": null", "\"padding\": {}", "padding = an object"},
        {"\"padding\": null", "\"extra\": null", "extra = null: no such key"},
        {"\"normalizer\": null", "\"normalizer\": {\"type\":\"NFD\"}", "normalizer.type = \"NFD\""},
        {"\"normalizer\": null", "\"normalizer\": {\"type\":\"NFC\",\"x\":1}", "normalizer.x"},
        {"\"normalizer\": null", "\"normalizer\": \"NFC\"", "normalizer = \"NFC\""},
        {"\"normalizer\": null",
         "\"normalizer\": {\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}",
         "normalizer.normalizers[0].type"},
        {"\"post_processor\": null", "\"post_processor\": {\"type\":\"Odd\"}",
         "post_processor.type"},
        {"\"type\": \"BPE\"", "\"type\": \"Unigram\"", "model.type"},
        {"\"dropout\": null", "\"dropout\": 0.1", "model.dropout"},
        {"\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"",
         "model.end_of_word_suffix"},
        {"\"byte_fallback\": false", "\"byte_fallback\": true", "model.byte_fallback"},
        {"\"ignore_merges\": false", "\"ignore_merges\": 3", "model.ignore_merges"},
        {"\"type\": \"Sequence\"", "\"type\": \"Whitespace\"", "pre_tokenizer"},
        {"\"type\": \"Split\"", "\"type\": \"Digits\"", "pre_tokenizer.pretokenizers[0].type"},
        {"\"Isolated\"", "\"Removed\"", "pre_tokenizer.pretokenizers[0].behavior"},
        {"\"invert\": false", "\"invert\": true", "pre_tokenizer.pretokenizers[0].invert"},
        {"\"Regex\": \"", "\"Regex\": \"^", "pre_tokenizer.pretokenizers[0].pattern.Regex"},
        {"\"Regex\"", "\"String\"", "pre_tokenizer.pretokenizers[0].pattern.String"},
        {"\"add_prefix_space\": false", "\"add_prefix_space\": true",
         "pretokenizers[1].add_prefix_space"},
        {"\"use_regex\": false", "\"use_regex\": true", "pretokenizers[1].use_regex"},
        {"\"special\": true", "\"special\": false", "added_tokens[0].special"},
        {"\"lstrip\"", "\"strip\"", "added_tokens[0].strip"},
    };
    Bpe *bpe = golden_bpe(), *again;
    char *text = write_text(bpe);
    for (size_t i = 0; i < sizeof CHANGES / sizeof *CHANGES; i++) {
        char *changed = replaced(text, CHANGES[i].from, CHANGES[i].to);
        cr_assert_eq(read_text(&again, changed), E_FORMAT, "%s", CHANGES[i].to);
        cr_assert_null(again);
        cr_assert(strstr(err_message(), CHANGES[i].place) != NULL, "%s not in: %s",
                  CHANGES[i].place, err_message());
        free(changed);
    }
    free(text);
    bpe_close(bpe);
}

Test(hf_json, refuses_hostile_tokens_and_merges) {
    static const struct {
        const char *from, *to;
    } CHANGES[] = {
        {"\"a\": 66", "\"a\": 67"},                       // an id twice
        {"\"a\": 66", "\"a\": 100000"},                   // a gap
        {"\"a\": 66", "\"a\": 9223372036854775807"},      // a huge id
        {"\"a\": 66", "\"a\": 99999999999999999999999"},  // no integer of 64 bits
        {"\"a\": 66", "\"a\": -1"},
        {"\"a\": 66", "\"a\": 66.5"},
        {"\"a\": 66", "\"a\": \"66\""},
        {"\"a\": 66", "\"b\": 66"},  // a key twice
        {"\"a\": 66", "\"\": 66"},
        {"\"a\": 66", "\"a a\": 66"},  // not the byte alphabet, and no byte 'a'
        {"\"a\": 66", "\"\\u65e5\": 66"},
        {"\"<|pad|>\": 1,", ""},  // fewer tokens than ids, but...
        {"\"content\": \"<|pad|>\"", "\"content\": \"\""},
        {"\"content\": \"<|pad|>\"", "\"content\": \"a\\u0000b\""},
        {"\"content\": \"<|pad|>\"", "\"content\": \"<|endoftext|>\""},
        {"\"content\": \"<|pad|>\"", "\"content\": \"a\""},
        {"\"content\": \"<|pad|>\"", "\"content\": 5"},
        {"\"id\": 1", "\"id\": 0"},
        {"\"id\": 1", "\"id\": 2000000000"},
        {"\"merges\": [", "\"merges\": [ \"a\","},
        {"\"merges\": [", "\"merges\": [ \"a b c\","},
        {"\"merges\": [", "\"merges\": [ \" a\","},
        {"\"merges\": [", "\"merges\": [ \"a \","},
        {"\"merges\": [", "\"merges\": [ \"\","},
        {"\"merges\": [", "\"merges\": [ [\"a\"],"},
        {"\"merges\": [", "\"merges\": [ [\"a\",\"b\",\"c\"],"},
        {"\"merges\": [", "\"merges\": [ [\"\",\"a\"],"},
        {"\"merges\": [", "\"merges\": [ [1,2],"},
        {"\"merges\": [", "\"merges\": [ 7,"},
        {"\"merges\": [", "\"merges\": [ null,"},
        {"\"merges\": [", "\"merges\": [ \"Q Z\","},  // the joined token does not exist
        {"\"merges\": [", "\"merges\": [ \"<|pad|> a\","},
        {"\"merges\": [", "\"merges\": [ [\"<|pad|>\",\"a\"],"},
        {"\"merges\": [", "\"other\": ["},
        {"\"vocab\": {", "\"vocab\": [], \"merges\": {"},
        {"\"added_tokens\": [", "\"added_tokens\": [ 3,"},
        {"\"pretokenizers\": [", "\"pretokenizers\": [ null,"},
    };
    Bpe *bpe = golden_bpe(), *again;
    char *text = write_text(bpe);
    for (size_t i = 0; i < sizeof CHANGES / sizeof *CHANGES; i++) {
        char *changed = replaced(text, CHANGES[i].from, CHANGES[i].to);
        Status st = read_text(&again, changed);
        // ...a special that only stands in added_tokens is as good as one in both.
        bool harmless = strcmp(CHANGES[i].from, "\"<|pad|>\": 1,") == 0;
        cr_assert_eq(st, harmless ? OK : E_FORMAT, "%s -> %s: %s", CHANGES[i].from, CHANGES[i].to,
                     err_message());
        if (harmless) cr_assert_eq(bpe_hash(again, NULL), bpe_hash(bpe, NULL));
        bpe_close(again);
        free(changed);
    }
    // A merge given twice: the first of the list once more.
    char *first = strchr(strstr(text, "\"merges\""), '[') + 1, line[256];
    snprintf(line, sizeof line, "\"merges\": [%.*s,", (int)(strchr(first, ',') - first), first);
    char *doubled = replaced(text, "\"merges\": [", line);
    cr_assert_eq(read_text(&again, doubled), E_FORMAT);
    cr_assert(strstr(err_message(), "model.merges[1]") != NULL, "%s", err_message());
    free(doubled);
    free(text);
    bpe_close(bpe);
}

Test(hf_json, survives_random_damage) {
    WordCount *w = wordcount_new();
    wordcount_add(w, "abcabc", 6, 2);
    Bpe *bpe, *again;
    cr_assert_eq(bpe_train(&bpe, w,
                           &(BpeTrainConfig){
                               .vocab_size = 260, .specials = GOLDEN_SPECIALS, .special_count = 1}),
                 OK);
    char *text = write_text(bpe);
    size_t bytes = strlen(text);
    Dice d = {.seed = 31};
    for (int round = 0; round < 1500; round++) {
        char *broken = malloc(bytes + 1);
        memcpy(broken, text, bytes + 1);
        if (round % 4 == 0) broken[dice_below(&d, bytes)] = '\0';  // cut short
        for (int k = 0; k < 3; k++) {
            broken[dice_below(&d, bytes)] = "0123456789[]{}\",:ax\\ "[dice_below(&d, 21)];
        }
        Status st = read_text(&again, broken);
        cr_assert(st == OK || st == E_FORMAT, "status %d", (int)st);
        bpe_close(again);
        free(broken);
    }
    static const char *const WHOLE[] = {
        "", "{}", "[]", "null", "7", "\"a\"", "{\"version\":\"1.0\"}", "[[[[[[[["};
    for (size_t i = 0; i < sizeof WHOLE / sizeof *WHOLE; i++)
        cr_assert_eq(read_text(&again, WHOLE[i]), E_FORMAT);
    cr_assert_eq(bpe_read_hf(&again, "/nonexistent/tokenizer.json"), E_IO);
    free(text);
    bpe_close(bpe);
    wordcount_free(w);
}

// --- other people's tokenizers: only where their files are at hand ---
static bool find_data(char path[PATH_BYTES], const char *name) {
    const char *given = getenv("STERNA_TEST_DATA");
    if (given != NULL) {
        snprintf(path, PATH_BYTES, "%s/tokenizer/%s", given, name);
        if (path_exists(path)) return true;
    }
    snprintf(path, PATH_BYTES, "%s/../../shared/data/tokenizer/%s", TEST_SOURCE_DIR, name);
    return path_exists(path);
}

// encoder.json and vocab.bpe put into one file as the transformers library does.
static char *gpt2_json(const char *encoder, const char *merges) {
    size_t size = strlen(encoder) + 3 * strlen(merges) + 1024;
    char *text = malloc(size);
    size_t n = (size_t)snprintf(text, size,
                                "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":50256,\"content\":"
                                "\"<|endoftext|>\",\"normalized\":true,"
                                "\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":{"
                                "\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                "\"trim_offsets\":true},\"post_processor\":{\"type\":\"ByteLevel\"}"
                                ",\"decoder\":{\"type\":\"ByteLevel\"},"
                                "\"model\":{\"unk_token\":\"<|endoftext|>\",\"continuing_subword_"
                                "prefix\":\"\",\"vocab\":%s,\"merges\":[",
                                encoder);
    const char *line = strchr(merges, '\n') + 1;  // after the version
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        if (end == line) continue;
        text[n++] = '"';
        for (; line < end; line++) {
            if (*line == '"' || *line == '\\') text[n++] = '\\';
            text[n++] = *line;
        }
        text[n++] = '"';
        text[n++] = ',';
    }
    snprintf(text + n - 1, size - n, "]}}");
    return text;
}

Test(hf_json, gpt2_gives_the_ids_of_its_vectors) {
    char path[PATH_BYTES], *encoder, *merges, *vectors;
    size_t bytes;
    if (!find_data(path, "encoder.json")) cr_skip_test("skipped: no data");
    cr_assert_eq(file_read(path, &encoder, NULL), OK);
    cr_assert(find_data(path, "vocab.bpe"));
    cr_assert_eq(file_read(path, &merges, NULL), OK);
    char *text = gpt2_json(encoder, merges);
    Bpe *bpe, *again;
    cr_assert_eq(read_text(&bpe, text), OK, "%s", err_message());
    cr_assert_eq(bpe_vocab(bpe), 50257);
    cr_assert_eq(bpe_special(bpe, "<|endoftext|>"), 50256);

    // Through our own file it stays the same.
    char *ours = write_text(bpe);
    cr_assert_eq(read_text(&again, ours), OK, "%s", err_message());
    cr_assert_eq(bpe_hash(again, NULL), bpe_hash(bpe, NULL));

    cr_assert(find_data(path, "vectors.jsonl"));
    cr_assert_eq(file_read(path, &vectors, &bytes), OK);
    Encoder *e;
    cr_assert_eq(encoder_open(&e, again), OK);
    Ids got = {0};
    int tested = 0;
    for (char *line = strtok(vectors, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        Json *v;
        cr_assert_eq(json_open(&v, line, strlen(line), "vectors.jsonl"), OK);
        JsonAt top = json_top(v, "vectors.jsonl", NULL);
        const char *encoding;
        cr_assert_eq(json_need_text(&encoding, &top, "encoding"), OK);
        if (strcmp(encoding, "r50k_base") == 0) {
            expect_vector(e, &got, &top);
            tested++;
        }
        json_close(v);
    }
    cr_assert_gt(tested, 20);
    free(got.ids);
    encoder_close(e);
    bpe_close(bpe);
    bpe_close(again);
    free(ours);
    free(text);
    free(encoder);
    free(merges);
    free(vectors);
}
