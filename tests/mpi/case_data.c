// Preparing a corpus on several ranks: the same bytes as on one, reuse, and failures that reach
// every rank.
#include "tests/mpi/case.h"

#include "data/data.h"
#include "parallel/mesh.h"
#include "tests/ref/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// --- a corpus of made-up text ---

typedef struct Place {  // of one case: the same on all ranks
    char dir[PATH_BYTES];
    DataConfig cfg;
} Place;

static void text_put(const char *dir, const char *name, const char *text) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    CHECK(file_write(path, text, strlen(text)) == OK);
}

// A text of `words` words that depends on the seed alone: a small language with frequent and rare
// words.
static char *text_make(unsigned seed, int words) {
    static const char *const syllables[] = {"ta",  "ri",  "mo", "sel", "en",
                                            "qua", "dor", "li", "us",  "pe"};
    char *text = malloc((size_t)words * 16 + 64), *at = text;
    uint64_t state = seed * 2654435761u + 12345;
    for (int w = 0; w < words; w++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        uint64_t word = (state >> 33) % 97 * ((state >> 45) % 13) % 61;  // uneven
        for (uint64_t s = 0; s <= word % 3; s++)
            at += sprintf(at, "%s", syllables[(word / 3 + s) % 10]);
        *at++ = w % 17 == 16 ? '\n' : ' ';
    }
    sprintf(at, "end of %u.", seed);
    return text;
}

static void files_make(const char *root) {
    char dir[PATH_BYTES], other[PATH_BYTES], name[64];
    path_join(dir, root, "plain");
    path_join(other, root, "more");
    CHECK(dir_make(dir) == OK && dir_make(other) == OK);
    for (unsigned i = 0; i < 23; i++) {
        char *text = text_make(i, 20 + (int)(i * 37 % 150));
        snprintf(name, sizeof name, "doc%02u.txt", i);
        text_put(dir, name, text);
        free(text);
    }
    for (unsigned i = 0; i < 5; i++) {
        char *text = text_make(100 + i, 60);
        snprintf(name, sizeof name, "held out %u.txt", i);
        text_put(i % 2 == 0 ? dir : other, name, text);
        free(text);
    }
    // Duplicates: in the same source, in another one, in another case and spacing, and of held-out
    // text.
    char *text = text_make(3, 20 + 3 * 37 % 150), *held = text_make(100, 60);
    text_put(dir, "zz_copy.txt", text);
    text_put(other, "copy.txt", text);
    for (char *c = text; *c != '\0'; c++) *c = *c == ' ' ? '\n' : *c == 'e' ? 'E' : *c;
    text_put(other, "loud.txt", text);
    text_put(other, "leak.txt", held);
    text_put(other, "only.txt", "A single short document that is like no other one.");
    text_put(other, "empty.txt", " \n\n");
    free(text);
    free(held);
}

static void place_open(Place *p, const Mesh *mesh) {
    memset(p, 0, sizeof *p);
    snprintf(p->dir, sizeof p->dir, "/tmp/sterna_case_XXXXXX");
    if (mesh->rank == 0) {
        CHECK(mkdtemp(p->dir) != NULL);
        files_make(p->dir);
    }
    comm_bcast(mesh->world, p->dir, sizeof p->dir, 0);
    DataConfig *cfg = &p->cfg;
    snprintf(cfg->cache, sizeof cfg->cache, "%.400s/cache", p->dir);
    snprintf(cfg->sources, sizeof cfg->sources, "%.200s/plain,%.200s/more", p->dir, p->dir);
    snprintf(cfg->holdout, sizeof cfg->holdout, "held out");
    cfg->vocab = 320;
    cfg->dedup = true;
    cfg->shard_tokens = 500;  // several shards of the first source
}

static void place_close(Place *p, const Mesh *mesh) {
    comm_barrier(mesh->world);
    if (mesh->rank == 0) CHECK(tree_remove(p->dir) == OK);
}

// --- comparing directories ---

typedef struct Compare {
    const char *a, *b;
    int files;
} Compare;

static Status compare_file(const char *name, void *user) {
    Compare *c = user;
    char path[PATH_BYTES], *x, *y;
    size_t n, m;
    path_join(path, c->a, name);
    TRY(file_read(path, &x, &n));
    path_join(path, c->b, name);
    TRY(file_read(path, &y, &m));
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    if (!same) FAIL(E_FORMAT, NULL, "%s differs: %zu and %zu bytes", name, n, m);
    c->files++;
    return OK;
}

static int compare_dirs(const char *a, const char *b) {
    Compare c = {.a = a, .b = b}, back = {.a = b, .b = a};
    Status st = dir_each(a, compare_file, &c);
    if (st == OK) st = dir_each(b, compare_file, &back);
    if (st != OK) fprintf(stderr, "%s\n", err_message());
    CHECK(st == OK && c.files == back.files);
    return c.files;
}

// This rank as a world of its own.
static Mesh mesh_alone(const Mesh *mesh) {
    CHECK(comm_size(mesh->tp_axis) == 1);
    Mesh alone = {.size = 1, .dp = 1, .sp = 1, .tp = 1, .node_size = 1};
    alone.world = alone.node = alone.team = alone.replicas = mesh->tp_axis;
    alone.sp_axis = alone.tp_axis = mesh->tp_axis;
    return alone;
}

// --- cases ---

static void report_check(const CorpusReport *r) {
    CHECK(r->count == 2 && !r->embedded_sample);
    CHECK(strcmp(r->source[0].name, "plain") == 0 && strcmp(r->source[1].name, "more") == 0);
    CHECK(r->source[0].docs == 23 && r->source[0].duplicates == 1);
    CHECK(r->source[1].docs == 1 && r->source[1].duplicates == 3);
    CHECK(r->source[0].held_out_docs == 3 && r->source[1].held_out_docs == 2);
    CHECK(r->holdout_bytes > 0 && r->holdout_tokens > 0 && r->holdout_tokens < r->holdout_bytes);
    CHECK(r->source[0].tokens > 500 && r->bytes_per_token > 1);
    CHECK(r->source[0].weight > 0.9 && r->source[0].weight < 1);
}

static void corpus_same_for_any_ranks(const Mesh *mesh) {
    Place p;
    CorpusReport report, alone_report;
    place_open(&p, mesh);
    if (mesh->rank == 0) {  // what a killed run left behind must not get into the corpus
        char junk[PATH_BYTES];
        path_join(junk, p.cfg.cache, "corpus.tmp");
        CHECK(dir_make(junk) == OK);
        text_put(junk, ".sterna-corpus", "");
        text_put(junk, "000-00077.tns", "half a shard");
    }
    Status st = corpus_prepare(&report, &p.cfg, mesh);
    if (st != OK) fprintf(stderr, "%s\n", err_message());
    CHECK(st == OK && !report.reused);
    report_check(&report);

    if (mesh->rank == mesh->size - 1) {  // which is not the rank that wrote the index
        DataConfig cfg = p.cfg;
        Mesh alone = mesh_alone(mesh);
        char a[PATH_BYTES], b[PATH_BYTES];
        snprintf(cfg.cache, sizeof cfg.cache, "%.400s/alone", p.dir);
        CHECK(corpus_prepare(&alone_report, &cfg, &alone) == OK);
        CHECK(memcmp(&report, &alone_report, sizeof report) == 0);
        path_join(a, p.cfg.cache, "corpus");
        path_join(b, cfg.cache, "corpus");
        CHECK(compare_dirs(a, b) >= 4 + 3);  // index, tokenizer, two of held-out text, shards

        Corpus *c;
        CHECK(corpus_open(&c, a) == OK);
        CHECK(corpus_vocab(c) <= 320);
        CHECK(corpus_holdout(c).ids != NULL);
        CHECK(corpus_holdout(c).tokens == report.holdout_tokens);
        corpus_close(c);
    }
    place_close(&p, mesh);
}

static void corpus_is_reused(const Mesh *mesh) {
    Place p;
    CorpusReport first, second;
    place_open(&p, mesh);
    CHECK(corpus_prepare(&first, &p.cfg, mesh) == OK);
    CHECK(corpus_prepare(&second, &p.cfg, mesh) == OK);
    CHECK(second.reused);
    second.reused = false;
    CHECK(memcmp(&first, &second, sizeof first) == 0);

    // Another mixture needs no new corpus, but has other weights.
    snprintf(p.cfg.mix, sizeof p.cfg.mix, "more=3,plain=1");
    CHECK(corpus_prepare(&second, &p.cfg, mesh) == OK);
    CHECK(second.reused && second.source[0].weight == 0.25 && second.source[1].weight == 0.75);
    p.cfg.mix[0] = '\0';

    // A damaged corpus, a changed file and a changed option each do.
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.400s/corpus/000-00001.tns", p.cfg.cache);
    if (mesh->rank == 0) CHECK(truncate(path, 700) == 0);
    CHECK(corpus_prepare(&second, &p.cfg, mesh) == OK && !second.reused);
    CHECK(memcmp(&first, &second, sizeof first) == 0);
    snprintf(path, sizeof path, "%.400s/plain", p.dir);
    if (mesh->rank == 0) text_put(path, "doc00.txt", "Quite another text now.");
    CHECK(corpus_prepare(&second, &p.cfg, mesh) == OK && !second.reused);
    CHECK(second.source[0].bytes != first.source[0].bytes);
    p.cfg.dedup = false;
    CHECK(corpus_prepare(&second, &p.cfg, mesh) == OK && !second.reused);
    CHECK(second.source[0].duplicates == 0 && second.source[0].docs == 24);
    place_close(&p, mesh);
}

// With the tokenizer of another corpus: the same tokens without training one.
static void corpus_takes_a_tokenizer(const Mesh *mesh) {
    Place p;
    CorpusReport first, second;
    place_open(&p, mesh);
    CHECK(corpus_prepare(&first, &p.cfg, mesh) == OK);
    snprintf(p.cfg.tokenizer, sizeof p.cfg.tokenizer, "%.400s/corpus/tokenizer.json", p.cfg.cache);
    snprintf(p.cfg.cache, sizeof p.cfg.cache, "%.400s/second", p.dir);
    CHECK(corpus_prepare(&second, &p.cfg, mesh) == OK && !second.reused);
    CHECK(memcmp(&first, &second, sizeof first) == 0);
    place_close(&p, mesh);
}

// Text whose titles have nothing to do with data.holdout is still evaluated on something.
static void corpus_holds_out_by_size(const Mesh *mesh) {
    Place p;
    CorpusReport r;
    place_open(&p, mesh);
    snprintf(p.cfg.holdout, sizeof p.cfg.holdout, "Persuasion");
    CHECK(corpus_prepare(&r, &p.cfg, mesh) == OK);
    int64_t held = r.source[0].held_out_docs + r.source[1].held_out_docs;
    CHECK(held >= 1 && held <= 3 && r.holdout_tokens > 0);
    p.cfg.holdout[0] = '\0';
    CHECK(corpus_prepare(&r, &p.cfg, mesh) == OK);
    CHECK(r.source[0].held_out_docs + r.source[1].held_out_docs == 0 && r.holdout_tokens == 0);
    place_close(&p, mesh);
}

// What only the last rank is told must stop all, with its words, and leave no corpus behind.
static void check_failure(const Mesh *mesh, const DataConfig *cfg, Status expected,
                          const char *word) {
    CorpusReport r;
    err_clear();
    Status st = corpus_prepare(&r, cfg, mesh);
    if (st != expected || strstr(err_message(), word) == NULL)
        fprintf(stderr, "status %s: %s\n", status_name(st), err_message());
    CHECK(st == expected);
    CHECK(strstr(err_message(), word) != NULL);
    char path[PATH_BYTES];
    path_join(path, cfg->cache, "corpus");
    CHECK(!path_exists(path));
    comm_barrier(mesh->world);
}

static void corpus_failure_reaches_all_ranks(const Mesh *mesh) {
    Place p;
    place_open(&p, mesh);
    DataConfig cfg = p.cfg;
    bool last = mesh->rank == mesh->size - 1;
    if (last) snprintf(cfg.sources, sizeof cfg.sources, "%.200s/plain,%.200s/gone", p.dir, p.dir);
    check_failure(mesh, &cfg, E_IO, "gone");

    cfg = p.cfg;
    if (last) snprintf(cfg.sources, sizeof cfg.sources, "austin");
    check_failure(mesh, &cfg, E_USAGE, "austin");

    cfg = p.cfg;
    if (last) snprintf(cfg.mix, sizeof cfg.mix, "poetry=1");
    check_failure(mesh, &cfg, E_USAGE, "poetry");

    cfg = p.cfg;
    snprintf(cfg.tokenizer, sizeof cfg.tokenizer, "%.400s/plain/doc01.txt", p.dir);
    check_failure(mesh, &cfg, E_FORMAT, "doc01.txt");

    cfg = p.cfg;
    snprintf(cfg.sources, sizeof cfg.sources, "%.400s/more/empty.txt", p.dir);
    check_failure(mesh, &cfg, E_USAGE, "no documents");
    place_close(&p, mesh);
}

// The text in the program is enough for a whole corpus, without network or cache.
static void corpus_from_embedded_sample(const Mesh *mesh) {
    Place p;
    CorpusReport r;
    place_open(&p, mesh);
    snprintf(p.cfg.sources, sizeof p.cfg.sources, "austen,kjv,pod,rst,foldoc,jargon,devil,history");
    snprintf(p.cfg.holdout, sizeof p.cfg.holdout, "Persuasion");
    snprintf(p.cfg.mix, sizeof p.cfg.mix, "austen=3,kjv=1,pod=4");
    p.cfg.offline = true;
    CHECK(corpus_prepare(&r, &p.cfg, mesh) == OK);
    CHECK(r.count == 8 && r.source[0].tokens > 0 && r.holdout_tokens > 0);
    CHECK(r.source[0].weight == 0.75 && r.source[2].weight == 0);  // pod has no built-in text
    place_close(&p, mesh);
}

const MpiCase CASES_DATA[] = {
    {"corpus_same_for_any_ranks", corpus_same_for_any_ranks},
    {"corpus_is_reused", corpus_is_reused},
    {"corpus_takes_a_tokenizer", corpus_takes_a_tokenizer},
    {"corpus_holds_out_by_size", corpus_holds_out_by_size},
    {"corpus_failure_reaches_all_ranks", corpus_failure_reaches_all_ranks},
    {"corpus_from_embedded_sample", corpus_from_embedded_sample},
    {NULL, NULL},
};
