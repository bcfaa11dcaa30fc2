// Counting: exact, independent of the order of merging, deaf to damaged dumps.
#include "tests/tokenizer/tools.h"

static int64_t times_of(const WordCount *w, const char *word) {
    for (size_t i = 0; i < wordcount_size(w); i++) {
        size_t bytes;
        int64_t times;
        const char *text = wordcount__word(w, i, &bytes, &times);
        if (bytes == strlen(word) && memcmp(text, word, bytes) == 0) return times;
    }
    return 0;
}

static bool dumps_equal(const WordCount *a, const WordCount *b) {
    size_t a_bytes, b_bytes;
    char *x = wordcount_dump(a, &a_bytes), *y = wordcount_dump(b, &b_bytes);
    bool equal = a_bytes == b_bytes && memcmp(x, y, a_bytes) == 0;
    free(x);
    free(y);
    return equal;
}

static void merge(WordCount *into, const WordCount *from) {
    size_t bytes;
    char *dump = wordcount_dump(from, &bytes);
    cr_assert_eq(wordcount_merge(into, dump, bytes), OK, "%s", err_message());
    free(dump);
}

Test(word_count, counts_pieces_of_a_text) {
    static const char TEXT[] = "the cat, the hat, the";
    WordCount *w = count_text(TEXT, strlen(TEXT));
    cr_assert_eq(times_of(w, "the"), 1);
    cr_assert_eq(times_of(w, " the"), 2);
    cr_assert_eq(times_of(w, ","), 2);
    cr_assert_eq(wordcount_size(w), 5);
    wordcount_free(w);
}

Test(word_count, counts_beyond_32_bits_and_survives_growth) {
    WordCount *w = wordcount_new();
    char word[32];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20000; i++) {
            snprintf(word, sizeof word, "w%d", i);
            wordcount_add(w, word, strlen(word), (int64_t)i << 24);
        }
    }
    cr_assert_eq(wordcount_size(w), 19999, "a word that occurs 0 times is none");
    cr_assert_eq(times_of(w, "w19999"), 3 * ((int64_t)19999 << 24));
    wordcount_add(w, "", 0, 5);
    cr_assert_eq(wordcount_size(w), 19999, "nor is the empty one");
    wordcount_free(w);
}

Test(word_count, merging_dumps_in_any_order_gives_the_same_bytes) {
    Dice d = {.seed = 9};
    WordCount *part[3], *whole = wordcount_new();
    for (int p = 0; p < 3; p++) {
        part[p] = wordcount_new();
        for (int i = 0; i < 500; i++) {
            char word[3] = {(char)dice_below(&d, 7), (char)(0xFC + dice_below(&d, 4)), 'x'};
            size_t bytes = 1 + dice_below(&d, 3);
            wordcount_add(part[p], word, bytes, 1 + (int64_t)dice_below(&d, 9));
        }
        merge(whole, part[p]);
    }
    static const int ORDER[5][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int o = 0; o < 5; o++) {
        WordCount *other = wordcount_new();
        for (int p = 0; p < 3; p++) merge(other, part[ORDER[o][p]]);
        cr_assert(dumps_equal(whole, other), "order %d", o);
        wordcount_free(other);
    }
    WordCount *empty = wordcount_new();
    merge(whole, empty);
    merge(empty, whole);
    cr_assert(dumps_equal(whole, empty), "an empty dump adds nothing");
    for (int p = 0; p < 3; p++) wordcount_free(part[p]);
    wordcount_free(whole);
    wordcount_free(empty);
}

static Status merge_bytes(const char *dump, size_t bytes) {
    // On the heap in its exact size, so that a sanitizer sees one byte too many.
    char *copy = malloc(bytes + (bytes == 0));
    memcpy(copy, dump, bytes);
    WordCount *w = wordcount_new();
    Status st = wordcount_merge(w, copy, bytes);
    wordcount_free(w);
    free(copy);
    return st;
}

Test(word_count, refuses_damaged_dumps) {
    WordCount *w = wordcount_new();
    wordcount_add(w, "abc", 3, 5);
    wordcount_add(w, "abd", 3, 7);
    size_t bytes;
    char *dump = wordcount_dump(w, &bytes);
    cr_assert_eq(bytes, 16 + 2 * (16 + 3));
    cr_assert_eq(merge_bytes(dump, bytes), OK);
    for (size_t cut = 0; cut < bytes; cut++)
        cr_assert_eq(merge_bytes(dump, cut), E_FORMAT, "cut %zu", cut);

    static const struct {
        size_t at;
        uint64_t value;
    } DAMAGE[] = {{0, 1},           {8, 3},         {8, 1},  {8, UINT64_MAX},  {16, 0},
                  {16, UINT64_MAX}, {16, 1u << 20}, {24, 0}, {24, UINT64_MAX}, {24, INT64_MAX}};
    for (size_t i = 0; i < sizeof DAMAGE / sizeof *DAMAGE; i++) {
        char broken[128];
        memcpy(broken, dump, bytes);
        memcpy(broken + DAMAGE[i].at, &DAMAGE[i].value, 8);
        cr_assert_eq(merge_bytes(broken, bytes), E_FORMAT, "damage %zu", i);
    }
    dump[16 + 16 + 2] = 'e';  // abe, abd: not in order
    cr_assert_eq(merge_bytes(dump, bytes), E_FORMAT);
    dump[16 + 16 + 2] = 'd';  // twice the same
    cr_assert_eq(merge_bytes(dump, bytes), E_FORMAT);
    free(dump);
    wordcount_free(w);
}
