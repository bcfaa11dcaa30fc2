// What the files of data/ share with one another and with nobody else.
#pragma once

#include "base/lock.h"
#include "base/own.h"
#include "base/path.h"
#include "data/data.h"
#include "data/sources/sources.h"
#include "parallel/mesh.h"

// --- doc.c ---
// Moves the document to the end of `to`; the text changes its owner.
void doclist__move(DocList *to, Doc *doc);
int doc__source(const Doc *doc);  // number in data.sources, from the id
void doc__release(Doc *doc);      // the text alone: id, title and size stay
// Between documents: a request to stop ends the phase like a failure. E_STOPPED.
Status doc__check_stop(void) CHECKED;

// --- shard.c ---
// XXH3-64 of the header, which holds the checksums of all sections: stands for the whole file.
uint64_t shard__hash(const Shard *s);
// E_IO when somebody wrote to the file since it was opened: what was verified is not what would be
// read.
Status shard__unchanged(Shard *s) CHECKED;

// --- sampler.c: order by arithmetic ---
// A permutation of [0, n) for each (seed, source, epoch): where sample `index` lies. n > 0, index <
// n.
uint64_t sampler__permute(uint64_t n, uint64_t index, uint64_t seed, uint32_t source,
                          uint32_t epoch);
// Source of global sample number `sample`, after each source gave counts[k] of the samples before
// it.
int sampler__pick(const double *weights, const int64_t *counts, int sources, int64_t sample);

// --- mix.c: "austen=0.6,kjv=0.4" ---
typedef struct MixSources {
    const char *const *names;
    const int64_t *tokens;  // NULL: not known yet, only names and numbers are checked
    int count;
} MixSources;
// weights[count] sum to 1. NULL or "": by tokens. E_USAGE names what is wrong and what is known.
Status mix__parse(double *weights, const char *mix, const MixSources *sources) CHECKED;

// --- index.c: index.msgpack, the table of contents of a corpus ---
enum { CORPUS_VERSION = 2 };
typedef struct IndexShard {
    uint64_t tokens, docs, hash;  // hash: shard__hash
    int32_t source, number;
} IndexShard;
typedef struct Index {
    Hash128 identity;                       // of what the corpus was made from
    Hash128 tokenizer;                      // bpe_hash
    Hash128 corpus;                         // of the training stream: tokenizer, names, shards
    uint64_t tokenizer_file, holdout_file;  // XXH3-64 of tokenizer.json and holdout.txt
    int vocab;
    uint32_t eod;
    CorpusReport report;  // names and counts; weights by tokens
    IndexShard *shards;   // by source, then number; owned: index__free
    int shard_count;
    IndexShard holdout;
} Index;
Status index__read(Index *ix, const char *dir) CHECKED;
Status index__write(const Index *ix, const char *dir) CHECKED;
void index__free(Index *ix);
Hash128 index__corpus_hash(const Index *ix);
void index__shard_name(char name[32], int source, int number);
void index__shard_path(char path[PATH_BYTES], const char *dir, int source, int number);
extern const char INDEX_FILE[], TOKENIZER_FILE[], HOLDOUT_TEXT[], HOLDOUT_SHARD[];

// --- corpus.c ---
int corpus__source_count(const Corpus *c);
const char *corpus__source_name(const Corpus *c, int source);
int64_t corpus__source_tokens(const Corpus *c, int source);
const Index *corpus__index(const Corpus *c);
// Tokens [begin, begin + count) of the source's shards laid end to end, which wrap around.
void corpus__read(const Corpus *c, int source, uint64_t begin, size_t count, int32_t *tokens);
// The first place of that stream, from `place` on, where a document starts. The source has tokens.
uint64_t corpus__document(const Corpus *c, int source, uint64_t place);
// E_IO when one of the shards that hold these tokens was changed since it was verified.
Status corpus__check(const Corpus *c, int source, uint64_t begin, size_t count) CHECKED;

// --- dedup.c ---
// Collective(comm). Removes from both lists every document whose simplified text another one has:
// held-out text wins over training text, then the smaller id. dropped[source] += documents removed
// here.
Status docs__dedup(DocList *train, DocList *held, int64_t dropped[MAX_SOURCES], Comm *comm) CHECKED;

// --- holdout.c ---
// Does the title contain one of the comma-separated names?
bool holdout__matches(const char *names, const char *title);
// Collective(comm). Moves the documents whose title matches from train to held. When no title
// matches on any rank (*by_size): of 200 documents or more those with 1 % of all ids, by hash; of
// fewer the one whose size is closest to 1 % of the text; of a single one its last 1 %.
void docs__hold_out(DocList *train, DocList *held, bool *by_size, const char *names, Comm *comm);

// --- cleaning.c ---
// Collective(comm). Adds what normalising left out and changed, counts[MAX_SOURCES] summed over the
// ranks, to the report, and logs what there is to tell of each source.
void cleaning__report(CorpusReport *r, NormaliseCounts *counts, Comm *comm);

// --- cache.c: what a cache replaces, and its lock ---
extern const OwnKind CORPUS_KIND;  // CACHE/corpus, CACHE/corpus.tmp
// E_USAGE when `path`, a value of `key`, is or lies inside of a directory of the cache that the
// program replaces.
Status cache__check_outside(const DataConfig *cfg, const char *key, const char *path) CHECKED;
// What a run stands on is not lost because its texts have changed: E_USAGE when cfg fixes another
// corpus than the new one.
Status cache__check_fixed(const DataConfig *cfg, Hash128 corpus) CHECKED;
// The built-in sample takes the place of nothing better: E_NETWORK when the corpus that is there
// was made from packages.
Status cache__check_sample(const DataConfig *cfg) CHECKED;
// A cache holds one corpus, and one job at a time makes it; a second one waits, and finds it or
// makes its own. All ranks wait together, so that a signal to any of them ends the wait: E_STOPPED.
// *lock, on rank 0, is to be released in any case. Collective(world).
Status cache__lock(Lock *lock, const char *cache, const Mesh *mesh) CHECKED;

// --- inputs.c: data.sources, read ---
enum { SOURCE_NAME_BYTES = sizeof(((SourceReport *)0)->name) };
typedef struct Inputs {
    Text spec[MAX_SOURCES];                     // as written
    char name[MAX_SOURCES][SOURCE_NAME_BYTES];  // for reports and data.mix: a path's last part
    int count;
} Inputs;
// E_USAGE, before anything is touched: the cache lies inside of the texts, texts lie inside of what
// the cache replaces, or something that is not ours has a name there that is needed. Not
// collective. (cache.c)
Status cache__check(const Inputs *in, const DataConfig *cfg) CHECKED;
// Splits the list and checks every name, and those of data.mix. E_USAGE.
Status inputs__parse(Inputs *in, const DataConfig *cfg) CHECKED;
// E_USAGE when `path`, the value of `key`, lies below a directory of sources: what is written there
// would be read as text the next time. Parts of it may not exist yet.
Status inputs__outside(const Inputs *in, const char *key, const char *path) CHECKED;
// Everything the corpus depends on: options, program format, the user's files (size and time), the
// tokenizer file.
Status inputs__identity(Hash128 *identity, const Inputs *in, const DataConfig *cfg) CHECKED;

// --- tokenizer_file.c ---
// Writes tokenizer.json to `dir`: `bpe`, or the file it was read from (given, "": none). Not
// collective.
Status tokenizer__write(uint64_t *file_hash, const char *dir, const Bpe *bpe,
                        const char *given) CHECKED;

// --- packer.c: from tokens on every rank to files ---
// Encoded documents of one rank, in the order of its DocList.
typedef struct Tokens {
    int32_t *ids;
    size_t count, capacity;
    size_t *ends;  // [docs], exclusive
} Tokens;
void tokens__free(Tokens *t);
// What all shards of a corpus share.
typedef struct PackPlan {
    const char *dir;
    Hash128 tokenizer;
    uint32_t vocab, eod;
    int sources;
    uint64_t shard_tokens;
} PackPlan;
// Collective(comm). Writes every source's shards, source s by rank s % size; ix->shards lists all
// on all ranks.
Status pack__shards(Index *ix, const PackPlan *plan, const DocList *docs, const Tokens *tokens,
                    Comm *comm) CHECKED;
// Collective(comm). Rank 0 writes holdout.txt and holdout.tns; totals and hashes go to ix on rank 0
// alone.
Status pack__holdout(Index *ix, const PackPlan *plan, const DocList *held, const Tokens *tokens,
                     Comm *comm) CHECKED;
