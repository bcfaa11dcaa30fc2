// sterna data: prepares a corpus, checks one, lists the sources there are.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/sources/sources.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "parallel/world.h"
#include "train/commands.h"
#include "train/start.h"

static const char USAGE[] = "sterna data run [CONFIG.yaml] [data.key=value ...] | "
                            "sterna data verify DIR | sterna data sources";

void help_data(void) {
    puts(
        "usage: [mpirun -n RANKS] sterna data run [CONFIG.yaml] [data.key=value ...]\n"
        "       sterna data verify DIR      checks every checksum of a corpus (data.cache/corpus)\n"
        "       sterna data sources         lists the named sources\n\n"
        "run fetches, cleans, deduplicates, tokenizes and packs the sources into data.cache, and "
        "skips what is\n"
        "there and valid. `sterna train` does the same by itself.\n");
    Section data = {DATA_FIELDS, DATA_FIELD_COUNT, NULL};
    config_help(&data, 1, HELP_TEXT, stdout);
}

// ---- run ---------------------------------------------------------------------------------------

static double megabytes(int64_t bytes) {
    return (double)bytes / 1e6;
}

static void print_row(const SourceReport *s) {
    double ratio = s->tokens > 0 ? (double)s->bytes / (double)s->tokens : 0;
    print_result("%-16s %8lld %10lld %9lld %9.2f %12lld %11.3f %7.3f\n", s->name,
                 (long long)s->docs, (long long)s->duplicates, (long long)s->held_out_docs,
                 megabytes(s->bytes), (long long)s->tokens, ratio, s->weight);
}

static void print_cleaned(const SourceReport *s) {
    char text[CLEANING_TEXT_BYTES];
    if (cleaning_text(text, &s->cleaned)) print_result("%s: %s\n", s->name, text);
}

static void print_report(const CorpusReport *r, const char *cache) {
    SourceReport sum = {.name = "total"};
    printf("%-16s %8s %10s %9s %9s %12s %11s %7s\n", "source", "docs", "duplicates", "held out",
           "MB", "tokens", "bytes/token", "weight");
    for (int i = 0; i < r->count; i++) {
        const SourceReport *s = &r->source[i];
        print_row(s);
        sum.docs += s->docs;
        sum.duplicates += s->duplicates;
        sum.held_out_docs += s->held_out_docs;
        sum.bytes += s->bytes;
        sum.tokens += s->tokens;
        sum.weight += s->weight;
    }
    print_row(&sum);
    for (int i = 0; i < r->count; i++) print_cleaned(&r->source[i]);
    printf("held-out text: %.2f MB, %lld tokens\n", megabytes(r->holdout_bytes),
           (long long)r->holdout_tokens);
    print_result("corpus: %s/corpus%s%s\n", cache, r->reused ? " (as it was)" : "",
                 r->embedded_sample ? " (only the sample text in the program)" : "");
}

static Status read_config(Config *c, const Arguments *a) {
    if (a->word_count > 2) FAIL(E_USAGE, USAGE, "more than one configuration file");
    if (a->word_count == 2) TRY(config_read_file(c, a->words[1]));
    for (int i = 0; i < a->setting_count; i++) TRY(config_set(c, a->settings[i], "command line"));
    return OK;
}

// Collective(world). A whole training configuration is accepted; its data section matters, and the
// model it starts from.
static Status data_run(const Arguments *a) {
    RunConfig *cfg = calloc(1, sizeof *cfg);
    CorpusReport *report = calloc(1, sizeof *report);
    ASSERT(cfg != NULL && report != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Mesh mesh = {0};
    Status st = OK;
    TRY_GOTO(parallel_agree_config(read_config(c, a), c));
    TRY_GOTO(mesh_open(&mesh, &(ParallelConfig){.dp = 0, .sp = 1, .tp = 1}));
    st = start_take(cfg, c, &mesh);
    if (st == OK) st = corpus_prepare(report, &cfg->data, &mesh);
    if (st == OK && mesh.rank == 0) print_report(report, cfg->data.cache);
    mesh_close(&mesh);
done:
    config_free(c);
    free(report);
    free(cfg);
    return st;
}

// ---- verify, sources ---------------------------------------------------------------------------

static Status data_verify(const Arguments *a) {
    if (a->word_count != 2) FAIL(E_USAGE, USAGE, "`data verify` takes one directory");
    Corpus *c = NULL;
    TRY(corpus_open(&c, a->words[1]));
    char hash[33];
    Holdout held = corpus_holdout(c);
    hash128_hex(hash, corpus_hash(c));
    print_result("%s: valid\nvocabulary  %d\nheld out    %lld tokens, %lld bytes\nhash        %s\n",
                 a->words[1], corpus_vocab(c), (long long)held.tokens, (long long)held.bytes, hash);
    corpus_close(c);
    return OK;
}

static Status data_sources(const Arguments *a) {
    if (a->word_count != 1) FAIL(E_USAGE, USAGE, "unexpected word `%s`", a->words[1]);
    int count;
    const Source *s = source_table(&count);
    printf("%-10s  %-26s %-20s %s\n", "source", "package", "licence", "text");
    for (int i = 0; i < count; i++) {
        printf("%-10s  %-26s %-20s %s\n", s[i].name, s[i].package, s[i].licence, s[i].description);
    }
    return OK;
}

Status cmd_data(int argc, char **argv) {
    // The launcher's library comes first where ranks may work together.
    bool together = argc > 1 && strcmp(argv[1], "run") == 0;
    if (together) TRY(parallel_begin(&argc, &argv));
    Arguments a;
    Status st = arguments_parse(&a, argc, argv, NULL, 0);
    if (together) {
        TRY(parallel_agree(st));
        return data_run(&a);
    }
    TRY(st);
    TRY(parallel_check_single("data"));
    TRY(arguments_no_settings(&a, "data verify` and `data sources"));
    if (a.word_count == 0) FAIL(E_USAGE, USAGE, "`data` needs run, verify or sources");
    if (strcmp(a.words[0], "verify") == 0) return data_verify(&a);
    if (strcmp(a.words[0], "sources") == 0) return data_sources(&a);
    FAIL(E_USAGE, USAGE, "unknown action `%s` of data", a.words[0]);
}
