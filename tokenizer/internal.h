// Shared between the files of tokenizer/ only: the tokenizer's tables, the GPT-2 byte alphabet,
// UTF-8, memory.
#pragma once

#include "base/file.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

// --- memory ---
// realloc for count * size bytes. The buffers grow with text that was read already, so a failure
// here has no remedy at run time and panics.
void *memory__grow(void *old, size_t count, size_t size);
// Makes room for `need` elements; *capacity at least doubles.
void *memory__reserve(void *old, size_t *capacity, size_t need, size_t size);

// --- UTF-8 (utf8.c) ---
typedef enum {
    UTF8_GOOD,
    UTF8_BAD,
    UTF8_CUT
} Utf8Class;  // CUT: well-formed so far, but the input ends
// Looks at the sequence at p (bytes > 0). *length is the sequence's, or that of the maximal subpart
// of an ill-formed one (Unicode 15, 3.9, table 3-7); at least 1.
Utf8Class utf8__next(const char *p, size_t bytes, size_t *length);
size_t utf8__valid_prefix(const char *p, size_t bytes);

// --- the byte alphabet of GPT-2 (byte_level.c): each byte is written as one printable character
// ---
void byte_level__order(unsigned char order[256]);  // bytes in the order of their ids
size_t byte_level__spell(char *out, const char *bytes, size_t count);  // UTF-8, at most 2 * count
// Inverse; out may hold as many bytes as the text. False: the text has other characters.
bool byte_level__unspell(char *out, size_t *count, const char *text, size_t bytes);

// --- split patterns (pattern.c) ---
extern const char PATTERN_GPT2[];
// Rewrites a pattern in Oniguruma's syntax, as tokenizer.json has it, for PCRE2. Constructs that
// the two read differently, and those of exponential time, are refused: E_FORMAT.
Status pattern__translate(char **pcre, const char *pattern) CHECKED;  // malloc'ed

// Steps that long matches took in the last splitter_run (for tests of their growth).
uint64_t splitter__steps(const Splitter *s);

// --- the normalizer (nfc.c) ---
// Composes the well-formed stretches of a text (UAX 15); other bytes stay. *out is malloc'ed, or
// NULL when the text surely is composed already.
Status nfc__compose(char **out, size_t *out_bytes, const char *text, size_t bytes) CHECKED;

// --- counted words ---
const char *wordcount__word(const WordCount *w, size_t index, size_t *bytes, int64_t *times);

// --- the tokenizer ---
// Flags of an added token, as in tokenizer.json.
enum { SPECIAL = 1, SINGLE_WORD = 2, LSTRIP = 4, RSTRIP = 8, NORMALIZED = 16 };

typedef struct Merge {
    int32_t left, right, result;
} Merge;

typedef struct PairSlot {
    uint64_t key;          // left << 32 | right
    int32_t rank, result;  // rank -1: an empty slot
} PairSlot;

struct Bpe {
    int vocab;
    size_t vocab_capacity;
    char *text;  // all tokens, each followed by a NUL
    size_t text_bytes, text_capacity;
    size_t *start;         // (vocab+1) offsets into text
    uint8_t *flags;        // (vocab)
    int32_t byte_id[256];  // -1: not there yet
    int32_t *table;        // bytes -> id of ordinary tokens, open addressing, -1: empty
    size_t table_size;     // power of two, at least twice the tokens
    Merge *merges;         // by rank
    int merge_count;
    size_t merge_capacity;
    PairSlot *pairs;        // (left, right) -> rank, open addressing
    size_t pair_size;       // power of two, at least twice the merges
    char *pattern;          // the split, as tokenizer.json spells it
    bool byte_level_split;  // the pattern is GPT-2's, written as ByteLevel's own
    bool ignore_merges;     // a piece that is a token is that token, whatever the merges say
    bool nfc;               // text is composed before the split
    bool adds_tokens;       // its file puts special tokens around a text; encoder_run does not
    Hash128 hash;
};

// Building: tokens in the order of their ids, merges in the order of their ranks, then finish.
Bpe *bpe__new(const char *pattern);
int bpe__add_token(Bpe *bpe, const char *bytes, size_t count, uint8_t flags);  // its id
// False when the pair has a rank already.
bool bpe__add_merge(Bpe *bpe, int left, int right, int result);
void bpe__finish(Bpe *bpe);                                      // computes the hash
int bpe__find(const Bpe *bpe, const char *bytes, size_t count);  // id of an ordinary token, or -1
size_t bpe__token_bytes(const Bpe *bpe, int id);

// The slot of a pair; its rank is -1 when the pair does not merge. Here because encoding lives in
// it.
static inline const PairSlot *bpe__pair(const Bpe *bpe, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = bpe->pair_size - 1;
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 29) & mask;  // Fibonacci hashing (Knuth 6.4)
    while (bpe->pairs[at].rank >= 0 && bpe->pairs[at].key != key) at = (at + 1) & mask;
    return &bpe->pairs[at];
}

void bpe__write_json(const Bpe *bpe, JsonOut *out);  // formats/hf_write.c
