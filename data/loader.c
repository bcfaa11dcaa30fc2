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

#include <stdlib.h>

struct Loader {
    const Corpus *corpus;
    int T;
    uint64_t seed;
    int sources;
    double weights[MAX_SOURCES];
    LoaderState state;  // where the next global batch begins
    LoaderState
        walk;  // where the last call of loader_rows ended: slices in order cost nothing extra

    BatchRoom room;
};

Status loader_open(Loader **out, const Corpus *c, const char *mix, int T, uint64_t seed, int sp,
                   int sp_rank) {
    *out = NULL;
    ASSERT(T > 0 && sp >= 1);
    Loader *l = calloc(1, sizeof *l);
    if (l == NULL) FAIL(E_NOMEM, NULL, "no memory for the loader");
    *l = (Loader){.corpus = c, .T = T, .seed = seed, .sources = corpus__source_count(c)};
    Status st = OK;
    TRY_GOTO(batch_open(&l->room, T, sp, sp_rank));

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

void loader_close(Loader *l) {
    if (l == NULL) return;
    batch_close(&l->room);
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

// The next row of the batch from the stream: this rank's chunk of it. A source shorter than the row
// repeats without targets.
static Status row_fill(Loader *l, int source, int64_t number) {
    BatchRoom *room = &l->room;
    const uint64_t begin = sample_begin(l, source, number), end = begin + (uint64_t)l->T;
    TRY(corpus__check(l->corpus, source, begin, (size_t)l->T + 1));
    corpus__read(l->corpus, source, begin + (uint64_t)room->begin, (size_t)room->count + 1,
                 batch_next_tokens(room));
    for (uint64_t at = corpus__document(l->corpus, source, begin); at <= end;
         at = corpus__document(l->corpus, source, at + 1)) {
        TRY(batch_add_document(room, (int)(at - begin)));
    }
    int64_t stream = corpus__source_tokens(l->corpus, source);
    batch_add_row(room, stream < l->T ? (int)stream : l->T);
    return OK;
}

Status loader_rows(Loader *l, Batch *out, int64_t row, int rows) {
    ASSERT(row >= 0 && rows >= 0);
    *out = (Batch){.valid = 0};
    TRY(batch_begin(&l->room, rows, l->T));
    walk_to(l, l->state.samples + row);
    for (int r = 0; r < rows; r++) {
        int64_t number;
        int source = walk_step(l, &l->walk, &number);
        TRY(row_fill(l, source, number));
    }
    *out = batch_view(&l->room);
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
