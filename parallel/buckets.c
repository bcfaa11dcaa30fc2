// Buckets of gradients: runs of rows, their pieces, and a receive window smaller than all buckets
// together.
#include "parallel/buckets.h"

#include <stdlib.h>

#include "base/file.h"

enum {
    ALIGN = 16,  // elements: rows of a ParamSet and pieces of a bucket start on a cache line
    WINDOW_BUCKETS = 8,  // buckets of the usual size received at the same time, besides the largest
    INT_ARRAYS = 5,      // of each bucket
};

static size_t row_end(const ParamSet *ps, int row) {
    return row + 1 < ps->count ? ps->rows[row + 1].offset : ps->total;
}

static void plan_add(BucketPlan *plan, const ParamSet *ps, size_t begin, size_t end) {
    if (plan->count == plan->capacity) {
        plan->capacity = plan->capacity == 0 ? 32 : 2 * plan->capacity;
        plan->buckets = realloc(plan->buckets, (size_t)plan->capacity * sizeof *plan->buckets);
        ASSERT(plan->buckets != NULL);
    }
    ASSERT(begin % ALIGN == 0 && end % ALIGN == 0);
    int first = 0, last = ps->count - 1;
    while (row_end(ps, first) <= begin) first++;
    while (ps->rows[last].offset >= end) last--;
    plan->buckets[plan->count++] = (Bucket){
        .begin = begin, .count = end - begin, .first_row = first, .last_row = last, .after = -1};
}

// [begin, end), which may be empty, as one bucket or several.
static void plan_add_run(BucketPlan *plan, const ParamSet *ps, size_t begin, size_t end,
                         size_t limit) {
    for (; end - begin > limit; end -= limit) plan_add(plan, ps, end - limit, end);
    if (end > begin) plan_add(plan, ps, begin, end);
}

static void rows_to_buckets(BucketPlan *plan, const ParamSet *ps, size_t least, size_t limit) {
    size_t end = ps->total;
    bool several = ps->total > least;  // one bucket waits for all rows anyway
    for (int row = ps->count - 1; row >= 0; row--) {
        size_t begin = ps->rows[row].offset;
        bool late = several && ps->rows[row].late;
        if (late) begin = row_end(ps, row);  // the run above ends here, however short it is
        if (end - begin < least && row > 0 && !late) continue;
        plan_add_run(plan, ps, begin, end, limit);
        end = ps->rows[row].offset;
    }
    for (int row = ps->count - 1; several && row >= 0; row--) {
        if (!ps->rows[row].late) continue;
        end = row_end(ps, row);
        while (row > 0 && ps->rows[row - 1].late) row--;
        plan_add_run(plan, ps, ps->rows[row].offset, end, limit);
    }
}

Range bucket_piece(const BucketPlan *plan, int bucket, int rank) {
    const Bucket *b = &plan->buckets[bucket];
    size_t lines = b->count / ALIGN;
    return (Range){b->begin + ALIGN * split_begin(lines, plan->size, rank),
                   ALIGN * split_count(lines, plan->size, rank)};
}

static void bucket_fill_counts(BucketPlan *plan, int bucket, int *ints) {
    Bucket *b = &plan->buckets[bucket];
    int size = plan->size, own = (int)bucket_piece(plan, bucket, plan->rank).count, slot = 0;
    b->counts = ints;
    b->piece_counts = ints + 4 * size;
    for (int r = 0; r < size; r++) {
        Range piece = bucket_piece(plan, bucket, r);
        bool other = r != plan->rank;  // the own piece stays where it is
        b->counts[r] = other ? (int)piece.count : 0;
        b->counts[size + r] = (int)(piece.begin - b->begin);
        b->counts[2 * size + r] = other ? own : 0;
        b->counts[3 * size + r] = slot * own;
        b->piece_counts[r] = (int)piece.count;
        slot += other;
    }
}

// Received elements at most on any rank (rank 0 has the largest piece): the plan is the same on all
// ranks.
static size_t incoming(const BucketPlan *plan, int bucket) {
    return bucket_piece(plan, bucket, 0).count * (size_t)(plan->size - 1);
}

static size_t window_size(const BucketPlan *plan, size_t least) {
    size_t all = 0, largest = 0;
    for (int b = 0; b < plan->count; b++) {
        size_t n = incoming(plan, b);
        all += n;
        if (n > largest) largest = n;
    }
    size_t some = largest + WINDOW_BUCKETS * least;
    return some < all ? some : all;
}

// Buckets are laid one behind the other, from the start again when the window is full.
static void place_buckets(BucketPlan *plan) {
    size_t at = 0;
    for (int b = 0; b < plan->count; b++) {
        size_t need = incoming(plan, b);
        if (at + need > plan->window) at = 0;
        Bucket *k = &plan->buckets[b];
        k->window = at;
        at += need;
        for (int other = b - 1; other >= 0 && k->after < 0; other--) {
            size_t from = plan->buckets[other].window, to = from + incoming(plan, other);
            if (from < at && k->window < to) k->after = other;
        }
    }
}

void plan_open(BucketPlan *plan, const ParamSet *ps, const Comm *comm, size_t least, size_t limit) {
    ASSERT(limit >= ALIGN && limit % ALIGN == 0);
    *plan = (BucketPlan){.size = comm->size, .rank = comm->rank};
    rows_to_buckets(plan, ps, least, limit);
    size_t ints = INT_ARRAYS * (size_t)plan->size;
    plan->ints = malloc(((size_t)plan->count * ints + 1) * sizeof *plan->ints);
    ASSERT(plan->ints != NULL);
    for (int b = 0; b < plan->count; b++) {
        bucket_fill_counts(plan, b, plan->ints + (size_t)b * ints);
    }
    plan->window = window_size(plan, least);
    place_buckets(plan);
}

void plan_close(BucketPlan *plan) {
    free(plan->buckets);
    free(plan->ints);
    *plan = (BucketPlan){0};
}

uint64_t plan_hash(const BucketPlan *plan) {
    uint64_t h = (uint64_t)plan->size;
    for (int b = 0; b < plan->count; b++) {
        uint64_t v[4] = {h, plan->buckets[b].begin, plan->buckets[b].count, plan->window};
        h = hash64(v, sizeof v);
    }
    return h;
}
