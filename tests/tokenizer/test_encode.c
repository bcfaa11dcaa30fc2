// Encoding: against a naive encoder and golden ids of Hugging Face's tokenizers; decoding gives the
// bytes back.
#include "base/clock.h"
#include "tests/tokenizer/tools.h"

// Merges the leftmost pair of the lowest rank until there is none.
static size_t naive_piece(const Bpe *bpe, const char *piece, size_t bytes, int32_t *ids) {
    size_t count = bytes;
    for (size_t i = 0; i < bytes; i++) ids[i] = bpe->byte_id[(unsigned char)piece[i]];
    for (;;) {
        const Merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            for (const Merge *m = bpe->merges; m < bpe->merges + bpe->merge_count; m++) {
                if (m->left == ids[i] && m->right == ids[i + 1] && (best == NULL || m < best)) {
                    best = m;
                    at = i;
                }
            }
        }
        if (best == NULL) return count;
        ids[at] = best->result;
        count--;
        memmove(ids + at + 1, ids + at + 2, (count - at - 1) * sizeof *ids);
    }
}

Test(encode, equals_the_naive_encoder_for_short_and_long_pieces) {
    Bpe *bpe = golden_bpe();
    Encoder *e;
    cr_assert_eq(encoder_open(&e, bpe), OK);
    Dice d = {.seed = 11};
    Ids got = {0};
    char piece[200];
    int32_t want[200];
    for (int round = 0; round < 400; round++) {
        // Letters only: one piece. Both sides of the border between array and heap.
        size_t bytes =
            round % 3 == 0 ? 60 + dice_below(&d, 10) : 1 + dice_below(&d, sizeof piece - 1);
        uint64_t letters = 1 + dice_below(&d, 26);
        for (size_t i = 0; i < bytes; i++)
            piece[i] = "etaoinshrdlucmfwygpbvkxqjz"[dice_below(&d, letters)];
        for (int again = 0; again < 2; again++) {  // the second time from the cache
            encode(e, &got, piece, bytes);
            size_t count = naive_piece(bpe, piece, bytes, want);
            cr_assert_eq(got.count, count, "%.*s", (int)bytes, piece);
            cr_assert(memcmp(got.ids, want, count * sizeof *want) == 0, "%.*s", (int)bytes, piece);
        }
    }
    free(got.ids);
    encoder_close(e);
    bpe_close(bpe);
}

Test(encode, equals_hugging_face_on_golden_cases) {
    Bpe *bpe = golden_bpe();
    cr_assert_gt(expect_golden(bpe, "cases.json"), 100);
    bpe_close(bpe);
}

Test(encode, decode_gives_back_a_million_random_strings) {
    enum { ROUNDS = 1000000 };
    Bpe *bpe = golden_bpe();
    Encoder *e;
    cr_assert_eq(encoder_open(&e, bpe), OK);
    Dice d = {.seed = 12};
    Ids got = {0};
    char text[128];
    for (int round = 0; round < ROUNDS; round++) {
        size_t bytes = dice_string(&d, text, sizeof text), back_bytes;
        encode(e, &got, text, bytes);
        char *back = bpe_decode(bpe, got.ids, got.count, false, &back_bytes);
        if (back_bytes != bytes || memcmp(back, text, bytes) != 0)
            cr_assert_fail("round %d", round);
        free(back);
    }
    free(got.ids);
    encoder_close(e);
    bpe_close(bpe);
}

Test(encode, a_million_equal_characters_take_no_time) {
    enum { LONG = 1000000 };
    Bpe *bpe = golden_bpe();
    Encoder *e;
    cr_assert_eq(encoder_open(&e, bpe), OK);
    Ids got = {0};
    char *text = malloc(LONG);
    for (const char *c = "e \nZ."; *c != '\0'; c++) {
        memset(text, *c, LONG);
        double start = clock_s();
        encode(e, &got, text, LONG);
        cr_assert_lt(clock_s() - start, 2.0, "character '%c'", *c);
        size_t bytes;
        char *back = bpe_decode(bpe, got.ids, got.count, false, &bytes);
        cr_assert(bytes == LONG && memcmp(back, text, LONG) == 0);
        free(back);
    }
    free(text);
    free(got.ids);
    encoder_close(e);
    bpe_close(bpe);
}

Test(encode, appends_to_what_the_caller_has) {
    Bpe *bpe = golden_bpe();
    Encoder *e;
    cr_assert_eq(encoder_open(&e, bpe), OK);
    Ids got = {0};
    cr_assert_eq(encoder_run(e, "one", 3, &got.ids, &got.count, &got.capacity), OK);
    size_t first = got.count;
    cr_assert_eq(encoder_run(e, "", 0, &got.ids, &got.count, &got.capacity), OK);
    cr_assert_eq(got.count, first);
    cr_assert_eq(encoder_run(e, " two", 4, &got.ids, &got.count, &got.capacity), OK);
    size_t bytes;
    char *back = bpe_decode(bpe, got.ids, got.count, false, &bytes);
    cr_assert_str_eq(back, "one two");
    free(back);
    free(got.ids);
    encoder_close(e);
    bpe_close(bpe);
}

Test(encode, specials_are_ordinary_text_and_decode_on_request) {
    Bpe *bpe = golden_bpe();
    Encoder *e;
    cr_assert_eq(encoder_open(&e, bpe), OK);
    Ids got = {0};
    encode(e, &got, "<|pad|>", 7);
    for (size_t i = 0; i < got.count; i++) cr_assert_not(bpe_is_special(bpe, got.ids[i]));

    size_t bytes;
    int32_t ids[4] = {0, 2, GOLDEN_VOCAB,
                      1};  // special, '!', an id of the model's padding, special
    char *hidden = bpe_decode(bpe, ids, 4, false, &bytes);
    cr_assert_str_eq(hidden, "!\xEF\xBF\xBD");
    cr_assert_eq(bytes, 4);
    char *shown = bpe_decode(bpe, ids, 4, true, NULL);
    cr_assert_str_eq(shown, "<|endoftext|>!\xEF\xBF\xBD<|pad|>");
    free(hidden);
    free(shown);
    free(got.ids);
    encoder_close(e);
    bpe_close(bpe);
}
