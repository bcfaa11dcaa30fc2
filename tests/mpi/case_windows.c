// Evaluation in windows: short documents packed together, long ones cut, on any grid, are what each
// document is alone.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "parallel/mesh.h"
#include "tests/mpi/grid_run.h"
#include "tokenizer/tokenizer.h"
#include "train/windows.h"

enum { WINDOW = 31, VOCAB = 300, END = 2, MAX_TEXT = 1024 };
#ifdef STERNA_F64
static const double LOSS_MOST = 1e-12;
#else
static const double LOSS_MOST = 1e-6;
#endif

// An end alone, as long as a window with and without its end, one more, twice as long and one more,
// and many that share a window, at last unevenly.
static const int LENGTHS[] = {5,   1, 31, 32, 33, 2, 3,  62, 63, 64, 1, 1, 9,
                              100, 4, 4,  4,  4,  4, 17, 14, 2,  31, 1, 7};
enum { DOCS = sizeof LENGTHS / sizeof LENGTHS[0] };

typedef struct Made {
    int32_t ids[MAX_TEXT];
    uint64_t ends[DOCS];
    WindowText text;
    Bpe *bpe;
} Made;

static void made_open(Made *m) {
    WordCount *words = wordcount_new();
    const char *const specials[] = {"<pad>", "<bos>", "<eos>"};
    for (int i = 0; i < 30; i++)
        wordcount_add(words, "several bytes", (size_t)(2 + i % 11), 40 - i);
    BpeTrainConfig cfg = {VOCAB, 1, 0, specials, 3};
    CHECK(bpe_train(&m->bpe, words, &cfg) == OK && bpe_vocab(m->bpe) > 259);
    wordcount_free(words);
    int64_t count = 0;
    for (int d = 0; d < DOCS; d++) {
        for (int i = 0; i < LENGTHS[d]; i++, count++)
            m->ids[count] = 3 + (int32_t)(rng_u64(5, STREAM_TEST, (uint64_t)count) %
                                          (uint64_t)(bpe_vocab(m->bpe) - 3));
        m->ids[count - 1] = END;
        m->ends[d] = (uint64_t)count;
    }
    m->text = (WindowText){m->ids, m->ends, count, DOCS, true, m->bpe};
}

// `n` tokens as a row of their own, which a document opens or not.
static double loss_alone(Run *run, const int32_t *ids, int n, bool starts) {
    int64_t pos[WINDOW];
    int first[WINDOW] = {0};
    uint8_t start[WINDOW] = {starts};
    for (int i = 0; i < n; i++) pos[i] = i;
    Batch b = {.seq = {.B = 1, .T = n, .pos = pos, .first = first, .start = start},
               .tokens = ids,
               .targets = ids + 1,
               .valid = n};
    tape_begin(run->tape, false);
    return tensor_item(model_loss(run->tape, &run->learner[0].model, &b, NULL));
}

// The slow and obvious way, on one rank: each document in pieces of a window, the targets before
// `count`.
static WindowSum truth(Run *run, const Made *m, int64_t count) {
    WindowSum sum = {0};
    int64_t begin = 0;
    for (int d = 0; d < DOCS; begin = (int64_t)m->ends[d++]) {
        int64_t end = (int64_t)m->ends[d] < count ? (int64_t)m->ends[d] : count;
        for (int64_t at = begin; at < end - 1; at += WINDOW) {
            int64_t left = end - 1 - at;
            sum.nats +=
                loss_alone(run, m->ids + at, left < WINDOW ? (int)left : WINDOW, at == begin);
        }
        for (int64_t i = begin + 1; i < end; i++) {
            size_t bytes;
            bpe_token(m->bpe, m->ids[i], &bytes);
            sum.tokens++;
            if (i + 1 < (int64_t)m->ends[d]) sum.bytes += (double)bytes;
        }
    }
    return sum;
}

static void model_on(Run *run, Rows *rows, const Mesh *mesh, bool llama) {
    run_on(run, rows, mesh, &(Setup){.tied = true, .llama = llama, .vocab = VOCAB});
}

// All of the text, and a text cut anywhere: in a document, before and behind an end.
enum { CUTS = 6 };
static const int64_t CUT[CUTS] = {MAX_TEXT, 4, 5, 7, 40, 333};
typedef struct Case {
    Made made;
    bool llama;
    WindowSum truth[CUTS];
} Case;

static int64_t cut_of(const Made *m, int i) {
    return CUT[i] < m->text.count ? CUT[i] : m->text.count;
}

static void truth_open(Case *c, const Mesh *mesh) {
    Rows *rows = calloc(1, sizeof *rows);
    Run *run = calloc(1, sizeof *run);
    Mesh alone = {.size = 1, .dp = 1, .sp = 1, .tp = 1, .node_size = 1};
    alone.world = alone.sp_axis = alone.tp_axis = alone.replicas = alone.team = mesh->tp_axis;
    model_on(run, rows, &alone, c->llama);
    for (int i = 0; i < CUTS; i++) c->truth[i] = truth(run, &c->made, cut_of(&c->made, i));
    run_end(run);
    free(run);
    free(rows);
}

// Memory is what a dry run of a whole window asks for.
static void check_grid(Mesh *grid, void *user) {
    Case *c = user;
    Rows *rows = calloc(1, sizeof *rows);
    Run *run = calloc(1, sizeof *run);
    Window w;
    model_on(run, rows, grid, c->llama);
    CHECK(window_open(&w, WINDOW, grid) == OK);
    Tape *tape = tape_new();
    Batch shape = window_shape(&w);
    tape_dry(tape, false);
    model_loss(tape, &run->learner[0].model, &shape, NULL);
    CHECK(tape_reserve(tape) == OK);
    for (int i = 0; i < CUTS; i++) {
        WindowText text = c->made.text;
        WindowSum sum = {0};
        text.count = cut_of(&c->made, i);
        window_losses(&w, &sum, tape, &run->learner[0].model, &text);
        double total[3] = {sum.nats, sum.tokens, sum.bytes};
        comm_sum_doubles(grid->world, total, 3);
        CHECK(total[1] == c->truth[i].tokens && total[2] == c->truth[i].bytes);
        CHECK(fabs(total[0] - c->truth[i].nats) <= LOSS_MOST * c->truth[i].nats);
    }
    tape_free(tape);
    window_close(&w);
    run_end(run);
    free(run);
    free(rows);
}

static void windows_run(const Mesh *mesh, bool llama) {
    Case *c = calloc(1, sizeof *c);
    c->llama = llama;
    made_open(&c->made);
    truth_open(c, mesh);
    each_grid(mesh, check_grid, c);
    bpe_close(c->made.bpe);
    free(c);
}
static void windows_are_documents_alone(const Mesh *mesh) {
    windows_run(mesh, false);
}
static void windows_are_documents_alone_in_a_llama(const Mesh *mesh) {
    windows_run(mesh, true);
}

const MpiCase CASES_WINDOWS[] = {
    {"windows_are_documents_alone", windows_are_documents_alone},
    {"windows_are_documents_alone_in_a_llama", windows_are_documents_alone_in_a_llama},
    {NULL, NULL},
};
