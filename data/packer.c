// From encoded documents spread over the ranks to files. Source s is written by rank s % size,
// which receives the others' documents, orders them by id and cuts shards at document borders: the
// files are the same for any number of ranks. In round r the sources [r * size, (r + 1) * size)
// travel, so all ranks write at the same time.
#include "data/internal.h"
#include "parallel/agree.h"

#include <stdlib.h>
#include <string.h>

static const char HINT[] = "use more ranks, or data.sample_mb";

// A document on its way: this head, its text (held-out ones only), its tokens, zeros up to 8 bytes.
typedef struct ParcelHead {
    uint64_t id, text_bytes, tokens;
} ParcelHead;

typedef struct Parcel {  // a received one
    ParcelHead head;
    const char *text;
    const char *tokens;  // int32_t
} Parcel;

// Heads start at multiples of 8, so that a buffer of parcels is one after its offset too.
static size_t align8(size_t n) {
    return (n + 7) / 8 * 8;
}
static size_t parcel_bytes(const ParcelHead *h) {
    return sizeof *h + align8(h->text_bytes) + align8(h->tokens * sizeof(int32_t));
}

void tokens__free(Tokens *t) {
    free(t->ids);
    free(t->ends);
    *t = (Tokens){0};
}

// --- sending ---

static ParcelHead parcel_head(const DocList *docs, const Tokens *t, size_t i, bool with_text) {
    size_t begin = i == 0 ? 0 : t->ends[i - 1];
    return (ParcelHead){.id = docs->docs[i].id,
                        .text_bytes = with_text ? docs->docs[i].bytes : 0,
                        .tokens = t->ends[i] - begin};
}

// Packs documents [begin, end) into a fresh buffer.
static Status parcels_pack(char **out, size_t *bytes, const DocList *docs, const Tokens *t,
                           size_t begin, size_t end, bool with_text) {
    *bytes = 0;
    for (size_t i = begin; i < end; i++) {
        ParcelHead head = parcel_head(docs, t, i, with_text);
        *bytes += parcel_bytes(&head);
    }
    *out = calloc(*bytes + 1, 1);
    if (*out == NULL) FAIL(E_NOMEM, HINT, "no memory to send %zu bytes of tokens", *bytes);

    // The second turn copies what the first one measured.
    char *at = *out;
    for (size_t i = begin; i < end; i++) {
        ParcelHead head = parcel_head(docs, t, i, with_text);
        memcpy(at, &head, sizeof head);
        char *text = at + sizeof head, *tokens = text + align8(head.text_bytes);
        if (head.text_bytes > 0) memcpy(text, docs->docs[i].text, head.text_bytes);
        memcpy(tokens, t->ids + t->ends[i] - head.tokens, head.tokens * sizeof(int32_t));
        at += parcel_bytes(&head);
    }
    return OK;
}

// --- receiving ---

static int parcel_compare(const void *a, const void *b) {
    uint64_t x = ((const Parcel *)a)->head.id, y = ((const Parcel *)b)->head.id;
    return x < y ? -1 : x > y;
}

// The parcels of a received buffer, by id. *parcels is the caller's to free; they point into the
// buffer.
static Status parcels_unpack(Parcel **parcels, size_t *count, const char *data, size_t bytes) {
    // Only the heads tell where the next parcel begins: walk once to count.
    *count = 0;
    for (size_t at = 0; at < bytes;) {
        ParcelHead head;
        memcpy(&head, data + at, sizeof head);
        at += parcel_bytes(&head);
        ++*count;
    }
    *parcels = malloc((*count + 1) * sizeof **parcels);
    if (*parcels == NULL) FAIL(E_NOMEM, HINT, "no memory for %zu documents", *count);
    for (size_t at = 0, i = 0; at < bytes; i++) {
        Parcel *p = &(*parcels)[i];
        memcpy(&p->head, data + at, sizeof p->head);
        p->text = data + at + sizeof p->head;
        p->tokens = p->text + align8(p->head.text_bytes);
        at += parcel_bytes(&p->head);
    }
    qsort(*parcels, *count, sizeof **parcels, parcel_compare);
    return OK;
}

// --- writing ---

// One shard file of `count` documents; fills the index's row.
static Status shard_pack(IndexShard *row, const char *path, const PackPlan *plan,
                         const Parcel *parcels, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) total += parcels[i].head.tokens;
    int32_t *tokens = malloc((total + 1) * sizeof *tokens);
    uint64_t *ends = malloc((count + 1) * sizeof *ends), *ids = malloc((count + 1) * sizeof *ids);
    Shard *shard = NULL;
    Status st = OK;
    if (tokens == NULL || ends == NULL || ids == NULL) {
        st = err_set(E_NOMEM, "lower data.shard_tokens", "%s: no memory for the shard", path);
        goto done;
    }

    // Lay the documents end to end.
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const ParcelHead *head = &parcels[i].head;
        memcpy(tokens + at, parcels[i].tokens, head->tokens * sizeof *tokens);
        at += head->tokens;
        ends[i] = at;
        ids[i] = head->id;
    }
    ShardInfo info = {.tokens = total,
                      .docs = count,
                      .vocab = plan->vocab,
                      .eod = plan->eod,
                      .source = (uint32_t)row->source,
                      .number = (uint32_t)row->number,
                      .tokenizer = plan->tokenizer};
    TRY_GOTO(shard_write(path, &info, tokens, ends, ids));
    TRY_GOTO(shard_open(&shard, path, false));  // what the disk says
    row->tokens = total;
    row->docs = count;
    row->hash = shard__hash(shard);
done:
    shard_close(shard);
    free(tokens);
    free(ends);
    free(ids);
    return st;
}

// Appends a zeroed row to this rank's share of the index.
static Status index_grow(Index *ix, IndexShard **row) {
    IndexShard *rows = realloc(ix->shards, ((size_t)ix->shard_count + 1) * sizeof *rows);
    if (rows == NULL) FAIL(E_NOMEM, HINT, "no memory for the list of shards");
    ix->shards = rows;
    *row = &rows[ix->shard_count++];
    memset(*row, 0, sizeof **row);
    return OK;
}

// All shards of one source from what its writer received.
static Status source_write(Index *ix, const PackPlan *plan, int source, const char *data,
                           size_t bytes) {
    Parcel *parcels = NULL;
    size_t count;
    TRY(parcels_unpack(&parcels, &count, data, bytes));
    Status st = OK;
    int number = 0;
    for (size_t begin = 0, end = 0; begin < count; begin = end) {
        // As many documents as fit, at least one.
        uint64_t tokens = 0;
        do tokens += parcels[end++].head.tokens;
        while (end < count && tokens + parcels[end].head.tokens <= plan->shard_tokens);

        char path[PATH_BYTES];
        IndexShard *row = NULL;
        TRY_GOTO(index_grow(ix, &row));
        row->source = source;
        row->number = number++;
        index__shard_path(path, plan->dir, source, row->number);
        TRY_GOTO(shard_pack(row, path, plan, parcels + begin, end - begin));
    }
done:
    free(parcels);
    return st;
}

// --- all sources ---

static int shard_compare(const void *a, const void *b) {
    const IndexShard *x = a, *y = b;
    if (x->source != y->source) return x->source < y->source ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

// Everyone's rows at everyone, in order. Collective.
static Status index_share(Index *ix, Comm *comm) {
    char *all = NULL;
    size_t *offsets = calloc((size_t)comm_size(comm) + 1, sizeof *offsets);
    Status st = OK;
    TRY_GOTO(agree(offsets == NULL ? err_set(E_NOMEM, NULL, "no memory for offsets") : OK, comm));
    TRY_GOTO(comm_allgather_bytes(comm, ix->shards, (size_t)ix->shard_count * sizeof *ix->shards,
                                  &all, offsets));
    free(ix->shards);
    ix->shards = (IndexShard *)all;  // malloc'ed bytes that were such rows
    ix->shard_count = (int)(offsets[comm_size(comm)] / sizeof *ix->shards);
    if (ix->shard_count > 0)
        qsort(ix->shards, (size_t)ix->shard_count, sizeof *ix->shards, shard_compare);
done:
    free(offsets);
    return st;
}

// Documents of sources below `source`: the list is ordered by source.
static size_t docs_before(const DocList *docs, int source) {
    size_t i = 0;
    while (i < docs->count && doc__source(&docs->docs[i]) < source) i++;
    return i;
}

// This rank's documents of sources [first, first + size), source first + r in the part for rank r.
static Status round_pack(char **send, size_t *offsets, int first, const PackPlan *plan,
                         const DocList *docs, const Tokens *tokens, int size) {
    int stop = first + size < plan->sources ? first + size : plan->sources;
    size_t begin = docs_before(docs, first), end = docs_before(docs, stop), bytes;
    TRY(parcels_pack(send, &bytes, docs, tokens, begin, end, false));

    // Sources are in order, and so are their writers: each part begins where the one before ends.
    size_t at = 0, i = begin;
    for (int r = 0; r < size; r++) {
        offsets[r] = at;
        for (; i < end && doc__source(&docs->docs[i]) == first + r; i++) {
            ParcelHead head = parcel_head(docs, tokens, i, false);
            at += parcel_bytes(&head);
        }
    }
    offsets[size] = at;
    ASSERT(at == bytes);
    return OK;
}

typedef struct Exchange {  // of one round
    char *send, *received;
    size_t *offsets, *received_offsets;
} Exchange;

// Exchanges are collective but for open, clear and close.
static Status exchange_open(Exchange *x, int size) {
    x->offsets = calloc((size_t)size + 1, sizeof *x->offsets);
    x->received_offsets = calloc((size_t)size + 1, sizeof *x->received_offsets);
    if (x->offsets == NULL || x->received_offsets == NULL)
        FAIL(E_NOMEM, NULL, "no memory for offsets");
    return OK;
}

// Swaps what was packed. Collective.
static Status exchange_run(Exchange *x, Comm *comm) {
    Status st = comm_alltoall_bytes(comm, x->send, x->offsets, &x->received, x->received_offsets);
    free(x->send);
    x->send = NULL;
    return st;
}

static void exchange_clear(Exchange *x) {
    free(x->send);
    free(x->received);
    x->send = x->received = NULL;
}

static void exchange_close(Exchange *x) {
    exchange_clear(x);
    free(x->offsets);
    free(x->received_offsets);
}

Status pack__shards(Index *ix, const PackPlan *plan, const DocList *docs, const Tokens *tokens,
                    Comm *comm) {
    const int size = comm_size(comm), rank = comm_rank(comm);
    Exchange x = {0};
    Status st = OK;
    TRY_GOTO(agree(exchange_open(&x, size), comm));
    for (int first = 0; first < plan->sources; first += size) {
        TRY_GOTO(agree(round_pack(&x.send, x.offsets, first, plan, docs, tokens, size), comm));
        TRY_GOTO(exchange_run(&x, comm));

        // Some ranks have no source in the last round.
        Status wrote = OK;
        if (first + rank < plan->sources)
            wrote = source_write(ix, plan, first + rank, x.received, x.received_offsets[size]);
        TRY_GOTO(agree(wrote, comm));
        exchange_clear(&x);
    }
    TRY_GOTO(index_share(ix, comm));
done:
    exchange_close(&x);
    return st;
}

// --- held-out text ---

// holdout.txt: the documents, a form feed between two of them.
static Status holdout_text_write(Index *ix, const char *dir, const Parcel *parcels, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += parcels[i].head.text_bytes + 1;
    char *text = malloc(bytes + 1), *at = text, path[PATH_BYTES];
    path_join(path, dir, HOLDOUT_TEXT);
    if (text == NULL) FAIL(E_NOMEM, "hold out less text", "%s: no memory", path);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) *at++ = '\f';
        memcpy(at, parcels[i].text, parcels[i].head.text_bytes);
        at += parcels[i].head.text_bytes;
        ix->report.holdout_bytes += (int64_t)parcels[i].head.text_bytes;
    }
    ix->holdout_file = hash64(text, (size_t)(at - text));
    Status st = file_write(path, text, (size_t)(at - text));
    free(text);
    return st;
}

// Both files of the held-out text. An empty one is written, too: its absence would be damage.
static Status holdout_write(Index *ix, const PackPlan *plan, const char *data, size_t bytes) {
    Parcel *parcels = NULL;
    size_t count;
    TRY(parcels_unpack(&parcels, &count, data, bytes));
    Status st = OK;
    char path[PATH_BYTES];
    path_join(path, plan->dir, HOLDOUT_SHARD);
    TRY_GOTO(holdout_text_write(ix, plan->dir, parcels, count));
    ix->holdout.source = plan->sources;  // a number no training source has
    TRY_GOTO(shard_pack(&ix->holdout, path, plan, parcels, count));
    ix->report.holdout_tokens = (int64_t)ix->holdout.tokens;
done:
    free(parcels);
    return st;
}

Status pack__holdout(Index *ix, const PackPlan *plan, const DocList *held, const Tokens *tokens,
                     Comm *comm) {
    const int size = comm_size(comm);
    Exchange x = {0};
    Status st = OK;
    size_t bytes = 0;
    TRY_GOTO(agree(exchange_open(&x, size), comm));
    TRY_GOTO(agree(parcels_pack(&x.send, &bytes, held, tokens, 0, held->count, true), comm));
    for (int r = 1; r <= size; r++) x.offsets[r] = bytes;  // all of it to rank 0
    TRY_GOTO(exchange_run(&x, comm));
    Status wrote = OK;
    if (comm_rank(comm) == 0) wrote = holdout_write(ix, plan, x.received, x.received_offsets[size]);
    TRY_GOTO(agree(wrote, comm));
done:
    exchange_close(&x);
    return st;
}
