// The King James Version from the bible program's bible.data. The file: "EC02", a name, at byte
// 0x54 the window size, the number of windows and their offsets (big-endian u32, one more than
// windows), then each window of text compressed on its own as by compress(1): LZW (Welch 1984),
// codes of 9 to 16 bits, code 256 clears. The text is a line a verse: "Ge1:1 In the beginning ...".
// One document a chapter, titled "Genesis 1".
#include "data/sources/formats.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { FIRST_BITS = 9, MAX_BITS = 16, CLEAR = 256, FIRST_FREE = 257 };
enum { TABLE_AT = 0x54, WINDOW_LIMIT = 1 << 20, WINDOWS_LIMIT = 4096, BOOKS = 66 };

static const char HINT[] = "delete the cache's directory text/kjv, it will be fetched again";

// The file has short names only ("Ge", "1Sm"); books come in this order.
static const char *const BOOK_NAMES[BOOKS] = {"Genesis",
                                              "Exodus",
                                              "Leviticus",
                                              "Numbers",
                                              "Deuteronomy",
                                              "Joshua",
                                              "Judges",
                                              "Ruth",
                                              "1 Samuel",
                                              "2 Samuel",
                                              "1 Kings",
                                              "2 Kings",
                                              "1 Chronicles",
                                              "2 Chronicles",
                                              "Ezra",
                                              "Nehemiah",
                                              "Esther",
                                              "Job",
                                              "Psalms",
                                              "Proverbs",
                                              "Ecclesiastes",
                                              "Song of Solomon",
                                              "Isaiah",
                                              "Jeremiah",
                                              "Lamentations",
                                              "Ezekiel",
                                              "Daniel",
                                              "Hosea",
                                              "Joel",
                                              "Amos",
                                              "Obadiah",
                                              "Jonah",
                                              "Micah",
                                              "Nahum",
                                              "Habakkuk",
                                              "Zephaniah",
                                              "Haggai",
                                              "Zechariah",
                                              "Malachi",
                                              "Matthew",
                                              "Mark",
                                              "Luke",
                                              "John",
                                              "Acts",
                                              "Romans",
                                              "1 Corinthians",
                                              "2 Corinthians",
                                              "Galatians",
                                              "Ephesians",
                                              "Philippians",
                                              "Colossians",
                                              "1 Thessalonians",
                                              "2 Thessalonians",
                                              "1 Timothy",
                                              "2 Timothy",
                                              "Titus",
                                              "Philemon",
                                              "Hebrews",
                                              "James",
                                              "1 Peter",
                                              "2 Peter",
                                              "1 John",
                                              "2 John",
                                              "3 John",
                                              "Jude",
                                              "Revelation"};

// --- LZW ---

// Codes come in groups of 8, hence of `width` bytes; a change of width skips what is left of the
// group. This is an accident of the original program that every decoder has to follow.
typedef struct CodeReader {
    const unsigned char *data;
    size_t bytes, group;  // group: where the current group of 8 codes starts
    int in_group, width;
} CodeReader;

// The next code, least significant bit first; -1 at the end of the data.
static int code_next(CodeReader *r) {
    if (r->in_group == 8) {
        r->group += (size_t)r->width;
        r->in_group = 0;
    }
    size_t bit = (size_t)r->in_group * (size_t)r->width;
    size_t at = r->group + bit / 8, last = r->group + (bit + (size_t)r->width - 1) / 8;
    if (last >= r->bytes) return -1;
    uint32_t v = 0;
    for (size_t i = at; i <= last; i++) v |= (uint32_t)r->data[i] << (8 * (i - at));
    r->in_group++;
    return (int)(v >> bit % 8 & ((1u << r->width) - 1));
}

// Goes on with codes of another width, from the next whole group.
static void code_width(CodeReader *r, int width) {
    if (r->in_group > 0) r->group += (size_t)r->width;
    r->in_group = 0;
    r->width = width;
}

// A code stands for the string of another code and one more byte.
typedef struct LzwTable {
    uint16_t prefix[1 << MAX_BITS];
    unsigned char last[1 << MAX_BITS];
    unsigned char stack[1 << MAX_BITS];  // a string, from its end
    int next;
} LzwTable;

// Appends the string of `code`; returns its first byte.
static unsigned char lzw_emit(const LzwTable *t, unsigned char *stack, TextBuf *out, int code) {
    size_t n = 0;
    while (code >= FIRST_FREE) {
        stack[n++] = t->last[code];
        code = t->prefix[code];
    }
    stack[n++] = (unsigned char)code;
    for (size_t i = n; i > 0; i--) textbuf_char(out, (char)stack[i - 1]);
    return (unsigned char)code;
}

// The decoder's loop: its table follows the encoder's one step behind.
static Status lzw_run(LzwTable *t, CodeReader *r, TextBuf *out, size_t end) {
    int previous = -1;
    while (out->bytes < end) {
        if (t->next >= 1 << r->width && r->width < MAX_BITS) code_width(r, r->width + 1);
        int code = code_next(r);
        if (code == CLEAR) {
            code_width(r, FIRST_BITS);
            t->next = FIRST_FREE;
            previous = -1;
            continue;
        }
        if (code < 0) return OK;
        // The only code that may be one ahead is the string of the previous one and its own first
        // byte.
        bool ahead = code == t->next && previous >= 0;
        if ((code >= t->next && !ahead) || (previous < 0 && code > 255)) {
            FAIL(E_FORMAT, HINT, "corrupt compressed text");
        }
        unsigned char first = lzw_emit(t, t->stack, out, ahead ? previous : code);
        if (ahead) textbuf_char(out, (char)first);
        if (previous >= 0 && t->next < 1 << MAX_BITS) {
            t->prefix[t->next] = (uint16_t)previous;
            t->last[t->next++] = first;
        }
        previous = code;
    }
    return OK;
}

Status lzw_decode(TextBuf *out, const unsigned char *data, size_t bytes, size_t expected) {
    LzwTable *t = malloc(sizeof *t);
    if (t == NULL) FAIL(E_NOMEM, "free some memory", "no memory to decompress");
    t->next = FIRST_FREE;
    CodeReader r = {data, bytes, 0, 0, FIRST_BITS};
    Status st = lzw_run(t, &r, out, out->bytes + expected);
    free(t);
    return st;
}

// --- the file of windows ---

static uint32_t u32_at(TextSpan file, size_t at) {
    const unsigned char *p = (const unsigned char *)file.at + at;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

// All windows, one after another, give the whole text.
static Status windows_decode(TextBuf *out, TextSpan file, const char *path) {
    if (file.bytes < TABLE_AT + 12 || !span_starts(file, "EC02")) {
        FAIL(E_FORMAT, HINT, "%s: not a file of the bible program", path);
    }
    size_t window = u32_at(file, TABLE_AT), count = u32_at(file, TABLE_AT + 4);
    const size_t offsets = TABLE_AT + 8;
    if (window == 0 || window > WINDOW_LIMIT || count == 0 || count > WINDOWS_LIMIT ||
        file.bytes < offsets + 4 * (count + 1)) {
        FAIL(E_FORMAT, HINT, "%s: impossible table of windows", path);
    }
    for (size_t w = 0; w < count; w++) {
        size_t begin = u32_at(file, offsets + 4 * w), end = u32_at(file, offsets + 4 * w + 4);
        if (begin > end || end > file.bytes) FAIL(E_FORMAT, HINT, "%s: corrupt offsets", path);
        const unsigned char *data = (const unsigned char *)file.at + begin;
        size_t before = out->bytes;
        Status st = lzw_decode(out, data, end - begin, window);
        if (st != OK) return err_context(st, "%s, window %zu", path, w);
        size_t made = out->bytes - before;
        if (made > window || (made < window && w + 1 < count)) {  // all but the last are full
            FAIL(E_FORMAT, HINT, "%s: window %zu has %zu bytes", path, w, made);
        }
    }
    return OK;
}

// --- verses to chapters ---

typedef struct Verse {
    TextSpan book, text;
    long chapter, number;
} Verse;

// "1Jn3:14 We know ...": letters (after at most one digit), chapter, verse.
static bool verse_parse(Verse *v, TextSpan line) {
    size_t i = line.bytes > 0 && isdigit((unsigned char)line.at[0]) ? 1 : 0;
    while (i < line.bytes && isalpha((unsigned char)line.at[i])) i++;
    v->book = (TextSpan){line.at, i};
    long numbers[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        size_t first = i;
        for (; i < line.bytes && i < first + 4 && isdigit((unsigned char)line.at[i]); i++) {
            numbers[k] = numbers[k] * 10 + (line.at[i] - '0');
        }
        if (i == first || i == line.bytes || line.at[i] != (k == 0 ? ':' : ' ')) return false;
        i++;
    }
    v->chapter = numbers[0];
    v->number = numbers[1];
    v->text = span_trim((TextSpan){line.at + i, line.bytes - i});
    return v->book.bytes > 0;
}

// The chapter being collected.
typedef struct Chapter {
    DocList *docs;
    TextBuf text;
    char title[64], code[16];  // code: the file's short name of the book
    int book;
    long number;
    uint32_t source;
    int64_t limit, bytes;
} Chapter;

// Hands the collected chapter over; true when the limit is reached.
static bool chapter_end(Chapter *c) {
    if (c->text.bytes == 0) return false;
    uint64_t id = doc_id(c->source, (uint32_t)c->book, (uint32_t)c->number);
    TextSpan text = {c->text.text, c->text.bytes};
    bool full = doclist_take(c->docs, id, c->title, text, c->limit, &c->bytes);
    textbuf_clear(&c->text);
    return full;
}

// Adds a verse; true when the limit is reached.
static bool chapter_verse(Chapter *c, const Verse *v) {
    bool same_book = span_same(v->book, c->code);
    bool full = false;
    if (!same_book || v->chapter != c->number) {
        full = chapter_end(c);
        if (!same_book && c->book + 1 < BOOKS) c->book++;
        snprintf(c->code, sizeof c->code, "%.*s", (int)v->book.bytes, v->book.at);
        c->number = v->chapter;
        snprintf(c->title, sizeof c->title, "%s %ld", BOOK_NAMES[c->book], c->number);
        textbuf_puts(&c->text, c->title);
        textbuf_puts(&c->text, "\n\n");
    }
    char number[32];
    snprintf(number, sizeof number, "%ld ", v->number);
    textbuf_puts(&c->text, number);
    textbuf_add(&c->text, v->text.at, v->text.bytes);
    textbuf_char(&c->text, '\n');
    return full;
}

Status kjv_read(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes) {
    static const char *const DATA[] = {"bible.data", NULL};
    Chapter chapter = {.docs = docs, .book = -1, .source = source, .limit = limit_bytes};
    TextBuf all = {0};
    FileList files = {0};
    char *data = NULL, path[PATH_BYTES];
    size_t bytes = 0;
    Status st = OK;
    TRY_GOTO(filelist_read(&files, dir, DATA));
    if (files.count == 0) {
        st = err_set(E_FORMAT, HINT, "%s: no bible.data in it", dir);
        goto done;
    }
    path_join(path, dir, files.paths[0]);
    TRY_GOTO(file_read(path, &data, &bytes));
    TRY_GOTO(windows_decode(&all, (TextSpan){data, bytes}, path));
    TextSpan rest = {all.text, all.bytes}, line;
    bool full = false;
    while (!full && line_next(&rest, &line)) {
        Verse v;
        if (verse_parse(&v, line)) full = chapter_verse(&chapter, &v);
    }
    if (!full) chapter_end(&chapter);
done:
    textbuf_free(&chapter.text);
    textbuf_free(&all);
    filelist_free(&files);
    free(data);
    return st;
}
