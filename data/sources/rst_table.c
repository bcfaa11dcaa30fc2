// Grid tables of reStructuredText: cells are boxes drawn with "+---+" and "|", their text may run
// over several lines. A row becomes one line, cells separated by " | "; markup is read cell by
// cell, as it may continue in the next line.
#include "data/sources/formats.h"

#include <string.h>

enum { MAX_COLUMNS = 32, MAX_CELL = 4096 };

typedef struct Grid {
    size_t edges[MAX_COLUMNS + 1];  // columns of the '+' in the first border
    size_t columns;
    TextBuf cells[MAX_COLUMNS];  // of the row being collected
} Grid;

// Only border characters: a line inside a row that is drawn, not written.
static bool is_drawn(TextSpan s) {
    for (size_t i = 0; i < s.bytes; i++) {
        if (strchr("-=+", s.at[i]) == NULL) return false;
    }
    return s.bytes > 2;
}

// "+----+====+": what separates rows.
static bool is_border(TextSpan line) {
    return line.bytes > 2 && line.at[0] == '+' && is_drawn(line);
}

// Byte at which a column starts: borders are drawn in characters, not in bytes.
static size_t column_at(TextSpan line, size_t column) {
    size_t i = 0;
    for (size_t c = 0; i < line.bytes; i++) {
        bool starts = ((unsigned char)line.at[i] & 0xC0) != 0x80;
        if (starts && c++ == column) break;
    }
    return i;
}

// The first border fixes the columns.
static bool grid_open(Grid *g, TextSpan border) {
    if (!is_border(border)) return false;
    size_t edges = 0;
    for (size_t i = 0; i < border.bytes; i++) {
        if (border.at[i] != '+') continue;
        if (edges > MAX_COLUMNS) return false;
        g->edges[edges++] = i;
    }
    g->columns = edges - 1;
    return edges >= 2;
}

// Writes the cells collected so far as one line, and empties them.
static void grid_row(Grid *g, TextBuf *out, const char *indent, size_t indent_bytes) {
    bool first = true;
    for (size_t k = 0; k < g->columns; k++) {
        TextSpan cell = span_trim((TextSpan){g->cells[k].text, g->cells[k].bytes});
        if (cell.bytes == 0) continue;
        if (first) textbuf_add(out, indent, indent_bytes);
        if (!first) textbuf_puts(out, " | ");
        first = false;
        size_t before = out->bytes;
        rst_inline(out, cell);
        for (size_t i = before; i < out->bytes; i++) {
            if (out->text[i] == '\n') out->text[i] = ' ';
        }
        textbuf_clear(&g->cells[k]);
    }
    if (!first) textbuf_char(out, '\n');
}

// One line of a row. A cell without an edge at its end spans the next column too; inner borders are
// only drawn.
static void grid_line(Grid *g, TextSpan line) {
    size_t k = 0;
    while (k < g->columns) {
        size_t last = k, from = column_at(line, g->edges[k] + 1), to;
        for (;; last++) {
            to = column_at(line, g->edges[last + 1]);
            bool edge = to >= line.bytes || line.at[to] == '|' || line.at[to] == '+';
            if (edge || last + 1 == g->columns) break;
        }
        TextSpan text = {line.at + from, to > from ? to - from : 0};
        TextSpan ink = span_trim(text);
        if (ink.bytes > 0 && !is_drawn(ink) && g->cells[k].bytes < MAX_CELL) {
            textbuf_add(&g->cells[k], ink.at, ink.bytes);
            textbuf_char(&g->cells[k], '\n');
        }
        k = last + 1;
    }
}

size_t rst_grid_table(TextBuf *out, const TextSpan *lines, size_t count) {
    Grid g = {.columns = 0};
    TextSpan border = span_trim(lines[0]);
    if (!grid_open(&g, border)) return 0;
    const char *indent = lines[0].at;
    size_t indent_bytes = (size_t)(border.at - indent), used = 1;
    for (; used < count; used++) {
        TextSpan line = span_trim(lines[used]);
        if (is_border(line)) {
            grid_row(&g, out, indent, indent_bytes);
        } else if (span_starts(line, "|") || span_starts(line, "+")) {
            grid_line(&g, line);
        } else {
            break;
        }
    }
    grid_row(&g, out, indent, indent_bytes);  // a table without its last border
    for (size_t k = 0; k < g.columns; k++) textbuf_free(&g.cells[k]);
    return used;
}
