// Dictionaries in the format of dictd(8): an index of lines "headword TAB offset TAB size" with
// numbers in base 64, and the texts in one file, compressed by dictzip (gzip with an extra field).
// A text often has several headwords; it is one document, titled by its own first line, in the
// order of the file.
#include "data/sources/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/text.h"

enum { REFERENCE_LIMIT = 200, ENTRY_INDENT = 3, TITLE_BYTES = 60 };

static const char HINT[] =
    "delete the source's directory below text in the cache, it will be fetched again";

// A stretch of the text file.
typedef struct Entry {
    uint64_t offset, bytes;
} Entry;

typedef struct Entries {
    Entry *items;
    size_t count, capacity;
} Entries;

// RFC 4648's alphabet used as digits, most significant first; no padding. UINT64_MAX: not a number.
static uint64_t base64_number(TextSpan s) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t v = 0;
    if (s.bytes == 0 || s.bytes > 9) return UINT64_MAX;
    for (size_t i = 0; i < s.bytes; i++) {
        const char *digit = memchr(DIGITS, s.at[i], 64);
        if (digit == NULL) return UINT64_MAX;
        v = v << 6 | (uint64_t)(digit - DIGITS);
    }
    return v;
}

static void entry_add(Entries *e, Entry one) {
    if (e->count == e->capacity) {
        e->capacity = e->capacity == 0 ? 1024 : 2 * e->capacity;
        e->items = realloc(e->items, e->capacity * sizeof *e->items);
        ASSERT(e->items != NULL);
    }
    e->items[e->count++] = one;
}

// Order of the text; equal entries become neighbours.
static int entry_compare(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

// Entries about the database itself carry names that no word has.
static bool about_database(TextSpan headword) {
    return span_starts(headword, "00database") || span_starts(headword, "00-database");
}

// Texts lie one after the other. Where they do not, a small file could make any number of large
// documents, and two of one id.
static Status entries_check(const Entries *e, const char *path) {
    for (size_t i = 1; i < e->count; i++) {
        const Entry *last = &e->items[i - 1], *one = &e->items[i];
        if (entry_compare(last, one) != 0 && one->offset - last->offset < last->bytes) {
            FAIL(E_FORMAT, HINT, "%s: the entries at bytes %llu and %llu overlap", path,
                 (unsigned long long)last->offset, (unsigned long long)one->offset);
        }
    }
    return OK;
}

// Every line must point into the text: checked before anything is read from there.
static Status index_read(Entries *e, TextSpan index, uint64_t text_bytes, const char *path) {
    TextSpan line;
    for (int number = 1; line_next(&index, &line); number++) {
        const char *tab = memchr(line.at, '\t', line.bytes);
        size_t head = tab == NULL ? line.bytes : (size_t)(tab - line.at);
        TextSpan rest = {line.at + head + (tab != NULL), line.bytes - head - (tab != NULL)};
        const char *second = memchr(rest.at, '\t', rest.bytes);
        size_t n = second == NULL ? rest.bytes : (size_t)(second - rest.at);
        TextSpan size = {rest.at + n + (second != NULL), rest.bytes - n - (second != NULL)};
        Entry one = {base64_number((TextSpan){rest.at, n}), base64_number(span_trim(size))};
        if (one.offset > text_bytes || one.bytes > text_bytes - one.offset) {
            FAIL(E_FORMAT, HINT, "%s:%d: not an entry of this dictionary", path, number);
        }
        if (!about_database((TextSpan){line.at, head})) entry_add(e, one);
    }
    if (e->count > 1) qsort(e->items, e->count, sizeof *e->items, entry_compare);
    return entries_check(e, path);
}

// "{term}" is a reference to another entry: the term. Braces of programs have other things inside.
static size_t reference_bytes(TextSpan s) {
    size_t limit = s.bytes < REFERENCE_LIMIT ? s.bytes : REFERENCE_LIMIT;
    for (size_t i = 1; i < limit; i++) {
        if (s.at[i] == '}') return i > 1 ? i + 1 : 0;
        if (strchr("{;=", s.at[i]) != NULL) return 0;
    }
    return 0;
}

// Copies text, taking the braces from references.
static void put_references(TextBuf *out, TextSpan s) {
    for (size_t at = 0; at < s.bytes;) {
        size_t n = s.at[at] == '{' ? reference_bytes((TextSpan){s.at + at, s.bytes - at}) : 0;
        if (n > 0) {
            textbuf_add(out, s.at + at + 1, n - 2);
            at += n;
        } else {
            textbuf_char(out, s.at[at++]);
        }
    }
}

// FOLDOC sets off definitions from their headword by a blank line and this indentation, which says
// nothing more.
static bool body_indented(TextSpan entry) {
    TextSpan line;
    bool blank_seen = false;
    while (line_next(&entry, &line)) {
        if (!span_blank(line) && blank_seen) return span_indent(line) == ENTRY_INDENT;
        blank_seen = blank_seen || span_blank(line);
    }
    return false;
}

static void entry_text(TextBuf *out, TextSpan entry) {
    size_t indent = body_indented(entry) ? ENTRY_INDENT : 0;
    TextBuf flat = {0};
    TextSpan line;
    while (line_next(&entry, &line)) {
        size_t cut = 0;
        while (cut < indent && cut < line.bytes && line.at[cut] == ' ') cut++;
        textbuf_add(&flat, line.at + cut, line.bytes - cut);
        textbuf_char(&flat, '\n');
    }
    put_references(out, (TextSpan){flat.text, flat.bytes});
    textbuf_free(&flat);
}

// The first line: the headword, or the headword, two blanks and the definition.
static void entry_title(char *title, size_t capacity, TextSpan entry) {
    TextSpan line = {"", 0};
    while (line_next(&entry, &line) && span_blank(line)) continue;
    line = span_trim(line);
    size_t n = 0;
    while (n < line.bytes && !(n + 1 < line.bytes && line.at[n] == ' ' && line.at[n + 1] == ' '))
        n++;
    span_copy(title, capacity, (TextSpan){line.at, n}, TITLE_BYTES);
}

// Entries to documents, each text once.
static void entries_take(DocList *docs, const Entries *e, TextSpan text, uint32_t source,
                         int64_t limit_bytes) {
    TextBuf out = {0};
    int64_t so_far = 0;
    bool full = false;
    for (size_t i = 0; i < e->count && !full; i++) {
        bool repeated = i > 0 && entry_compare(&e->items[i], &e->items[i - 1]) == 0;
        if (repeated) continue;  // another headword of the same text
        TextSpan entry = {text.at + e->items[i].offset, (size_t)e->items[i].bytes};
        char title[sizeof docs->docs->title];
        entry_title(title, sizeof title, entry);
        textbuf_clear(&out);
        entry_text(&out, entry);
        // The offset in the file, not the rank in a list: the id stays when entries are added
        // before.
        uint64_t id = doc_id(source, 0, (uint32_t)e->items[i].offset);
        full = doclist_take(docs, id, title, (TextSpan){out.text, out.bytes}, limit_bytes, &so_far);
    }
    textbuf_free(&out);
}

Status dictd_read(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes) {
    static const char *const INDEX[] = {".index", NULL}, *const TEXT[] = {".dict.dz", NULL};
    Status st = OK;
    FileList index_files = {0}, text_files = {0};
    Entries entries = {0};
    char *index = NULL, *text = NULL, index_path[PATH_BYTES], text_path[PATH_BYTES];
    size_t index_bytes, text_bytes;
    TRY_GOTO(filelist_read(&index_files, dir, INDEX));
    TRY_GOTO(filelist_read(&text_files, dir, TEXT));
    if (index_files.count != 1 || text_files.count != 1) {
        st = err_set(E_FORMAT, HINT, "%s: must have one .index and one .dict.dz file", dir);
        goto done;
    }
    path_join(index_path, dir, index_files.paths[0]);
    path_join(text_path, dir, text_files.paths[0]);
    TRY_GOTO(text_read(index_path, &index, &index_bytes));
    TRY_GOTO(text_read(text_path, &text, &text_bytes));
    TRY_GOTO(index_read(&entries, (TextSpan){index, index_bytes}, text_bytes, index_path));
    entries_take(docs, &entries, (TextSpan){text, text_bytes}, source, limit_bytes);
done:
    free(entries.items);
    free(index);
    free(text);
    filelist_free(&index_files);
    filelist_free(&text_files);
    return st;
}
