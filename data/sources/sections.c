// Books that come as plain text: cut into documents at their headings, freed from what a page needs
// and a reader of the text does not (rulers, frames of tables, common indentation, tables of
// contents before the first heading).
#include "data/sources/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/text.h"

// How one book is laid out.
typedef struct Layout {
    // Does a section start at this line? Then its title.
    bool (*starts)(TextSpan line, TextSpan *title);
    // Adds a line of text, or drops it.
    void (*put)(TextBuf *out, TextSpan line);
    // Paragraphs that start so are dropped, NULL = none.
    const char *unwanted;
    size_t indent;  // common indentation
} Layout;

// Takes off the indentation that the whole body has.
static TextSpan dedent(TextSpan line, size_t columns) {
    size_t n = 0;
    while (n < columns && n < line.bytes && line.at[n] == ' ') n++;
    bool body = n == columns;  // less indented lines are headings or centred: left alone
    return body ? (TextSpan){line.at + n, line.bytes - n} : line;
}

// "Chapter 4. Title" at the left edge, also with a no-break space behind the word.
static bool chapter_starts(TextSpan line, TextSpan *title) {
    static const char *const WORDS[] = {"Chapter ", "Chapter\u00a0", "Appendix ", "Appendix\u00a0"};
    *title = span_trim(line);
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        if (span_starts(line, WORDS[i])) return true;
    }
    return false;
}

// Cuts `text`; records are numbered in its order. Without any heading the whole text is one
// document called `name`.
static bool sections_take(DocList *docs, TextSpan text, const Layout *layout, const char *name,
                          uint64_t id, int64_t limit_bytes, int64_t *so_far) {
    TextBuf out = {0};
    char heading[sizeof docs->docs->title];
    snprintf(heading, sizeof heading, "%s", name);
    bool full = false, started = false, skip = false;
    const TextSpan whole = text;
    TextSpan line, title;
    while (!full && line_next(&text, &line)) {
        bool starts = layout->starts != NULL && layout->starts(line, &title);
        if (starts) {
            if (started) {
                full = doclist_take(docs, id++, heading, (TextSpan){out.text, out.bytes},
                                    limit_bytes, so_far);
            }
            textbuf_clear(&out);
            started = true;
            span_copy(heading, sizeof heading, title, sizeof heading);
        }
        TextSpan body = dedent(line, layout->indent);
        if (span_blank(body)) skip = false;
        if (layout->unwanted != NULL && span_starts(body, layout->unwanted)) skip = true;
        if (!skip && (started || layout->starts == NULL)) layout->put(&out, body);
    }
    bool rest = !full && (started || layout->starts == NULL);
    if (rest)
        full =
            doclist_take(docs, id, heading, (TextSpan){out.text, out.bytes}, limit_bytes, so_far);
    textbuf_free(&out);
    if (full || rest || whole.bytes == 0) return full;
    // No heading anywhere: take it as it is.
    Layout plain = *layout;
    plain.starts = NULL;
    return sections_take(docs, whole, &plain, name, id, limit_bytes, so_far);
}

// All files of a source, each cut by the same layout.
static Status books_read(DocList *docs, const char *dir, const Layout *layout, uint32_t source,
                         int64_t limit_bytes) {
    Status st = OK;
    FileList files = {0};
    int64_t so_far = 0;
    bool full = false;
    TRY_GOTO(filelist_read(&files, dir, NULL));
    for (size_t f = 0; f < files.count && !full; f++) {
        char path[PATH_BYTES], name[sizeof docs->docs->title], *text;
        size_t bytes;
        path_join(path, dir, files.paths[f]);
        TRY_GOTO(text_read(path, &text, &bytes));
        file_title(name, sizeof name, &files, f);
        uint64_t id = doc_id(source, (uint32_t)f, 0);
        full = sections_take(docs, (TextSpan){text, bytes}, layout, name, id, limit_bytes, &so_far);
        free(text);
    }
done:
    filelist_free(&files);
    return st;
}

// --- the Jargon File ---

// "   :baroque: adj." starts an entry; chapters and appendices stand around the lexicon.
static bool jargon_starts(TextSpan line, TextSpan *title) {
    if (chapter_starts(line, title)) return true;
    if (!span_starts(line, "   :") || line.bytes < 6) return false;
    const char *colon = memchr(line.at + 4, ':', line.bytes - 4);
    if (colon == NULL || colon == line.at + 4) return false;
    *title = (TextSpan){line.at + 4, (size_t)(colon - line.at) - 4};
    return true;
}

// Box-drawing characters are U+2500..U+257F: E2 94 80..BF, E2 95 80..BF.
static bool box_at(TextSpan s, size_t at) {
    return s.bytes - at >= 3 && (unsigned char)s.at[at] == 0xE2 &&
           ((unsigned char)s.at[at + 1] == 0x94 || (unsigned char)s.at[at + 1] == 0x95);
}

// Frames of tables go, "{term}" is the term, ":term:" at the start is "term:".
static void jargon_put(TextBuf *out, TextSpan line) {
    bool ink = false, frame = false;
    size_t before = out->bytes;
    size_t at = span_starts(line, ":") ? 1 : 0;
    while (at < line.bytes) {
        if (box_at(line, at)) {
            frame = true;
            textbuf_char(out, ' ');
            at += 3;
            continue;
        }
        ink = ink || line.at[at] != ' ';
        if (line.at[at] != '{' && line.at[at] != '}') textbuf_char(out, line.at[at]);
        at++;
    }
    if (frame && !ink) {  // the line was nothing but frame
        textbuf_cut(out, before);
        return;
    }
    textbuf_char(out, '\n');
}

Status jargon_read(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes) {
    static const Layout JARGON = {jargon_starts, jargon_put, "(The next cartoon", 3};
    return books_read(docs, dir, &JARGON, source, limit_bytes);
}

// --- A Brief History of Debian, and the documents that come with it ---

// Rulers under headings and around the abstract say nothing.
static void history_put(TextBuf *out, TextSpan line) {
    TextSpan text = span_trim(line);
    size_t same = 0;
    while (same < text.bytes && text.at[same] == text.at[0]) same++;
    bool ruler = text.bytes >= 4 && same == text.bytes && strchr("-=*_", text.at[0]) != NULL;
    if (ruler) return;
    textbuf_add(out, line.at, line.bytes);
    textbuf_char(out, '\n');
}

Status history_read(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes) {
    static const Layout HISTORY = {chapter_starts, history_put, NULL, 4};
    return books_read(docs, dir, &HISTORY, source, limit_bytes);
}
