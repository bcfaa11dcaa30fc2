// Text to training batches: sources -> documents -> normalised -> exactly deduplicated -> tokens in
// checksummed memory-mapped shards -> a loader whose order is arithmetic. Results do not depend on
// the number of ranks.
#pragma once

#include "base/config.h"
#include "base/file.h"
#include "parallel/mesh.h"
#include "tensor/batch.h"
#include "tokenizer/tokenizer.h"

typedef struct DataConfig {
    Text cache;    // directory of downloads, extracted text, tokenizer and shards
    Text sources;  // comma-separated names of sources.c rows, or paths of text files / directories
    Text mix;      // "austen=0.6,kjv=0.15,...": sampling weights; "" = by tokens
    Text holdout;  // documents whose title contains one of these are kept for evaluation; none
                   // does: 1 % of the text
    int vocab;     // tokenizer size when it is trained here
    Text tokenizer;  // tokenizer.json to use instead of training one; ""
    bool offline;    // use the embedded sample only
    bool dedup;      // drop exact duplicates
    int64_t
        sample_mb;  // a source ends with the document that passes this much text, 0 = never (tests)
    int64_t shard_tokens;  // a shard holds at most this many tokens (but at least one document)
    double max_invalid;    // share of a text's bytes that may be no UTF-8
    double max_bad_lines;  // share of a source's records that may be damaged
    // No key: a model knows it.
    bool eod_given;  // eod ends every document; else the tokenizer's own end token (bpe_end) does
    int eod;
    bool corpus_fixed;  // a run that goes on must find this corpus: no other one takes its place
                        // (corpus_hash)
    Hash128 corpus;
} DataConfig;
extern const Field DATA_FIELDS[];
extern const int DATA_FIELD_COUNT;

// --- documents (extract.c, sources/): a growable list of documents with provenance ---
typedef struct Doc {
    uint64_t id;  // source 12 bits | file 20 | record 32: from position, stable for any rank count
    char *text;   // UTF-8, owned by the list
    size_t bytes;
    char title[96];  // where it comes from, for people: "Emma", "perlfunc.pod"
} Doc;
typedef struct DocList {
    Doc *docs;
    size_t count, capacity;
} DocList;
void doclist_add(DocList *l, uint64_t id, const char *title, const char *text,
                 size_t bytes);  // copies
void doclist_free(DocList *l);

// --- cleaning.c: what reading and normalising a source left out and took away ---
typedef struct Cleaning {
    int64_t files_left_out, files_decoded, links_skipped, bad_lines;
    int64_t docs_invalid, docs_empty;      // left out
    int64_t invalid_bytes, removed_chars;  // replaced, taken away
    char first[160];  // of the files left out: names, and what they look like; of bad lines
} Cleaning;
// The counts by name, for files.
typedef struct CleaningField {
    const char *key, *text;  // text: for people, before the number
    size_t offset;
} CleaningField;
extern const CleaningField CLEANING_FIELDS[];
extern const int CLEANING_FIELD_COUNT;
int64_t *cleaning_count(Cleaning *c, int field);
// "damaged lines left out: 1, invalid bytes replaced: 7 (the first: a.jsonl:2)"; false when there
// is nothing to tell.
enum { CLEANING_TEXT_BYTES = 640 };
bool cleaning_text(char out[CLEANING_TEXT_BYTES], const Cleaning *c);

// --- prepare.c: everything up to shards ---
typedef struct SourceReport {
    char name[32];
    int64_t docs, bytes, tokens, duplicates, held_out_docs;
    double weight;
    Cleaning cleaned;
} SourceReport;
enum { MAX_SOURCES = 64 };
typedef struct CorpusReport {
    SourceReport source[MAX_SOURCES];
    int count;
    bool embedded_sample;  // the packages could not be reached
    bool reused;           // nothing had to be done
    int64_t holdout_bytes, holdout_tokens;
    double bytes_per_token;  // over the training documents
} CorpusReport;
// Collective(world). Fetches (rank 0 of each node), extracts, normalises, deduplicates across
// ranks, trains or reads the tokenizer, writes shards and index.msgpack below cfg->cache/corpus.
// Skips whatever is there and valid.
Status corpus_prepare(CorpusReport *report, const DataConfig *cfg, const Mesh *mesh) CHECKED;

// E_USAGE when the cache cannot be used without touching what is not the program's, or `path`, the
// value of `key`, lies below a directory of data.sources or of what the cache replaces. Not
// collective.
Status corpus_check_outside(const DataConfig *cfg, const char *key, const char *path) CHECKED;
// E_USAGE when one of data.sources, or data.cache, is or lies inside of `place`, which a run
// replaces. Not collective.
Status corpus_check_kept(const DataConfig *cfg, const char *place) CHECKED;

// --- text.c: text for a model, read and normalised like training text ---
// What corpus_prepare does to text, for config.json: "text_normalisation".
extern const char NORMALISATION[];
// E_FORMAT when `name`, which `where` records, is neither NORMALISATION nor "" (nothing is known).
Status normalisation_check(const char *name, const char *where) CHECKED;
// Text from a file for a model that records `normalisation`: unpacked, decoded, normalised as a
// document. With "" it is unpacked, decoded where a byte-order mark says UTF-16 or UTF-32, and
// otherwise unchanged. malloc'ed, NUL-terminated.
Status model_text_read(char **text, size_t *bytes, const char *path,
                       const char *normalisation) CHECKED;
// A prompt in place of *text (malloc'ed), as the beginning of a document: what it ends with stays.
// `name` is for messages.
Status model_prompt(char **text, size_t *bytes, const char *name,
                    const char *normalisation) CHECKED;
// The same for each line of a file that is not empty.
Status model_prompts_read(const char *path, const char *normalisation,
                          Status (*visit)(const char *text, size_t bytes, void *user),
                          void *user) CHECKED;

// --- shard.c: the .tns format, docs/formats.md 6 ---
typedef struct Shard Shard;
typedef struct ShardInfo {
    uint64_t tokens, docs;
    uint32_t vocab, eod, source, number;
    Hash128 tokenizer;
} ShardInfo;
Status shard_write(const char *path, const ShardInfo *info, const int32_t *tokens,
                   const uint64_t *doc_ends, const uint64_t *doc_ids) CHECKED;
Status shard_open(Shard **s, const char *path,
                  bool verify) CHECKED;  // verify: all checksums; else header only
void shard_close(Shard *s);
const ShardInfo *shard_info(const Shard *s);
void shard_tokens(const Shard *s, int32_t *out, uint64_t begin, uint64_t count);
const uint64_t *shard_doc_ends(const Shard *s);

// --- corpus.c: opened for reading ---
typedef struct Corpus Corpus;  // shards of every source, weights, tokenizer hash
// Verifies all checksums. E_FORMAT, E_MISSING: damaged, can be made again; E_IO, E_NEWER: not to be
// touched. All name the file.
Status corpus_open(Corpus **c, const char *dir) CHECKED;
void corpus_close(Corpus *c);
Hash128 corpus_hash(const Corpus *c);
int corpus_vocab(const Corpus *c);
int corpus_eod(const Corpus *c);  // token that ends every document
const char *corpus_tokenizer_path(const Corpus *c);
// Held-out text: documents end to end, each with its end token, and the bytes of text they stand
// for.
typedef struct Holdout {
    const int32_t *ids;    // [tokens], borrowed
    const uint64_t *ends;  // [docs], exclusive, ascending, borrowed
    int64_t tokens, docs, bytes;
} Holdout;
Holdout corpus_holdout(const Corpus *c);
const char *corpus_holdout_text_path(const Corpus *c);

// --- loader.c: docs/maths.md 13 ---
typedef struct LoaderState {  // the same on all ranks; goes into checkpoints
    int64_t samples;          // global samples consumed
    int64_t per_source[MAX_SOURCES];
} LoaderState;
typedef struct Loader Loader;
// Sample = T+1 consecutive tokens of one source ("concat" packing), sources so that each count
// stays within 1 of its share, place by a keyed permutation. mix: NULL or "" = by tokens. The
// corpus must outlive the loader. Not collective. The ranks of a sequence-parallel group (sp > 1)
// are served their chunk of every row, by split_bounds(T, sp).
Status loader_open(Loader **l, const Corpus *c, const char *mix, int T, uint64_t seed, int sp,
                   int sp_rank) CHECKED;
void loader_close(Loader *l);
void loader_state(const Loader *l, LoaderState *st);
Status loader_restore(Loader *l, const LoaderState *st) CHECKED;
// Rows [row, row+rows) of the next global batch (the cursor does not move). Buffers belong to the
// loader and are valid until the next call. rows 0: an empty batch.
Status loader_rows(Loader *l, Batch *out, int64_t row, int rows) CHECKED;
void loader_advance(Loader *l, int64_t global_rows);  // the step is done
int loader_source_count(const Loader *l);
const char *loader_source_name(const Loader *l, int i);
double loader_epochs(const Loader *l, int source);  // passes over the source so far
