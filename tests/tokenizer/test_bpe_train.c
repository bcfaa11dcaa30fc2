// Training against a naive trainer that recounts every pair at every step, and against merges that
// Hugging Face's trainer made from the same text.
#include "tests/tokenizer/tools.h"

// --- the naive trainer ---
enum { NAIVE_VOCAB = 1024, NAIVE_WORD = 64, NAIVE_TOKEN = 64 };

typedef struct NaiveWord {
    int ids[NAIVE_WORD];
    int count;
    int64_t times;
} NaiveWord;

typedef struct Naive {
    NaiveWord *words;
    size_t word_count;
    struct {
        char bytes[NAIVE_TOKEN];
        size_t count;
    } tokens[NAIVE_VOCAB];
    int vocab, specials;
    Merge merges[4 * NAIVE_VOCAB];
    int merge_count;
    int64_t counts[NAIVE_VOCAB][NAIVE_VOCAB];
} Naive;

static void naive_load(Naive *n, const WordCount *w, int specials) {
    unsigned char order[256];
    int id_of[256];
    byte_level__order(order);
    n->specials = n->vocab = specials;
    for (int i = 0; i < 256; i++) {
        id_of[order[i]] = n->vocab;
        n->tokens[n->vocab].bytes[0] = (char)order[i];
        n->tokens[n->vocab++].count = 1;
    }
    n->word_count = wordcount_size(w);
    n->words = calloc(n->word_count + 1, sizeof *n->words);
    for (size_t i = 0; i < n->word_count; i++) {
        size_t bytes;
        const char *word = wordcount__word(w, i, &bytes, &n->words[i].times);
        cr_assert_leq(bytes, NAIVE_WORD);
        for (size_t k = 0; k < bytes; k++) n->words[i].ids[k] = id_of[(unsigned char)word[k]];
        n->words[i].count = (int)bytes;
    }
}

static bool naive_best(Naive *n, const BpeTrainConfig *cfg, int *left, int *right) {
    memset(n->counts, 0, sizeof n->counts);
    for (size_t i = 0; i < n->word_count; i++) {
        const NaiveWord *w = &n->words[i];
        for (int k = 0; k + 1 < w->count; k++) n->counts[w->ids[k]][w->ids[k + 1]] += w->times;
    }
    int64_t best = cfg->min_count > 1 ? cfg->min_count - 1 : 0;
    bool found = false;
    for (int l = 0; l < n->vocab; l++) {  // ascending: the first of equals stays
        for (int r = 0; r < n->vocab; r++) {
            size_t bytes = n->tokens[l].count + n->tokens[r].count;
            if (cfg->max_token_bytes > 0 && bytes > (size_t)cfg->max_token_bytes) continue;
            if (n->counts[l][r] <= best) continue;
            best = n->counts[l][r];
            *left = l;
            *right = r;
            found = true;
        }
    }
    return found;
}

static int naive_join(Naive *n, int left, int right) {
    char bytes[2 * NAIVE_TOKEN];
    size_t a = n->tokens[left].count, b = n->tokens[right].count;
    memcpy(bytes, n->tokens[left].bytes, a);
    memcpy(bytes + a, n->tokens[right].bytes, b);
    for (int id = n->specials; id < n->vocab; id++) {
        if (n->tokens[id].count == a + b && memcmp(n->tokens[id].bytes, bytes, a + b) == 0)
            return id;
    }
    cr_assert_leq(a + b, NAIVE_TOKEN);
    memcpy(n->tokens[n->vocab].bytes, bytes, a + b);
    n->tokens[n->vocab].count = a + b;
    return n->vocab++;
}

static void naive_train(Naive *n, const BpeTrainConfig *cfg) {
    int left = 0, right = 0;
    while (n->vocab < cfg->vocab_size && naive_best(n, cfg, &left, &right)) {
        int result = naive_join(n, left, right);
        bool known = false;
        for (int m = 0; m < n->merge_count; m++) {
            known = known || (n->merges[m].left == left && n->merges[m].right == right);
        }
        if (!known) n->merges[n->merge_count++] = (Merge){left, right, result};
        for (size_t i = 0; i < n->word_count; i++) {
            NaiveWord *w = &n->words[i];
            int kept = 0;
            for (int k = 0; k < w->count; k++) {
                bool pair = k + 1 < w->count && w->ids[k] == left && w->ids[k + 1] == right;
                w->ids[kept++] = pair ? result : w->ids[k];
                k += pair;
            }
            w->count = kept;
        }
    }
}

static void expect_naive(const WordCount *w, const BpeTrainConfig *cfg) {
    Naive *n = calloc(1, sizeof *n);
    naive_load(n, w, cfg->special_count);
    naive_train(n, cfg);
    Bpe *bpe;
    cr_assert_eq(bpe_train(&bpe, w, cfg), OK, "%s", err_message());
    cr_assert_eq(bpe_vocab(bpe), n->vocab);
    cr_assert_eq(bpe_merges(bpe), n->merge_count);
    cr_assert_eq(n->merge_count, n->vocab - n->specials - 256, "a token comes of one pair");
    for (int m = 0; m < n->merge_count; m++) {
        cr_assert_eq(bpe->merges[m].left, n->merges[m].left, "merge %d", m);
        cr_assert_eq(bpe->merges[m].right, n->merges[m].right, "merge %d", m);
        cr_assert_eq(bpe->merges[m].result, n->merges[m].result, "merge %d", m);
    }
    for (int id = n->specials; id < n->vocab; id++) {
        size_t bytes;
        const char *token = bpe_token(bpe, id, &bytes);
        cr_assert(bytes == n->tokens[id].count && memcmp(token, n->tokens[id].bytes, bytes) == 0);
    }
    bpe_close(bpe);
    free(n->words);
    free(n);
}

// Words of at most `longest` letters out of `letters`, each counted up to `most` times.
static WordCount *random_words(Dice *d, int words, int letters, int longest, int64_t most) {
    WordCount *w = wordcount_new();
    for (int i = 0; i < words; i++) {
        char word[NAIVE_WORD];
        size_t bytes = 1 + dice_below(d, (uint64_t)longest);
        for (size_t k = 0; k < bytes; k++) word[k] = (char)('a' + dice_below(d, (uint64_t)letters));
        wordcount_add(w, word, bytes, 1 + (int64_t)dice_below(d, (uint64_t)most));
    }
    return w;
}

Test(bpe_train, equals_the_naive_trainer_with_many_ties) {
    Dice d = {.seed = 1};
    static const struct {
        int words, letters, longest;
        int64_t most;
    } CORPORA[] = {{40, 1, 40, 1}, {60, 2, 12, 1}, {80, 3, 20, 2},
                   {60, 26, 8, 1}, {100, 4, 6, 3}, {8, 2, 60, 1}};
    for (size_t c = 0; c < sizeof CORPORA / sizeof *CORPORA; c++) {
        for (int round = 0; round < 3; round++) {
            WordCount *w = random_words(&d, CORPORA[c].words, CORPORA[c].letters,
                                        CORPORA[c].longest, CORPORA[c].most);
            expect_naive(w, &(BpeTrainConfig){.vocab_size = 420});
            wordcount_free(w);
        }
    }
}

Test(bpe_train, equals_the_naive_trainer_with_limits) {
    Dice d = {.seed = 2};
    for (int round = 0; round < 6; round++) {
        WordCount *w = random_words(&d, 60, 1 + round, 14, 4);
        expect_naive(w, &(BpeTrainConfig){.vocab_size = 400, .min_count = 2 + round});
        expect_naive(w, &(BpeTrainConfig){.vocab_size = 400, .max_token_bytes = 1 + round});
        expect_naive(w, &(BpeTrainConfig){.vocab_size = 300,
                                          .max_token_bytes = 5,
                                          .specials = GOLDEN_SPECIALS,
                                          .special_count = 2});
        wordcount_free(w);
    }
}

Test(bpe_train, a_token_comes_of_one_pair_in_every_context) {
    // One might fear that bca parts as bc+a here and as b+ca there.
    WordCount *w = wordcount_new();
    wordcount_add(w, "bc", 2, 100);
    wordcount_add(w, "bcax", 4, 9);
    wordcount_add(w, "ca", 2, 30);
    wordcount_add(w, "dbca", 4, 90);
    wordcount_add(w, "db", 2, 500);
    expect_naive(w, &(BpeTrainConfig){.vocab_size = 300});
    wordcount_free(w);
}

Test(bpe_train, counts_beyond_32_bits_decide) {
    // As 32-bit numbers the first pair would have the smaller count.
    WordCount *w = wordcount_new();
    wordcount_add(w, "ab", 2, ((int64_t)1 << 33) + 1);
    wordcount_add(w, "cd", 2, ((int64_t)1 << 33) + 2);
    wordcount_add(w, "ef", 2, 3000000000);
    wordcount_add(w, "gh", 2, 7);
    expect_naive(w, &(BpeTrainConfig){.vocab_size = 300});
    Bpe *bpe;
    size_t bytes;
    cr_assert_eq(bpe_train(&bpe, w, &(BpeTrainConfig){.vocab_size = 257}), OK);
    cr_assert_str_eq(bpe_token(bpe, 256, &bytes), "cd");
    bpe_close(bpe);
    wordcount_free(w);
}

Test(bpe_train, equals_hugging_face_on_the_golden_text) {
    Bpe *bpe = golden_bpe();
    size_t bytes;
    char *merges = golden_read("merges.txt", &bytes), *line = merges;
    for (int m = 0; m < bpe_merges(bpe); m++) {
        char want[512];
        size_t a, b;
        const char *left = bpe_token(bpe, bpe->merges[m].left, &a);
        const char *right = bpe_token(bpe, bpe->merges[m].right, &b);
        size_t n = byte_level__spell(want, left, a);
        want[n++] = ' ';
        n += byte_level__spell(want + n, right, b);
        want[n++] = '\n';
        cr_assert(strncmp(line, want, n) == 0, "merge %d is %.*s", m, (int)n, want);
        line += n;
    }
    cr_assert_eq(*line, '\0', "fewer merges than Hugging Face");
    cr_assert_eq(bpe_vocab(bpe), GOLDEN_VOCAB);
    cr_assert_eq(bpe_special(bpe, "<|endoftext|>"), 0);
    cr_assert_eq(bpe_special(bpe, "<|pad|>"), 1);
    cr_assert_eq(bpe_special(bpe, "the"), -1);
    free(merges);
    bpe_close(bpe);
}

Test(bpe_train, depends_on_the_counts_alone) {
    Dice d = {.seed = 4};
    WordCount *a = random_words(&d, 200, 5, 10, 9), *b = wordcount_new();
    for (size_t i = wordcount_size(a); i-- > 0;) {  // the other way round, in two portions
        size_t bytes;
        int64_t times;
        const char *word = wordcount__word(a, i, &bytes, &times);
        wordcount_add(b, word, bytes, times - times / 2);
        wordcount_add(b, word, bytes, times / 2);
    }
    Bpe *x, *y;
    BpeTrainConfig cfg = {.vocab_size = 500};
    cr_assert_eq(bpe_train(&x, a, &cfg), OK);
    cr_assert_eq(bpe_train(&y, b, &cfg), OK);
    uint64_t x_high, y_high;
    cr_assert_eq(bpe_hash(x, &x_high), bpe_hash(y, &y_high));
    cr_assert_eq(x_high, y_high);
    bpe_close(x);
    bpe_close(y);
    wordcount_free(a);
    wordcount_free(b);
}

Test(bpe_train, an_empty_corpus_gives_the_bytes) {
    WordCount *w = wordcount_new();
    Bpe *bpe;
    BpeTrainConfig cfg = {.vocab_size = 1000, .specials = GOLDEN_SPECIALS, .special_count = 2};
    cr_assert_eq(bpe_train(&bpe, w, &cfg), OK);
    cr_assert_eq(bpe_vocab(bpe), 258);
    cr_assert_eq(bpe_merges(bpe), 0);
    cr_assert_null(bpe_token(bpe, 258, NULL));
    cr_assert_null(bpe_token(bpe, -1, NULL));
    bpe_close(bpe);
    wordcount_free(w);
}

Test(bpe_train, refuses_wrong_configurations) {
    static const char *const EMPTY[] = {""}, *const BYTE[] = {"a"}, *const SPELLED_BYTE[] = {"Ġ"},
                             *const TWICE[] = {"<a>", "<a>"}, *const BROKEN[] = {"<\xFF>"},
                             *const WORD[] = {"abc"};
    const BpeTrainConfig BAD[] = {
        {.vocab_size = 255},
        {.vocab_size = 0},
        {.vocab_size = -5},
        {.vocab_size = 257, .specials = GOLDEN_SPECIALS, .special_count = 2},
        {.vocab_size = 300, .specials = EMPTY, .special_count = 1},
        {.vocab_size = 300, .specials = BYTE, .special_count = 1},
        {.vocab_size = 300, .specials = SPELLED_BYTE, .special_count = 1},
        {.vocab_size = 300, .specials = TWICE, .special_count = 2},
        {.vocab_size = 300, .specials = BROKEN, .special_count = 1},
        {.vocab_size = 300, .specials = WORD, .special_count = 1},  // known only while merging
    };
    WordCount *w = wordcount_new();
    wordcount_add(w, "ababc", 5, 3);
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        Bpe *bpe;
        cr_assert_eq(bpe_train(&bpe, w, &BAD[i]), E_USAGE, "configuration %zu", i);
        cr_assert_null(bpe);
        cr_assert(err_hint()[0] != '\0');
    }
    wordcount_free(w);
}

Test(bpe_train, a_long_word_trains_in_time) {
    enum { LETTERS = 1 << 20 };
    char *text = malloc(LETTERS);
    Dice d = {.seed = 6};
    for (size_t i = 0; i < LETTERS; i++) text[i] = "ACGT"[dice_below(&d, 4)];
    WordCount *w = wordcount_new();
    wordcount_add(w, text, LETTERS, 1);
    memset(text, 'a', LETTERS);
    wordcount_add(w, text, LETTERS, 1);
    Bpe *bpe;
    cr_assert_eq(bpe_train(&bpe, w, &(BpeTrainConfig){.vocab_size = 2048}), OK);
    cr_assert_eq(bpe_vocab(bpe), 2048);
    bpe_close(bpe);
    wordcount_free(w);
    free(text);
}
