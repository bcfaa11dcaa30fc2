// Batches: what each row holds, that every split of the work sees the same rows, and that a restart
// goes on exactly.
#include "base/split.h"
#include "tests/data/made_corpus.h"
#include "tests/ref/tree.h"

enum { SEED = 77 };

// Odd lengths, a document of its end alone, borders of shards inside rows, a source shorter than a
// row.
static const MadeSource SOURCES[] = {
    {"long", {31, 1, 17, 64, 5, 90, 2, 33}, 3},
    {"middle", {12, 12, 40}, 1},
    {"tiny", {3, 4}, 2},
};
enum { COUNT = 3 };

typedef struct Fixture {
    char dir[PATH_BYTES];
    Corpus *corpus;
    Loader *loader;
    int T;
} Fixture;

static void fixture_open(Fixture *f, const char *mix, int T) {
    made_corpus(f->dir, SOURCES, COUNT);
    cr_assert_eq(corpus_open(&f->corpus, f->dir), OK, "%s", err_message());
    cr_assert_eq(loader_open(&f->loader, f->corpus, mix, T, SEED, 1, 0), OK, "%s", err_message());
    f->T = T;
}

static void fixture_close(Fixture *f) {
    loader_close(f->loader);
    corpus_close(f->corpus);
    cr_assert_eq(tree_remove(f->dir), OK);
}

// --- the stream, the slow and obvious way ---

typedef struct Naive {
    int32_t tokens[512];
    bool last[512];
    int count;
} Naive;

static void naive_stream(Naive *n, int source) {
    n->count = 0;
    for (int d = 0; d < 12 && SOURCES[source].lengths[d] > 0; d++) {
        for (int i = 0; i < SOURCES[source].lengths[d]; i++, n->count++) {
            n->tokens[n->count] = MADE_FIRST + source * MADE_STRIDE + n->count;
            n->last[n->count] = false;
        }
        n->tokens[n->count - 1] = MADE_EOD;
        n->last[n->count - 1] = true;
    }
}

// Source and place of a row, from its first token that is not an end.
static int row_source(const int32_t *row, int T, int *begin) {
    for (int t = 0; t < T; t++) {
        if (row[t] == MADE_EOD) continue;
        int source = (row[t] - MADE_FIRST) / MADE_STRIDE;
        int total = made_total(&SOURCES[source]);
        *begin = ((row[t] - MADE_FIRST) % MADE_STRIDE - t % total + total) % total;
        return source;
    }
    return -1;
}

static void check_row(const Batch *b, int row, int64_t *valid) {
    int T = b->seq.T, begin = 0;
    const size_t at = (size_t)row * (size_t)T;
    int source = row_source(b->tokens + at, T, &begin);
    cr_assert_geq(source, 0);
    Naive n;
    naive_stream(&n, source);
    int first = 0;
    for (int t = 0; t < T; t++) {
        int p = (begin + t) % n.count, before = (p + n.count - 1) % n.count;
        bool starts = n.last[before];
        if (starts) first = t;
        bool ignored = n.last[p] || t >= n.count;
        cr_assert_eq(b->tokens[at + (size_t)t], n.tokens[p]);
        cr_assert_eq(b->seq.start[at + (size_t)t], starts);
        cr_assert_eq(b->seq.first[at + (size_t)t], first);
        cr_assert_eq(b->seq.pos[at + (size_t)t], t - first);
        cr_assert_eq(b->targets[at + (size_t)t],
                     ignored ? IGNORE_TARGET : n.tokens[(p + 1) % n.count]);
        *valid += !ignored;
    }
}

static void check_rows(const char *mix, int T, int rows) {
    Fixture f;
    fixture_open(&f, mix, T);
    for (int step = 0; step < 20; step++) {
        Batch b;
        cr_assert_eq(loader_rows(f.loader, &b, 0, rows), OK);
        cr_assert(b.seq.B == rows && b.seq.T == T);
        int64_t valid = 0;
        for (int r = 0; r < rows; r++) check_row(&b, r, &valid);
        cr_assert_eq(b.valid, valid);
        loader_advance(f.loader, rows);
    }
    fixture_close(&f);
}

Test(loader, rows_targets_and_document_starts_are_right) {
    check_rows("", 16, 3);
    check_rows("", 7, 1);
    check_rows("", 3, 5);
    check_rows("middle=1", 64, 2);
}

Test(loader, a_source_shorter_than_a_row_repeats_with_ignored_targets) {
    check_rows("tiny=1", 20, 3);
    check_rows("tiny=1", 8, 2);
    check_rows("tiny=1", 7, 2);
}

Test(loader, no_rows_make_an_empty_batch) {
    Fixture f;
    fixture_open(&f, NULL, 8);
    Batch b;
    cr_assert_eq(loader_rows(f.loader, &b, 5, 0), OK);
    cr_assert(b.seq.B == 0 && b.seq.T == 8 && b.valid == 0);
    fixture_close(&f);
}

// --- epochs ---

Test(loader, an_epoch_uses_every_token_at_most_once_and_cuts_move) {
    enum { T = 8, EPOCHS = 6 };
    Fixture f;
    fixture_open(&f, "long=1", T);
    int total = made_total(&SOURCES[0]), samples = total / T, cuts[EPOCHS], moved = 0;
    for (int e = 0; e < EPOCHS; e++) {
        bool used[512] = {false};
        cr_assert_float_eq(loader_epochs(f.loader, 0), e, 1e-12);
        for (int s = 0; s < samples; s++) {
            Batch b;
            cr_assert_eq(loader_rows(f.loader, &b, 0, 1), OK);
            int begin = 0;
            cr_assert_eq(row_source(b.tokens, T, &begin), 0);
            for (int t = 0; t < T; t++) {
                int p = (begin + t) % total;
                cr_assert_not(used[p], "epoch %d: token %d twice", e, p);
                used[p] = true;
            }
            loader_advance(f.loader, 1);
            if (s == 0) cuts[e] = begin % T;
        }
        moved += e > 0 && cuts[e] != cuts[e - 1];
    }
    cr_assert_gt(moved, 0);
    fixture_close(&f);
}

// --- splits and restarts ---

enum { LOG_T = 8, LOG_BATCH = 12, LOG_STEPS = 9 };
typedef struct Log {
    int32_t tokens[LOG_STEPS][LOG_BATCH][LOG_T], targets[LOG_STEPS][LOG_BATCH][LOG_T];
} Log;

static void log_rows(Log *log, Loader *l, int step, int row, int rows) {
    Batch b;
    cr_assert_eq(loader_rows(l, &b, row, rows), OK);
    memcpy(log->tokens[step][row], b.tokens, (size_t)rows * LOG_T * sizeof *b.tokens);
    memcpy(log->targets[step][row], b.targets, (size_t)rows * LOG_T * sizeof *b.targets);
}

// One loader a rank, each reads its contiguous slice in micro-batches; the last ranks first, to be
// unkind.
static void log_ranks(Log *log, const Fixture *f, int ranks, int micro) {
    memset(log, 0, sizeof *log);
    for (int r = ranks - 1; r >= 0; r--) {
        Loader *l;
        cr_assert_eq(loader_open(&l, f->corpus, NULL, LOG_T, SEED, 1, 0), OK);
        int begin = (int)split_begin(LOG_BATCH, ranks, r),
            end = (int)split_begin(LOG_BATCH, ranks, r + 1);
        for (int step = 0; step < LOG_STEPS; step++) {
            for (int row = begin; row < end; row += micro)
                log_rows(log, l, step, row, end - row < micro ? end - row : micro);
            loader_advance(l, LOG_BATCH);
        }
        loader_close(l);
    }
}

Test(loader, any_split_over_ranks_and_micro_batches_reads_the_same_rows) {
    static Log whole, split;
    Fixture f;
    fixture_open(&f, NULL, LOG_T);
    log_ranks(&whole, &f, 1, LOG_BATCH);
    for (int ranks = 1; ranks <= 13; ranks++) {
        for (int micro = 1; micro <= 5; micro += 2) {
            log_ranks(&split, &f, ranks, micro);
            cr_assert_eq(memcmp(&whole, &split, sizeof whole), 0, "%d ranks, %d rows", ranks,
                         micro);
        }
    }
    fixture_close(&f);
}

Test(loader, order_of_calls_within_a_step_does_not_matter) {
    static Log whole, back;
    Fixture f;
    fixture_open(&f, NULL, LOG_T);
    log_ranks(&whole, &f, 1, LOG_BATCH);
    memset(&back, 0, sizeof back);
    for (int step = 0; step < LOG_STEPS; step++) {
        for (int row = LOG_BATCH - 1; row >= 0; row--) log_rows(&back, f.loader, step, row, 1);
        loader_advance(f.loader, LOG_BATCH);
    }
    cr_assert_eq(memcmp(&whole, &back, sizeof whole), 0);
    fixture_close(&f);
}

Test(loader, a_restart_at_any_step_goes_on_exactly) {
    static Log whole, again;
    Fixture f;
    fixture_open(&f, NULL, LOG_T);
    log_ranks(&whole, &f, 1, LOG_BATCH);
    for (int stop = 0; stop <= LOG_STEPS; stop++) {
        again = whole;
        LoaderState st;
        Loader *l;
        cr_assert_eq(loader_open(&l, f.corpus, NULL, LOG_T, SEED, 1, 0), OK);
        for (int step = 0; step < stop; step++) loader_advance(l, LOG_BATCH);
        loader_state(l, &st);
        loader_close(l);
        cr_assert_eq(st.samples, stop * LOG_BATCH);

        cr_assert_eq(loader_open(&l, f.corpus, NULL, LOG_T, SEED, 1, 0), OK);
        cr_assert_eq(loader_restore(l, &st), OK, "%s", err_message());
        for (int step = stop; step < LOG_STEPS; step++) {
            memset(again.tokens[step], 0, sizeof again.tokens[step]);
            memset(again.targets[step], 0, sizeof again.targets[step]);
            log_rows(&again, l, step, 0, LOG_BATCH);
            loader_advance(l, LOG_BATCH);
        }
        loader_close(l);
        cr_assert_eq(memcmp(&whole, &again, sizeof whole), 0, "stop after %d", stop);
    }
    fixture_close(&f);
}

Test(loader, a_batch_of_another_size_consumes_the_same_samples) {
    Fixture f;
    fixture_open(&f, NULL, LOG_T);
    LoaderState a, b;
    for (int i = 0; i < 7; i++) loader_advance(f.loader, 6);
    loader_state(f.loader, &a);
    cr_assert_eq(loader_restore(f.loader, &(LoaderState){0}), OK);
    for (int i = 0; i < 6; i++) loader_advance(f.loader, 7);
    loader_state(f.loader, &b);
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    fixture_close(&f);
}

Test(loader, a_position_that_cannot_be_is_refused) {
    Fixture f;
    fixture_open(&f, "long=1,tiny=1", 8);
    LoaderState bad[] = {
        {.samples = -1},
        {.samples = 5},
        {.samples = 5, .per_source = {3, 0, 1}},
        {.samples = 5, .per_source = {6, 0, -1}},
        {.samples = 5, .per_source = {4, 1}},        // a source without weight
        {.samples = 5, .per_source = {4, 0, 0, 1}},  // a source that is not there
        {.samples = INT64_MAX, .per_source = {INT64_MAX, 0, INT64_MAX}},
        {.samples = INT64_MAX, .per_source = {INT64_MAX - 1, 0, 1}},  // adds up
        {.samples = 1LL << 52, .per_source = {1LL << 51, 0, 1LL << 51}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(loader_restore(f.loader, &bad[i]), E_FORMAT, "case %zu", i);
    LoaderState st;
    loader_state(f.loader, &st);
    cr_assert_eq(st.samples, 0, "a refused position changes nothing");

    // The last one that can be: what follows it is served.
    LoaderState last = {.samples = (1LL << 52) - 1, .per_source = {1LL << 51, 0, (1LL << 51) - 1}};
    Batch batch;
    cr_assert_eq(loader_restore(f.loader, &last), OK, "%s", err_message());
    cr_assert_eq(loader_rows(f.loader, &batch, 0, 5), OK);
    loader_advance(f.loader, 5);
    loader_state(f.loader, &st);
    cr_assert_eq(st.samples, last.samples + 5);
    fixture_close(&f);
}

// The source's shards in this corpus, one by one; what is done to them.
static Status rows_after(const char *how) {
    Fixture f;
    Batch batch;
    char path[PATH_BYTES], command[2 * PATH_BYTES];
    fixture_open(&f, "long=1", 8);
    cr_assert_eq(loader_rows(f.loader, &batch, 0, 40), OK, "%s", err_message());
    index__shard_path(path, f.dir, 0, 1);
    snprintf(command, sizeof command, how, path);
    cr_assert_eq(system(command), 0);
    Status st = loader_rows(f.loader, &batch, 0, 40);
    cr_assert(st == OK || strstr(err_message(), "000-00001.tns") != NULL, "%s", err_message());
    fixture_close(&f);
    return st;
}

Test(loader, a_shard_that_is_changed_while_in_use_is_an_io_error) {
    cr_assert_eq(rows_after("truncate -s 600 '%s'"), E_IO);
    cr_assert_eq(rows_after("truncate -s -1 '%s'"), E_IO);
    cr_assert_eq(
        rows_after("sleep 0.02; printf x | dd of='%s' bs=1 seek=520 conv=notrunc 2>/dev/null"),
        E_IO);
}

Test(loader, a_shard_that_was_replaced_removed_or_touched_is_still_served) {
    cr_assert_eq(rows_after("rm '%s'"), OK, "%s", err_message());
    cr_assert_eq(rows_after("touch -d 2001-01-01 '%s'"), OK, "%s", err_message());
    cr_assert_eq(rows_after("f='%s' && cp $f $f.y && printf y >>$f.y && mv $f.y $f"), OK);
}

Test(loader, weights_decide_what_is_read) {
    Fixture f;
    fixture_open(&f, "middle=3,tiny=1", 8);
    LoaderState st;
    loader_advance(f.loader, 400);
    loader_state(f.loader, &st);
    cr_assert(st.per_source[0] == 0 && st.per_source[1] == 300 && st.per_source[2] == 100);
    cr_assert_eq(loader_source_count(f.loader), COUNT);
    cr_assert_str_eq(loader_source_name(f.loader, 2), "tiny");
    Loader *l;
    cr_assert_eq(loader_open(&l, f.corpus, "short=1", 8, SEED, 1, 0), E_USAGE);
    cr_assert_null(l);
    fixture_close(&f);
}

// --- rows shared by sequence parallelism ---

// The chunk of rank `rank` of `sp` is the rows' own part, documents and positions included.
static void check_chunks(Fixture *f, int sp, int rank, int64_t *valid) {
    enum { ROWS = 3 };
    Loader *l;
    Batch whole, part;
    cr_assert_eq(loader_open(&l, f->corpus, NULL, f->T, SEED, sp, rank), OK);
    cr_assert_eq(loader_rows(f->loader, &whole, 2, ROWS), OK);
    cr_assert_eq(loader_rows(l, &part, 2, ROWS), OK);
    int begin = (int)split_begin((size_t)f->T, sp, rank);
    cr_assert(part.seq.B == ROWS && part.seq.T == (int)split_count((size_t)f->T, sp, rank));
    cr_assert(part.seq.bound[rank] == begin && part.seq.bound[sp] == f->T);
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < part.seq.T; t++) {
            int a = r * part.seq.T + t, b = r * f->T + begin + t;
            cr_assert(part.tokens[a] == whole.tokens[b] && part.targets[a] == whole.targets[b]);
            cr_assert(part.seq.pos[a] == whole.seq.pos[b]);
            cr_assert(part.seq.first[a] == whole.seq.first[b]);
            cr_assert(part.seq.start[a] == whole.seq.start[b]);
        }
        int d = part.seq.doc_row[r];
        for (int t = 0; t < f->T; t++) {
            if (whole.seq.start[r * f->T + t]) cr_assert_eq(part.seq.doc[d++], t);
        }
        cr_assert_eq(d, part.seq.doc_row[r + 1]);
    }
    *valid -= part.valid;
    if (rank == 0) *valid += whole.valid;
    loader_close(l);
}

Test(loader, serves_chunks_of_rows) {
    for (int T = 3; T <= 1100;
         T = 3 * T + 2) {  // from less than sp tokens to more than one look-ahead
        Fixture f;
        fixture_open(&f, NULL, T);
        for (int sp = 2; sp <= 5; sp++) {
            int64_t valid = 0;
            for (int rank = 0; rank < sp; rank++) check_chunks(&f, sp, rank, &valid);
            cr_assert_eq(valid, 0, "T %d sp %d", T, sp);
        }
        fixture_close(&f);
    }
}
