// Chunks of rows that travel round the sp axis: after hop h this rank holds the chunk of rank (r -
// h) mod T. Rows of chunk p, of all B batch rows: (B, tokens of p, width).
#pragma once

#include "parallel/mesh.h"
#include "parallel/ops.h"

typedef struct Relay {
    const Mesh *mesh;
    const SeqInfo *seq;
    int width;
    real *at[2];  // one is read while the other is filled
    int now;
} Relay;

// Buffers are scratch of the tape.
Relay relay_take(Tape *tp, const Mesh *mesh, const SeqInfo *seq, int width);
// Columns col.. of hop 0's chunk <- those of x.
void relay_put(Relay *r, int col, const Tensor *x);
int relay_source(const Relay *r, int h);       // whose chunk is here in hop h
int relay_tokens(const Relay *r, int rank);    // of a row in that rank's chunk
size_t relay_reals(const Relay *r, int rank);  // of that chunk
size_t relay_most(const Relay *r);             // of the largest chunk
// Hop h's chunk starts on its way to the next rank, hop h+1's comes in; relay_end waits for both
// and turns to it.
void relay_start(Relay *r, CommUse use, int h);
void relay_poll(const Relay *r);
void relay_end(Relay *r);
// Row b of the chunk at hand, of which relay_source gives `tokens`.
static inline real *relay_row(const Relay *r, int b, int tokens) {
    return r->at[r->now] + (size_t)b * (size_t)tokens * (size_t)r->width;
}
