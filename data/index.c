// index.msgpack: the table of contents of a prepared corpus, and all of its report. It is written
// last and its last ten bytes hash all before them, so a corpus with a valid index is complete.
// Layout: docs/formats.md.
#include "data/internal.h"

#include "base/pack.h"

#include <stdlib.h>
#include <string.h>

const char INDEX_FILE[] = "index.msgpack", TOKENIZER_FILE[] = "tokenizer.json";
const char HOLDOUT_TEXT[] = "holdout.txt", HOLDOUT_SHARD[] = "holdout.tns";

enum {
    TAIL_BYTES = 10,  // MessagePack's bin 8 head and the hash
    MAX_SHARDS = 1 << 20,
};
static const char REBUILD[] = "remove the corpus directory and prepare it again";

// Names are made, never read from a file: an index cannot point outside its directory.
void index__shard_name(char name[32], int source, int number) {
    snprintf(name, 32, "%03d-%05d.tns", source, number);
}

void index__shard_path(char path[PATH_BYTES], const char *dir, int source, int number) {
    char name[32];
    index__shard_name(name, source, number);
    path_join(path, dir, name);
}

void index__free(Index *ix) {
    free(ix->shards);
    *ix = (Index){0};
}

// What fixes the training stream, in order, and what it is measured by; the names, because weights are given by name.
Hash128 index__corpus_hash(const Index *ix) {
    PackOut *w = packout_new();
    packout_u64(w, (uint64_t)ix->vocab);
    packout_u64(w, ix->eod);
    packout_u64(w, ix->tokenizer.low);
    packout_u64(w, ix->tokenizer.high);
    for (int k = 0; k < ix->report.count; k++) packout_text(w, ix->report.source[k].name);
    for (int i = 0; i < ix->shard_count; i++) {
        packout_i64(w, ix->shards[i].source);
        packout_u64(w, ix->shards[i].hash);
    }
    packout_u64(w, ix->holdout.hash);
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    Hash128 hash = hash128(data, bytes);
    packout_free(w);
    return hash;
}

// --- writing ---

// A value with its key in front, in the map that is open.
static void pack_hash128(PackOut *w, const char *key, Hash128 h) {
    packout_text(w, key);
    packout_bytes(w, &h, sizeof h);
}

static void pack_number(PackOut *w, const char *key, int64_t v) {
    packout_text(w, key);
    packout_i64(w, v);
}

// The file's name is for people and other programs.
static void pack_shard(PackOut *w, const IndexShard *s, const char *file) {
    packout_map(w, 4);
    packout_text(w, "file");
    packout_text(w, file);
    pack_number(w, "tokens", (int64_t)s->tokens);
    pack_number(w, "docs", (int64_t)s->docs);
    packout_text(w, "hash");
    packout_u64(w, s->hash);
}

static void pack_source(PackOut *w, const Index *ix, int source) {
    const SourceReport *r = &ix->report.source[source];
    uint32_t shards = 0;
    for (int i = 0; i < ix->shard_count; i++) shards += ix->shards[i].source == source;
    packout_map(w, 8);
    packout_text(w, "name");
    packout_text(w, r->name);
    pack_number(w, "docs", r->docs);
    pack_number(w, "bytes", r->bytes);
    pack_number(w, "tokens", r->tokens);
    pack_number(w, "duplicates", r->duplicates);
    pack_number(w, "held_out_docs", r->held_out_docs);
    packout_text(w, "weight");
    packout_f64(w, r->weight);
    packout_text(w, "shards");
    packout_array(w, shards);
    for (int i = 0; i < ix->shard_count; i++) {
        if (ix->shards[i].source != source) continue;
        char name[32];
        index__shard_name(name, source, ix->shards[i].number);
        pack_shard(w, &ix->shards[i], name);
    }
}

Status index__write(const Index *ix, const char *dir) {
    PackOut *w = packout_new();
    packout_map(w, 15);  // pairs that follow, the hash included
    pack_number(w, "version", CORPUS_VERSION);
    pack_hash128(w, "identity", ix->identity);
    pack_hash128(w, "tokenizer", ix->tokenizer);
    pack_hash128(w, "corpus", ix->corpus);
    packout_text(w, "tokenizer_file");
    packout_u64(w, ix->tokenizer_file);
    packout_text(w, "holdout_file");
    packout_u64(w, ix->holdout_file);
    pack_number(w, "vocab", ix->vocab);
    pack_number(w, "eod", ix->eod);
    packout_text(w, "embedded_sample");
    packout_bool(w, ix->report.embedded_sample);
    packout_text(w, "bytes_per_token");
    packout_f64(w, ix->report.bytes_per_token);
    pack_number(w, "holdout_bytes", ix->report.holdout_bytes);
    pack_number(w, "holdout_tokens", ix->report.holdout_tokens);
    packout_text(w, "holdout");
    pack_shard(w, &ix->holdout, HOLDOUT_SHARD);
    packout_text(w, "sources");
    packout_array(w, (uint32_t)ix->report.count);
    for (int k = 0; k < ix->report.count; k++) pack_source(w, ix, k);

    // The hash is the last value, so that it covers everything else.
    packout_text(w, "hash");
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    uint64_t hash = hash64(data, bytes);
    packout_bytes(w, &hash, sizeof hash);

    char path[PATH_BYTES];
    path_join(path, dir, INDEX_FILE);
    data = packout_data(w, &bytes);
    Status st = file_write(path, data, bytes);
    packout_free(w);
    return st;
}

// --- reading ---

// Missing values read as 0: what must not be 0 is checked below, and the hash covers the whole file
// anyway.
static Hash128 read_hash128(const PackValue *root, const char *key) {
    Hash128 h = {0};
    uint32_t bytes = 0;
    const void *data = pack_bytes(pack_get(root, key), &bytes);
    if (data != NULL && bytes == sizeof h) memcpy(&h, data, sizeof h);
    return h;
}

static void read_shard(IndexShard *s, const PackValue *v) {
    s->tokens = pack_u64(pack_get(v, "tokens"), 0);
    s->docs = pack_u64(pack_get(v, "docs"), 0);
    s->hash = pack_u64(pack_get(v, "hash"), 0);
}

static void read_source(SourceReport *r, const PackValue *v) {
    pack_text(pack_get(v, "name"), r->name, sizeof r->name);
    r->docs = pack_i64(pack_get(v, "docs"), 0);
    r->bytes = pack_i64(pack_get(v, "bytes"), 0);
    r->tokens = pack_i64(pack_get(v, "tokens"), 0);
    r->duplicates = pack_i64(pack_get(v, "duplicates"), 0);
    r->held_out_docs = pack_i64(pack_get(v, "held_out_docs"), 0);
    r->weight = pack_f64(pack_get(v, "weight"), 0);
}

static Status read_sources(Index *ix, const PackValue *sources, const char *path) {
    uint32_t count = pack_count(sources), shards = 0;
    if (count > MAX_SOURCES)
        FAIL(E_FORMAT, REBUILD, "%s: %u sources, at most %d", path, count, MAX_SOURCES);
    for (uint32_t k = 0; k < count; k++)
        shards += pack_count(pack_get(pack_at(sources, k), "shards"));
    if (shards > MAX_SHARDS) FAIL(E_FORMAT, REBUILD, "%s: %u shards", path, shards);
    ix->shards = calloc(shards + 1, sizeof *ix->shards);
    if (ix->shards == NULL) FAIL(E_NOMEM, NULL, "%s: no memory for %u shards", path, shards);

    // Source and number of a shard are its place in the lists.
    ix->report.count = (int)count;
    for (uint32_t k = 0; k < count; k++) {
        const PackValue *v = pack_at(sources, k), *list = pack_get(v, "shards");
        read_source(&ix->report.source[k], v);
        int64_t tokens = 0;
        for (uint32_t i = 0; i < pack_count(list); i++) {
            IndexShard *s = &ix->shards[ix->shard_count++];
            read_shard(s, pack_at(list, i));
            s->source = (int32_t)k;
            s->number = (int32_t)i;
            tokens += (int64_t)s->tokens;
        }
        if (tokens != ix->report.source[k].tokens)
            FAIL(E_FORMAT, REBUILD, "%s: shards of '%s' hold %lld tokens, not %lld", path,
                 ix->report.source[k].name, (long long)tokens,
                 (long long)ix->report.source[k].tokens);
    }
    return OK;
}

static Status index_parse(Index *ix, const PackValue *root, const char *path) {
    int64_t version = pack_i64(pack_get(root, "version"), -1);
    if (version != CORPUS_VERSION)
        FAIL(E_FORMAT, REBUILD, "%s: corpus version %lld, this program reads %d", path,
             (long long)version, CORPUS_VERSION);
    ix->identity = read_hash128(root, "identity");
    ix->tokenizer = read_hash128(root, "tokenizer");
    ix->corpus = read_hash128(root, "corpus");
    ix->tokenizer_file = pack_u64(pack_get(root, "tokenizer_file"), 0);
    ix->holdout_file = pack_u64(pack_get(root, "holdout_file"), 0);
    int64_t vocab = pack_i64(pack_get(root, "vocab"), 0), eod = pack_i64(pack_get(root, "eod"), -1);
    if (vocab < 1 || vocab > INT32_MAX || eod < 0 || eod >= vocab)
        FAIL(E_FORMAT, REBUILD, "%s: vocabulary of %lld with end-of-document token %lld", path,
             (long long)vocab, (long long)eod);
    ix->vocab = (int)vocab;
    ix->eod = (uint32_t)eod;
    ix->report.embedded_sample = pack_bool(pack_get(root, "embedded_sample"), false);
    ix->report.bytes_per_token = pack_f64(pack_get(root, "bytes_per_token"), 0);
    ix->report.holdout_bytes = pack_i64(pack_get(root, "holdout_bytes"), 0);
    ix->report.holdout_tokens = pack_i64(pack_get(root, "holdout_tokens"), 0);
    read_shard(&ix->holdout, pack_get(root, "holdout"));
    TRY(read_sources(ix, pack_get(root, "sources"), path));

    // Resuming a run relies on this hash: recompute it from what was just read.
    Hash128 corpus = index__corpus_hash(ix);
    if (corpus.low != ix->corpus.low || corpus.high != ix->corpus.high)
        FAIL(E_FORMAT, REBUILD, "%s: the corpus hash does not fit the shards listed", path);
    return OK;
}

Status index__read(Index *ix, const char *dir) {
    *ix = (Index){0};
    char path[PATH_BYTES], *data = NULL;
    size_t bytes;
    path_join(path, dir, INDEX_FILE);
    TRY(file_read(path, &data, &bytes));

    // The hash first: nothing of a damaged file is looked at.
    Status st = OK;
    Pack *pack = NULL;
    uint64_t hash = 0;
    if (bytes > TAIL_BYTES) memcpy(&hash, data + bytes - sizeof hash, sizeof hash);
    if (bytes <= TAIL_BYTES || hash != hash64(data, bytes - TAIL_BYTES)) {
        st = err_set(E_FORMAT, REBUILD, "%s: truncated, or checksum wrong", path);
        goto done;
    }
    TRY_GOTO(pack_open(&pack, data, bytes, path));
    TRY_GOTO(index_parse(ix, pack_root(pack), path));
done:
    pack_close(pack);
    free(data);
    if (st != OK) index__free(ix);
    return st;
}
