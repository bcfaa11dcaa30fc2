// Byte-level BPE: text <-> token ids. Exact training, Hugging Face's tokenizer.json as the only own
// format.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Bpe Bpe;  // opaque, immutable once built: safe to share between threads

// --- pre-tokenizer (pretokenize.c): the cl100k-style split through PCRE2 ---
typedef struct Splitter Splitter;                                 // one per thread
Status splitter_open(Splitter **s, const char *pattern) CHECKED;  // NULL pattern: cl100k
void splitter_close(Splitter *s);
extern const char SPLIT_CL100K[];
// Calls piece(bytes, length, user) for consecutive pieces that cover `text` exactly. Any bytes:
// invalid UTF-8 is split off in pieces of its own, never lost. E_FORMAT: the pattern takes more
// than linear time on this text; the pieces so far were right.
typedef void (*PieceFn)(const char *piece, size_t bytes, void *user);
Status splitter_run(Splitter *s, const char *text, size_t bytes, PieceFn piece, void *user) CHECKED;

// --- composition (compose.c) ---
// The text in NFC, in linear time; what is not UTF-8 becomes U+FFFD. malloc'ed, NUL-terminated.
// NULL: out of memory.
char *utf8_compose(const char *text, size_t bytes, size_t *out_bytes);

// --- counting words (word_count.c) ---
typedef struct WordCount WordCount;  // distinct pieces and their exact int64 counts
WordCount *wordcount_new(void);
void wordcount_free(WordCount *w);
void wordcount_add(WordCount *w, const char *piece, size_t bytes, int64_t times);
Status wordcount_text(WordCount *w, Splitter *s, const char *text, size_t bytes) CHECKED;
size_t wordcount_size(const WordCount *w);
// Serialised (sorted by bytes) for exchange between ranks; wordcount_merge adds such a buffer.
char *wordcount_dump(const WordCount *w, size_t *bytes);  // malloc'ed
Status wordcount_merge(WordCount *w, const char *dump, size_t bytes) CHECKED;

// --- training (bpe_train.c) ---
// Merges the most frequent pair until vocab_size ids exist; ties as Hugging Face: the pair with the
// smaller (left id, right id) first. specials take ids 0.. in order, then the 256 bytes in GPT-2
// order, then merges. Depends on the counts alone: every rank that holds the same counts builds the
// same tokenizer.
typedef struct BpeTrainConfig {
    int vocab_size;
    int64_t min_count;    // pairs seen less often are not merged
    int max_token_bytes;  // 0: unlimited
    const char *const *specials;
    int special_count;
} BpeTrainConfig;
Status bpe_train(Bpe **bpe, const WordCount *w, const BpeTrainConfig *cfg) CHECKED;

// --- use (bpe.c) ---
void bpe_close(Bpe *bpe);
int bpe_vocab(const Bpe *bpe);  // number of ids
int bpe_merges(const Bpe *bpe);
uint64_t bpe_hash(const Bpe *bpe, uint64_t *high);  // XXH3-128 of the canonical tokenizer.json
int bpe_special(const Bpe *bpe, const char *text);  // id, or -1
int bpe_end(const Bpe *bpe);  // the special token that ends a text, by the names in use; -1: none
const char *bpe_token(const Bpe *bpe, int id,
                      size_t *bytes);  // the token's bytes; NULL: no such id
bool bpe_is_special(const Bpe *bpe, int id);
// Whether its tokenizer.json has the reference library put special tokens around a text (a
// template); encoder_run never does.
bool bpe_adds_tokens(const Bpe *bpe);

typedef struct Encoder Encoder;  // per-thread: splitter, word cache, scratch
Status encoder_open(Encoder **e, const Bpe *bpe) CHECKED;
void encoder_close(Encoder *e);
// Appends the ids of `text` to *ids (realloc'ed, *count of *capacity used). Specials in the text
// are ordinary bytes. A tokenizer with the normalizer NFC composes the text first.
Status encoder_run(Encoder *e, const char *text, size_t bytes, int32_t **ids, size_t *count,
                   size_t *capacity) CHECKED;

// Whole: bytes exactly as encoded, malloc'ed, NUL-terminated. Specials are skipped unless
// `specials`.
char *bpe_decode(const Bpe *bpe, const int32_t *ids, size_t count, bool specials, size_t *bytes);
// Streaming: returns the longest valid UTF-8 that is complete; invalid parts become U+FFFD per
// maximal subpart.
typedef struct Utf8Stream {
    unsigned char held[4];
    int count;
} Utf8Stream;
// out: at least bytes*3+16. flush: end of text, nothing stays held. Returns bytes written.
size_t utf8_stream(Utf8Stream *s, const char *in, size_t bytes, bool flush, char *out);

// --- tokenizer.json (formats/hf_json.c) ---
Status
bpe_read_hf(Bpe **bpe,
            const char *path) CHECKED;  // refuses what it does not implement, with the JSON path
Status bpe_write_hf(const Bpe *bpe,
                    const char *path) CHECKED;  // read by the tokenizers library to the same ids
