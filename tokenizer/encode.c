// Text to ids. Inside a piece the pair of the lowest rank is merged, the leftmost first, until none
// merges: short pieces by scanning an array, long ones by a heap over a linked list, so that a
// million equal letters stay O(n log n). Pieces repeat (Zipf), so a direct-mapped cache of short
// pieces answers most of them.
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    CACHE_LINES = 1 << 16,
    CACHE_KEY = 24,   // longest piece kept, in bytes
    CACHE_IDS = 8,    // most ids kept
    SHORT_PIECE = 64  // bytes up to which an array is scanned
};

typedef struct CacheLine {  // one line of the processor's cache
    uint32_t tag;
    uint8_t bytes, count;  // bytes 0: empty
    uint16_t pad;
    char key[CACHE_KEY];
    int32_t ids[CACHE_IDS];
} CacheLine;

// A symbol of a long piece; dead ones have id -1.
typedef struct Node {
    int32_t id;
    uint32_t prev, next;
} Node;

static const uint32_t NONE = UINT32_MAX;

struct Encoder {
    const Bpe *bpe;
    Splitter *splitter;
    CacheLine *cache;
    Node *nodes;  // scratch of long pieces
    uint64_t *heap;
    size_t node_capacity, heap_capacity, heap_count;
    int32_t *ids;  // the caller's buffer during a run
    size_t count, capacity;
    Status status;  // of the run: a PieceFn returns nothing
};

Status encoder_open(Encoder **out, const Bpe *bpe) {
    *out = NULL;
    Encoder *e = memory__grow(NULL, 1, sizeof *e);
    *e = (Encoder){.bpe = bpe};
    Status st = splitter_open(&e->splitter, bpe->pattern);
    if (st != OK) {
        encoder_close(e);
        return st;
    }
    e->cache = memory__grow(NULL, CACHE_LINES, sizeof *e->cache);
    memset(e->cache, 0, CACHE_LINES * sizeof *e->cache);
    *out = e;
    return OK;
}

void encoder_close(Encoder *e) {
    if (e == NULL) return;
    splitter_close(e->splitter);
    free(e->cache);
    free(e->nodes);
    free(e->heap);
    free(e);
}

// Room for `more` ids behind those of this run.
static int32_t *reserve_ids(Encoder *e, size_t more) {
    if (e->capacity - e->count < more) {
        e->ids = memory__reserve(e->ids, &e->capacity, e->count + more, sizeof *e->ids);
    }
    return e->ids + e->count;
}

// --- short pieces ---
// ids: room for `bytes`. Returns how many ids remain.
// Quadratic in the piece, yet faster than any structure for the few symbols a word has.
static size_t merge_short(const Bpe *bpe, const char *piece, size_t bytes, int32_t *ids) {
    const PairSlot *pair[SHORT_PIECE];  // pair[i] joins ids[i] and ids[i+1]
    size_t count = bytes;

    // Every byte is a token: the alphabet is complete by construction.
    for (size_t i = 0; i < bytes; i++) ids[i] = bpe->byte_id[(unsigned char)piece[i]];
    for (size_t i = 0; i + 1 < count; i++) pair[i] = bpe__pair(bpe, ids[i], ids[i + 1]);

    while (count > 1) {
        // Empty slots have rank -1: unsigned, it is the highest.
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            if ((uint32_t)pair[i]->rank < (uint32_t)pair[best]->rank) best = i;
        }
        if (pair[best]->rank < 0) break;

        // Close the gap, then look up the two pairs the new symbol is part of.
        ids[best] = pair[best]->result;
        count--;
        memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof *ids);
        if (best + 1 < count) {
            memmove(pair + best, pair + best + 1, (count - best - 1) * sizeof *pair);
            pair[best] = bpe__pair(bpe, ids[best], ids[best + 1]);
        }
        if (best > 0) pair[best - 1] = bpe__pair(bpe, ids[best - 1], ids[best]);
    }
    return count;
}

// --- long pieces: a min-heap of rank << 32 | position ---
// Ties in rank go to the leftmost position, as the order of the key says.
static void heap_sink(uint64_t *heap, size_t count, size_t at) {
    uint64_t v = heap[at];
    for (size_t child = at * 2 + 1; child < count; child = at * 2 + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= v) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = v;
}

static void heap_push(Encoder *e, uint64_t v) {
    e->heap = memory__reserve(e->heap, &e->heap_capacity, e->heap_count + 1, sizeof *e->heap);
    size_t at = e->heap_count++;
    for (; at > 0 && e->heap[(at - 1) / 2] > v; at = (at - 1) / 2)
        e->heap[at] = e->heap[(at - 1) / 2];
    e->heap[at] = v;
}

static uint64_t heap_pop(Encoder *e) {
    uint64_t top = e->heap[0];
    e->heap[0] = e->heap[--e->heap_count];
    if (e->heap_count > 0) heap_sink(e->heap, e->heap_count, 0);
    return top;
}

// The pair that starts at a symbol, or NULL.
static const PairSlot *pair_at(const Encoder *e, uint32_t at) {
    const Node *n = &e->nodes[at];
    if (n->id < 0 || n->next == NONE) return NULL;
    const PairSlot *slot = bpe__pair(e->bpe, n->id, e->nodes[n->next].id);
    return slot->rank < 0 ? NULL : slot;
}

static void push_pair(Encoder *e, uint32_t at) {
    const PairSlot *slot = pair_at(e, at);
    if (slot != NULL) heap_push(e, (uint64_t)slot->rank << 32 | at);
}

// The left symbol takes the result and stays where it is; the right one dies.
static void merge_at(Encoder *e, uint32_t at, int32_t result) {
    Node *n = &e->nodes[at], *gone = &e->nodes[n->next];
    n->id = result;
    n->next = gone->next;
    gone->id = -1;
    if (n->next != NONE) e->nodes[n->next].prev = at;
    if (n->prev != NONE) push_pair(e, n->prev);
    push_pair(e, at);
}

static void encode_long(Encoder *e, const char *piece, uint32_t bytes) {
    e->nodes = memory__reserve(e->nodes, &e->node_capacity, bytes, sizeof *e->nodes);
    for (uint32_t i = 0; i < bytes; i++) {
        e->nodes[i] = (Node){e->bpe->byte_id[(unsigned char)piece[i]], i == 0 ? NONE : i - 1,
                             i + 1 == bytes ? NONE : i + 1};
    }

    // Each merge pushes at most two entries, so the heap sees O(n) of them.
    e->heap_count = 0;
    for (uint32_t i = 0; i < bytes; i++) push_pair(e, i);

    while (e->heap_count > 0) {
        uint64_t top = heap_pop(e);
        const PairSlot *slot = pair_at(e, (uint32_t)top);
        // An entry is stale when its symbols have merged otherwise since; a pair that stands there
        // with the same rank is the same merge.
        if (slot != NULL && (uint64_t)slot->rank == top >> 32)
            merge_at(e, (uint32_t)top, slot->result);
    }

    // The first symbol never dies: merges go into the left one.
    for (uint32_t at = 0; at != NONE; at = e->nodes[at].next) {
        *reserve_ids(e, 1) = e->nodes[at].id;
        e->count++;
    }
}

// --- any piece ---
// ignore_merges (Llama 3): a piece that is a token is that token.
static bool encode_whole(Encoder *e, const char *piece, size_t bytes) {
    if (!e->bpe->ignore_merges) return false;
    int id = bpe__find(e->bpe, piece, bytes);
    if (id < 0) return false;
    *reserve_ids(e, 1) = id;
    e->count++;
    return true;
}

static void encode_short(Encoder *e, const char *piece, size_t bytes) {
    uint64_t hash = hash64(piece, bytes);
    CacheLine *line = &e->cache[hash & (CACHE_LINES - 1)];
    uint32_t tag = (uint32_t)(hash >> 32);
    if (line->tag == tag && line->bytes == bytes && memcmp(line->key, piece, bytes) == 0) {
        // All eight, whatever the count: a copy of fixed size is two instructions.
        memcpy(reserve_ids(e, CACHE_IDS), line->ids, sizeof line->ids);
        e->count += line->count;
        return;
    }
    int32_t *ids = reserve_ids(e, SHORT_PIECE);
    size_t count = 1;
    if (!encode_whole(e, piece, bytes)) {
        count = merge_short(e->bpe, piece, bytes, ids);
        e->count += count;
    }

    // Long or badly compressed pieces are rare and not worth a line. Others replace what was there.
    if (bytes > CACHE_KEY || count > CACHE_IDS) return;
    line->tag = tag;
    line->bytes = (uint8_t)bytes;
    line->count = (uint8_t)count;
    memcpy(line->key, piece, bytes);
    memcpy(line->ids, ids, count * sizeof *ids);
}

static void encode_piece(const char *piece, size_t bytes, void *user) {
    Encoder *e = user;
    if (bytes <= SHORT_PIECE) {
        encode_short(e, piece, bytes);
    } else if (bytes >= NONE) {
        e->status =
            err_set(E_USAGE, "split the document", "a piece of %zu bytes without a break", bytes);
    } else if (!encode_whole(e, piece, bytes)) {
        encode_long(e, piece, (uint32_t)bytes);
    }
}

Status encoder_run(Encoder *e, const char *text, size_t bytes, int32_t **ids, size_t *count,
                   size_t *capacity) {
    // The buffer is the encoder's during the run, and the caller's again after it, also on failure.
    e->ids = *ids;
    e->count = *count;
    e->capacity = *capacity;
    e->status = OK;
    char *composed = NULL;
    if (e->bpe->nfc) e->status = nfc__compose(&composed, &bytes, text, bytes);
    Status split = e->status;
    if (split == OK)
        split =
            splitter_run(e->splitter, composed == NULL ? text : composed, bytes, encode_piece, e);
    free(composed);
    *ids = e->ids;
    *count = e->count;
    *capacity = e->capacity;
    return e->status != OK ? e->status : split;
}
