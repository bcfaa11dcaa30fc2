// sterna report: writes report.html of a run directory and prints its closing table.
#include <stdio.h>

#include "base/log.h"
#include "train/commands.h"
#include "train/report_internal.h"

void help_report(void) {
    puts("usage: sterna report RUN_DIR\n\n"
         "Writes RUN_DIR/report.html, a page that needs nothing else, and prints a summary. Works "
         "on a run that\n"
         "is still going on or was interrupted; what is missing is said in the page.");
}

// Missing pieces are told by a dash.
static void print_source(const ReportSource *s) {
    char tokens[NUMBER_BYTES];
    number__count(tokens, s->tokens);
    double ratio = s->tokens > 0 ? (double)s->bytes / (double)s->tokens : 0;
    print_result("%-16s %9.2f %14s %11.3f %7.3f\n", s->name,
                 s->bytes < 0 ? 0 : (double)s->bytes / 1e6, tokens, ratio, s->weight);
}

static void print_corpus(const Report *r) {
    if (r->source_count == 0) return;
    printf("%-16s %9s %14s %11s %7s\n", "source", "MB", "tokens", "bytes/token", "weight");
    for (int i = 0; i < r->source_count; i++) print_source(&r->source[i]);
    putchar('\n');
}

static void print_bits(const Report *r) {
    if (r->bits.count == 0) return;
    printf("held-out bits/byte%s\n", r->is_final ? "" : " (so far)");
    int i = 0;
    // The model takes its place among the compressors, which come best first.
    for (; i < r->compressor_count && r->compressor[i].value < r->bits_per_byte; i++) {
        print_result("  %-24s %8.4f\n", r->compressor[i].name, r->compressor[i].value);
    }
    printf("  %-24s %8.4f  <-\n", "this model", r->bits_per_byte);
    for (; i < r->compressor_count; i++) {
        print_result("  %-24s %8.4f\n", r->compressor[i].name, r->compressor[i].value);
    }
}

static void print_summary(const Report *r, const char *path) {
    char text[NUMBER_BYTES];
    print_corpus(r);
    number__count(text, r->parameters);
    printf("%-26s %s\n", "parameters", text);
    if (r->bytes_per_token > 0) printf("%-26s %.3f\n", "bytes/token", r->bytes_per_token);
    number__count(text, r->steps);
    printf("%-26s %s", "steps", text);
    number__count(text, r->planned_steps);
    if (r->planned_steps > r->steps) printf(" of %s", text);
    number__count(text, r->tokens_seen);
    printf("\n%-26s %s\n", "tokens", text);
    if (r->tokens_per_s > 0) printf("%-26s %.0f\n", "tokens/s, mean", r->tokens_per_s);
    print_bits(r);
    if (r->torn_lines > 0) {
        number__count(text, r->torn_lines);
        printf("%-26s %s\n", "lines not readable", text);
    }
    if (r->unreadable[0] != '\0') print_result("%-26s %s\n", "files not readable", r->unreadable);
    print_result("%-26s %s\n", "report", path);
}

Status cmd_report(int argc, char **argv) {
    Arguments a;
    TRY(arguments_parse(&a, argc, argv, NULL, 0));
    if (a.word_count != 1 || a.setting_count > 0) {
        FAIL(E_USAGE, "sterna report RUN_DIR", "needs one run directory");
    }
    Report r;
    char path[PATH_BYTES];
    TRY(report__read(&r, a.words[0]));
    Status st = report__write_page(&r, path);
    if (st == OK) print_summary(&r, path);
    report__free(&r);
    return st;
}
