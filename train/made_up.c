// Made-up tokens as a source of rows.
#include "train/made_up.h"

#include "base/rng.h"
#include "parallel/mesh.h"

static int32_t token_at(const MadeUp *t, uint64_t at) {
    return (int32_t)(rng_u64(1, STREAM_TEST, at) % (uint64_t)t->V);
}

static Status made_up_rows(void *user, Batch *out, int64_t row, int rows) {
    MadeUp *t = user;
    BatchRoom *room = &t->room;
    TRY(batch_begin(room, rows, t->T));
    for (int64_t r = row; r < row + rows; r++) {
        int32_t *tokens = batch_next_tokens(room);
        uint64_t begin = (uint64_t)r * (uint64_t)t->T + (uint64_t)room->begin;
        for (int i = 0; i <= room->count; i++) tokens[i] = token_at(t, begin + (uint64_t)i);
        batch_add_row(room, t->T);
    }
    *out = batch_view(room);
    return OK;
}

static void made_up_advance(void *user, int64_t global_rows) {
    (void)user, (void)global_rows;
}

Status made_up_open(MadeUp *t, const Run *run) {
    const Mesh *mesh = &run->mesh;
    *t = (MadeUp){.T = run->cfg.train.seq, .V = run->learner[0].model.cfg.vocab};
    TRY(batch_open(&t->room, t->T, mesh->sp, mesh->sp_rank));
    return batch_begin(&t->room, run->cfg.train.micro_rows, t->T);  // reserves them
}

RowSource made_up_source(MadeUp *t) {
    return (RowSource){made_up_rows, made_up_advance, t};
}

void made_up_close(MadeUp *t) {
    batch_close(&t->room);
}
