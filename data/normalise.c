// Normalisation: one pass that decodes UTF-8, drops what does not show and unifies
// spaces and line ends; canonical composition (Unicode Standard Annex 15) where anything needs it;
// one pass over lines. In this order, because taking a character out may let its neighbours
// compose.
#include "data/sources/sources.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/extract.h"

enum { REPLACEMENT = 0xFFFD, FIRST_UNSTABLE = 0x300, MAX_BLANK_LINES = 2 };

typedef struct CodeRange {
    uint32_t first, last;
} CodeRange;

// The tables are short and text is mostly ASCII, which never gets here: no search tree.
static bool in_ranges(uint32_t code, const CodeRange *ranges, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last) return true;
    }
    return false;
}
#define IN(code, ranges) in_ranges(code, ranges, sizeof(ranges) / sizeof(ranges)[0])

// Controls, soft hyphen, zero-width and bidirectional controls, private use, tags.
static const CodeRange REMOVED[] = {
    {0x00, 0x08},     {0x0B, 0x1F},     {0x7F, 0x9F},       {0xAD, 0xAD},
    {0x61C, 0x61C},   {0x180E, 0x180E}, {0x200B, 0x200B},   {0x200E, 0x200F},
    {0x202A, 0x202E}, {0x2060, 0x206F}, {0xE000, 0xF8FF},   {0xFDD0, 0xFDEF},
    {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE0FFF}, {0xF0000, 0x10FFFF}};
// Zs, the spaces of all widths; line and paragraph separators are line ends instead.
static const CodeRange SPACES[] = {{0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                                   {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
// Scripts and emoji whose spelling needs the joiners U+200C and U+200D. Not Hangul, which composes
// out of its range.
static const CodeRange JOINING[] = {{0x600, 0x10FF},   {0x1200, 0x1AFF}, {0x2600, 0x27BF},
                                    {0xA800, 0xA95F},  {0xA980, 0xABFF}, {0xFE0F, 0xFE0F},
                                    {0x1F000, 0x1FAFF}};

// The last two of every plane.
static bool is_noncharacter(uint32_t code) {
    return (code & 0xFFFE) == 0xFFFE;
}
static bool is_joiner(uint32_t code) {
    return code == 0x200C || code == 0x200D;
}

// Three Tibetan vowels count as starters but decompose into marks (UAX 15, "Non-Starter
// Decompositions").
static bool is_mark(uint32_t code) {
    return utf8proc_get_property((utf8proc_int32_t)code)->combining_class != 0 || code == 0xF73 ||
           code == 0xF75 || code == 0xF81;
}

// One code point; ill-formed bytes are taken one by one as U+FFFD.
static size_t decode(uint32_t *code, TextSpan s, bool *valid) {
    utf8proc_int32_t c = -1;
    utf8proc_ssize_t most = s.bytes < 4 ? (utf8proc_ssize_t)s.bytes : 4;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.at, most, &c);
    *valid = n > 0 && c >= 0;
    *code = *valid ? (uint32_t)c : REPLACEMENT;
    return *valid ? (size_t)n : 1;
}

// The pass over characters.
typedef struct Cleaner {
    TextBuf out;
    uint32_t starter;  // last code point that is neither a combining mark nor a joiner
    bool compose;      // something may not be in composed form
    NormaliseCounts *counts;
} Cleaner;

// Keeps, replaces or drops one code point that is no line end.
static void clean_code(Cleaner *c, uint32_t code) {
    bool joins = is_joiner(code) && IN(c->starter, JOINING);
    if (IN(code, REMOVED) || is_noncharacter(code) || (is_joiner(code) && !joins)) {
        c->counts->removed_chars++;
        return;
    }
    if (IN(code, SPACES)) {
        c->counts->spaces++;
        code = ' ';
    }
    if (code >= FIRST_UNSTABLE) c->compose = true;
    textbuf_code_point(&c->out, code);
    // Marks are put in canonical order below, starters stay where they are: what is decided by them
    // holds.
    bool mark = is_mark(code);
    if (!mark && !joins) c->starter = code;
}

// CRLF, CR, NEL, LINE and PARAGRAPH SEPARATOR are line ends.
static bool is_line_end(uint32_t code) {
    return code == '\r' || code == 0x85 || code == 0x2028 || code == 0x2029;
}

// From bytes to clean code points.
static void clean(Cleaner *c, TextSpan text) {
    while (text.bytes > 0) {
        // Most text is plain ASCII: copy runs of it.
        size_t run = 0;
        while (run < text.bytes) {
            unsigned char b = (unsigned char)text.at[run];
            if ((b < 0x20 && b != '\n' && b != '\t') || b >= 0x7F) break;
            run++;
        }
        if (run > 0) {
            textbuf_add(&c->out, text.at, run);
            c->starter = (unsigned char)text.at[run - 1];
        } else {
            uint32_t code;
            bool valid;
            run = decode(&code, text, &valid);
            if (!valid) c->counts->invalid_bytes++;
            bool crlf = code == '\r' && text.bytes > 1 && text.at[1] == '\n';
            if (is_line_end(code)) {
                if (!crlf) textbuf_char(&c->out, '\n');
                c->starter = '\n';
            } else {
                clean_code(c, code);
            }
        }
        text.at += run;
        text.bytes -= run;
    }
}

// Canonical composition in place of `out`. False: out of memory.
static bool compose(TextBuf *out) {
    size_t bytes;
    char *composed = utf8_compose(out->text, out->bytes, &bytes);
    if (composed == NULL) return false;
    textbuf_free(out);
    *out = (TextBuf){composed, bytes, bytes + 1};
    return true;
}

// Trims lines at their ends, shortens runs of blank lines, drops those at both ends. In place:
// never longer. Returns the blank lines at the end that a text which goes on would keep.
static size_t tidy_lines(TextBuf *out, NormaliseCounts *counts) {
    TextSpan rest = {out->text, out->bytes}, line;
    size_t to = 0, blanks = 0;
    while (line_next(&rest, &line)) {
        while (line.bytes > 0 &&
               (line.at[line.bytes - 1] == ' ' || line.at[line.bytes - 1] == '\t')) {
            line.bytes--;
        }
        if (line.bytes == 0) {
            blanks++;
            continue;
        }
        size_t keep = to == 0 ? 0 : blanks < MAX_BLANK_LINES ? blanks : MAX_BLANK_LINES;
        counts->blank_lines += (int64_t)(blanks - keep);
        if (to > 0) out->text[to++] = '\n';
        for (size_t i = 0; i < keep; i++) out->text[to++] = '\n';
        memmove(out->text + to, line.at, line.bytes);
        to += line.bytes;
        blanks = 0;
    }
    textbuf_cut(out, to);
    return to == 0 ? 0 : blanks < MAX_BLANK_LINES ? blanks : MAX_BLANK_LINES;
}

// The line that has no end yet stays as it is: what follows decides about its blanks.
static void tidy_beginning(TextBuf *out, NormaliseCounts *counts) {
    size_t whole = out->bytes, last = 0;
    for (; whole > 0 && out->text[whole - 1] != '\n'; whole--) last++;
    TextBuf lines = {0};
    textbuf_add(&lines, out->text, whole);
    size_t blanks = tidy_lines(&lines, counts);
    if (lines.bytes > 0) textbuf_add(&lines, "\n\n\n", 1 + blanks);
    textbuf_add(&lines, out->text + whole, last);
    textbuf_free(out);
    *out = lines;
}

// The passes over a text. False: out of memory.
static bool normalise(TextBuf *out, TextSpan text, bool ends, NormaliseCounts *counts) {
    Cleaner c = {.counts = counts};
    textbuf_add(&c.out, "", 0);  // an empty text is a text
    clean(&c, text);
    if (c.compose && !compose(&c.out)) {
        textbuf_free(&c.out);
        return false;
    }
    if (ends)
        tidy_lines(&c.out, counts);
    else
        tidy_beginning(&c.out, counts);
    *out = c.out;
    return true;
}

char *normalise_text(const char *text, size_t bytes, size_t *out_bytes, NormaliseCounts *counts) {
    NormaliseCounts ignored = {0};
    TextBuf out;
    if (!normalise(&out, (TextSpan){text, bytes}, true, counts == NULL ? &ignored : counts))
        return NULL;
    *out_bytes = out.bytes;
    return out.text;
}

char *normalise_beginning(const char *text, size_t bytes, size_t *out_bytes) {
    NormaliseCounts ignored = {0};
    TextBuf out;
    if (!normalise(&out, (TextSpan){text, bytes}, false, &ignored)) return NULL;
    *out_bytes = out.bytes;
    return out.text;
}

Status docs_normalise(DocList *docs, double max_invalid, NormaliseCounts *counts) {
    NormaliseCounts ignored = {0};
    if (counts == NULL) counts = &ignored;
    size_t kept = 0;
    Status st = OK;
    for (size_t i = 0; i < docs->count; i++) {
        Doc *doc = &docs->docs[i];
        size_t bytes = 0;
        int64_t invalid_before = counts->invalid_bytes;
        char *text = st == OK ? normalise_text(doc->text, doc->bytes, &bytes, counts) : NULL;
        if (text == NULL) {  // the list stays whole: the rest is dropped
            if (st == OK) {
                st = err_set(E_NOMEM, "free some memory", "no memory to normalise %s", doc->title);
            }
            free(doc->text);
            continue;
        }
        // Judged against the original bytes, before anything was taken out.
        int64_t invalid = counts->invalid_bytes - invalid_before;
        bool garbled = (double)invalid > (double)doc->bytes * max_invalid;
        counts->docs_in++;
        counts->docs_invalid += garbled;
        counts->docs_empty += !garbled && bytes == 0;
        free(doc->text);
        doc->text = text;
        doc->bytes = bytes;
        if (garbled || bytes == 0) {
            free(text);
        } else {
            docs->docs[kept++] = *doc;
        }
    }
    docs->count = kept;
    return st;
}

void cleaning_add(Cleaning *c, const NormaliseCounts *n) {
    c->docs_invalid += n->docs_invalid;
    c->docs_empty += n->docs_empty;
    c->invalid_bytes += n->invalid_bytes;
    c->removed_chars += n->removed_chars;
}
