// reStructuredText to text, block by block: titles without their rulers, literal blocks as they
// are, Sphinx's directives by a table: shown, named, or dropped with what belongs to the machinery
// (indices, includes, tocs). Paragraphs go through rst_inline.c. Not a full parser: indentation,
// which carries the structure, is kept.
#include "data/sources/formats.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

// What becomes of a directive.
typedef enum {
    D_DROP,       // line and body go
    D_BODY,       // the line goes, the body is ordinary text
    D_VERBATIM,   // the line goes, the body stays as it is
    D_TITLE,      // the argument is a line of text, then the body
    D_SIGNATURE,  // the arguments are lines as they are, then the body
    D_LABEL,      // "Note: argument", then the body
    D_VERSION     // "New in version 3.2: text"
} Action;

typedef struct Directive {
    const char *name, *label;
    Action action;
} Directive;

static const Directive DIRECTIVES[] = {
    {"index", "", D_DROP},
    {"module", "", D_DROP},
    {"sectionauthor", "", D_DROP},
    {"moduleauthor", "", D_DROP},
    {"codeauthor", "", D_DROP},
    {"highlight", "", D_DROP},
    {"toctree", "", D_DROP},
    {"include", "", D_DROP},
    {"tabularcolumns", "", D_DROP},
    {"currentmodule", "", D_DROP},
    {"testsetup", "", D_DROP},
    {"testcleanup", "", D_DROP},
    {"literalinclude", "", D_DROP},
    {"contents", "", D_DROP},
    {"image", "", D_DROP},
    {"audit-event", "", D_DROP},
    {"program", "", D_DROP},
    {"raw", "", D_DROP},
    {"miscnews", "", D_DROP},
    {"audit-event-table", "", D_DROP},
    {"default-domain", "", D_DROP},
    {"limited-api-list", "", D_DROP},
    {"code-block", "", D_VERBATIM},
    {"doctest", "", D_VERBATIM},
    {"testcode", "", D_VERBATIM},
    {"testoutput", "", D_VERBATIM},
    {"sourcecode", "", D_VERBATIM},
    {"productionlist", "", D_VERBATIM},
    {"code", "", D_VERBATIM},
    {"parsed-literal", "", D_BODY},
    {"math", "", D_VERBATIM},
    {"rubric", "", D_TITLE},
    {"topic", "", D_TITLE},
    {"sidebar", "", D_TITLE},
    {"table", "", D_TITLE},
    {"centered", "", D_TITLE},
    {"list-table", "", D_TITLE},
    {"function", "", D_SIGNATURE},
    {"method", "", D_SIGNATURE},
    {"attribute", "", D_SIGNATURE},
    {"data", "", D_SIGNATURE},
    {"class", "class ", D_SIGNATURE},
    {"member", "", D_SIGNATURE},
    {"exception", "exception ", D_SIGNATURE},
    {"type", "", D_SIGNATURE},
    {"cmdoption", "", D_SIGNATURE},
    {"option", "", D_SIGNATURE},
    {"opcode", "", D_SIGNATURE},
    {"envvar", "", D_SIGNATURE},
    {"var", "", D_SIGNATURE},
    {"macro", "", D_SIGNATURE},
    {"decorator", "@", D_SIGNATURE},
    {"struct", "", D_SIGNATURE},
    {"coroutinemethod", "coroutine ", D_SIGNATURE},
    {"pdbcommand", "", D_SIGNATURE},
    {"coroutinefunction", "coroutine ", D_SIGNATURE},
    {"describe", "", D_SIGNATURE},
    {"classmethod", "classmethod ", D_SIGNATURE},
    {"object", "", D_SIGNATURE},
    {"staticmethod", "staticmethod ", D_SIGNATURE},
    {"note", "Note", D_LABEL},
    {"abstractmethod", "abstractmethod ", D_SIGNATURE},
    {"warning", "Warning", D_LABEL},
    {"awaitablefunction", "awaitable ", D_SIGNATURE},
    {"caution", "Caution", D_LABEL},
    {"awaitablemethod", "awaitable ", D_SIGNATURE},
    {"tip", "Tip", D_LABEL},
    {"seealso", "See also", D_LABEL},
    {"hint", "Hint", D_LABEL},
    {"important", "Important", D_LABEL},
    {"danger", "Danger", D_LABEL},
    {"availability", "Availability", D_LABEL},
    {"versionadded", "New in version", D_VERSION},
    {"versionchanged", "Changed in version", D_VERSION},
    {"deprecated", "Deprecated since version", D_VERSION},
    {"deprecated-removed", "Deprecated since version", D_VERSION},
    {"impl-detail", "CPython implementation detail", D_LABEL},
};

// The text as lines, and where we are.
typedef struct Rst {
    TextBuf *out;
    TextSpan *lines;
    size_t count, at;
} Rst;

static bool line_blank(const Rst *r, size_t i) {
    return i >= r->count || span_blank(r->lines[i]);
}

static void put_line(Rst *r, TextSpan line) {
    textbuf_add(r->out, line.at, line.bytes);
    textbuf_char(r->out, '\n');
}

// Indentation is kept throughout: it shows what belongs to what.
static void put_indent(Rst *r, size_t columns) {
    for (size_t i = 0; i < columns; i++) textbuf_char(r->out, ' ');
}

// End of the block of lines indented deeper than `indent` that starts at `from`, blank lines
// between included.
static size_t block_end(const Rst *r, size_t from, size_t indent) {
    size_t end = from;
    for (size_t i = from; i < r->count; i++) {
        if (line_blank(r, i)) continue;
        if (span_indent(r->lines[i]) <= indent) break;
        end = i + 1;
    }
    return end;
}

// Applies `rst_inline` to lines [begin, end) as one text.
static void put_paragraph(Rst *r, size_t begin, size_t end, size_t cut_bytes) {
    const char *first = r->lines[begin].at, *last = r->lines[end - 1].at + r->lines[end - 1].bytes;
    rst_inline(r->out, (TextSpan){first, (size_t)(last - first) - cut_bytes});
    textbuf_char(r->out, '\n');
}

static void put_verbatim(Rst *r, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) put_line(r, r->lines[i]);
}

// --- lines that only draw ---

// A ruler of a title, or a transition: one punctuation character, three times or more.
static bool is_ruler(TextSpan line) {
    line = span_trim(line);
    if (line.bytes < 3 || !ispunct((unsigned char)line.at[0])) return false;
    for (size_t i = 1; i < line.bytes; i++) {
        if (line.at[i] != line.at[0]) return false;
    }
    return line.at[0] != '.' || line.bytes > 3;  // "..." is an ellipsis
}

// Borders of tables: "==== ====" and "+---+---+".
static bool is_border(TextSpan line) {
    line = span_trim(line);
    if (line.bytes < 3) return false;
    bool simple = line.at[0] == '=', grid = line.at[0] == '+' && strchr("-=", line.at[1]) != NULL;
    for (size_t i = 0; i < line.bytes; i++) {
        if (line.at[i] != '=' && line.at[i] != ' ') simple = false;
        if (strchr("+-=", line.at[i]) == NULL) grid = false;
    }
    return simple || grid;
}

// --- explicit markup: lines that start with ".." ---

// ":name: value" below a directive; a role has a back-quote after its colon instead of a blank.
static bool is_option(TextSpan line) {
    line = span_trim(line);
    if (line.bytes < 3 || line.at[0] != ':') return false;
    size_t i = 1;
    while (i < line.bytes && (isalnum((unsigned char)line.at[i]) || line.at[i] == '-')) i++;
    return i > 1 && i < line.bytes && line.at[i] == ':' &&
           (i + 1 == line.bytes || line.at[i + 1] == ' ');
}

// ".. name:: argument": name without its domain ("c:function" is function).
static bool directive_parse(TextSpan line, TextSpan *name, TextSpan *argument) {
    if (!span_starts(line, ".. ")) return false;
    size_t i = 3;
    while (i < line.bytes && (isalnum((unsigned char)line.at[i]) || strchr("_+-:", line.at[i])))
        i++;
    if (i < 6 || line.at[i - 1] != ':' || line.at[i - 2] != ':') return false;
    *name = (TextSpan){line.at + 3, i - 5};
    *argument = span_trim((TextSpan){line.at + i, line.bytes - i});
    for (size_t k = name->bytes; k > 0; k--) {
        if (name->at[k - 1] != ':') continue;
        *name = (TextSpan){name->at + k, name->bytes - k};
        break;
    }
    return true;
}

static const Directive *directive_find(TextSpan name) {
    static const Directive UNKNOWN = {"", "", D_BODY};
    for (size_t i = 0; i < sizeof DIRECTIVES / sizeof *DIRECTIVES; i++) {
        const char *known = DIRECTIVES[i].name;
        bool same = strlen(known) == name.bytes;
        for (size_t k = 0; same && k < name.bytes; k++) {
            same = known[k] == tolower((unsigned char)name.at[k]);
        }
        if (same) return &DIRECTIVES[i];
    }
    return &UNKNOWN;
}

// Lines directly below the head that belong to its argument; options are stepped over by the
// caller.
static size_t argument_end(const Rst *r, size_t head, size_t indent) {
    size_t i = head + 1;
    while (!line_blank(r, i) && span_indent(r->lines[i]) > indent && !is_option(r->lines[i])) i++;
    return i;
}

static size_t options_end(const Rst *r, size_t i) {
    while (!line_blank(r, i) && is_option(r->lines[i])) i++;
    return i;
}

// "function:: a(x)" and the lines below it, each a signature of its own.
static void put_signatures(Rst *r, const Directive *d, TextSpan argument, size_t end,
                           size_t indent) {
    for (size_t i = r->at; i < end; i++) {
        TextSpan one = i == r->at ? argument : span_trim(r->lines[i]);
        if (one.bytes == 0) continue;
        put_indent(r, indent);
        textbuf_puts(r->out, d->label);
        rst_inline(r->out, one);
        textbuf_char(r->out, '\n');
    }
}

// "Label: text" or "Label VERSION: text"; the text may stand on the head's line or below it.
static void put_label(Rst *r, const Directive *d, TextSpan argument, size_t end, size_t indent) {
    put_indent(r, indent);
    textbuf_puts(r->out, d->label);
    if (d->action == D_VERSION) {
        size_t n = 0;
        while (n < argument.bytes && argument.at[n] != ' ') n++;
        textbuf_char(r->out, ' ');
        textbuf_add(r->out, argument.at, n);
        argument = span_trim((TextSpan){argument.at + n, argument.bytes - n});
        if (strcmp(d->name, "deprecated-removed") == 0) {
            textbuf_puts(r->out, ", removed in version ");
            textbuf_add(r->out, argument.at, argument.bytes);
            argument.bytes = 0;
        }
    }
    // A sentence that ends here gets a full stop.
    bool more = argument.bytes > 0 || end > r->at + 1;
    textbuf_puts(r->out, more || d->action == D_LABEL ? ":" : ".");
    if (argument.bytes > 0) {
        textbuf_char(r->out, ' ');
        rst_inline(r->out, argument);
    }
    textbuf_char(r->out, '\n');
    if (end > r->at + 1) put_paragraph(r, r->at + 1, end, 0);
}

// The directive whose head is line r->at; r->at moves to what ordinary reading goes on with.
static void directive(Rst *r, TextSpan name, TextSpan argument, size_t indent) {
    const Directive *d = directive_find(name);
    size_t arguments = argument_end(r, r->at, indent);
    switch (d->action) {
    case D_DROP:
        r->at = block_end(r, r->at + 1, indent);
        return;
    case D_VERBATIM: {
        size_t begin = options_end(r, r->at + 1), end = block_end(r, begin, indent);
        put_verbatim(r, begin, end);
        r->at = end;
        return;
    }
    case D_SIGNATURE:
        put_signatures(r, d, argument, arguments, indent);
        r->at = options_end(r, arguments);
        return;
    case D_LABEL:
    case D_VERSION:
        put_label(r, d, argument, arguments, indent);
        r->at = options_end(r, arguments);
        return;
    case D_TITLE:
        put_indent(r, indent);
        rst_inline(r->out, argument);
        textbuf_char(r->out, '\n');
        break;
    case D_BODY:
        break;
    }
    r->at = options_end(r, r->at + 1);
}

// Footnotes stay ("[1] text"); comments, targets and substitutions go.
static void explicit_markup(Rst *r, TextSpan line, size_t indent) {
    TextSpan name, argument;
    if (directive_parse(line, &name, &argument)) {
        directive(r, name, argument, indent);
    } else if (span_starts(line, ".. [")) {
        put_indent(r, indent);
        rst_inline(r->out, (TextSpan){line.at + 3, line.bytes - 3});
        textbuf_char(r->out, '\n');
        r->at++;
    } else {
        r->at = block_end(r, r->at + 1, indent);
    }
}

// --- paragraphs ---

// Lines up to a blank one; a line that ends in "::" makes the deeper block behind it literal.
static void paragraph(Rst *r) {
    size_t begin = r->at, end = begin;
    size_t indent = span_indent(r->lines[begin]);
    bool literal = false;
    while (!line_blank(r, end) && !literal) {
        TextSpan line = span_trim(r->lines[end]);
        if (end > begin && (span_starts(line, ".. ") || is_border(line))) break;
        literal = line.bytes >= 2 && memcmp(line.at + line.bytes - 2, "::", 2) == 0;
        indent = span_indent(r->lines[end]);
        end++;
    }
    literal = literal && line_blank(r, end);
    // A paragraph that is only "::" announces a block and shows nothing.
    bool alone = literal && span_same(span_trim(r->lines[end - 1]), "::");
    if (span_starts(span_trim(r->lines[begin]), ">>>")) {
        put_verbatim(r, begin, end);  // an interactive session
    } else if (!alone) {
        TextSpan last = r->lines[end - 1];
        size_t trailing =
            last.bytes - (size_t)(span_trim(last).at + span_trim(last).bytes - last.at);
        put_paragraph(r, begin, end, literal ? trailing + 1 : 0);
    } else if (end - 1 > begin) {
        put_paragraph(r, begin, end - 1, 0);
    }
    r->at = end;
    if (literal) {
        size_t block = block_end(r, end, indent);
        put_verbatim(r, end, block);
        r->at = block;
    }
}

// What starts at this line? One case a kind of block, in the order of precedence.
static void block(Rst *r) {
    TextSpan line = r->lines[r->at], text = span_trim(line);
    size_t indent = span_indent(line);
    bool next_rules = r->at + 1 < r->count && is_ruler(r->lines[r->at + 1]);
    if (text.bytes == 0) {
        textbuf_char(r->out, '\n');
        r->at++;
    } else if (span_same(text, "..") || span_starts(text, ".. ")) {
        explicit_markup(r, text, indent);
    } else if (is_ruler(line) || is_border(line)) {
        size_t table = rst_grid_table(r->out, r->lines + r->at, r->count - r->at);
        r->at += table > 0 ? table : 1;
    } else if (next_rules && indent == 0) {
        rst_inline(r->out, text);
        textbuf_char(r->out, '\n');
        r->at += 2;
    } else {
        paragraph(r);
    }
}

// Lines are cut once; every block looks ahead among them.
void rst_to_text(TextBuf *out, TextSpan rst) {
    Rst r = {.out = out};
    size_t capacity = 1;
    for (size_t i = 0; i < rst.bytes; i++) capacity += rst.at[i] == '\n';
    r.lines = malloc(capacity * sizeof *r.lines);
    ASSERT(r.lines != NULL);
    while (line_next(&rst, &r.lines[r.count])) r.count++;
    while (r.at < r.count) block(&r);
    free(r.lines);
}

Status rst_read(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes) {
    static const char *const SUFFIXES[] = {".rst.txt", ".rst", NULL};
    return files_convert(docs, &(FileJob){dir, SUFFIXES, rst_to_text, source, limit_bytes});
}
