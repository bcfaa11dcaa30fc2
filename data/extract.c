// Shared parts of the extractors: texts that grow, slices and lines, lists of files, documents and
// their ids.
#include "data/extract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/signals.h"

enum { TAB_STOP = 8, MAX_DIR_DEPTH = 32 };

// --- growing text ---

// Room for `extra` more bytes and the NUL; doubling keeps adding byte by byte linear.
static void textbuf_reserve(TextBuf *b, size_t extra) {
    ASSERT(extra < SIZE_MAX / 4 && b->bytes < SIZE_MAX / 4);
    size_t need = b->bytes + extra + 1;  // the NUL
    if (need <= b->capacity) return;
    size_t capacity = b->capacity < 256 ? 256 : b->capacity;
    while (capacity < need) capacity *= 2;
    char *grown = realloc(b->text, capacity);
    ASSERT(grown != NULL);
    b->text = grown;
    b->capacity = capacity;
}

void textbuf_add(TextBuf *b, const char *text, size_t bytes) {
    textbuf_reserve(b, bytes);
    if (bytes > 0) memcpy(b->text + b->bytes, text, bytes);
    b->bytes += bytes;
    b->text[b->bytes] = '\0';
}

void textbuf_puts(TextBuf *b, const char *text) {
    textbuf_add(b, text, strlen(text));
}
void textbuf_char(TextBuf *b, char c) {
    textbuf_add(b, &c, 1);
}

void textbuf_code_point(TextBuf *b, uint32_t code) {
    if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) code = 0xFFFD;
    char utf8[4];
    // Length by value, then the continuation bytes from the last one up.
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char LEAD[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--) {
        utf8[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    utf8[0] = (char)(LEAD[n] | code);
    textbuf_add(b, utf8, n);
}

void textbuf_cut(TextBuf *b, size_t bytes) {
    ASSERT(bytes <= b->bytes);
    b->bytes = bytes;
    if (b->text != NULL) b->text[bytes] = '\0';
}

void textbuf_clear(TextBuf *b) {
    textbuf_cut(b, 0);
}

void textbuf_free(TextBuf *b) {
    free(b->text);
    *b = (TextBuf){0};
}

// --- slices and lines ---

bool line_next(TextSpan *rest, TextSpan *line) {
    if (rest->bytes == 0) return false;
    const char *lf = memchr(rest->at, '\n', rest->bytes);
    size_t n = lf == NULL ? rest->bytes : (size_t)(lf - rest->at);
    *line = (TextSpan){rest->at, n};
    size_t used = lf == NULL ? n : n + 1;
    rest->at += used;
    rest->bytes -= used;
    if (line->bytes > 0 && line->at[line->bytes - 1] == '\r') line->bytes--;
    return true;
}

// What may surround a line; a form feed is a page break in old manuals.
static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

TextSpan span_trim(TextSpan s) {
    while (s.bytes > 0 && is_blank(s.at[0])) {
        s.at++;
        s.bytes--;
    }
    while (s.bytes > 0 && is_blank(s.at[s.bytes - 1])) s.bytes--;
    return s;
}

bool span_blank(TextSpan s) {
    return span_trim(s).bytes == 0;
}

bool span_starts(TextSpan s, const char *prefix) {
    size_t n = strlen(prefix);
    return s.bytes >= n && memcmp(s.at, prefix, n) == 0;
}

bool span_same(TextSpan s, const char *text) {
    return s.bytes == strlen(text) && memcmp(s.at, text, s.bytes) == 0;
}

size_t span_indent(TextSpan s) {
    size_t column = 0;
    for (size_t i = 0; i < s.bytes; i++) {
        if (s.at[i] == ' ') {
            column++;
        } else if (s.at[i] == '\t') {
            column += TAB_STOP - column % TAB_STOP;
        } else {
            break;
        }
    }
    return column;
}

void span_copy(char *dst, size_t capacity, TextSpan s, size_t most) {
    size_t n = s.bytes;
    if (n > most) n = most;
    if (n > capacity - 1) n = capacity - 1;
    // Not before a continuation byte: it belongs to a character that would be cut.
    while (n > 0 && n < s.bytes && ((unsigned char)s.at[n] & 0xC0) == 0x80) n--;
    if (n > 0) memcpy(dst, s.at, n);
    dst[n] = '\0';
}

// --- documents (the list itself is doc.c) ---

uint64_t doc_id(uint32_t source, uint32_t file, uint32_t record) {
    ASSERT(source < 1u << 12 && file < 1u << 20);
    return (uint64_t)source << 52 | (uint64_t)file << 32 | record;
}

bool doclist_take(DocList *l, uint64_t id, const char *title, TextSpan text, int64_t limit_bytes,
                  int64_t *bytes_so_far) {
    if (!span_blank(text)) {
        doclist_add(l, id, title, text.at, text.bytes);
        *bytes_so_far += (int64_t)text.bytes;
    }
    // A request to stop ends the reading, and then the preparation (prepare.c).
    return (limit_bytes > 0 && *bytes_so_far >= limit_bytes) || signals_pending() != 0;
}

// --- files ---

// A name may be its suffix alone: "Rdata.rdb" is asked for like that.
static bool suffix_matches(const char *name, const char *const *suffixes) {
    if (suffixes == NULL) return true;
    size_t n = strlen(name);
    for (; *suffixes != NULL; suffixes++) {
        size_t m = strlen(*suffixes);
        if (n >= m && memcmp(name + n - m, *suffixes, m) == 0) return true;
    }
    return false;
}

static void filelist_add(FileList *l, const char *path) {
    if (l->count == l->capacity) {
        size_t capacity = l->capacity < 64 ? 64 : l->capacity * 2;
        char **grown = realloc(l->paths, capacity * sizeof *grown);
        ASSERT(grown != NULL);
        l->paths = grown;
        l->capacity = capacity;
    }
    l->paths[l->count] = strdup(path);
    ASSERT(l->paths[l->count] != NULL);
    l->count++;
}

// One directory of the walk; dir_each calls walk_entry, which calls walk_dir again.
typedef struct Walk {
    FileList *list;
    const char *root, *below;  // below: relative path of this directory, "" at the top
    const char *const *suffixes;
    int depth;
} Walk;

static Status walk_entry(const char *name, void *user) {
    const Walk *w = user;
    if (name[0] == '.') return OK;
    char relative[PATH_BYTES], path[PATH_BYTES];
    int n = snprintf(relative, sizeof relative, "%s%s%s", w->below, w->below[0] ? "/" : "", name);
    int m = snprintf(path, sizeof path, "%s/%s", w->root, relative);
    if (n >= (int)sizeof relative || m >= (int)sizeof path) {
        FAIL(E_IO, "use a directory with shorter names", "%s: path is too long", path);
    }
    // lstat: a link could lead out of the tree, or round in a circle. One to a file leads to that
    // file.
    struct stat st;
    if (lstat(path, &st) != 0) FAIL(E_IO, "check its permissions", "%s: cannot be examined", path);
    if (S_ISLNK(st.st_mode)) {
        bool file = w->list->follow && stat(path, &st) == 0 && S_ISREG(st.st_mode);
        w->list->links += !file;
        if (!file) return OK;
    }
    if (S_ISREG(st.st_mode) && suffix_matches(name, w->suffixes)) filelist_add(w->list, relative);
    if (!S_ISDIR(st.st_mode)) return OK;
    if (w->depth >= MAX_DIR_DEPTH) {
        FAIL(E_IO, "point to a directory further down", "%s: nested too deeply", path);
    }
    // The depth is limited: each level holds two paths on the stack.
    Walk deeper = {w->list, w->root, relative, w->suffixes, w->depth + 1};
    return dir_each(path, walk_entry, &deeper);
}

// Bytewise, whatever the locale: the order numbers the documents.
static int path_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

Status filelist_read(FileList *l, const char *dir, const char *const *suffixes) {
    Walk top = {l, dir, "", suffixes, 0};
    TRY(dir_each(dir, walk_entry, &top));
    if (l->count > 1) qsort(l->paths, l->count, sizeof *l->paths, path_compare);
    return OK;
}

void filelist_free(FileList *l) {
    for (size_t i = 0; i < l->count; i++) free(l->paths[i]);
    free(l->paths);
    *l = (FileList){0};
}
