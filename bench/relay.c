// A ring of chunks over the sp axis.
#include "bench/relay.h"
#include "parallel/exchange.h"
#include "parallel/mesh.h"

#include <string.h>

int relay_source(const Relay *r, int h) {
    return ((r->mesh->sp_rank - h) % r->mesh->sp + r->mesh->sp) % r->mesh->sp;
}

int relay_tokens(const Relay *r, int rank) {
    return r->seq->bound[rank + 1] - r->seq->bound[rank];
}

// Rows of a chunk, of all batch rows.
static int relay_rows(const Relay *r, int rank) {
    return r->seq->B * relay_tokens(r, rank);
}

size_t relay_reals(const Relay *r, int rank) {
    return (size_t)relay_rows(r, rank) * (size_t)r->width;
}

size_t relay_most(const Relay *r) {
    size_t most = 0;
    for (int p = 0; p < r->mesh->sp; p++)
        most = relay_reals(r, p) > most ? relay_reals(r, p) : most;
    return most;
}

Relay relay_take(Tape *tp, const Mesh *mesh, const SeqInfo *seq, int width) {
    Relay r = {.mesh = mesh, .seq = seq, .width = width};
    for (int i = 0; i < 2; i++) r.at[i] = tape_scratch(tp, relay_most(&r));
    return r;
}

void relay_put(Relay *r, int col, const Tensor *x) {
    for (int t = 0; t < x->rows; t++)
        memcpy(r->at[0] + (size_t)t * (size_t)r->width + (size_t)col,
               x->data + (size_t)t * (size_t)x->ld, (size_t)x->cols * sizeof *x->data);
}

void relay_start(Relay *r, CommUse use, int h) {
    int sp = r->mesh->sp, rank = r->mesh->sp_rank;
    comm_shift(r->mesh->sp_axis, use, r->at[r->now], relay_rows(r, relay_source(r, h)),
               (rank + 1) % sp, r->at[1 - r->now], relay_rows(r, relay_source(r, h + 1)),
               (rank + sp - 1) % sp, r->width);
}

void relay_poll(const Relay *r) {
    comm_poll(r->mesh->sp_axis);
}

void relay_end(Relay *r) {
    comm_finish(r->mesh->sp_axis);
    r->now = 1 - r->now;
}
