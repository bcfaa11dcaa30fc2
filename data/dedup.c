// Exact duplicates across ranks. Every document becomes the XXH3-128 of its simplified text (ASCII
// lower case, white space squeezed); the rank that owns the hash, by its high bits, sees all
// documents with it, keeps one and sends a verdict for each back the way it came. Two rounds of
// messages, 24 bytes and one byte a document. The survivor is the held-out document if there is
// one, else the smallest id: the same for any number of ranks.
#include "data/internal.h"
#include "parallel/agree.h"

#include <stdlib.h>
#include <string.h>

static const char HINT[] = "use more ranks, or data.sample_mb";

typedef struct Claim {
    uint64_t high, low;
    uint64_t place;  // id; the top bit (ids use few sources) is set for training text
} Claim;
static const uint64_t TRAINING = 1ULL << 63;

typedef struct Order {  // a claim as its owner sorts it
    Claim claim;
    size_t at;  // where it lies among the received
} Order;

// --- hashes ---

// ASCII only: normalised text has no other white space.
static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Into `to`, which is as long as `text`. Returns the length.
static size_t simplify(char *to, const char *text, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (is_space(c)) {
            if (n > 0 && to[n - 1] != ' ') to[n++] = ' ';
        } else {
            to[n++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        }
    }
    return n > 0 && to[n - 1] == ' ' ? n - 1 : n;
}

// One claim a document; `flag` puts training text behind held-out text.
static Status claims_make(Claim *claims, const DocList *docs, uint64_t flag) {
    size_t longest = 0;
    for (size_t i = 0; i < docs->count; i++)
        if (docs->docs[i].bytes > longest) longest = docs->docs[i].bytes;
    char *text = malloc(longest + 1);
    if (text == NULL) FAIL(E_NOMEM, HINT, "no memory for a document of %zu bytes", longest);
    for (size_t i = 0; i < docs->count; i++) {
        const Doc *doc = &docs->docs[i];
        Hash128 h = hash128(text, simplify(text, doc->text, doc->bytes));
        claims[i] = (Claim){.high = h.high, .low = h.low, .place = doc->id | flag};
    }
    free(text);
    return OK;
}

// --- owners ---

// Hashes are uniform, so their upper bits deal evenly.
static int owner_of(const Claim *c, int size) {
    return (int)((c->high >> 32) * (uint64_t)size >> 32);
}

// Groups the claims by owner: order[i] is the claim that lies at sorted[i]; offsets[size + 1] in
// bytes.
static void claims_route(Claim *sorted, size_t *order, size_t *offsets, const Claim *claims,
                         size_t count, int size) {
    memset(offsets, 0, ((size_t)size + 1) * sizeof *offsets);

    // Counting sort: how many for each, where each group begins, then each claim to its place.
    for (size_t i = 0; i < count; i++) offsets[owner_of(&claims[i], size) + 1]++;
    for (int r = 0; r < size; r++) offsets[r + 1] += offsets[r];
    for (size_t i = 0; i < count; i++) {
        size_t at = offsets[owner_of(&claims[i], size)]++;
        sorted[at] = claims[i];
        order[at] = i;
    }
    // Each offset now stands at its group's end: move them up and turn them into bytes.
    for (int r = size; r > 0; r--) offsets[r] = offsets[r - 1] * sizeof(Claim);
    offsets[0] = 0;
}

// By hash, then by who is to survive: no two places are equal, so any sort gives the same.
static int order_compare(const void *a, const void *b) {
    const Claim *x = &((const Order *)a)->claim, *y = &((const Order *)b)->claim;
    if (x->high != y->high) return x->high < y->high ? -1 : 1;
    if (x->low != y->low) return x->low < y->low ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

// drop[i] = 1 for all but the first of equal claims.
static Status owner_judge(char **drop, const char *received, size_t bytes) {
    size_t count = bytes / sizeof(Claim);
    Order *orders = malloc((count + 1) * sizeof *orders);
    *drop = calloc(count + 1, 1);
    if (orders == NULL || *drop == NULL) {
        free(orders);
        FAIL(E_NOMEM, HINT, "no memory to compare %zu documents", count);
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(&orders[i].claim, received + i * sizeof(Claim), sizeof(Claim));
        orders[i].at = i;
    }
    qsort(orders, count, sizeof *orders, order_compare);
    for (size_t i = 1; i < count; i++) {
        const Claim *a = &orders[i - 1].claim, *b = &orders[i].claim;
        if (a->high == b->high && a->low == b->low) (*drop)[orders[i].at] = 1;
    }
    free(orders);
    return OK;
}

// --- the whole ---

// Closes the gaps; the order stays.
static void docs_drop(DocList *docs, const char *drop, int64_t dropped[MAX_SOURCES]) {
    size_t kept = 0;
    for (size_t i = 0; i < docs->count; i++) {
        Doc *doc = &docs->docs[i];
        if (drop[i]) {
            dropped[doc__source(doc)]++;
            doc__release(doc);
        } else {
            docs->docs[kept++] = *doc;
        }
    }
    docs->count = kept;
}

// Everything this rank holds on the way; all of one allocation or none.
typedef struct Dedup {
    Claim *claims, *sorted;
    size_t *order, *offsets, *received_offsets;
    char *received, *verdict, *answer, *drop;
} Dedup;

static Status dedup_open(Dedup *d, const DocList *train, const DocList *held, int size) {
    size_t count = train->count + held->count;
    d->claims = malloc((count + 1) * sizeof(Claim));
    d->sorted = malloc((count + 1) * sizeof(Claim));
    d->order = malloc((count + 1) * sizeof *d->order);
    d->drop = calloc(count + 1, 1);
    d->offsets = calloc((size_t)size + 1, sizeof *d->offsets);
    d->received_offsets = calloc((size_t)size + 1, sizeof *d->received_offsets);
    if (d->claims == NULL || d->sorted == NULL || d->order == NULL || d->drop == NULL ||
        d->offsets == NULL || d->received_offsets == NULL)
        FAIL(E_NOMEM, HINT, "no memory to compare %zu documents", count);
    TRY(claims_make(d->claims, train, TRAINING));
    TRY(claims_make(d->claims + train->count, held, 0));
    claims_route(d->sorted, d->order, d->offsets, d->claims, count, size);
    return OK;
}

static void dedup_close(Dedup *d) {
    free(d->claims);
    free(d->sorted);
    free(d->order);
    free(d->offsets);
    free(d->received_offsets);
    free(d->received);
    free(d->verdict);
    free(d->answer);
    free(d->drop);
}

// Offsets of items of `from` bytes become those of items of `to` bytes.
static void offsets_scale(size_t *offsets, int size, size_t from, size_t to) {
    for (int r = 0; r <= size; r++) offsets[r] = offsets[r] / from * to;
}

Status docs__dedup(DocList *train, DocList *held, int64_t dropped[MAX_SOURCES], Comm *comm) {
    const int size = comm_size(comm);
    Dedup d = {0};
    Status st = OK;
    TRY_GOTO(agree(dedup_open(&d, train, held, size), comm));
    TRY_GOTO(comm_alltoall_bytes(comm, (const char *)d.sorted, d.offsets, &d.received,
                                 d.received_offsets));
    TRY_GOTO(agree(owner_judge(&d.verdict, d.received, d.received_offsets[size]), comm));

    // The verdicts go back in the order in which the claims came.
    offsets_scale(d.received_offsets, size, sizeof(Claim), 1);
    TRY_GOTO(comm_alltoall_bytes(comm, d.verdict, d.received_offsets, &d.answer, d.offsets));
    for (size_t i = 0; i < train->count + held->count; i++) d.drop[d.order[i]] = d.answer[i];
    docs_drop(held, d.drop + train->count, dropped);
    docs_drop(train, d.drop, dropped);
done:
    dedup_close(&d);
    return st;
}
