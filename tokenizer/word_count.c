// Distinct pieces and how often each occurs: all that training needs of a text. An open-addressing
// table (linear probing, load at most 1/2) of indices; the strings lie back to back in one buffer.
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Word {
    uint64_t hash;
    size_t start;
    size_t bytes;
    int64_t times;
} Word;

struct WordCount {
    Word *words;
    size_t size, capacity;
    char *text;
    size_t text_bytes, text_capacity;
    size_t *slots;  // index of the word + 1; 0: empty
    size_t slot_count;
    int64_t total;  // sum of times * bytes: bounds every count of a pair
};

enum { FIRST_SLOTS = 1024 };
// Pair counts are sums over all bytes of the text; below this they cannot overflow.
static const int64_t TOTAL_LIMIT = INT64_MAX / 4;

WordCount *wordcount_new(void) {
    WordCount *w = memory__grow(NULL, 1, sizeof *w);
    *w = (WordCount){.slot_count = FIRST_SLOTS};
    w->slots = memory__grow(NULL, FIRST_SLOTS, sizeof *w->slots);
    memset(w->slots, 0, FIRST_SLOTS * sizeof *w->slots);
    return w;
}

void wordcount_free(WordCount *w) {
    if (w == NULL) return;
    free(w->words);
    free(w->text);
    free(w->slots);
    free(w);
}

size_t wordcount_size(const WordCount *w) {
    return w->size;
}

const char *wordcount__word(const WordCount *w, size_t index, size_t *bytes, int64_t *times) {
    *bytes = w->words[index].bytes;
    *times = w->words[index].times;
    return w->text + w->words[index].start;
}

// The slot that holds the piece, or the empty one where it belongs.
static size_t find_slot(const WordCount *w, uint64_t hash, const char *piece, size_t bytes) {
    size_t mask = w->slot_count - 1;
    for (size_t at = hash & mask;; at = (at + 1) & mask) {
        if (w->slots[at] == 0) return at;
        const Word *word = &w->words[w->slots[at] - 1];
        if (word->hash == hash && word->bytes == bytes &&
            memcmp(w->text + word->start, piece, bytes) == 0) {
            return at;
        }
    }
}

// Words keep their hashes, so a larger table needs no look at the strings.
static void double_slots(WordCount *w) {
    w->slot_count *= 2;
    w->slots = memory__grow(w->slots, w->slot_count, sizeof *w->slots);
    memset(w->slots, 0, w->slot_count * sizeof *w->slots);
    size_t mask = w->slot_count - 1;
    for (size_t i = 0; i < w->size; i++) {
        size_t at = w->words[i].hash & mask;
        while (w->slots[at] != 0) at = (at + 1) & mask;
        w->slots[at] = i + 1;
    }
}

// Adds to the count of a piece; false, and nothing done, when the total would leave its range.
static bool add_checked(WordCount *w, const char *piece, size_t bytes, int64_t times) {
    int64_t more;
    if (__builtin_mul_overflow(times, (int64_t)bytes, &more) || more > TOTAL_LIMIT - w->total)
        return false;
    w->total += more;

    // A known word: only its count changes.
    uint64_t hash = hash64(piece, bytes);
    size_t slot = find_slot(w, hash, piece, bytes);
    if (w->slots[slot] != 0) {
        w->words[w->slots[slot] - 1].times += times;
        return true;
    }

    // A new one: its string goes behind the others.
    w->words = memory__reserve(w->words, &w->capacity, w->size + 1, sizeof *w->words);
    w->text = memory__reserve(w->text, &w->text_capacity, w->text_bytes + bytes, 1);
    memcpy(w->text + w->text_bytes, piece, bytes);
    w->words[w->size++] = (Word){hash, w->text_bytes, bytes, times};
    w->text_bytes += bytes;
    w->slots[slot] = w->size;
    if (w->size * 2 > w->slot_count) double_slots(w);
    return true;
}

void wordcount_add(WordCount *w, const char *piece, size_t bytes, int64_t times) {
    if (bytes == 0 || times == 0) return;
    ASSERT(times > 0);
    bool added = add_checked(w, piece, bytes, times);
    ASSERT(added);
}

static void add_piece(const char *piece, size_t bytes, void *user) {
    wordcount_add(user, piece, bytes, 1);
}

Status wordcount_text(WordCount *w, Splitter *s, const char *text, size_t bytes) {
    if (bytes > (size_t)(TOTAL_LIMIT - w->total)) {
        FAIL(E_USAGE, "train on a sample", "too much text: the counts of pairs could overflow");
    }
    return splitter_run(s, text, bytes, add_piece, w);
}

// --- the exchange format: magic, number of words, then (bytes u64, times i64, piece) in ascending
// order ---
static const uint64_t DUMP_MAGIC = 0x31444e434f44524fu;  // also tells byte orders apart
enum { DUMP_HEADER = 16, DUMP_WORD = 16 };

// Order of unsigned bytes; a prefix comes before the longer one.
static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    if (order != 0) return order;
    return (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

// qsort hands its comparison no context, so what is sorted carries its own pointers.
typedef struct Sorted {
    const char *piece;
    size_t bytes;
    int64_t times;
} Sorted;

static int compare_sorted(const void *a, const void *b) {
    const Sorted *x = a, *y = b;
    return compare_bytes(x->piece, x->bytes, y->piece, y->bytes);
}

static char *put_u64(char *at, uint64_t v) {
    memcpy(at, &v, sizeof v);
    return at + sizeof v;
}

// Sorting makes the dump a function of the counts alone, whatever the order of counting was.
char *wordcount_dump(const WordCount *w, size_t *bytes) {
    Sorted *sorted = memory__grow(NULL, w->size + 1, sizeof *sorted);
    for (size_t i = 0; i < w->size; i++) {
        sorted[i].piece = wordcount__word(w, i, &sorted[i].bytes, &sorted[i].times);
    }
    qsort(sorted, w->size, sizeof *sorted, compare_sorted);

    *bytes = DUMP_HEADER + w->size * DUMP_WORD + w->text_bytes;
    char *dump = memory__grow(NULL, *bytes, 1), *at = dump;
    at = put_u64(at, DUMP_MAGIC);
    at = put_u64(at, w->size);
    for (size_t i = 0; i < w->size; i++) {
        at = put_u64(at, sorted[i].bytes);
        at = put_u64(at, (uint64_t)sorted[i].times);
        memcpy(at, sorted[i].piece, sorted[i].bytes);
        at += sorted[i].bytes;
    }
    free(sorted);
    return dump;
}

static uint64_t get_u64(const char *at) {
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

// Adds one word of a dump whose unread part is [*at, end). Words ascend: a repeated or misplaced
// one is damage.
static bool merge_word(WordCount *w, const char **at, const char *end, Sorted *last) {
    if ((size_t)(end - *at) < DUMP_WORD) return false;
    Sorted word = {*at + DUMP_WORD, get_u64(*at), (int64_t)get_u64(*at + 8)};
    if (word.bytes == 0 || word.bytes > (size_t)(end - word.piece) || word.times <= 0) return false;
    if (last->piece != NULL && compare_sorted(last, &word) >= 0) return false;
    *last = word;
    *at = word.piece + word.bytes;
    return add_checked(w, word.piece, word.bytes, word.times);
}

Status wordcount_merge(WordCount *w, const char *dump, size_t bytes) {
    static const char HINT[] = "count the words again with one version of the program";
    if (bytes < DUMP_HEADER || get_u64(dump) != DUMP_MAGIC) {
        FAIL(E_FORMAT, HINT, "word counts: %zu bytes without the header", bytes);
    }
    // The count is not believed: each word is checked against what is left.
    uint64_t count = get_u64(dump + 8);
    const char *at = dump + DUMP_HEADER, *end = dump + bytes;
    Sorted last = {0};
    for (uint64_t i = 0; i < count; i++) {
        if (!merge_word(w, &at, end, &last)) {
            FAIL(E_FORMAT, HINT, "word counts: word %llu of %llu is damaged", (unsigned long long)i,
                 (unsigned long long)count);
        }
    }
    if (at != end) FAIL(E_FORMAT, HINT, "word counts: %zu bytes too many", (size_t)(end - at));
    return OK;
}
