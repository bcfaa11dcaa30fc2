// Training batches. Which tokens row `i` of the run holds is a function of (corpus, mix, T, seed,
// i) alone; the state is how many samples each source has given.
//
// Sample c of a source with L tokens, N = max(1, L / T) samples an epoch: epoch e = c / N, tokens
// [p * T + shift, + T) with p = permute(N, c % N) keyed by e, around the end of the stream, which
// is the end of a document. The shift in [0, T), another one each epoch, moves the cuts between
// samples. The last L % T tokens of an epoch are left out. A source shorter than T repeats within
// the row, the repeats with ignored targets.
#include "data/internal.h"

#include "base/rng.h"
#include "base/split.h"

#include <stdlib.h>
#include <string.h>

struct Loader {
    const Corpus *corpus;
    int T;
    uint64_t seed;
    int sources;
    double weights[MAX_SOURCES];
    LoaderState state;  // where the next global batch begins
    LoaderState
        walk;  // where the last call of loader_rows ended: slices in order cost nothing extra

    // Buffers of the batch, for `capacity` rows; `last` is for one row and the token after it.
    int capacity;
    int32_t *tokens, *targets;
    int64_t *pos;
    int *first;
    uint8_t *start, *last;

    // With sequence parallelism: the chunks of a row, and where documents start in whole rows.
    int sp;
    int *bound;        // (sp+1)
    int begin, count;  // of this rank's chunk
    int *doc, *doc_row;
    int doc_count, doc_capacity;
};

Status loader_open(Loader **out, const Corpus *c, const char *mix, int T, uint64_t seed, int sp,
                   int sp_rank) {
    *out = NULL;
    ASSERT(T > 0 && sp >= 1);
    Loader *l = calloc(1, sizeof *l);
    if (l == NULL) FAIL(E_NOMEM, NULL, "no memory for the loader");
    *l = (Loader){
        .corpus = c, .T = T, .seed = seed, .sources = corpus__source_count(c), .sp = sp};
    Status st = OK;
    l->bound = malloc(((size_t)sp + 1) * sizeof *l->bound);
    if (l->bound == NULL) {
        st = err_set(E_NOMEM, NULL, "no memory for the loader");
        goto done;
    }
    split_bounds(l->bound, T, sp);
    l->begin = l->bound[sp_rank];
    l->count = l->bound[sp_rank + 1] - l->begin;

    const char *names[MAX_SOURCES];
    int64_t tokens[MAX_SOURCES];
    for (int k = 0; k < l->sources; k++) {
        names[k] = corpus__source_name(c, k);
        tokens[k] = corpus__source_tokens(c, k);
    }
    MixSources sources = {.names = names, .tokens = tokens, .count = l->sources};
    TRY_GOTO(mix__parse(l->weights, mix, &sources));
    *out = l;
    return OK;
done:
    loader_close(l);
    return st;
}

static void buffers_free(Loader *l) {
    free(l->tokens);
    free(l->targets);
    free(l->pos);
    free(l->first);
    free(l->start);
    free(l->last);
    free(l->doc_row);
}

void loader_close(Loader *l) {
    if (l == NULL) return;
    buffers_free(l);
    free(l->bound);
    free(l->doc);
    free(l);
}

void loader_state(const Loader *l, LoaderState *st) {
    *st = l->state;
}

Status loader_restore(Loader *l, const LoaderState *st) {
    // The counters must add up, and only sources with a weight can have been read. Beyond 2^52
    // counts are no whole numbers as doubles, which the order is made of; no run gets there.
    int64_t left = st->samples;
    bool good = left >= 0 && left < (int64_t)1 << 52;
    for (int k = 0; k < MAX_SOURCES; k++) {
        good = good && st->per_source[k] >= 0 && st->per_source[k] <= left;
        if (k >= l->sources || l->weights[k] == 0) good = good && st->per_source[k] == 0;
        if (good) left -= st->per_source[k];
    }
    if (!good || left != 0)
        FAIL(E_FORMAT, "resume with the corpus and data.mix of the run that was saved",
             "the saved data position (%lld samples) does not fit the %d sources of this corpus",
             (long long)st->samples, l->sources);
    l->state = l->walk = *st;
    return OK;
}

// --- which samples ---

// Takes one sample: its source, and its number within the source.
static int walk_step(const Loader *l, LoaderState *at, int64_t *number) {
    int k = sampler__pick(l->weights, at->per_source, l->sources, at->samples);
    *number = at->per_source[k]++;
    at->samples++;
    return k;
}

// Brings the walk to global sample `target`, from where it stands when that is not too far.
static void walk_to(Loader *l, int64_t target) {
    if (l->walk.samples > target) l->walk = l->state;
    int64_t number;
    while (l->walk.samples < target) walk_step(l, &l->walk, &number);
}

// A short source has one sample, itself.
static uint64_t samples_per_epoch(const Loader *l, int source) {
    uint64_t tokens = (uint64_t)corpus__source_tokens(l->corpus, source);
    uint64_t samples = tokens / (uint64_t)l->T;
    return samples > 0 ? samples : 1;
}

// First token of sample `number` in the source's stream.
static uint64_t sample_begin(const Loader *l, int source, int64_t number) {
    uint64_t n = samples_per_epoch(l, source);
    uint64_t epoch = (uint64_t)number / n, index = (uint64_t)number % n;
    uint64_t place = sampler__permute(n, index, l->seed, (uint32_t)source, (uint32_t)epoch);
    uint64_t counter = (uint64_t)source << 48 | (epoch & 0xFFFFFFFFFFFF);
    uint64_t shift = rng_u64(l->seed, STREAM_DATA, counter) % (uint64_t)l->T;
    return place * (uint64_t)l->T + shift;
}

// --- what they hold ---

// Micro-batches have one size, so this allocates once.
static Status buffers_grow(Loader *l, int rows) {
    if (rows <= l->capacity) return OK;
    buffers_free(l);
    // One row has a token more while it is read: the spare one is at the end of the last row.
    size_t n = (size_t)rows * (size_t)l->count;
    l->tokens = malloc((n + 1) * sizeof *l->tokens);
    l->targets = malloc((n + 1) * sizeof *l->targets);
    l->pos = malloc((n + 1) * sizeof *l->pos);
    l->first = malloc((n + 1) * sizeof *l->first);
    l->start = malloc(n + 1);
    l->last = malloc((size_t)l->count + 1);
    l->doc_row = malloc(((size_t)rows + 1) * sizeof *l->doc_row);
    bool good = l->tokens != NULL && l->targets != NULL && l->pos != NULL && l->first != NULL &&
                l->start != NULL && l->last != NULL && l->doc_row != NULL;
    l->capacity = good ? rows : 0;
    if (!good)
        FAIL(E_NOMEM, "use a smaller train.micro_rows or train.seq",
             "no memory for a batch of %d rows of %d tokens", rows, l->T);
    return OK;
}

// Is the token at `place` of the stream its document's first? Then the token before it was the last
// of another.
static bool starts_at(const Loader *l, int source, uint64_t place) {
    uint8_t before;
    int32_t unused;
    uint64_t stream = (uint64_t)corpus__source_tokens(l->corpus, source);
    corpus__read(l->corpus, source, place + stream - 1, 1, &unused, &before);
    return before;
}

static Status doc_add(Loader *l, int start) {
    if (l->doc_count == l->doc_capacity) {
        int capacity = l->doc_capacity == 0 ? 64 : 2 * l->doc_capacity;
        int *more = realloc(l->doc, (size_t)capacity * sizeof *more);
        if (more == NULL) FAIL(E_NOMEM, NULL, "no memory for the documents of a batch");
        l->doc = more;
        l->doc_capacity = capacity;
    }
    l->doc[l->doc_count++] = start;
    return OK;
}

// Document starts of a whole row, piece by piece: no rank holds more than its chunk.
static Status scan_documents(Loader *l, int source, uint64_t begin) {
    enum { PIECE = 1024 };
    int32_t tokens[PIECE];
    uint8_t last[PIECE];
    bool starts = starts_at(l, source, begin);
    for (int at = 0; at < l->T; at += PIECE) {
        int n = l->T - at < PIECE ? l->T - at : PIECE;
        corpus__read(l->corpus, source, begin + (uint64_t)at, (size_t)n, tokens, last);
        for (int t = 0; t < n; t++) {
            if (starts) TRY(doc_add(l, at + t));
            starts = last[t];
        }
    }
    return OK;
}

// Index in the whole row where the document of the chunk's first token begins.
static int document_before(const Loader *l, int from) {
    int first = 0;
    for (int d = from; d < l->doc_count && l->doc[d] <= l->begin; d++) first = l->doc[d];
    return first;
}

// Row `row` of the batch from the stream: this rank's chunk of it. Rows are filled in order: reading
// one puts its spare token where the next row begins. Adds the number of targets that count.
static Status row_fill(Loader *l, int row, int source, int64_t number, int64_t *valid) {
    const size_t at = (size_t)row * (size_t)l->count;
    const int64_t stream = corpus__source_tokens(l->corpus, source);
    const uint64_t begin = sample_begin(l, source, number), chunk = begin + (uint64_t)l->begin;
    TRY(corpus__check(l->corpus, source, chunk, (size_t)l->count + 1));
    corpus__read(l->corpus, source, chunk, (size_t)l->count + 1, l->tokens + at, l->last);
    l->doc_row[row] = l->doc_count;
    if (l->sp > 1) TRY(scan_documents(l, source, begin));
    l->doc_row[row + 1] = l->doc_count;

    int first = l->sp > 1 ? document_before(l, l->doc_row[row]) : 0;
    for (int i = 0; i < l->count; i++) {
        int t = l->begin + i;  // index in the whole row
        bool starts = i == 0 ? starts_at(l, source, chunk) : l->last[i - 1];
        if (starts) first = t;
        l->start[at + (size_t)i] = starts;
        l->first[at + (size_t)i] = first;
        l->pos[at + (size_t)i] = t - first;
        // Documents are independent: the end of one does not foretell the next.
        bool counts = !l->last[i] && t < stream;
        l->targets[at + (size_t)i] = counts ? l->tokens[at + (size_t)i + 1] : IGNORE_TARGET;
        *valid += counts;
    }
    return OK;
}

Status loader_rows(Loader *l, Batch *out, int64_t row, int rows) {
    ASSERT(row >= 0 && rows >= 0);
    *out = (Batch){.valid = 0};
    TRY(buffers_grow(l, rows));
    walk_to(l, l->state.samples + row);
    l->doc_count = 0;
    int64_t valid = 0;
    for (int r = 0; r < rows; r++) {
        int64_t number;
        int source = walk_step(l, &l->walk, &number);
        TRY(row_fill(l, r, source, number, &valid));
    }
    *out = (Batch){
        .seq = {.B = rows, .T = l->count, .pos = l->pos, .first = l->first, .start = l->start},
        .tokens = l->tokens,
        .targets = l->targets,
        .valid = valid};
    if (l->sp == 1) return OK;
    out->seq.bound = l->bound;
    out->seq.doc = l->doc;
    out->seq.doc_row = l->doc_row;
    return OK;
}

void loader_advance(Loader *l, int64_t global_rows) {
    ASSERT(global_rows >= 0);
    walk_to(l, l->state.samples + global_rows);
    l->state = l->walk;
}

int loader_source_count(const Loader *l) {
    return l->sources;
}
const char *loader_source_name(const Loader *l, int i) {
    return corpus__source_name(l->corpus, i);
}

double loader_epochs(const Loader *l, int source) {
    return (double)l->state.per_source[source] / (double)samples_per_epoch(l, source);
}
