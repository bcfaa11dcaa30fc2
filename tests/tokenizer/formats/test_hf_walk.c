// tokenizer.json with a wrong kind of value in every place; the normalizer NFC.
#include "tests/json_walk.h"
#include "tests/tokenizer/tools.h"

static Bpe *last;  // what was read, to look at

static Status read_tokenizer(const char *text, size_t bytes) {
    const char *path = temporary_path();
    FILE *file = fopen(path, "wb");  // not file_write: hundreds of files need no fsync
    cr_assert(file != NULL && fwrite(text, 1, bytes, file) == bytes);
    fclose(file);
    bpe_close(last);
    Status st = bpe_read_hf(&last, path);
    unlink(path);
    return st;
}

// A tokenizer of two special tokens, the bytes and a merge, in its canonical form.
static json_t *small_tokenizer(void) {
    WordCount *w = wordcount_new();
    wordcount_add(w, "abab", 4, 2);
    Bpe *bpe;
    BpeTrainConfig cfg = {.vocab_size = 259, .specials = GOLDEN_SPECIALS, .special_count = 2};
    cr_assert_eq(bpe_train(&bpe, w, &cfg), OK, "%s", err_message());
    JsonOut out = {.indent = 0};
    bpe__write_json(bpe, &out);
    json_error_t error;
    json_t *root = json_loads(out.text, 0, &error);
    cr_assert_not_null(root);
    jsonout_free(&out);
    bpe_close(bpe);
    wordcount_free(w);
    return root;
}

static void put(json_t *object, const char *key, const char *text) {
    json_error_t error;
    json_t *v = json_loads(text, JSON_DECODE_ANY, &error);
    cr_assert_not_null(v, "%s", error.text);
    json_object_set_new(object, key, v);
}

Test(hf_json, every_place_refuses_other_kinds_of_values) {
    static const char *const ALLOWED[] = {
        // without effect on the ids
        "*/trim_offsets N", "post_processor/processors/1/single* TIFBNLO", "model/unk_token T",
        "model/fuse_unk N",
        // null counts as absent
        "added_tokens N", "normalizer N", "post_processor N", "added_tokens/*/single_word N",
        "added_tokens/*/?strip N", "added_tokens/*/normalized N",
        "pre_tokenizer/pretokenizers/0/invert N", "model/byte_fallback N", "model/ignore_merges N",
        NULL};
    json_t *root = small_tokenizer();
    put(root, "normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}");
    put(root, "post_processor",
        "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
        "{\"type\":\"TemplateProcessing\",\"single\":[7]}]}");
    put(root, "decoder", "{\"type\":\"ByteLevel\"}");
    put(json_object_get(root, "model"), "merges", "[[\"a\",\"b\"]]");
    char *text = json_dumps(root, 0);
    cr_assert_gt(json_walk(text, read_tokenizer, ALLOWED), 250);
    free(text);
    json_decref(root);
    bpe_close(last);
}

// --- the normalizer NFC ---

static Bpe *golden_with(const char *key, const char *value) {
    Bpe *bpe = golden_bpe();
    JsonOut out = {.indent = 0};
    bpe__write_json(bpe, &out);
    json_error_t error;
    json_t *root = json_loads(out.text, 0, &error);
    put(root, key, value);
    char *text = json_dumps(root, 0);
    last = NULL;
    cr_assert_eq(read_tokenizer(text, strlen(text)), OK, "%s", err_message());
    free(text);
    json_decref(root);
    jsonout_free(&out);
    bpe_close(bpe);
    return last;
}

static const char NFC[] = "{\"type\":\"NFC\"}";

// Golden: what tokenizers 0.23 makes of these texts.
Test(hf_json, nfc_gives_the_ids_of_the_reference) {
    Bpe *bpe = golden_with("normalizer", NFC);
    cr_assert_gt(expect_golden(bpe, "nfc.json"), 15);
    bpe_close(bpe);
}

Test(hf_json, nfc_is_written_back_and_part_of_the_identity) {
    Bpe *nfc = golden_with("normalizer", NFC), *plain = golden_bpe();
    Bpe *listed =
        golden_with("normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}");
    Bpe *empty = golden_with("normalizer", "{\"type\":\"Sequence\",\"normalizers\":[]}");
    cr_assert_eq(bpe_hash(nfc, NULL), bpe_hash(listed, NULL));
    cr_assert_eq(bpe_hash(plain, NULL), bpe_hash(empty, NULL));
    cr_assert_neq(bpe_hash(plain, NULL), bpe_hash(nfc, NULL));
    const char *path = temporary_path();
    Bpe *again;
    cr_assert_eq(bpe_write_hf(nfc, path), OK);
    cr_assert_eq(bpe_read_hf(&again, path), OK, "%s", err_message());
    cr_assert_eq(bpe_hash(again, NULL), bpe_hash(nfc, NULL));
    unlink(path);
    Bpe *all[] = {nfc, plain, listed, empty, again};
    for (int i = 0; i < 5; i++) bpe_close(all[i]);
}

// Whatever the bytes: well-formed stretches are composed, others stay, nothing is lost.
Test(hf_json, nfc_leaves_other_bytes_alone) {
    static const struct {
        const char *text, *composed;
        size_t bytes, composed_bytes;
    } CASES[] = {{"e\xcc\x81\xff"
                  "e\xcc\x81",
                  "\xc3\xa9\xff\xc3\xa9", 7, 5},
                 {"e\xff\xcc\x81", "e\xff\xcc\x81", 4, 4},         // a stretch begins with the mark
                 {"e\xcc\x81\xe2\x82", "\xc3\xa9\xe2\x82", 5, 4},  // cut short
                 {"\0e\xcc\x81\0", "\0\xc3\xa9\0", 5, 4},
                 {"\xcc", "\xcc", 1, 1},
                 {"", "", 0, 0}};
    Bpe *bpe = golden_with("normalizer", NFC);
    Encoder *e;
    Ids ids = {0};
    cr_assert_eq(encoder_open(&e, bpe), OK);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        size_t bytes;
        encode(e, &ids, CASES[i].text, CASES[i].bytes);
        char *back = bpe_decode(bpe, ids.ids, ids.count, false, &bytes);
        cr_expect_eq(bytes, CASES[i].composed_bytes, "case %zu", i);
        cr_expect_eq(memcmp(back, CASES[i].composed, bytes), 0, "case %zu", i);
        free(back);
    }
    free(ids.ids);
    encoder_close(e);
    bpe_close(bpe);
}

Test(hf_json, a_template_is_noticed_wherever_it_stands) {
    static const struct {
        const char *processor;
        bool adds;
    } CASES[] = {{"null", false},
                 {"{\"type\":\"ByteLevel\",\"trim_offsets\":false}", false},
                 {"{\"type\":\"TemplateProcessing\",\"single\":[]}", true},
                 {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\"},{"
                  "\"type\":\"ByteLevel\"}]}",
                  true},
                 {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}]}", false}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        Bpe *bpe = golden_with("post_processor", CASES[i].processor);
        cr_expect_eq(bpe_adds_tokens(bpe), CASES[i].adds, "%s", CASES[i].processor);
        bpe_close(bpe);
    }
}
