// The tokenizer's tables: tokens by id, ids by bytes, merges by pair. Built once, then read only.
// Byte-pair encoding: Sennrich et al., arXiv 1508.07909; on bytes: Radford et al. 2019.
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_TABLE = 1024 };  // slots; both tables double when half full

// --- memory ---
void *memory__grow(void *old, size_t count, size_t size) {
    ASSERT(size > 0 && count <= SIZE_MAX / size);
    void *fresh = realloc(old, count * size + (count == 0));  // realloc(p, 0) would free
    ASSERT(fresh != NULL);
    return fresh;
}

void *memory__reserve(void *old, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return old;
    size_t doubled = *capacity * 2 < 16 ? 16 : *capacity * 2;
    *capacity = need > doubled ? need : doubled;
    return memory__grow(old, *capacity, size);
}

// --- building ---
// Both tables mark an empty slot by -1 in every field, so 0xFF bytes clear them.
static void clear_table(Bpe *bpe, size_t size) {
    bpe->table_size = size;
    bpe->table = memory__grow(bpe->table, size, sizeof *bpe->table);
    memset(bpe->table, 0xFF, size * sizeof *bpe->table);
}

static void clear_pairs(Bpe *bpe, size_t size) {
    bpe->pair_size = size;
    bpe->pairs = memory__grow(bpe->pairs, size, sizeof *bpe->pairs);
    memset(bpe->pairs, 0xFF, size * sizeof *bpe->pairs);
}

Bpe *bpe__new(const char *pattern) {
    Bpe *bpe = memory__grow(NULL, 1, sizeof *bpe);
    *bpe = (Bpe){0};
    size_t bytes = strlen(pattern) + 1;
    bpe->pattern = memcpy(memory__grow(NULL, bytes, 1), pattern, bytes);
    bpe->start = memory__grow(NULL, 1, sizeof *bpe->start);
    bpe->start[0] = 0;
    memset(bpe->byte_id, 0xFF, sizeof bpe->byte_id);
    clear_table(bpe, FIRST_TABLE);
    clear_pairs(bpe, FIRST_TABLE);
    return bpe;
}

void bpe_close(Bpe *bpe) {
    if (bpe == NULL) return;
    free(bpe->text);
    free(bpe->start);
    free(bpe->flags);
    free(bpe->table);
    free(bpe->merges);
    free(bpe->pairs);
    free(bpe->pattern);
    free(bpe);
}

size_t bpe__token_bytes(const Bpe *bpe, int id) {
    return bpe->start[id + 1] - bpe->start[id] - 1;
}

// The slot that holds these bytes, or the empty one where they belong. Only a table at most half
// full may be searched: the loop ends at an empty slot.
static size_t find_token_slot(const Bpe *bpe, const char *bytes, size_t count) {
    size_t mask = bpe->table_size - 1;
    for (size_t at = hash64(bytes, count) & mask;; at = (at + 1) & mask) {
        int id = bpe->table[at];
        if (id < 0 || (bpe__token_bytes(bpe, id) == count &&
                       memcmp(bpe->text + bpe->start[id], bytes, count) == 0)) {
            return at;
        }
    }
}

int bpe__find(const Bpe *bpe, const char *bytes, size_t count) {
    return bpe->table[find_token_slot(bpe, bytes, count)];
}

// Special tokens stay out of the table: text never encodes to them.
static void index_token(Bpe *bpe, int id) {
    if (bpe->flags[id] & SPECIAL) return;
    const char *bytes = bpe->text + bpe->start[id];
    size_t count = bpe__token_bytes(bpe, id);
    bpe->table[find_token_slot(bpe, bytes, count)] = id;
    if (count == 1) bpe->byte_id[(unsigned char)bytes[0]] = id;
}

int bpe__add_token(Bpe *bpe, const char *bytes, size_t count, uint8_t flags) {
    ASSERT(bpe->vocab < INT32_MAX);
    size_t id = (size_t)bpe->vocab, capacity = bpe->vocab_capacity;
    bpe->flags = memory__reserve(bpe->flags, &bpe->vocab_capacity, id + 1, sizeof *bpe->flags);
    if (bpe->vocab_capacity != capacity) {
        bpe->start = memory__grow(bpe->start, bpe->vocab_capacity + 1, sizeof *bpe->start);
    }

    // The NUL is for those who print tokens; tokens may hold NULs themselves.
    bpe->text = memory__reserve(bpe->text, &bpe->text_capacity, bpe->text_bytes + count + 1, 1);
    memcpy(bpe->text + bpe->text_bytes, bytes, count);
    bpe->text[bpe->text_bytes + count] = '\0';
    bpe->text_bytes += count + 1;
    bpe->start[id + 1] = bpe->text_bytes;
    bpe->flags[id] = flags;
    bpe->vocab++;

    // A larger table is filled anew; doubling makes that O(1) a token.
    if ((size_t)bpe->vocab * 2 > bpe->table_size) {
        clear_table(bpe, bpe->table_size * 2);
        for (int i = 0; i < bpe->vocab - 1; i++) index_token(bpe, i);
    }
    index_token(bpe, (int)id);
    return (int)id;
}

static void index_merge(Bpe *bpe, int rank) {
    const Merge *m = &bpe->merges[rank];
    PairSlot *slot = &bpe->pairs[bpe__pair(bpe, m->left, m->right) - bpe->pairs];
    slot->key = (uint64_t)(uint32_t)m->left << 32 | (uint32_t)m->right;
    slot->rank = rank;
    slot->result = m->result;
}

bool bpe__add_merge(Bpe *bpe, int left, int right, int result) {
    if (bpe__pair(bpe, left, right)->rank >= 0) return false;
    ASSERT(bpe->merge_count < INT32_MAX);
    size_t count = (size_t)bpe->merge_count;
    bpe->merges =
        memory__reserve(bpe->merges, &bpe->merge_capacity, count + 1, sizeof *bpe->merges);
    bpe->merges[count] = (Merge){left, right, result};
    bpe->merge_count++;
    if ((count + 1) * 2 > bpe->pair_size) {
        clear_pairs(bpe, bpe->pair_size * 2);
        for (int rank = 0; rank < bpe->merge_count - 1; rank++) index_merge(bpe, rank);
    }
    index_merge(bpe, bpe->merge_count - 1);
    return true;
}

// The identity of a tokenizer is the text that would be written: whatever changes ids is in it.
void bpe__finish(Bpe *bpe) {
    JsonOut out = {.indent = 2};
    bpe__write_json(bpe, &out);
    bpe->hash = hash128(out.text, out.bytes);
    jsonout_free(&out);
}

// --- questions ---
int bpe_vocab(const Bpe *bpe) {
    return bpe->vocab;
}
int bpe_merges(const Bpe *bpe) {
    return bpe->merge_count;
}

uint64_t bpe_hash(const Bpe *bpe, uint64_t *high) {
    if (high != NULL) *high = bpe->hash.high;
    return bpe->hash.low;
}

bool bpe_is_special(const Bpe *bpe, int id) {
    return id >= 0 && id < bpe->vocab && (bpe->flags[id] & SPECIAL) != 0;
}

bool bpe_adds_tokens(const Bpe *bpe) {
    return bpe->adds_tokens;
}

// A linear search: callers ask once, for names in a configuration.
int bpe_special(const Bpe *bpe, const char *text) {
    size_t count = strlen(text);
    for (int id = 0; id < bpe->vocab; id++) {
        if (bpe_is_special(bpe, id) && bpe__token_bytes(bpe, id) == count &&
            memcmp(bpe->text + bpe->start[id], text, count) == 0) {
            return id;
        }
    }
    return -1;
}

int bpe_end(const Bpe *bpe) {
    static const char *const names[] = {"<eos>", "<|endoftext|>", "<|end_of_text|>", "</s>"};
    int id = -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && id < 0; i++)
        id = bpe_special(bpe, names[i]);
    return id;
}

const char *bpe_token(const Bpe *bpe, int id, size_t *bytes) {
    bool known = id >= 0 && id < bpe->vocab;
    if (bytes != NULL) *bytes = known ? bpe__token_bytes(bpe, id) : 0;
    return known ? bpe->text + bpe->start[id] : NULL;
}

// --- decoding ---
// The text of one id. A model may have more ids than the tokenizer (padding of its vocabulary):
// such an id shows as U+FFFD.
static const char *decode_id(const Bpe *bpe, int32_t id, bool specials, size_t *bytes) {
    static const char UNKNOWN[] = "\xEF\xBF\xBD";
    const char *text = bpe_token(bpe, id, bytes);
    if (text == NULL) *bytes = sizeof UNKNOWN - 1;
    if (bpe_is_special(bpe, id) && !specials) *bytes = 0;
    return text == NULL ? UNKNOWN : text;
}

char *bpe_decode(const Bpe *bpe, const int32_t *ids, size_t count, bool specials, size_t *bytes) {
    // Twice over the ids: first the size, then the bytes.
    size_t total = 0, one;
    for (size_t i = 0; i < count; i++) {
        decode_id(bpe, ids[i], specials, &one);
        total += one;
    }
    char *text = memory__grow(NULL, total + 1, 1), *at = text;
    for (size_t i = 0; i < count; i++) {
        const char *token = decode_id(bpe, ids[i], specials, &one);
        memcpy(at, token, one);
        at += one;
    }
    *at = '\0';
    if (bytes != NULL) *bytes = total;
    return text;
}
