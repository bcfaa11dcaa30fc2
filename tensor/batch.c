// Rows of documents as a model takes them: resets, positions and targets.
#include "tensor/batch.h"

#include <stdlib.h>

#include "base/split.h"

static const char HINT[] = "use a smaller train.micro_rows, train.seq or train.eval_seq";

Status batch_open(BatchRoom *r, int T, int sp, int sp_rank) {
    ASSERT(T > 0 && sp >= 1 && sp_rank >= 0 && sp_rank < sp);
    *r = (BatchRoom){.sp = sp, .sp_rank = sp_rank, .most = T};
    r->bound = calloc((size_t)sp + 1, sizeof *r->bound);
    if (r->bound == NULL) FAIL(E_NOMEM, HINT, "no memory for a batch");
    return OK;
}

// The arrays with an element a token, and how large that is.
static const struct {
    size_t offset, bytes;
} ARRAYS[] = {
    {offsetof(BatchRoom, tokens), sizeof(int32_t)}, {offsetof(BatchRoom, targets), sizeof(int32_t)},
    {offsetof(BatchRoom, weights), sizeof(real)},   {offsetof(BatchRoom, pos), sizeof(int64_t)},
    {offsetof(BatchRoom, first), sizeof(int)},      {offsetof(BatchRoom, start), sizeof(uint8_t)},
};
enum { ARRAY_COUNT = sizeof ARRAYS / sizeof ARRAYS[0] };

static void **array_of(BatchRoom *r, int i) {
    return (void **)((char *)r + ARRAYS[i].offset);
}

size_t batch_bytes(int rows, int tokens) {
    size_t bytes = 0;
    for (int i = 0; i < ARRAY_COUNT; i++) bytes += ARRAYS[i].bytes;
    return (size_t)rows * (size_t)tokens * bytes;
}

static void rows_free(BatchRoom *r) {
    for (int i = 0; i < ARRAY_COUNT; i++) {
        free(*array_of(r, i));
        *array_of(r, i) = NULL;
    }
    free(r->doc_row);
    r->doc_row = NULL;
}

void batch_close(BatchRoom *r) {
    rows_free(r);
    free(r->bound);
    free(r->doc);
    *r = (BatchRoom){0};
}

// Micro-batches have one size, so this allocates once.
static Status rows_grow(BatchRoom *r, int rows) {
    if (rows <= r->capacity && r->tokens != NULL) return OK;
    rows_free(r);
    // A row has a token more while it is filled: the spare one of the last row is at the end.
    size_t n = (size_t)rows * split_count((size_t)r->most, r->sp, r->sp_rank) + 1;
    r->doc_row = calloc((size_t)rows + 1, sizeof *r->doc_row);
    bool good = r->doc_row != NULL;
    for (int i = 0; i < ARRAY_COUNT; i++) {
        *array_of(r, i) = calloc(n, ARRAYS[i].bytes);
        good = good && *array_of(r, i) != NULL;
    }
    r->capacity = good ? rows : 0;
    if (!good) FAIL(E_NOMEM, HINT, "no memory for a batch of %d rows of %d tokens", rows, r->most);
    return OK;
}

Status batch_begin(BatchRoom *r, int rows, int T) {
    ASSERT(rows >= 0 && T >= 0 && T <= r->most);
    TRY(rows_grow(r, rows));
    split_bounds(r->bound, T, r->sp);
    r->T = T;
    r->begin = r->bound[r->sp_rank];
    r->count = r->bound[r->sp_rank + 1] - r->begin;
    r->rows = r->doc_count = 0;
    r->valid = 0;
    r->ends = false;
    return OK;
}

Status batch_reserve_documents(BatchRoom *r, int count) {
    if (count <= r->doc_capacity) return OK;
    int *more = realloc(r->doc, (size_t)count * sizeof *more);
    if (more == NULL) FAIL(E_NOMEM, HINT, "no memory for the documents of a batch");
    r->doc = more;
    r->doc_capacity = count;
    return OK;
}

Status batch_add_document(BatchRoom *r, int t) {
    ASSERT(t >= 0 && t <= r->T);
    if (t == r->T) {  // of the next row, or of none: here it only ends the one before it
        r->ends = true;
        return OK;
    }
    if (r->doc_count == r->doc_capacity) TRY(batch_reserve_documents(r, 2 * r->doc_count + 64));
    r->doc[r->doc_count++] = t;
    return OK;
}

void batch_add_row(BatchRoom *r, int limit) {
    ASSERT(r->rows < r->capacity);
    const size_t row = (size_t)r->rows * (size_t)r->count;
    int next = r->doc_row[r->rows], first = 0;  // of the documents that start in this whole row
    for (; next < r->doc_count && r->doc[next] < r->begin; next++) first = r->doc[next];
    for (int i = 0; i < r->count; i++) {
        const size_t at = row + (size_t)i;
        const int t = r->begin + i;  // index in the whole row
        r->start[at] = next < r->doc_count && r->doc[next] == t;
        if (r->start[at]) first = r->doc[next++];
        r->first[at] = first;
        r->pos[at] = t - first;
        bool last = t + 1 == r->T ? r->ends : next < r->doc_count && r->doc[next] == t + 1;
        bool counts = !last && t < limit;
        r->targets[at] = counts ? r->tokens[at + 1] : IGNORE_TARGET;
        r->weights[at] = counts;
        r->valid += counts;
    }
    r->doc_row[++r->rows] = r->doc_count;
    r->ends = false;
}

void batch_continue_row(BatchRoom *r, int64_t pos) {
    ASSERT(r->sp == 1);
    const size_t row = (size_t)r->rows * (size_t)r->count;
    batch_add_row(r, 0);
    for (int i = 0; i < r->count; i++) r->pos[row + (size_t)i] = pos + i;
}

Status batch_shape(BatchRoom *r, int rows, int T, Batch *out) {
    TRY(batch_begin(r, rows, T));
    for (int b = 0; b < rows; b++) batch_add_row(r, 0);
    *out = batch_view(r);
    return OK;
}

Batch batch_view(const BatchRoom *r) {
    bool shared = r->sp > 1;
    return (Batch){.seq = {.B = r->rows,
                           .T = r->count,
                           .pos = r->pos,
                           .first = r->first,
                           .start = r->start,
                           .bound = shared ? r->bound : NULL,
                           .doc = shared ? r->doc : NULL,
                           .doc_row = shared ? r->doc_row : NULL},
                   .tokens = r->tokens,
                   .targets = r->targets,
                   .weights = r->weights,
                   .valid = r->valid};
}
