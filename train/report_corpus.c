// The report's table of the corpus, and what was left out of it.
#include <math.h>
#include <string.h>

#include "train/report_internal.h"

static void html_string(FILE *out, const char *text) {
    html__text(out, text, strlen(text));
}

static void write_count_cell(FILE *out, int64_t v) {
    char text[NUMBER_BYTES];
    number__count(text, v);
    fprintf(out, "<td>%s</td>", text);
}

static void write_source(FILE *out, const ReportSource *s) {
    fputs("<tr><td>", out);
    html_string(out, s->name);
    fputs("</td>", out);
    write_count_cell(out, s->docs);
    write_count_cell(out, s->duplicates);
    write_count_cell(out, s->held_out_docs);
    fprintf(out, "<td>%.2f</td>", s->bytes < 0 ? 0 : (double)s->bytes / 1e6);
    write_count_cell(out, s->tokens);
    fprintf(out, "<td>%.2f</td>", s->tokens > 0 ? (double)s->bytes / (double)s->tokens : 0);
    if (isfinite(s->weight)) {
        fprintf(out, "<td>%.1f %%</td></tr>\n", 100 * s->weight);
    } else {
        fputs("<td>-</td></tr>\n", out);
    }
}

static void add_to_total(ReportSource *sum, const ReportSource *s) {
    if (s->docs > 0) sum->docs += s->docs;
    if (s->bytes > 0) sum->bytes += s->bytes;
    if (s->tokens > 0) sum->tokens += s->tokens;
    if (s->duplicates > 0) sum->duplicates += s->duplicates;
    if (s->held_out_docs > 0) sum->held_out_docs += s->held_out_docs;
    if (isfinite(s->weight)) sum->weight += s->weight;
}

static void write_cleaned(FILE *out, const ReportSource *s) {
    char text[CLEANING_TEXT_BYTES];
    if (!cleaning_text(text, &s->cleaned)) return;
    fputs("<p class=note>", out);
    html_string(out, s->name);
    fputs(": ", out);
    html_string(out, text);
    fputs(".</p>\n", out);
}

void report__write_corpus(FILE *out, const Report *r) {
    char tokens[NUMBER_BYTES];
    if (r->source_count == 0) return;
    ReportSource sum = {.name = "all"};
    fputs("<h2>Corpus</h2>\n<div class='card scroll'><table>\n<thead><tr><th>source<th>documents"
          "<th>duplicates<th>held out<th>MB<th>tokens<th>bytes/token<th>share of batches</tr>"
          "</thead>\n<tbody>\n",
          out);
    for (int i = 0; i < r->source_count; i++) {
        write_source(out, &r->source[i]);
        add_to_total(&sum, &r->source[i]);
    }
    fputs("</tbody>\n<tfoot>", out);
    write_source(out, &sum);
    fputs("</tfoot></table></div>\n", out);
    for (int i = 0; i < r->source_count; i++) write_cleaned(out, &r->source[i]);
    if (r->holdout_tokens >= 0 && r->holdout_bytes >= 0) {
        number__count(tokens, r->holdout_tokens);
        fprintf(out, "<p class=note>Held-out text: %.2f MB, %s tokens.</p>\n",
                (double)r->holdout_bytes / 1e6, tokens);
    }
    if (r->embedded_sample) {
        fputs("<p class=note>The packages could not be reached: this is the sample text that "
              "comes with the program.</p>\n",
              out);
    }
}
