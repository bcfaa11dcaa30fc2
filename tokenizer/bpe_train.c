// Training: the most frequent pair of adjacent tokens becomes a token, again and again (Sennrich et
// al., arXiv 1508.07909, algorithm 1), exactly, with counts in 64 bits. Ties as Hugging Face: the
// smaller (left, right) wins.
//
// Data: the distinct words lie end to end as one array of linked symbols. Each pair of ids has a
// row with its exact count and the positions where it was seen; positions go stale and are checked
// when used. A max-heap holds for each pair an entry that is at least its count, corrected when it
// comes to the top. A merge touches the pair's occurrences and their neighbours only.
//
// No two pairs join to the same bytes: how a run of whole symbols is split depends on its bytes
// alone (a merge that crosses its border ends it, others act inside as if it stood alone), so once
// a token exists its bytes are that token wherever they could be joined. Hence merges and new
// tokens are one to one.
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Symbol {
    int32_t id;  // -1: merged into its left neighbour
    uint32_t prev, next, word;
} Symbol;

typedef struct Pair {
    int32_t left, right;
    int64_t count;   // exact
    int64_t queued;  // the entry of the heap that speaks for this pair
    uint32_t *at;    // positions of the left symbol, possibly stale
    uint32_t used, capacity;
    int step;  // last merge in which the count rose
} Pair;

typedef struct Entry {
    int64_t count;
    int32_t left, right;
    uint32_t pair;
} Entry;

typedef struct Trainer {
    Bpe *bpe;
    const BpeTrainConfig *cfg;
    Symbol *symbols;
    uint32_t symbol_count;
    int64_t *weight;  // times of each word
    Pair *pairs;
    size_t pair_count, pair_capacity;
    uint32_t *slots;  // (left, right) -> row + 1; 0: empty
    size_t slot_count;
    Entry *heap;
    size_t heap_count, heap_capacity;
    uint32_t *raised;  // pairs whose count rose in this merge
    size_t raised_count, raised_capacity;
    int step;
    char *token;  // scratch: the bytes of a new token
    size_t token_capacity;
} Trainer;

enum { FIRST_SLOTS = 1 << 16 };  // doubles when half full
static const uint32_t NONE = UINT32_MAX;

// --- the heap: larger count first, then the smaller pair ---
static bool comes_first(const Entry *a, const Entry *b) {
    if (a->count != b->count) return a->count > b->count;
    if (a->left != b->left) return a->left < b->left;
    return a->right < b->right;
}

static void heap_push(Trainer *t, Entry entry) {
    t->heap = memory__reserve(t->heap, &t->heap_capacity, t->heap_count + 1, sizeof *t->heap);
    size_t at = t->heap_count++;
    for (; at > 0 && comes_first(&entry, &t->heap[(at - 1) / 2]); at = (at - 1) / 2) {
        t->heap[at] = t->heap[(at - 1) / 2];
    }
    t->heap[at] = entry;
}

static Entry heap_pop(Trainer *t) {
    Entry top = t->heap[0], last = t->heap[--t->heap_count];
    size_t at = 0;
    for (size_t child = 1; child < t->heap_count; child = at * 2 + 1) {
        if (child + 1 < t->heap_count && comes_first(&t->heap[child + 1], &t->heap[child])) child++;
        if (!comes_first(&t->heap[child], &last)) break;
        t->heap[at] = t->heap[child];
        at = child;
    }
    t->heap[at] = last;
    return top;
}

// Makes the pair's current count its entry in the heap.
static void queue_pair(Trainer *t, uint32_t row) {
    Pair *p = &t->pairs[row];
    p->queued = p->count;
    if (p->count > 0 && p->count >= t->cfg->min_count) {
        heap_push(t, (Entry){p->count, p->left, p->right, row});
    }
}

// The pair to merge next, or NONE. An entry that does not speak for its pair any more is dropped;
// one whose count has fallen since goes back with the true count.
static uint32_t next_pair(Trainer *t) {
    while (t->heap_count > 0) {
        Entry top = heap_pop(t);
        const Pair *p = &t->pairs[top.pair];
        if (top.count != p->queued) continue;
        if (top.count == p->count) return top.pair;
        queue_pair(t, top.pair);
    }
    return NONE;
}

// --- pairs ---
// The slot of the pair, or the empty one where it belongs.
static size_t find_slot(const Trainer *t, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = t->slot_count - 1;
    for (size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 29) & mask;; at = (at + 1) & mask) {
        if (t->slots[at] == 0) return at;
        const Pair *p = &t->pairs[t->slots[at] - 1];
        if (p->left == left && p->right == right) return at;
    }
}

static void clear_slots(Trainer *t, size_t count) {
    t->slot_count = count;
    t->slots = memory__grow(t->slots, count, sizeof *t->slots);
    memset(t->slots, 0, count * sizeof *t->slots);
}

// The row of the pair, made when it is new. Rows may move.
static uint32_t pair_row(Trainer *t, int32_t left, int32_t right) {
    size_t slot = find_slot(t, left, right);
    if (t->slots[slot] != 0) return t->slots[slot] - 1;
    ASSERT(t->pair_count < NONE - 1);
    t->pairs = memory__reserve(t->pairs, &t->pair_capacity, t->pair_count + 1, sizeof *t->pairs);
    t->pairs[t->pair_count++] = (Pair){.left = left, .right = right, .step = -1};
    uint32_t row = (uint32_t)t->pair_count - 1;
    t->slots[slot] = row + 1;
    if (t->pair_count * 2 > t->slot_count) {
        clear_slots(t, t->slot_count * 2);
        for (size_t i = 0; i < t->pair_count; i++) {
            t->slots[find_slot(t, t->pairs[i].left, t->pairs[i].right)] = (uint32_t)i + 1;
        }
    }
    return row;
}

// Pairs whose token would be too long are as if they did not exist.
static bool pair_allowed(const Trainer *t, int32_t left, int32_t right) {
    if (t->cfg->max_token_bytes <= 0) return true;
    return bpe__token_bytes(t->bpe, left) + bpe__token_bytes(t->bpe, right) <=
           (size_t)t->cfg->max_token_bytes;
}

// A pair starts at symbol `at` from now on; and below, one that does so no more.
static void pair_appears(Trainer *t, uint32_t at) {
    const Symbol *s = &t->symbols[at];
    if (!pair_allowed(t, s->id, t->symbols[s->next].id)) return;
    uint32_t row = pair_row(t, s->id, t->symbols[s->next].id);
    Pair *p = &t->pairs[row];
    p->count += t->weight[s->word];
    size_t capacity = p->capacity;
    if (p->used == p->capacity) {  // from one: most pairs are rare
        capacity = capacity == 0 ? 1 : capacity * 2;
        p->at = memory__grow(p->at, capacity, sizeof *p->at);
        p->capacity = capacity > NONE ? NONE : (uint32_t)capacity;
    }
    p->at[p->used++] = at;
    if (p->step == t->step) return;
    p->step = t->step;
    t->raised =
        memory__reserve(t->raised, &t->raised_capacity, t->raised_count + 1, sizeof *t->raised);
    t->raised[t->raised_count++] = row;
}

static void pair_vanishes(Trainer *t, uint32_t at) {
    const Symbol *s = &t->symbols[at];
    if (!pair_allowed(t, s->id, t->symbols[s->next].id)) return;
    t->pairs[pair_row(t, s->id, t->symbols[s->next].id)].count -= t->weight[s->word];
}

// After a merge: pairs whose count rose above their entry get a new one. Falls are left to
// next_pair.
static void queue_raised(Trainer *t) {
    for (size_t i = 0; i < t->raised_count; i++) {
        const Pair *p = &t->pairs[t->raised[i]];
        if (p->count > p->queued) queue_pair(t, t->raised[i]);
    }
    t->raised_count = 0;
}

// --- merging ---
// Merges the symbol at `at` with its right neighbour: three pairs vanish at most, two appear.
static void merge_at(Trainer *t, uint32_t at, int32_t result) {
    Symbol *s = &t->symbols[at], *gone = &t->symbols[s->next];
    if (s->prev != NONE) pair_vanishes(t, s->prev);
    pair_vanishes(t, at);
    if (gone->next != NONE) pair_vanishes(t, s->next);

    // The left symbol keeps its place, so positions of other pairs stay true.
    s->id = result;
    s->next = gone->next;
    gone->id = -1;
    if (s->next != NONE) t->symbols[s->next].prev = at;

    if (s->prev != NONE) pair_appears(t, s->prev);
    if (s->next != NONE) pair_appears(t, at);
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// Adds the joined token. E_USAGE when it spells a special.
static Status add_joined(Trainer *t, int32_t left, int32_t right, int *result) {
    size_t a, b;
    const char *l = bpe_token(t->bpe, left, &a), *r = bpe_token(t->bpe, right, &b);
    t->token = memory__reserve(t->token, &t->token_capacity, (a + b) * 3, 1);
    memcpy(t->token, l, a);
    memcpy(t->token + a, r, b);

    char *spelled = t->token + a + b;
    size_t length = byte_level__spell(spelled, t->token, a + b);
    for (int i = 0; i < t->cfg->special_count; i++) {
        const char *special = t->cfg->specials[i];
        if (strlen(special) == length && memcmp(special, spelled, length) == 0) {
            FAIL(E_USAGE, "name it so that it cannot stand in text, like <|pad|>",
                 "special token \"%s\" is also an ordinary token of this text", special);
        }
    }
    *result = bpe__add_token(t->bpe, t->token, a + b, 0);
    return OK;
}

static Status merge_pair(Trainer *t, uint32_t row) {
    Pair *p = &t->pairs[row];
    int32_t left = p->left, right = p->right;
    int result = -1;
    TRY(add_joined(t, left, right, &result));
    bool added = bpe__add_merge(t->bpe, left, right, result);
    ASSERT(added);

    // The list is taken out first: rows move when pairs appear. Only equal symbols can overlap, and
    // then the leftmost pair goes first.
    uint32_t *at = p->at, used = p->used;
    p->at = NULL;
    p->used = p->capacity = 0;
    if (left == right) qsort(at, used, sizeof *at, compare_u32);
    t->step++;
    for (uint32_t i = 0; i < used; i++) {
        const Symbol *s = &t->symbols[at[i]];
        if (s->id == left && s->next != NONE && t->symbols[s->next].id == right)
            merge_at(t, at[i], result);
    }
    free(at);
    ASSERT(t->pairs[row].count == 0);
    t->pairs[row].queued = 0;
    queue_raised(t);
    return OK;
}

// --- start ---
static Status check_config(const BpeTrainConfig *cfg) {
    if (cfg->special_count < 0 || cfg->vocab_size < 256 + cfg->special_count) {
        FAIL(E_USAGE, "at least 256 and the special tokens are needed",
             "vocabulary of %d ids with %d special tokens", cfg->vocab_size, cfg->special_count);
    }
    for (int i = 0; i < cfg->special_count; i++) {
        const char *special = cfg->specials[i];
        size_t bytes = strlen(special), one;
        char byte[4];
        if (bytes == 0 || utf8__valid_prefix(special, bytes) != bytes ||
            (bytes <= 2 && byte_level__unspell(byte, &one, special, bytes) && one == 1)) {
            FAIL(E_USAGE, "name it so that it cannot stand in text, like <|pad|>",
                 "special token \"%s\" is empty, one byte or not UTF-8", special);
        }
        for (int j = 0; j < i; j++) {
            if (strcmp(special, cfg->specials[j]) == 0) {
                FAIL(E_USAGE, "name each special token once", "special token \"%s\" is given twice",
                     special);
            }
        }
    }
    return OK;
}

// Ids 0 and up: the specials, then the bytes in GPT-2's order.
static void add_alphabet(Bpe *bpe, const BpeTrainConfig *cfg) {
    for (int i = 0; i < cfg->special_count; i++) {
        bpe__add_token(bpe, cfg->specials[i], strlen(cfg->specials[i]), SPECIAL);
    }
    unsigned char order[256];
    byte_level__order(order);
    for (int i = 0; i < 256; i++) bpe__add_token(bpe, (const char *)&order[i], 1, 0);
}

// Lays the words end to end, one symbol a byte.
static Status load_words(Trainer *t, const WordCount *w) {
    size_t words = wordcount_size(w), total = 0, bytes;
    int64_t times;
    for (size_t i = 0; i < words; i++) {
        wordcount__word(w, i, &bytes, &times);
        total += bytes;
    }
    if (total >= NONE || words >= NONE) {
        FAIL(E_USAGE, "train on a sample of the text",
             "%zu distinct words of %zu bytes are too many", words, total);
    }
    t->symbols = memory__grow(NULL, total, sizeof *t->symbols);
    t->weight = memory__grow(NULL, words, sizeof *t->weight);
    for (size_t i = 0; i < words; i++) {
        const char *word = wordcount__word(w, i, &bytes, &t->weight[i]);
        for (size_t k = 0; k < bytes; k++) {
            uint32_t at = t->symbol_count++;
            t->symbols[at] =
                (Symbol){t->bpe->byte_id[(unsigned char)word[k]], k == 0 ? NONE : at - 1,
                         k + 1 == bytes ? NONE : at + 1, (uint32_t)i};
        }
    }
    return OK;
}

static void trainer_close(Trainer *t) {
    for (size_t i = 0; i < t->pair_count; i++) free(t->pairs[i].at);
    free(t->symbols);
    free(t->weight);
    free(t->pairs);
    free(t->slots);
    free(t->heap);
    free(t->raised);
    free(t->token);
}

Status bpe_train(Bpe **bpe, const WordCount *w, const BpeTrainConfig *cfg) {
    Status st = OK;
    *bpe = NULL;
    TRY(check_config(cfg));
    Trainer t = {.bpe = bpe__new(SPLIT_CL100K), .cfg = cfg};
    add_alphabet(t.bpe, cfg);
    clear_slots(&t, FIRST_SLOTS);
    TRY_GOTO(load_words(&t, w));
    for (uint32_t at = 0; at < t.symbol_count; at++) {
        if (t.symbols[at].next != NONE) pair_appears(&t, at);
    }
    queue_raised(&t);

    while (t.bpe->vocab < cfg->vocab_size) {
        uint32_t row = next_pair(&t);
        if (row == NONE) break;  // the text is used up: a smaller vocabulary
        TRY_GOTO(merge_pair(&t, row));
    }
    bpe__finish(t.bpe);
    *bpe = t.bpe;

done:
    if (st != OK) bpe_close(t.bpe);
    trainer_close(&t);
    return st;
}
