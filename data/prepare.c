// From sources to a corpus directory, on all ranks together. Work is dealt by document number and
// every result is put in order by document id, so the files are the same for any number of ranks.
// All of it is built in corpus.tmp and renamed at the end: there is a whole corpus or none.
#include "data/internal.h"

#include "base/lock.h"
#include "base/log.h"
#include "data/sources/sources.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

#include <stdlib.h>
#include <string.h>

enum {
    SPECIALS = 16,               // ids kept for markers, three of them in use
    MIN_COUNT = 2,               // pairs seen once are not worth a token
    MAX_TOKEN_BYTES = 64,        // rulers of a thousand '=' are not words
    TOKENIZER_TEXT = 512 << 20,  // bytes of text the tokenizer is trained on at most
};

typedef struct Prep {
    const DataConfig *cfg;
    const Mesh *mesh;
    Inputs in;
    char dir[PATH_BYTES], tmp[PATH_BYTES];
    bool offline;         // asked for, or because the network is out of reach
    DocList train, held;  // this rank's share, by source
    Tokens train_tokens, held_tokens;
    Bpe *bpe;
    NormaliseCounts cleaned[MAX_SOURCES];  // on this rank
    PackPlan plan;
    Index index;
    Lock lock;  // of the cache, on rank 0
} Prep;

// --- reuse ---

// Options, names, paths. No file is touched.
static Status prep_open(Prep *p) {
    TRY(inputs__parse(&p->in, p->cfg));
    if (strlen(p->cfg->cache) + 64 > PATH_BYTES || p->cfg->cache[0] == '\0')
        FAIL(E_USAGE, "give a directory", "data.cache: '%s' cannot be used", p->cfg->cache);
    path_join(p->dir, p->cfg->cache, "corpus");
    path_join(p->tmp, p->cfg->cache, "corpus.tmp");
    p->offline = p->cfg->offline;
    for (int k = 0; k < p->in.count; k++)
        memcpy(p->index.report.source[k].name, p->in.name[k], SOURCE_NAME_BYTES);
    p->index.report.count = p->in.count;
    return OK;
}

// Rank 0 alone: is there a whole corpus made from the same things? Its report, then.
static Status prep_find(Prep *p, bool *found) {
    *found = false;
    TRY(inputs__identity(&p->index.identity, &p->in, p->cfg));
    char path[PATH_BYTES];
    path_join(path, p->dir, INDEX_FILE);
    Corpus *corpus = NULL;
    Status st = path_look(path);
    if (st == E_MISSING) return OK;

    // All checksums are verified: training trusts what is used again. Only what is known to be
    // damaged is replaced, not what cannot be read now or by this version.
    if (st == OK) st = corpus_open(&corpus, p->dir);
    if (st != OK && st != E_FORMAT && st != E_MISSING) return st;
    if (st != OK) {
        log_warn("%s; the corpus is prepared again", err_message());
        err_clear();
        return OK;
    }
    const Index *ix = corpus__index(corpus);
    const Hash128 *a = &ix->identity, *b = &p->index.identity;
    *found = a->low == b->low && a->high == b->high;
    if (*found) p->index.report = ix->report;
    corpus_close(corpus);
    return OK;
}

// The work in hand starts from an empty directory.
static Status prep_clear(Prep *p) {
    TRY(own_check(p->dir, &CORPUS_KIND));  // now rather than after an hour of work
    TRY(own_remove(p->tmp, &CORPUS_KIND));
    return own_take(p->tmp, &CORPUS_KIND);
}

// One rank looks, all hear what it found; otherwise there is a directory to build in.
static Status prep_reuse(Prep *p, bool *found) {
    Status st = OK;
    if (p->mesh->rank == 0) {
        st = cache__check(&p->in, p->cfg);
        if (st == OK) st = dir_make(p->cfg->cache);
    }
    TRY(agree(st, p->mesh->world));
    TRY(cache__lock(&p->lock, p->cfg->cache, p->mesh));
    if (p->mesh->rank == 0) {
        st = prep_find(p, found);
        if (st == OK && !*found) st = prep_clear(p);
    }
    TRY(agree(st, p->mesh->world));
    comm_bcast(p->mesh->world, found, sizeof *found, 0);
    if (*found) {
        comm_bcast(p->mesh->world, &p->index.report, sizeof p->index.report, 0);
    } else {  // several ranks will write there
        st = path_is_dir(p->tmp)
                 ? OK
                 : err_set(E_IO, "use a file system that all nodes share",
                           "data.cache: %s, made by rank 0, is not visible here", p->tmp);
        TRY(agree(st, p->mesh->world));
    }
    // Not tried again by itself: a run that has begun on it could not go on.
    if (*found && p->index.report.embedded_sample && !p->cfg->offline && p->mesh->rank == 0)
        log_warn("corpus: made from the built-in sample, as the packages could not be reached; "
                 "remove %s to try again",
                 p->dir);
    return OK;
}

// --- text ---

// One rank of each node downloads. Without the archive, every named source is replaced by its
// built-in sample; a disk that fails is no such reason.
static Status prep_fetch(Prep *p) {
    Status st = OK;
    int64_t out_of_reach = 0;
    for (int k = 0; k < p->in.count && p->mesh->node_rank == 0 && !p->offline && st == OK; k++) {
        if (source_find(p->in.spec[k]) == NULL) continue;
        log_info("corpus: fetching %s", p->in.name[k]);
        st = doc__check_stop();
        if (st == OK) st = source_fetch(p->in.spec[k], p->cfg->cache);
        if (st != E_NETWORK) continue;
        st = OK;
        out_of_reach = 1;
        log_warn("%s; going on with the small text built into the program", err_message());
        break;
    }

    // One node without the archive is enough: all ranks must read the same text.
    TRY(agree(st, p->mesh->world));
    comm_max_i64(p->mesh->world, &out_of_reach, 1);
    if (out_of_reach != 0) p->offline = true;
    p->index.report.embedded_sample = out_of_reach != 0;
    bool looks = out_of_reach != 0 && p->mesh->rank == 0;
    return agree(looks ? cache__check_sample(p->cfg) : OK, p->mesh->world);
}

// All documents of a source. What reading leaves out is the same on all ranks.
static Status source_read(Prep *p, int source, DocList *docs) {
    const char *spec = p->in.spec[source];
    int64_t limit = p->cfg->sample_mb << 20;
    TextLimits limits = {p->cfg->max_invalid, p->cfg->max_bad_lines};
    if (!source_is_path(spec)) {
        return source_extract(spec, p->cfg->cache, p->offline, limit, (uint32_t)source, docs);
    }
    return local_read(docs, spec, (uint32_t)source, limit, &limits,
                      &p->index.report.source[source].cleaned);
}

// Every rank reads all of a source, which is cheap, and keeps each size-th document.
static Status source_deal(Prep *p, int source) {
    DocList all = {0}, mine = {0};
    Status st = source_read(p, source, &all);
    if (st == OK) st = doc__check_stop();
    for (size_t i = (size_t)p->mesh->rank; st == OK && i < all.count; i += (size_t)p->mesh->size) {
        ASSERT(doc__source(&all.docs[i]) == source);
        doclist__move(&mine, &all.docs[i]);
    }
    doclist_free(&all);  // the others' share
    if (st == OK) st = docs_normalise(&mine, p->cfg->max_invalid, &p->cleaned[source]);
    for (size_t i = 0; i < mine.count; i++) doclist__move(&p->train, &mine.docs[i]);
    doclist_free(&mine);
    return st;
}

// This rank's share of all sources, in the order of the sources.
static Status prep_extract(Prep *p) {
    Status st = OK;
    for (int k = 0; k < p->in.count && st == OK; k++) st = source_deal(p, k);
    return agree(st, p->mesh->world);
}

// Sums what the ranks counted into the report.
static Status report_count(Prep *p, int64_t duplicates[MAX_SOURCES]) {
    int64_t counts[4][MAX_SOURCES] = {{0}};  // documents, bytes, held out, duplicates
    for (size_t i = 0; i < p->train.count; i++) {
        counts[0][doc__source(&p->train.docs[i])]++;
        counts[1][doc__source(&p->train.docs[i])] += (int64_t)p->train.docs[i].bytes;
    }
    for (size_t i = 0; i < p->held.count; i++) counts[2][doc__source(&p->held.docs[i])]++;
    memcpy(counts[3], duplicates, sizeof counts[3]);
    comm_sum_i64(p->mesh->world, counts[0], 4 * MAX_SOURCES);

    int64_t docs = 0;
    for (int k = 0; k < p->in.count; k++) {
        SourceReport *r = &p->index.report.source[k];
        r->docs = counts[0][k];
        r->bytes = counts[1][k];
        r->held_out_docs = counts[2][k];
        r->duplicates = counts[3][k];
        docs += r->docs;
        if (p->offline && r->docs + r->held_out_docs == 0) continue;  // few have a built-in sample
        log_info("corpus: %s: %lld documents, %.2f MB, %lld duplicates, %lld held out", r->name,
                 (long long)r->docs, (double)r->bytes / 1e6, (long long)r->duplicates,
                 (long long)r->held_out_docs);
    }
    if (docs == 0)  // the sums are the same on all ranks: all return
        FAIL(E_USAGE, "name sources or files with text in data.sources",
             "data.sources: no documents to train on%s",
             p->offline ? " (data.offline: few sources have a built-in sample)" : "");
    return OK;
}

// Held-out text is set apart before duplicates are looked for, so that no copy of it is trained on.
static Status prep_select(Prep *p) {
    int64_t duplicates[MAX_SOURCES] = {0};
    bool by_size;
    cleaning__report(&p->index.report, p->cleaned, p->mesh->world);
    docs__hold_out(&p->train, &p->held, &by_size, p->cfg->holdout, p->mesh->world);
    if (by_size)
        log_info("corpus: no title contains data.holdout '%s': about 1 %% of the text is held out",
                 p->cfg->holdout);
    if (p->cfg->dedup) TRY(docs__dedup(&p->train, &p->held, duplicates, p->mesh->world));
    return report_count(p, duplicates);
}

// --- tokenizer ---

// The beginning of a document, cut before a character.
static size_t beginning(const Doc *doc, double share) {
    size_t n = share < 1 ? (size_t)((double)doc->bytes * share) : doc->bytes;
    while (n > 0 && n < doc->bytes && ((unsigned char)doc->text[n] & 0xC0) == 0x80) n--;
    return n;
}

// Counts the words of this rank's share; of a huge corpus, of the beginning of each document.
static Status words_count(const Prep *p, char **dump, size_t *bytes) {
    double total = 0;
    for (int k = 0; k < p->in.count; k++) total += (double)p->index.report.source[k].bytes;
    WordCount *words = wordcount_new();
    Splitter *splitter = NULL;
    Status st = splitter_open(&splitter, NULL);
    for (size_t i = 0; i < p->train.count && st == OK; i++) {
        const Doc *doc = &p->train.docs[i];
        st = wordcount_text(words, splitter, doc->text, beginning(doc, TOKENIZER_TEXT / total));
        if (st == OK) st = doc__check_stop();
    }
    if (st == OK) {
        *dump = wordcount_dump(words, bytes);
        if (*dump == NULL) st = err_set(E_NOMEM, "use data.sample_mb", "no memory for word counts");
    }
    splitter_close(splitter);
    wordcount_free(words);
    return st;
}

// The same counts, hence the same tokenizer, on every rank.
static Status bpe_from_counts(Bpe **bpe, const char *dumps, const size_t *offsets, const Prep *p) {
    static const char *const used[] = {"<pad>", "<bos>", "<eos>"};
    enum { USED = sizeof used / sizeof used[0] };
    char reserved[SPECIALS][32];
    const char *specials[SPECIALS];

    // Room for markers to come: a chat format needs no other vocabulary.
    for (int i = 0; i < SPECIALS; i++) {
        snprintf(reserved[i], sizeof reserved[i], "<reserved_%d>", i);
        specials[i] = i < USED ? used[i] : reserved[i];
    }
    WordCount *words = wordcount_new();
    Status st = OK;
    for (int r = 0; r < p->mesh->size && st == OK; r++)
        st = wordcount_merge(words, dumps + offsets[r], offsets[r + 1] - offsets[r]);
    if (st == OK)
        st = bpe_train(bpe, words,
                       &(BpeTrainConfig){.vocab_size = p->cfg->vocab,
                                         .min_count = MIN_COUNT,
                                         .max_token_bytes = MAX_TOKEN_BYTES,
                                         .specials = specials,
                                         .special_count = SPECIALS});
    wordcount_free(words);
    return st;
}

// Counts words, exchanges the counts, trains. Collective.
static Status bpe_make(Prep *p) {
    Comm *world = p->mesh->world;
    char *dump = NULL, *dumps = NULL;
    size_t bytes = 0, *offsets = calloc((size_t)p->mesh->size + 1, sizeof *offsets);
    Status st = offsets == NULL ? err_set(E_NOMEM, NULL, "no memory for offsets") : OK;
    if (st == OK) st = words_count(p, &dump, &bytes);
    TRY_GOTO(agree(st, world));
    TRY_GOTO(comm_allgather_bytes(world, dump, bytes, &dumps, offsets));
    log_info("corpus: training a tokenizer of %d tokens", p->cfg->vocab);
    TRY_GOTO(agree(bpe_from_counts(&p->bpe, dumps, offsets, p), world));
done:
    free(dump);
    free(dumps);
    free(offsets);
    return st;
}

// The token that ends documents: a model's, else the one whose name says so.
static Status eod_find(const Prep *p, uint32_t *eod) {
    int id = p->cfg->eod_given ? p->cfg->eod : bpe_end(p->bpe), vocab = bpe_vocab(p->bpe);
    *eod = (uint32_t)id;
    if (id < 0)
        FAIL(E_USAGE, "name its id in model.eos_id, or have a special token <eos> or <|endoftext|>",
             "%s: no token that ends a document", p->cfg->tokenizer);
    if (id < vocab) return OK;
    FAIL(E_USAGE, "documents end with it: give an id of the tokenizer",
         "model.eos_id=%d is outside of the vocabulary of %d", id, vocab);
}

// Trained or read, and the same everywhere. Collective.
static Status prep_tokenizer(Prep *p) {
    Comm *world = p->mesh->world;
    if (p->cfg->tokenizer[0] == '\0')
        TRY(bpe_make(p));
    else
        TRY(agree(bpe_read_hf(&p->bpe, p->cfg->tokenizer), world));
    p->index.tokenizer.low = bpe_hash(p->bpe, &p->index.tokenizer.high);
    p->index.vocab = bpe_vocab(p->bpe);
    comm_check_same(world, p->index.tokenizer.low, "tokenizer");
    Status st = eod_find(p, &p->index.eod);
    if (st == OK && p->mesh->rank == 0)
        st = tokenizer__write(&p->index.tokenizer_file, p->tmp, p->bpe, p->cfg->tokenizer);
    TRY(agree(st, world));
    p->plan = (PackPlan){.dir = p->tmp,
                         .tokenizer = p->index.tokenizer,
                         .vocab = (uint32_t)p->index.vocab,
                         .eod = p->index.eod,
                         .sources = p->in.count,
                         .shard_tokens = (uint64_t)p->cfg->shard_tokens};
    return OK;
}

// --- tokens ---

// Grows like encoder_run's own buffer, which this is.
static Status eod_append(Tokens *t, uint32_t eod) {
    if (t->count == t->capacity) {
        size_t capacity = t->capacity + t->capacity / 2 + 64;
        int32_t *ids = realloc(t->ids, capacity * sizeof *ids);
        if (ids == NULL) FAIL(E_NOMEM, "use more ranks", "no memory for %zu tokens", capacity);
        t->ids = ids;
        t->capacity = capacity;
    }
    t->ids[t->count++] = (int32_t)eod;
    return OK;
}

// Documents to tokens, each with its end. keep_text: otherwise each text is freed as soon as it is
// encoded.
static Status docs_encode(Tokens *t, DocList *docs, const Prep *p, bool keep_text) {
    Encoder *encoder = NULL;
    Status st = OK;
    TRY_GOTO(encoder_open(&encoder, p->bpe));
    t->ends = malloc((docs->count + 1) * sizeof *t->ends);
    if (t->ends == NULL) {
        st = err_set(E_NOMEM, "use more ranks", "no memory for %zu documents", docs->count);
        goto done;
    }
    for (size_t i = 0; i < docs->count; i++) {
        Doc *doc = &docs->docs[i];
        TRY_GOTO(doc__check_stop());
        TRY_GOTO(encoder_run(encoder, doc->text, doc->bytes, &t->ids, &t->count, &t->capacity));
        TRY_GOTO(eod_append(t, p->plan.eod));
        t->ends[i] = t->count;
        if (!keep_text) doc__release(doc);
    }
done:
    encoder_close(encoder);
    return st;
}

// The held-out text is also written as text.
static Status prep_encode(Prep *p) {
    Status st = docs_encode(&p->train_tokens, &p->train, p, false);
    if (st == OK) st = docs_encode(&p->held_tokens, &p->held, p, true);
    return agree(st, p->mesh->world);
}

// Tokens by source, from the shards; what follows from them.
static void report_tokens(Index *ix) {
    CorpusReport *r = &ix->report;
    double bytes = 0, tokens = 0;
    for (int i = 0; i < ix->shard_count; i++)
        r->source[ix->shards[i].source].tokens += (int64_t)ix->shards[i].tokens;
    for (int k = 0; k < r->count; k++) {
        bytes += (double)r->source[k].bytes;
        tokens += (double)r->source[k].tokens;
    }
    for (int k = 0; k < r->count; k++) r->source[k].weight = (double)r->source[k].tokens / tokens;
    r->bytes_per_token = bytes / tokens;
}

static Status prep_pack(Prep *p) {
    TRY(pack__shards(&p->index, &p->plan, &p->train, &p->train_tokens, p->mesh->world));
    TRY(pack__holdout(&p->index, &p->plan, &p->held, &p->held_tokens, p->mesh->world));
    report_tokens(&p->index);
    return OK;
}

// --- the end ---

// The index last, then the directory gets its name. A killed run leaves corpus.tmp, which nobody
// reads.
static Status corpus_publish(Prep *p) {
    p->index.corpus = index__corpus_hash(&p->index);
    TRY(cache__check_fixed(p->cfg, p->index.corpus));
    TRY(index__write(&p->index, p->tmp));
    TRY(dir_sync(p->tmp));
    TRY(own_replace(p->tmp, p->dir, &CORPUS_KIND));
    return dir_sync(p->cfg->cache);
}

// Rank 0 alone knows the held-out totals: its report is everybody's.
static Status prep_finish(Prep *p) {
    Status st = p->mesh->rank == 0 ? corpus_publish(p) : OK;
    TRY(agree(st, p->mesh->world));
    comm_bcast(p->mesh->world, &p->index.report, sizeof p->index.report, 0);
    return OK;
}

// The weights asked for now: the index keeps those by tokens, as another mixture needs no new
// shards.
static Status report_weights(CorpusReport *r, const DataConfig *cfg, int rank) {
    const char *names[MAX_SOURCES];
    int64_t tokens[MAX_SOURCES];
    double asked[MAX_SOURCES], weights[MAX_SOURCES];
    for (int k = 0; k < r->count; k++) {
        names[k] = r->source[k].name;
        tokens[k] = r->source[k].tokens;
    }
    MixSources sources = {.names = names, .count = r->count};
    TRY(mix__parse(asked, cfg->mix, &sources));
    sources.tokens = tokens;
    TRY(mix__parse(weights, cfg->mix, &sources));
    for (int k = 0; k < r->count; k++) {
        r->source[k].weight = weights[k];
        if (rank == 0 && cfg->mix[0] != '\0' && asked[k] > 0 && tokens[k] == 0)
            log_warn("data.mix: source '%s' has no text: the others get its share", names[k]);
    }
    return OK;
}

// Whatever the phase it ended in.
static void prep_close(Prep *p) {
    doclist_free(&p->train);
    doclist_free(&p->held);
    tokens__free(&p->train_tokens);
    tokens__free(&p->held_tokens);
    bpe_close(p->bpe);
    index__free(&p->index);
    lock_release(&p->lock);
}

// The phases. Each ends with an agreement: a rank that fails takes all out by the same branch.
static Status prep_build(Prep *p) {
    TRY(prep_fetch(p));
    TRY(prep_extract(p));
    TRY(prep_select(p));
    TRY(prep_tokenizer(p));
    TRY(prep_encode(p));
    TRY(prep_pack(p));
    return prep_finish(p);
}

Status corpus_prepare(CorpusReport *report, const DataConfig *cfg, const Mesh *mesh) {
    *report = (CorpusReport){0};
    Prep *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);  // a few dozen KiB
    p->cfg = cfg;
    p->mesh = mesh;
    p->lock = NO_LOCK;
    Status st = OK;
    bool found = false;
    TRY_GOTO(agree(prep_open(p), mesh->world));
    TRY_GOTO(prep_reuse(p, &found));
    if (!found) TRY_GOTO(prep_build(p));
    *report = p->index.report;
    report->reused = found;
    TRY_GOTO(agree(report_weights(report, cfg, mesh->rank), mesh->world));
done:
    prep_close(p);
    free(p);
    return st;
}
