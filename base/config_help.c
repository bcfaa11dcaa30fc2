// The tables of options as people read them: on a terminal, in the reference, in the manual page.
#include "base/internal.h"

#include <string.h>

// Columns of the terminal's table grow with their content up to these widths.
enum { KEY_WIDTH = 32, DEFAULT_WIDTH = 14, RANGE_WIDTH = 30 };

// The default as it would be typed.
static const char *default_of(const Field *f) {
    return f->initial[0] == '\0' && f->type == CFG_TEXT ? "\"\"" : f->initial;
}

// The width of a column that also holds `text`. A text beyond `most` overflows its line instead of
// widening all the others.
static int wider(int width, const char *text, int most) {
    int n = (int)strlen(text);
    return n > width ? (n < most ? n : most) : width;
}

// Options are shown in groups: those that share the first part of their key ("model").
// A walk over all rows in the order of the tables: starts with i = -1, rows_next leads on.
typedef struct Rows {
    int s, i;
    const Field *field;
    bool first;  // of its group
} Rows;

// Length of the group's name at the start of a key.
static size_t group_bytes(const char *key) {
    return strcspn(key, ".");
}

static bool rows_next(Rows *r, const Section *sections, int count) {
    r->i++;
    while (r->s < count && r->i >= sections[r->s].count) r->s++, r->i = 0;
    if (r->s >= count) return false;
    const Field *f = &sections[r->s].fields[r->i];
    size_t n = group_bytes(f->key);
    r->first = r->field == NULL || group_bytes(r->field->key) != n ||
               strncmp(r->field->key, f->key, n) != 0;
    r->field = f;
    return true;
}

// Two passes: the first only measures the columns.
static void help_text(const Section *sections, int count, FILE *out) {
    int key = 3, initial = 7, range = 5;  // the words of the heading
    char buffer[VALUE_BYTES];
    for (Rows r = {.i = -1}; rows_next(&r, sections, count);) {
        const Field *f = r.field;
        config__range(buffer, f);
        key = wider(key, f->key, KEY_WIDTH);
        initial = wider(initial, default_of(f), DEFAULT_WIDTH);
        range = wider(range, buffer, RANGE_WIDTH);
    }
    fprintf(out, "  %-*s  %-*s  %-*s  %s\n", key, "KEY", initial, "DEFAULT", range, "RANGE",
            "MEANING");
    for (Rows r = {.i = -1}; rows_next(&r, sections, count);) {
        const Field *f = r.field;
        config__range(buffer, f);
        if (r.first) fputc('\n', out);
        fprintf(out, "  %-*s  %-*s  %-*s  %s\n", key, f->key, initial, default_of(f), range, buffer,
                f->help);
    }
}

// A cell of a Markdown table: a bar would end it.
static void markdown_cell(FILE *out, const char *text, const char *quote) {
    fprintf(out, " %s", quote);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '|') fputc('\\', out);
        fputc(*p, out);
    }
    fprintf(out, "%s |", quote);
}

// One table a group, each under a heading of its own, so that the reference has anchors.
static void help_markdown(const Section *sections, int count, FILE *out) {
    static const char *const TYPES[] = {"bool", "integer", "integer", "number", "text"};
    for (Rows r = {.i = -1}; rows_next(&r, sections, count);) {
        const Field *f = r.field;
        if (r.first) {
            fprintf(out, "\n## %.*s\n\n", (int)group_bytes(f->key), f->key);
            fputs("| key | type | default | range | meaning |\n", out);
            fputs("| --- | --- | --- | --- | --- |\n", out);
        }
        char range[VALUE_BYTES] = "";
        bool told = f->type == CFG_BOOL || (f->type == CFG_TEXT && f->choices == NULL);
        if (!told) config__range(range, f);  // else the type says it all
        fputc('|', out);
        markdown_cell(out, f->key, "`");
        markdown_cell(out, TYPES[f->type], "");
        markdown_cell(out, default_of(f), "`");
        markdown_cell(out, range, "");
        markdown_cell(out, f->help, "");
        fputc('\n', out);
    }
}

// groff: a backslash starts a command, a bare hyphen is a soft one, a leading point or quote a
// request.
static void man_text(FILE *out, const char *text) {
    if (text[0] == '.' || text[0] == '\'') fputs("\\&", out);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\\') {
            fputs("\\e", out);
        } else if (*p == '-') {
            fputs("\\-", out);
        } else {
            fputc(*p, out);
        }
    }
}

// One tagged paragraph an option; .SS is a sub-heading of the page's OPTIONS section.
static void help_man(const Section *sections, int count, FILE *out) {
    for (Rows r = {.i = -1}; rows_next(&r, sections, count);) {
        const Field *f = r.field;
        char range[VALUE_BYTES];
        config__range(range, f);
        if (r.first) fprintf(out, ".SS %.*s\n", (int)group_bytes(f->key), f->key);
        fputs(".TP\n\\fB", out);
        man_text(out, f->key);
        fputs("\\fR=", out);
        man_text(out, default_of(f));
        fputs(" (", out);
        man_text(out, range);
        fputs(")\n", out);
        man_text(out, f->help);
        fputc('\n', out);
    }
}

void config_help(const Section *sections, int count, HelpStyle style, FILE *out) {
    switch (style) {
    case HELP_TEXT:
        help_text(sections, count, out);
        break;
    case HELP_MARKDOWN:
        help_markdown(sections, count, out);
        break;
    case HELP_MAN:
        help_man(sections, count, out);
        break;
    }
}
