// What a step feeds a model: token rows and where each token stands in its document. Whoever makes
// batches fills a BatchRoom: one place owns the arrays and decides what is reset and what is no
// target.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "base/status.h"

enum { IGNORE_TARGET = -100 };

// Positions are explicit everywhere: no kernel assumes that a row starts at position 0, that rows
// start with a document, or that lengths divide. B or T may be 0 (a rank without data).
typedef struct SeqInfo {
    int B, T;            // rows and tokens a row on this rank
    const int64_t *pos;  // (B,T) position of the token in its document
    const int *first;    // (B,T) index within the whole row of the first token of the same document
    const uint8_t *start;  // (B,T) 1: a document starts here and every state is reset before it
    // Where sequence parallelism shares rows: the tokens of rank r of the sp axis are bound[r] ..
    // bound[r+1] of each whole row (a chunk may be empty), and documents start, in row b of whole
    // rows, at indices doc[doc_row[b]] .. doc[doc_row[b+1]-1], ascending; the same on all ranks of
    // the axis. NULL: rows are whole.
    const int *bound;
    const int *doc, *doc_row;
} SeqInfo;

typedef struct Batch {
    SeqInfo seq;
    const int32_t *tokens;   // (B,T)
    const int32_t *targets;  // (B,T) the next token, or IGNORE_TARGET
    const real *weights;     // (B,T) of the target in the loss, 0 where it is ignored; NULL: 1 each
    int64_t valid;           // targets that are not ignored
} Batch;

// Memory of a batch, filled row by row: this rank's chunk of each, and where documents start in
// whole rows.
typedef struct BatchRoom {
    int sp, sp_rank;
    int T, begin,
        count;  // of the rows at hand: tokens of a whole one, where the chunk begins and its tokens
    int rows, capacity;  // rows filled, and room for; of `most` tokens a row
    int most;
    int *bound;  // (sp+1)
    int32_t *tokens, *targets;
    real *weights;
    int64_t *pos, valid;
    int *first, *doc, *doc_row;
    uint8_t *start;
    int doc_count, doc_capacity;
    bool ends;  // a document ends with the whole row that is being filled
} BatchRoom;

// Rows of at most T tokens, shared by sp ranks (split_bounds). batch_close in any case. E_NOMEM.
Status batch_open(BatchRoom *r, int T, int sp, int sp_rank) CHECKED;
void batch_close(BatchRoom *r);
size_t batch_bytes(int rows,
                   int tokens);  // of so many rows of which a rank holds so many tokens each
// Empties the batch, for up to `rows` rows of T tokens. E_NOMEM, but not where rows were as many
// before.
Status batch_begin(BatchRoom *r, int rows, int T) CHECKED;
// Room for the documents of all rows together: so many can be added without failing. E_NOMEM.
Status batch_reserve_documents(BatchRoom *r, int count) CHECKED;
// Where the next row's chunk goes: tokens [begin, begin+count) of the whole row and the one after
// them.
static inline int32_t *batch_next_tokens(BatchRoom *r) {
    return r->tokens + (size_t)r->rows * (size_t)r->count;
}
// A document starts at token t of the next whole row, 0 <= t <= T, in ascending order. E_NOMEM.
Status batch_add_document(BatchRoom *r, int t) CHECKED;
// The next row is complete. Documents are independent: states and positions start anew with each,
// and its last token has no target; nor have tokens from index `limit` of the whole row on. Weights
// are 1.
void batch_add_row(BatchRoom *r, int limit);
// The same for a row that goes on with a document, whose next token stands at `pos` in it; nothing
// is a target. Rows are whole.
void batch_continue_row(BatchRoom *r, int64_t pos);
// A batch of that shape without documents or targets, for dry runs. E_NOMEM as batch_begin.
Status batch_shape(BatchRoom *r, int rows, int T, Batch *out) CHECKED;
Batch batch_view(const BatchRoom *r);  // borrowed until the next batch_begin
