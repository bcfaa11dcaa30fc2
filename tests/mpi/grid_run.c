// Rows, configuration and memory of a run on a mesh; see grid_run.h.
#include "tests/mpi/grid_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/mixers/mixers.h"
#include "parallel/reduce.h"

static const char SETTINGS[] = "model.width=96 model.heads=12 model.ffn=192 "
                               "model.window=70 model.lrpe=first "
                               "model.conv=3 model.persistent=3 model.memory_chunk=16 "
                               "model.memory_hidden=10 model.memory_init_std=0.3 "
                               "model.block=32 model.init_std=0.05 model.pad_id=0";

// Where documents start in each row: on borders of 2, 3 and 4 even chunks and beside them; nowhere.
static const int STARTS[ROWS][8] = {{0, 97, 98, 150, -1},
                                    {-1},
                                    {0, 65, 129, -1},
                                    {30, 49, 97, 145, 192, -1},
                                    {0, 1, 96, 98, 99, 160, -1}};

static int32_t token_at(const Rows *r, int row, int t) {
    return (int32_t)(rng_u64(3, STREAM_TEST, (uint64_t)(row * (T + 1) + t)) % (uint64_t)r->vocab);
}

static bool starts_at(int row, int t) {
    for (const int *s = STARTS[row]; *s >= 0; s++) {
        if (*s == t) return true;
    }
    return false;
}

// Tokens [bound[rank], bound[rank+1]) of row `row`, as row `at` of the batch.
static void row_fill(Rows *r, int at, int row, int64_t *valid) {
    int begin = r->bound[r->rank], count = r->bound[r->rank + 1] - begin;
    for (int t = 0, first = 0; t < T; t++) {
        if (starts_at(row, t)) {
            first = t;
            r->doc[r->doc_row[at + 1]++] = t;
        }
        if (t < begin || t >= begin + count) continue;
        int i = at * count + t - begin;
        r->tokens[i] = token_at(r, row, t);
        bool ends = t + 1 == T || starts_at(row, t + 1) || (row + t) % 11 == 5;
        r->targets[i] = ends ? IGNORE_TARGET : token_at(r, row, t + 1);
        r->pos[i] = t - first;
        r->first[i] = first;
        r->start[i] = t == first && starts_at(row, t);
        *valid += !ends;
    }
}

static Status rows_take(void *user, Batch *out, int64_t row, int rows) {
    Rows *r = user;
    int count = r->bound[r->rank + 1] - r->bound[r->rank];
    *out = (Batch){.seq = {.B = rows,
                           .T = count,
                           .pos = r->pos,
                           .first = r->first,
                           .start = r->start,
                           .bound = r->bound,
                           .doc = r->doc,
                           .doc_row = r->doc_row},
                   .tokens = r->tokens,
                   .targets = r->targets};
    r->doc_row[0] = 0;
    for (int i = 0; i < rows; i++) {
        r->doc_row[i + 1] = r->doc_row[i];
        row_fill(r, i, (int)row + i, &out->valid);
    }
    return OK;
}

static void rows_advance(void *user, int64_t global_rows) {
    (void)user, (void)global_rows;
}

// Even chunks, or uneven ones with an empty one among them.
static void rows_open(Rows *r, const Mesh *mesh, bool uneven) {
    static const int UNEVEN[MAX_SP + 1][MAX_SP + 1] = {
        {0}, {0, T}, {0, 1, T}, {0, 0, 98, T}, {0, 97, 97, 190, T}};
    r->sp = mesh->sp;
    r->rank = mesh->sp_rank;
    split_bounds(r->bound, T, mesh->sp);
    if (uneven) memcpy(r->bound, UNEVEN[mesh->sp], sizeof r->bound);
}

// Each mixer of the table after the first one: "LNLW".
static void pattern_of_table(char pattern[MAX_LAYERS + 1], bool no_memory) {
    const MixerOps *const *table = mixers();
    int n = 0;
    pattern[n++] = table[0]->letter;
    for (int i = 1; table[i] != NULL; i++) {
        CHECK(n + 2 <= MAX_LAYERS);
        if (no_memory && table[i]->memory) continue;
        if (i > 1) pattern[n++] = table[0]->letter;
        pattern[n++] = table[i]->letter;
    }
    pattern[n] = '\0';
}

static void config_set_all(RunConfig *cfg, const Setup *s) {
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    char text[1024], pattern[MAX_LAYERS + 1], *save = NULL;
    pattern_of_table(pattern, s->no_memory);
    snprintf(text, sizeof text,
             "%s model.layers=%d model.pattern=%s model.tied=%s model.recompute=%s model.family=%s "
             "model.kv_heads=%d model.vocab=%d "
             "train.seq=%d "
             "train.batch_tokens=%d train.micro_rows=%d train.steps=1000 train.eval_seq=1 "
             "schedule.kind=constant schedule.lr=1e-3 schedule.warmup=0 train.clip=1",
             SETTINGS, (int)strlen(pattern), pattern, s->tied ? "true" : "false",
             s->recompute ? "true" : "false", s->llama ? "llama" : "tnl", s->kv_heads,
             s->vocab > 0 ? s->vocab : V, T, ROWS * T, MICRO_ROWS);
    for (char *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        CHECK(config_set(c, w, "test") == OK);
    CHECK(model_config_resolve(&cfg->model, c) == OK);
    config_free(c);
}

// Arena sizes for the chunks at hand, which need not be the even ones a run would have.
static void tape_for(Run *run, Rows *rows) {
    Batch b;
    CHECK(rows_take(rows, &b, 0, MICRO_ROWS) == OK);
    tape_dry(run->tape, true);
    tape_backward(run->tape, model_loss(run->tape, &run->learner[0].model, &b, NULL));
    CHECK(tape_reserve(run->tape) == OK);
}

void run_on(Run *run, Rows *rows, const Mesh *mesh, const Setup *s) {
    *run = (Run){.mesh = *mesh, .objective = &LANGUAGE_MODEL};
    config_set_all(&run->cfg, s);
    if (!s->tied) run->cfg.train.bucket_mb = 0;  // a bucket for each row; else one for all
    CHECK(run_open_learners(run) == OK);
    params_init(&run->learner[0].model.params, 7);
    rows_open(rows, mesh, s->uneven);
    rows->vocab = run->learner[0].model.cfg.vocab;
    tape_for(run, rows);
    run->source = (RowSource){rows_take, rows_advance, rows};
}

void run_end(Run *run) {
    learner_close(&run->learner[0]);
    tape_free(run->tape);
}

void each_grid(const Mesh *world, GridFn fn, void *user) {
    for (int sp = 1; sp <= MAX_SP; sp++) {
        for (int tp = 1; tp <= 4; tp++) {
            if (world->size % (sp * tp) != 0 || world->size / (sp * tp) > 4) continue;
            Mesh grid;
            CHECK(mesh_open(&grid, &(ParallelConfig){.sp = sp, .tp = tp, .zero = true}) == OK);
            fn(&grid, user);
            mesh_close(&grid);
        }
    }
}
