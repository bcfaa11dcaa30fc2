// A prepared corpus, opened for reading: every shard mapped and verified, so that what training
// reads later cannot fail. A source is one endless stream: its shards end to end, then again from
// the start.
#include "data/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Stream {
    Shard **shards;    // borrowed from Corpus.shards
    uint64_t *begins;  // [count + 1] first token of each shard in the stream
    int count;
} Stream;

struct Corpus {
    Index index;  // names, counts and hashes; what the rest is checked against
    char tokenizer[PATH_BYTES], holdout_text[PATH_BYTES];
    Shard **shards;  // in the index's order
    uint64_t *begins;
    Stream stream[MAX_SOURCES];
    int32_t *holdout;
    uint64_t *holdout_ends;
};

static const char REBUILD[] = "remove the corpus directory and prepare it again";

// The shard must be the very file the index was written for, not just a valid one.
static Status shard_open_listed(Shard **s, const char *path, const Index *ix,
                                const IndexShard *listed) {
    TRY(path_look(path));
    TRY(shard_open(s, path, true));
    const ShardInfo *info = shard_info(*s);
    if (shard__hash(*s) != listed->hash || info->tokens != listed->tokens ||
        info->docs != listed->docs || info->tokenizer.low != ix->tokenizer.low ||
        info->tokenizer.high != ix->tokenizer.high || info->vocab != (uint32_t)ix->vocab)
        FAIL(E_FORMAT, REBUILD, "%s: not the shard that the index lists", path);
    return OK;
}

// Small files beside the shards: read whole, compared, forgotten.
static Status text_verify(const char *path, uint64_t hash) {
    char *text;
    size_t bytes;
    TRY(path_look(path));
    TRY(file_read(path, &text, &bytes));
    bool same = hash64(text, bytes) == hash;
    free(text);
    if (!same) FAIL(E_FORMAT, REBUILD, "%s: checksum is wrong", path);
    return OK;
}

// Opens the shards in the index's order, which is by source: those of one source lie side by side,
// and so do their beginnings, one more than shards as the last is the stream's length.
static Status streams_open(Corpus *c, const char *dir) {
    const Index *ix = &c->index;
    size_t count = (size_t)ix->shard_count;
    c->shards = calloc(count + 1, sizeof(Shard *));
    c->begins = calloc(count + (size_t)ix->report.count + 1, sizeof *c->begins);
    if (c->shards == NULL || c->begins == NULL)
        FAIL(E_NOMEM, NULL, "%s: no memory for %zu shards", dir, count);
    int next = 0;
    uint64_t *begins = c->begins;
    for (int k = 0; k < ix->report.count; k++) {
        Stream *stream = &c->stream[k];
        *stream = (Stream){.shards = c->shards + next, .begins = begins};
        for (; next < ix->shard_count && ix->shards[next].source == k; next++) {
            const IndexShard *listed = &ix->shards[next];
            char path[PATH_BYTES];
            index__shard_path(path, dir, k, listed->number);
            TRY(shard_open_listed(&c->shards[next], path, ix, listed));
            begins[stream->count + 1] = begins[stream->count] + listed->tokens;
            stream->count++;
        }
        begins += stream->count + 1;
    }
    return OK;
}

// Held-out tokens are read front to back, many times, by every evaluation: plain arrays.
static Status holdout_open(Corpus *c, const char *dir) {
    char path[PATH_BYTES];
    path_join(path, dir, HOLDOUT_SHARD);
    Shard *shard = NULL;
    Status st = shard_open_listed(&shard, path, &c->index, &c->index.holdout);
    uint64_t tokens = c->index.holdout.tokens, docs = c->index.holdout.docs;
    if (st == OK && tokens > 0) {
        c->holdout = malloc(tokens * sizeof *c->holdout);
        c->holdout_ends = malloc(docs * sizeof *c->holdout_ends);
        if (c->holdout == NULL || c->holdout_ends == NULL) {
            st = err_set(E_NOMEM, "hold out less text", "%s: no memory for %llu tokens", path,
                         (unsigned long long)tokens);
        } else {
            shard_tokens(shard, c->holdout, 0, tokens);
            memcpy(c->holdout_ends, shard_doc_ends(shard), docs * sizeof *c->holdout_ends);
        }
    }
    shard_close(shard);
    return st;
}

Status corpus_open(Corpus **out, const char *dir) {
    *out = NULL;
    Corpus *c = calloc(1, sizeof *c);
    if (c == NULL) FAIL(E_NOMEM, NULL, "%s: no memory for the corpus", dir);
    Status st = OK;
    path_join(c->tokenizer, dir, TOKENIZER_FILE);
    path_join(c->holdout_text, dir, HOLDOUT_TEXT);
    TRY_GOTO(index__read(&c->index, dir));
    TRY_GOTO(text_verify(c->tokenizer, c->index.tokenizer_file));
    TRY_GOTO(text_verify(c->holdout_text, c->index.holdout_file));
    TRY_GOTO(streams_open(c, dir));
    TRY_GOTO(holdout_open(c, dir));
    *out = c;
    return OK;
done:
    corpus_close(c);
    return st;
}

void corpus_close(Corpus *c) {
    if (c == NULL) return;
    for (int i = 0; c->shards != NULL && i < c->index.shard_count; i++) shard_close(c->shards[i]);
    free(c->shards);
    free(c->begins);
    free(c->holdout);
    free(c->holdout_ends);
    index__free(&c->index);
    free(c);
}

Hash128 corpus_hash(const Corpus *c) {
    return c->index.corpus;
}
int corpus_vocab(const Corpus *c) {
    return c->index.vocab;
}
int corpus_eod(const Corpus *c) {
    return (int)c->index.eod;
}
const char *corpus_tokenizer_path(const Corpus *c) {
    return c->tokenizer;
}
const char *corpus_holdout_text_path(const Corpus *c) {
    return c->holdout_text;
}
const Index *corpus__index(const Corpus *c) {
    return &c->index;
}
int corpus__source_count(const Corpus *c) {
    return c->index.report.count;
}

const char *corpus__source_name(const Corpus *c, int source) {
    return c->index.report.source[source].name;
}

int64_t corpus__source_tokens(const Corpus *c, int source) {
    return c->index.report.source[source].tokens;
}

Holdout corpus_holdout(const Corpus *c) {
    return (Holdout){.ids = c->holdout,
                     .ends = c->holdout_ends,
                     .tokens = (int64_t)c->index.holdout.tokens,
                     .docs = (int64_t)c->index.holdout.docs,
                     .bytes = c->index.report.holdout_bytes};
}

// The shard that holds token `at` of the stream.
static int shard_find(const Stream *s, uint64_t at) {
    int low = 0, high = s->count;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (s->begins[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

uint64_t corpus__document(const Corpus *c, int source, uint64_t place) {
    const Stream *s = &c->stream[source];
    uint64_t total = s->begins[s->count], lap = place - place % total;
    int i = shard_find(s, place % total);
    uint64_t local = place % total - s->begins[i];
    if (local == 0) return place;  // a shard holds whole documents

    // The first document that ends there or later: the next one starts where it ends.
    const uint64_t *ends = shard_doc_ends(s->shards[i]);
    uint64_t low = 0, high = shard_info(s->shards[i])->docs - 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (ends[middle] < local)
            low = middle + 1;
        else
            high = middle;
    }
    return lap + s->begins[i] + ends[low];
}

void corpus__read(const Corpus *c, int source, uint64_t begin, size_t count, int32_t *tokens) {
    const Stream *s = &c->stream[source];
    uint64_t total = s->begins[s->count];
    ASSERT(total > 0);
    begin %= total;

    // One piece a shard; after the last shard the stream starts again.
    for (size_t done = 0; done < count;) {
        int i = shard_find(s, begin);
        uint64_t piece = s->begins[i + 1] - begin;  // to the end of this shard
        if (piece > count - done) piece = count - done;
        shard_tokens(s->shards[i], tokens + done, begin - s->begins[i], piece);
        done += piece;
        begin = (begin + piece) % total;
    }
}

Status corpus__check(const Corpus *c, int source, uint64_t begin, size_t count) {
    const Stream *s = &c->stream[source];
    uint64_t total = s->begins[s->count];
    begin %= total;
    int first = shard_find(s, begin);
    // At most once around: a short stream is read again and again.
    for (int i = 0; i < s->count; i++) {
        int k = (first + i) % s->count;
        uint64_t before =
            (s->begins[k] + total - begin) % total;  // tokens read before this shard's
        if (i > 0 && before >= count) return OK;
        TRY(shard__unchanged(s->shards[k]));
    }
    return OK;
}
