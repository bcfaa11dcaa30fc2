// Texts are kept in slots of one decode state, live ones first. Prompts are read longest first, so
// that those that are through lie behind those that read on: a block is always the first slots, and
// nothing is padded.
#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/finite.h"
#include "parallel/agree.h"

enum {
    CHUNK = 512
};  // tokens of all prompts together at a time: memory does not grow with prompts

// A text in the making.
typedef struct Line {
    int row;  // of the prompts
    const Prompt *prompt;
    int64_t stream, step;
    int next;  // token drawn last
} Line;

struct Generator {
    Model *m;
    Tape *tp;
    DecodeState *state;  // (most)
    BatchRoom room;
    Line *line;    // (most) by slot, the first `live` of them
    int *slot;     // (most) of each row, -1: it has finished
    real *logits;  // (most, V) by slot: of the next token
    int most, rows, live;
    bool fresh;  // logits are those behind the prompts
};

// ---- memory ------------------------------------------------------------------------------------

static Tensor *project_last(Tape *tp, Model *m, Tensor *hidden, int rows, int T);

// Tokens a row in a block of `rows` rows.
static int chunk_of(int rows) {
    return rows < CHUNK ? CHUNK / rows : 1;
}

static void measure(Tape *tp, Model *m, BatchRoom *room, DecodeState *state, int rows, int T) {
    Batch b;
    Status st = batch_shape(room, rows, T, &b);
    ASSERT(st == OK);
    tape_dry(tp, false);
    project_last(tp, m, model_hidden(tp, m, &b, state), rows, T);
}

void generator_measure(Tape *tp, Model *m, int most) {
    BatchRoom room;
    DecodeState *state = NULL;
    Status st = batch_open(&room, CHUNK, 1, 0);
    if (st == OK) st = decode_open(&state, m, 1);  // shapes alone matter
    ASSERT(st == OK);
    // Blocks of few rows are long, those of many rows wide: each needs most of something.
    for (int rows = 1; rows < most && rows <= CHUNK; rows++)
        measure(tp, m, &room, state, rows, chunk_of(rows));
    measure(tp, m, &room, state, most, chunk_of(most));
    decode_close(state);
    batch_close(&room);
}

// Ranks that share the parameters generate the same tokens together.
static Status ranks_agree(const Model *m, Status mine) {
    return m->mesh != NULL && m->mesh->tp > 1 ? agree(mine, m->mesh->tp_axis) : mine;
}

static Status open_here(Generator *g) {
    size_t most = (size_t)g->most;
    g->line = calloc(most, sizeof *g->line);
    g->slot = calloc(most, sizeof *g->slot);
    g->logits = calloc(most * (size_t)g->m->cfg.vocab, sizeof *g->logits);
    if (!g->line || !g->slot || !g->logits)
        FAIL(E_NOMEM, "generate fewer prompts at a time", "out of memory for %d prompts", g->most);
    TRY(batch_open(&g->room, CHUNK, 1, 0));
    return batch_begin(&g->room, g->most, 1);  // reserves them
}

Status generator_open(Generator **out, Model *m, Tape *tp, int most) {
    Generator *g = *out = calloc(1, sizeof *g);
    ASSERT(g != NULL && most > 0);
    *g = (Generator){.m = m, .tp = tp, .most = most};
    Status st = ranks_agree(m, open_here(g));
    if (st != OK) {
        generator_close(g);
        *out = NULL;
    }
    return st;
}

void generator_close(Generator *g) {
    if (g == NULL) return;
    decode_close(g->state);
    batch_close(&g->room);
    free(g->line);
    free(g->slot);
    free(g->logits);
    free(g);
}

// ---- prompts -----------------------------------------------------------------------------------

static Status prompt_check(const Model *m, const Prompt *p, int row) {
    if (p->count < 1) FAIL(E_USAGE, "give at least one token", "prompt %d is empty", row + 1);
    for (int i = 0; i < p->count; i++) {
        if (p->ids[i] >= 0 && p->ids[i] < m->cfg.vocab) continue;
        FAIL(E_USAGE, "is this the model's own tokenizer?",
             "prompt %d: token %d is outside of the vocabulary of %d", row + 1, p->ids[i],
             m->cfg.vocab);
    }
    return OK;
}

// Longest first; of equals the earlier row.
static int line_order(const void *a, const void *b) {
    const Line *x = a, *y = b;
    if (x->prompt->count != y->prompt->count) return x->prompt->count < y->prompt->count ? 1 : -1;
    return x->row - y->row;
}

static void must(Status st) {
    ASSERT(st == OK);  // the room was reserved
}

// Logits of the last token of each row.
static Tensor *project_last(Tape *tp, Model *m, Tensor *hidden, int rows, int T) {
    if (T == 1) return model_project(tp, m, hidden);
    Tensor **last = malloc(((size_t)rows + 1) * sizeof *last);
    ASSERT(last != NULL);
    for (int r = 0; r < rows; r++) last[r] = tape_rows(tp, hidden, r * T + T - 1, 1);
    last[rows] = NULL;
    Tensor *x =
        rows == 1 ? tape_leaf(tp, last[0]->data, 1, hidden->cols) : op_concat_rows(tp, last);
    free(last);
    return model_project(tp, m, x);
}

static void keep_logits(Generator *g, const Tensor *logits, int rows) {
    size_t V = (size_t)g->m->cfg.vocab;
    for (int s = 0; s < rows; s++)
        memcpy(g->logits + (size_t)s * V, logits->data + (size_t)s * (size_t)logits->ld,
               V * sizeof *g->logits);
}

// Tokens [done, done+n) of the first `rows` slots. Their logits are kept of each block: the last
// one of a text counts.
static Status read_block(Generator *g, int rows, int done, int n, bool ends) {
    TRY(ranks_agree(g->m, decode_reserve(g->state, n)));
    must(batch_begin(&g->room, rows, n));
    for (int s = 0; s < rows; s++) {
        memcpy(batch_next_tokens(&g->room), g->line[s].prompt->ids + done,
               (size_t)n * sizeof(int32_t));
        batch_continue_row(&g->room, done);
    }
    Batch b = batch_view(&g->room);
    tape_begin(g->tp, false);
    Tensor *hidden = model_hidden(g->tp, g->m, &b, g->state);
    if (ends) keep_logits(g, project_last(g->tp, g->m, hidden, rows, n), rows);
    return OK;
}

static Status read_prompts(Generator *g) {
    for (int done = 0, rows = g->rows; rows > 0;) {
        int left = g->line[rows - 1].prompt->count - done;  // of the shortest that reads on
        int n = left < chunk_of(rows) ? left : chunk_of(rows);
        TRY(read_block(g, rows, done, n, n == left));
        done += n;
        while (rows > 0 && g->line[rows - 1].prompt->count == done) rows--;
    }
    return OK;
}

static Status start_here(Generator *g, const Prompt *prompts) {
    for (int r = 0; r < g->rows; r++) TRY(prompt_check(g->m, &prompts[r], r));
    decode_close(g->state);
    g->state = NULL;
    return decode_open(&g->state, g->m, g->rows > 0 ? g->rows : 1);
}

Status generator_start(Generator *g, const Prompt *prompts, int rows, int64_t stream) {
    ASSERT(rows >= 0 && rows <= g->most);
    g->rows = rows;
    g->live = 0;
    TRY(ranks_agree(g->m, start_here(g, prompts)));
    for (int r = 0; r < rows; r++)
        g->line[r] = (Line){.row = r, .prompt = &prompts[r], .stream = stream + r};
    qsort(g->line, (size_t)rows, sizeof *g->line, line_order);
    for (int s = 0; s < rows; s++) g->slot[g->line[s].row] = s;
    TRY(read_prompts(g));
    g->live = rows;
    g->fresh = true;
    return OK;
}

// ---- steps -------------------------------------------------------------------------------------

// The tokens drawn last, of all live rows together.
static Status advance(Generator *g) {
    TRY(ranks_agree(g->m, decode_reserve(g->state, 1)));
    must(batch_begin(&g->room, g->live, 1));
    for (int s = 0; s < g->live; s++) {
        *batch_next_tokens(&g->room) = g->line[s].next;
        batch_continue_row(&g->room, decode_pos(g->state)[s]);
    }
    Batch b = batch_view(&g->room);
    tape_begin(g->tp, false);
    keep_logits(g, model_logits(g->tp, g->m, &b, g->state), g->live);
    return OK;
}

// No id is banned here, so that -inf, too, comes from an overflow.
static Status logits_check(const real *logits, int V, const Line *t) {
    int v = (int)reals_outside(logits, (size_t)V, (real)INFINITY);
    if (v == V) return OK;
    FAIL(E_DIVERGED, "are the weights of a run that diverged?",
         "prompt %d, new token %lld: a logit is not a number (%g for id %d)", t->row + 1,
         (long long)t->step + 1, isnan(logits[v]) ? (double)NAN : (double)logits[v], v);
}

static Status draw(Generator *g, const SampleConfig *cfg, Line *t, Drawn *d) {
    int V = g->m->cfg.vocab;
    const real *logits = g->logits + (size_t)(t - g->line) * (size_t)V;
    TRY(logits_check(logits, V, t));
    t->next = sample_next(logits, V, cfg, t->stream, t->step++);
    *d = (Drawn){t->row, t->next};
    return OK;
}

Status generator_step(Generator *g, const SampleConfig *cfg, Drawn *drawn, int *count) {
    *count = 0;
    if (g->live == 0) return OK;
    if (!g->fresh) TRY(advance(g));
    g->fresh = false;
    for (int r = 0; r < g->rows; r++) {
        if (g->slot[r] < 0) continue;
        TRY(draw(g, cfg, &g->line[g->slot[r]], &drawn[*count]));
        ++*count;
    }
    return OK;
}

double generator_log_prob(const Generator *g, int row) {
    int V = g->m->cfg.vocab, s = g->slot[row];
    ASSERT(s >= 0 && g->line[s].step > 0);
    const real *logits = g->logits + (size_t)s * (size_t)V;
    double most = (double)logits[0], sum = 0;
    for (int v = 1; v < V; v++) most = fmax(most, (double)logits[v]);
    for (int v = 0; v < V; v++) sum += exp((double)logits[v] - most);
    return (double)logits[g->line[s].next] - most - log(sum);
}

// The last live slot takes the place: there is room for it, as all rows of a state have the same.
void generator_finish(Generator *g, int row) {
    int s = g->slot[row], last = g->live - 1;
    ASSERT(s >= 0);
    g->slot[row] = -1;
    g->live--;
    if (s == last) return;
    must(decode_copy_row(g->state, s, g->state, last));
    g->line[s] = g->line[last];
    g->slot[g->line[s].row] = s;
    size_t V = (size_t)g->m->cfg.vocab;
    memcpy(g->logits + (size_t)s * V, g->logits + (size_t)last * V, V * sizeof *g->logits);
}

int generator_live(const Generator *g) {
    return g->live;
}

size_t generator_bytes(const Generator *g) {
    return g->state == NULL ? 0 : decode_bytes(g->state);
}

// ---- all at once -------------------------------------------------------------------------------

static Status run(Generator *g, bool ends, const SampleConfig *cfg, TokenFn token, void *user) {
    Drawn *drawn = malloc((size_t)g->most * sizeof *drawn);
    ASSERT(drawn != NULL);
    Status st = OK;
    for (int64_t step = 0; st == OK && g->live > 0 && step < cfg->max_new; step++) {
        int count;
        st = generator_step(g, cfg, drawn, &count);
        for (int i = 0; i < count; i++) {
            bool ended = ends && model_config_ends(&g->m->cfg, drawn[i].id);
            if (ended || !token(drawn[i].row, drawn[i].id, user)) generator_finish(g, drawn[i].row);
        }
    }
    free(drawn);
    return st;
}

Status generate(Model *m, const Prompt *prompts, int rows, bool ends, const SampleConfig *cfg,
                TokenFn token, void *user) {
    if (rows < 1 || cfg->max_new < 1) return OK;
    Tape *tp = tape_new();
    Generator *g = NULL;
    generator_measure(tp, m, rows);
    Status st = ranks_agree(m, tape_reserve(tp));
    if (st == OK) st = generator_open(&g, m, tp, rows);
    if (st == OK) st = generator_start(g, prompts, rows, 0);
    if (st == OK) st = run(g, ends, cfg, token, user);
    generator_close(g);
    tape_free(tp);
    return st;
}
