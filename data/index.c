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

// What fixes the training stream, in order, and what it is measured by; the names, because weights
// are given by name.
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

static void pack_cleaning(PackOut *w, Cleaning c) {
    packout_text(w, "cleaned");
    packout_map(w, (uint32_t)CLEANING_FIELD_COUNT + 1);
    for (int f = 0; f < CLEANING_FIELD_COUNT; f++)
        pack_number(w, CLEANING_FIELDS[f].key, *cleaning_count(&c, f));
    packout_text(w, "first");
    packout_text(w, c.first);
}

static void pack_source(PackOut *w, const Index *ix, int source) {
    const SourceReport *r = &ix->report.source[source];
    uint32_t shards = 0;
    for (int i = 0; i < ix->shard_count; i++) shards += ix->shards[i].source == source;
    packout_map(w, 9);
    packout_text(w, "name");
    packout_text(w, r->name);
    pack_number(w, "docs", r->docs);
    pack_number(w, "bytes", r->bytes);
    pack_number(w, "tokens", r->tokens);
    pack_number(w, "duplicates", r->duplicates);
    pack_number(w, "held_out_docs", r->held_out_docs);
    packout_text(w, "weight");
    packout_f64(w, r->weight);
    pack_cleaning(w, r->cleaned);
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

static Status read_hash128(Hash128 *out, const PackValue *root, const char *key) {
    uint32_t bytes;
    const void *data;
    TRY(pack_bytes(&data, &bytes, root, key));
    if (bytes != sizeof *out) FAIL(E_FORMAT, REBUILD, "'%s' has %u bytes", key, bytes);
    memcpy(out, data, sizeof *out);
    return OK;
}

static Status read_shard(IndexShard *s, const PackValue *v) {
    TRY(pack_u64(&s->tokens, v, "tokens"));
    TRY(pack_u64(&s->docs, v, "docs"));
    return pack_u64(&s->hash, v, "hash");
}

static Status read_count(int64_t *out, const PackValue *map, const char *key) {
    TRY(pack_i64(out, map, key));
    if (*out < 0) FAIL(E_FORMAT, REBUILD, "'%s' is %lld", key, (long long)*out);
    return OK;
}

static Status read_cleaning(Cleaning *c, const PackValue *v) {
    for (int f = 0; f < CLEANING_FIELD_COUNT; f++)
        TRY(read_count(cleaning_count(c, f), v, CLEANING_FIELDS[f].key));
    return pack_text(c->first, sizeof c->first, v, "first");
}

static Status read_source(SourceReport *r, const PackValue *v) {
    const PackValue *cleaned;
    TRY(pack_text(r->name, sizeof r->name, v, "name"));
    TRY(read_count(&r->docs, v, "docs"));
    TRY(read_count(&r->bytes, v, "bytes"));
    TRY(read_count(&r->tokens, v, "tokens"));
    TRY(read_count(&r->duplicates, v, "duplicates"));
    TRY(read_count(&r->held_out_docs, v, "held_out_docs"));
    TRY(pack_f64(&r->weight, v, "weight"));
    TRY(pack_map(&cleaned, v, "cleaned"));
    return read_cleaning(&r->cleaned, cleaned);
}

// Room for the shards of all sources, counted before it is taken.
static Status reserve_shards(Index *ix, const PackValue *sources) {
    uint32_t shards = 0, count;
    for (uint32_t k = 0; k < (uint32_t)ix->report.count; k++) {
        const PackValue *v, *list;
        TRY(pack_item(&v, sources, k));
        TRY(pack_array(&list, &count, v, "shards"));
        if (count > MAX_SHARDS - shards) FAIL(E_FORMAT, REBUILD, "more than %d shards", MAX_SHARDS);
        shards += count;
    }
    ix->shards = calloc(shards + 1, sizeof *ix->shards);
    if (ix->shards == NULL) FAIL(E_NOMEM, NULL, "no memory for %u shards", shards);
    return OK;
}

// Source and number of a shard are its place in the lists.
static Status read_shards(Index *ix, const PackValue *source, uint32_t k) {
    const PackValue *list, *v;
    uint32_t count;
    uint64_t tokens = 0;  // wraps where the index lies; shards are compared with it one by one
    TRY(pack_array(&list, &count, source, "shards"));
    for (uint32_t i = 0; i < count; i++) {
        IndexShard *s = &ix->shards[ix->shard_count++];
        TRY(pack_item(&v, list, i));
        TRY(read_shard(s, v));
        s->source = (int32_t)k;
        s->number = (int32_t)i;
        tokens += s->tokens;
    }
    if (tokens != (uint64_t)ix->report.source[k].tokens)
        FAIL(E_FORMAT, REBUILD, "shards of '%s' hold %llu tokens, not %lld",
             ix->report.source[k].name, (unsigned long long)tokens,
             (long long)ix->report.source[k].tokens);
    return OK;
}

static Status read_sources(Index *ix, const PackValue *root) {
    const PackValue *sources, *v;
    uint32_t count;
    TRY(pack_array(&sources, &count, root, "sources"));
    if (count > MAX_SOURCES) FAIL(E_FORMAT, REBUILD, "%u sources, at most %d", count, MAX_SOURCES);
    ix->report.count = (int)count;
    TRY(reserve_shards(ix, sources));
    for (uint32_t k = 0; k < count; k++) {
        TRY(pack_item(&v, sources, k));
        TRY(read_source(&ix->report.source[k], v));
        TRY(read_shards(ix, v, k));
    }
    return OK;
}

static Status read_report(CorpusReport *r, const PackValue *root) {
    TRY(pack_bool(&r->embedded_sample, root, "embedded_sample"));
    TRY(pack_f64(&r->bytes_per_token, root, "bytes_per_token"));
    TRY(read_count(&r->holdout_bytes, root, "holdout_bytes"));
    return read_count(&r->holdout_tokens, root, "holdout_tokens");
}

static Status index_parse(Index *ix, const PackValue *root) {
    int64_t version, vocab, eod;
    const PackValue *holdout;
    TRY(pack_i64(&version, root, "version"));
    if (version > CORPUS_VERSION)
        FAIL(E_NEWER, "use the version of sterna that wrote it, or another data.cache",
             "corpus version %lld, this program reads %d", (long long)version, CORPUS_VERSION);
    if (version != CORPUS_VERSION)
        FAIL(E_FORMAT, REBUILD, "corpus version %lld, this program reads %d", (long long)version,
             CORPUS_VERSION);
    TRY(read_hash128(&ix->identity, root, "identity"));
    TRY(read_hash128(&ix->tokenizer, root, "tokenizer"));
    TRY(read_hash128(&ix->corpus, root, "corpus"));
    TRY(pack_u64(&ix->tokenizer_file, root, "tokenizer_file"));
    TRY(pack_u64(&ix->holdout_file, root, "holdout_file"));
    TRY(read_count(&vocab, root, "vocab"));
    TRY(read_count(&eod, root, "eod"));
    if (vocab < 1 || vocab > INT32_MAX || eod >= vocab)
        FAIL(E_FORMAT, REBUILD, "vocabulary of %lld with end-of-document token %lld",
             (long long)vocab, (long long)eod);
    ix->vocab = (int)vocab;
    ix->eod = (uint32_t)eod;
    TRY(read_report(&ix->report, root));
    TRY(pack_map(&holdout, root, "holdout"));
    TRY(read_shard(&ix->holdout, holdout));
    TRY(read_sources(ix, root));

    // Resuming a run relies on this hash: recompute it from what was just read.
    Hash128 corpus = index__corpus_hash(ix);
    if (corpus.low != ix->corpus.low || corpus.high != ix->corpus.high)
        FAIL(E_FORMAT, REBUILD, "the corpus hash does not fit the shards listed");
    return OK;
}

Status index__read(Index *ix, const char *dir) {
    *ix = (Index){0};
    char path[PATH_BYTES], *data = NULL;
    size_t bytes;
    path_join(path, dir, INDEX_FILE);
    TRY(path_look(path));
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
    st = index_parse(ix, pack_root(pack));
    if (st != OK) err_context(st, "%s", path);
done:
    pack_close(pack);
    free(data);
    if (st != OK) index__free(ix);
    return st;
}
