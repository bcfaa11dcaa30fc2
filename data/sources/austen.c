// Jane Austen's six novels from the R package janeaustenr. R stores a package's data in Rdata.rdb:
// records of a big-endian u32 (inflated size) and a zlib stream, each the serialisation of one
// object (R Internals, "Serialization Formats"). The objects here are character vectors, one string
// a line of the book.
#include "data/sources/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"

enum { R_STRSXP = 16, R_CHARSXP = 9, R_TYPE_MASK = 0xFF, NOVELS = 6 };
enum { RECORD_LIMIT = 16 << 20, TITLE_LINES_BYTES = 200 };

static const char HINT[] = "delete the cache's directory text/austen, it will be fetched again";

// Titles as people write them, and how each book's first lines give them (upper case).
static const struct {
    const char *title, *heading;
} BOOKS[NOVELS] = {{"Sense & Sensibility", "SENSE AND SENSIBILITY"},
                   {"Pride & Prejudice", "PRIDE AND PREJUDICE"},
                   {"Mansfield Park", "MANSFIELD PARK"},
                   {"Emma", "EMMA"},
                   {"Northanger Abbey", "NORTHANGER ABBEY"},
                   {"Persuasion", "PERSUASION"}};

static uint32_t u32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

// A cursor over untrusted bytes: one failure sticks, and then everything reads as zero.
typedef struct Xdr {
    const unsigned char *at;
    size_t left;
    bool failed;
} Xdr;

static uint32_t xdr_u32(Xdr *x) {
    if (x->left < 4) x->failed = true;
    if (x->failed) return 0;
    uint32_t v = u32(x->at);
    x->at += 4;
    x->left -= 4;
    return v;
}

static const char *xdr_bytes(Xdr *x, size_t bytes) {
    if (x->left < bytes) x->failed = true;
    if (x->failed) return NULL;
    const char *p = (const char *)x->at;
    x->at += bytes;
    x->left -= bytes;
    return p;
}

// "X\n", version, writer's version, oldest reader; version 3 adds the name of the native encoding.
static void xdr_header(Xdr *x) {
    const char *magic = xdr_bytes(x, 2);
    if (magic == NULL || memcmp(magic, "X\n", 2) != 0) x->failed = true;
    uint32_t version = xdr_u32(x);
    xdr_u32(x);
    xdr_u32(x);
    if (version == 3) {
        xdr_bytes(x, xdr_u32(x));
    } else if (version != 2) {
        x->failed = true;
    }
}

Status r_strings(TextBuf *out, const unsigned char *data, size_t bytes, const char *name) {
    Xdr x = {data, bytes, false};
    xdr_header(&x);
    if ((xdr_u32(&x) & R_TYPE_MASK) != R_STRSXP) x.failed = true;
    uint32_t count = xdr_u32(&x);
    for (uint32_t i = 0; i < count && !x.failed; i++) {
        if ((xdr_u32(&x) & R_TYPE_MASK) != R_CHARSXP) x.failed = true;
        uint32_t length = xdr_u32(&x);
        if (length == UINT32_MAX) length = 0;  // NA, a missing string
        // The cursor checks the length against what is left: no allocation by a lie.
        const char *text = xdr_bytes(&x, length);
        if (text != NULL) textbuf_add(out, text, length);
        textbuf_char(out, '\n');
    }
    if (x.failed) FAIL(E_FORMAT, HINT, "%s: not a serialised character vector", name);
    return OK;
}

// Inflates the record at `data`; *used: its whole length in the file.
static Status record_inflate(unsigned char **out, size_t *out_bytes, size_t *used, TextSpan data,
                             const char *name) {
    const unsigned char *p = (const unsigned char *)data.at;
    size_t size = data.bytes < 4 ? 0 : u32(p);
    if (size == 0 || size > RECORD_LIMIT) FAIL(E_FORMAT, HINT, "%s: corrupt record size", name);
    *out = malloc(size);
    if (*out == NULL) FAIL(E_NOMEM, "free some memory", "%s: no memory to read it", name);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)(p + 4),  // zlib's pointer is not const
                  .avail_in = (uInt)(data.bytes - 4),
                  .next_out = *out,
                  .avail_out = (uInt)size};
    int rc = inflateInit(&z);
    if (rc == Z_OK) {
        rc = inflate(&z, Z_FINISH);
        inflateEnd(&z);
    }
    *out_bytes = z.total_out;
    *used = 4 + z.total_in;
    if (rc != Z_STREAM_END || z.total_out != size) FAIL(E_FORMAT, HINT, "%s: corrupt record", name);
    return OK;
}

// Which novel begins like this? -1: none. By the first line that is not blank.
static int book_find(const TextBuf *text) {
    TextSpan rest = {text->text, text->bytes < TITLE_LINES_BYTES ? text->bytes : TITLE_LINES_BYTES};
    TextSpan line = {NULL, 0};
    while (line_next(&rest, &line) && span_blank(line)) continue;
    line = span_trim(line);
    for (int b = 0; b < NOVELS; b++) {
        size_t n = strlen(BOOKS[b].heading);
        bool same = line.bytes == n;
        for (size_t i = 0; i < n && same; i++) {
            char c = line.at[i];
            same = BOOKS[b].heading[i] == (c >= 'a' && c <= 'z' ? c - 32 : c);
        }
        if (same) return b;
    }
    return -1;
}

// One record of the file to one novel; twice the same or an unknown one is damage.
static Status record_read(TextBuf books[NOVELS], size_t *used, TextSpan data, const char *name) {
    unsigned char *raw = NULL;
    size_t raw_bytes = 0;
    TextBuf text = {0};
    Status st = record_inflate(&raw, &raw_bytes, used, data, name);
    if (st == OK) st = r_strings(&text, raw, raw_bytes, name);
    int book = st == OK ? book_find(&text) : -1;
    if (st == OK && (book < 0 || books[book].bytes > 0)) {
        st = err_set(E_FORMAT, HINT, "%s: a record that is none of the six novels", name);
    }
    if (st == OK) {
        books[book] = text;
        text = (TextBuf){0};
    }
    free(raw);
    textbuf_free(&text);
    return st;
}

// A limited read takes the same share of every novel, so that one which is held out is never
// missing.
static TextSpan share(const TextBuf *book, int64_t limit_bytes) {
    TextSpan s = {book->text, book->bytes};
    size_t most = (size_t)(limit_bytes / NOVELS);
    if (limit_bytes <= 0 || s.bytes <= most) return s;
    s.bytes = most;
    while (s.bytes > 0 && s.at[s.bytes - 1] != '\n') s.bytes--;
    return s;
}

Status austen_read(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes) {
    static const char *const DATABASE[] = {"Rdata.rdb", NULL};
    TextBuf books[NOVELS] = {{0}};
    FileList files = {0};
    char *data = NULL, path[PATH_BYTES];
    size_t bytes = 0;
    Status st = filelist_read(&files, dir, DATABASE);
    if (st == OK && files.count > 0) {
        path_join(path, dir, files.paths[0]);
        st = file_read(path, &data, &bytes);
    }
    if (st == OK && data == NULL) st = err_set(E_FORMAT, HINT, "%s: no Rdata.rdb in it", dir);
    for (size_t at = 0, used = 0; st == OK && at < bytes; at += used) {
        st = record_read(books, &used, (TextSpan){data + at, bytes - at}, path);
    }
    // In the order of the table, not of the file; the file number of the id is the row.
    for (uint32_t b = 0; b < NOVELS; b++) {
        TextSpan text = share(&books[b], limit_bytes);
        int64_t ignored = 0;
        if (st == OK) {
            doclist_take(docs, doc_id(source, b, 0), BOOKS[b].title, text, 0, &ignored);
        }
        textbuf_free(&books[b]);
    }
    free(data);
    filelist_free(&files);
    return st;
}
