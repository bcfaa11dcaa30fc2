// What a step feeds a model: token rows and where each token stands in its document.
#pragma once

#include <stdint.h>

enum { IGNORE_TARGET = -100 };

// Positions are explicit everywhere: no kernel assumes that a row starts at position 0, that rows start
// with a document, or that lengths divide. B or T may be 0 (a rank without data).
typedef struct SeqInfo {
    int B, T;              // rows and tokens a row on this rank
    const int64_t *pos;    // (B,T) position of the token in its document
    const int *first;      // (B,T) index within the whole row of the first token of the same document
    const uint8_t *start;  // (B,T) 1: a document starts here and every state is reset before it
    // Where sequence parallelism shares rows: the tokens of rank r of the sp axis are bound[r] .. bound[r+1] of each
    // whole row (a chunk may be empty), and documents start, in row b of whole rows, at indices doc[doc_row[b]] ..
    // doc[doc_row[b+1]-1], ascending; the same on all ranks of the axis. NULL: rows are whole.
    const int *bound;
    const int *doc, *doc_row;
} SeqInfo;

typedef struct Batch {
    SeqInfo seq;
    const int32_t *tokens;   // (B,T)
    const int32_t *targets;  // (B,T) the next token, or IGNORE_TARGET
    int64_t valid;           // targets that are not ignored
} Batch;
