// Made-up tokens as a source of rows.
#include "train/made_up.h"

#include <stdlib.h>

#include "base/rng.h"

static Status made_up_rows(void *user, Batch *out, int64_t row, int rows) {
    MadeUp *t = user;
    size_t n = 0;
    for (int64_t r = row; r < row + rows; r++) {
        for (int i = 0; i < t->count; i++, n++) {
            uint64_t at = (uint64_t)r * (uint64_t)t->T + (uint64_t)(t->begin + i);
            t->tokens[n] = (int32_t)(rng_u64(1, STREAM_TEST, at) % (uint64_t)t->V);
            t->targets[n] = (int32_t)(rng_u64(2, STREAM_TEST, at) % (uint64_t)t->V);
            t->pos[n] = t->begin + i;
        }
    }
    *out = (Batch){.seq = {.B = rows,
                           .T = t->count,
                           .pos = t->pos,
                           .first = t->first,
                           .start = t->start,
                           .bound = t->bound},
                   .tokens = t->tokens,
                   .targets = t->targets,
                   .valid = (int64_t)n};
    return OK;
}

static void made_up_advance(void *user, int64_t global_rows) {
    (void)user, (void)global_rows;
}

Status made_up_open(MadeUp *t, const Run *run) {
    const Mesh *mesh = &run->mesh;
    size_t T = (size_t)run->cfg.train.seq, here = split_count(T, mesh->sp, mesh->sp_rank);
    size_t count = here * (size_t)run->cfg.train.micro_rows + 1;
    *t = (MadeUp){.T = (int)T,
                  .V = run->model.cfg.vocab,
                  .begin = (int)split_begin(T, mesh->sp, mesh->sp_rank),
                  .count = (int)here,
                  .bound = malloc(((size_t)mesh->sp + 1) * sizeof(int)),
                  .tokens = malloc(count * sizeof(int32_t)),
                  .targets = malloc(count * sizeof(int32_t)),
                  .pos = malloc(count * sizeof(int64_t)),
                  .first = calloc(count, sizeof(int)),
                  .start = calloc(count, 1)};
    if (!t->bound || !t->tokens || !t->targets || !t->pos || !t->first || !t->start)
        FAIL(E_NOMEM, "", "out of memory");
    split_bounds(t->bound, t->T, mesh->sp);
    return OK;
}

RowSource made_up_source(MadeUp *t) {
    return (RowSource){made_up_rows, made_up_advance, t};
}

void made_up_close(MadeUp *t) {
    free(t->bound);
    free(t->tokens);
    free(t->targets);
    free(t->pos);
    free(t->first);
    free(t->start);
}
