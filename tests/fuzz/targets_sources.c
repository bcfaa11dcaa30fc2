// The formats behind the named sources: as pure functions where they are, and through the readers
// of the table.
#include <stdlib.h>
#include <string.h>

#include "data/sources/formats.h"
#include "data/sources/sources.h"
#include "fuzz.h"

#define GOLDEN "tests/golden/data/"

// --- functions of a text ---

// Markup goes and labels come: a text does not grow beyond what a label is worth.
static void convert(void (*to_text)(TextBuf *out, TextSpan text), const uint8_t *data,
                    size_t bytes) {
    TextBuf out = {0};
    to_text(&out, (TextSpan){(const char *)data, bytes});
    ASSERT(out.bytes <= 64 * bytes + 64 && (out.text == NULL || out.text[out.bytes] == '\0'));
    textbuf_free(&out);
}

static void run_pod(const uint8_t *data, size_t bytes) {
    convert(pod_to_text, data, bytes);
}
static void run_rst(const uint8_t *data, size_t bytes) {
    convert(rst_to_text, data, bytes);
}
static void run_rst_inline(const uint8_t *data, size_t bytes) {
    convert(rst_inline, data, bytes);
}

static void seed_rst(void) {
    fuzz_seed_texts((const char *const[]){
        "Title\n=====\n\n.. note:: see\n   :opt: x\n\n   body\n\n+---+---+\n| a | b "
        "|\n+===+===+\n| c     |\n+---+---+\n\nExample::\n\n    code\n",
        ".. function:: f(x)\n              g(y)\n   :noindex:\n\n.. versionadded:: 3.2\n   "
        "text\n\n.. [1] foot\n.. _target:\n",
        NULL});
}

static void seed_inline(void) {
    fuzz_seed_texts((const char *const[]){
        ":func:`~a.b` *em* **strong** ``lit`` `text <url>`_ [1]_ \\* :pep:`8` :samp:`{x}`", NULL});
}

// --- functions of bytes ---

static void run_r_strings(const uint8_t *data, size_t bytes) {
    TextBuf out = {0};
    if (r_strings(&out, data, bytes, "input") == OK) ASSERT(out.bytes <= 2 * bytes);
    textbuf_free(&out);
}

static void seed_r_strings(void) {
    static const char V2[] =
        "X\n\0\0\0\2\0\4\3\1\0\2\3\0\0\0\0\20\0\0\0\2\0\4\0\11\0\0\0\1a\0\4\0\11\377\377\377\377";
    static const char V3[] =
        "X\n\0\0\0\3\0\4\3\1\0\3\5\0\0\0\0\5UTF-8\0\0\0\20\0\0\0\1\0\4\0\11\0\0\0\2ab";
    fuzz_seed(V2, sizeof V2 - 1);
    fuzz_seed(V3, sizeof V3 - 1);
}

static void run_lzw(const uint8_t *data, size_t bytes) {
    enum { EXPECTED = 1 << 16 };
    TextBuf out = {0};
    (void)!lzw_decode(&out, data, bytes, EXPECTED);
    ASSERT(out.bytes <= 2 * EXPECTED);
    textbuf_free(&out);
}

static void seed_lzw(void) {
    fuzz_seed("\x61\x02\x0A\x1C\x48\xB0\xA0\xC1\x83\x08\x13\x2A\x5C", 13);
}

// --- readers of a directory ---

static void extract(const char *source, const char *const *names, const uint8_t *data,
                    size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes};
    for (; *names != NULL; names++) {
        FuzzPart part = fuzz_part(&rest);
        fuzz_file(*names, part.at, part.bytes);
    }
    DocList docs = {0};
    Status st = source_find(source)->read(&docs, fuzz_dir(), 1, 0);
    uint64_t last = 0;
    for (size_t i = 0; i < docs.count; i++) {
        const Doc *d = &docs.docs[i];
        ASSERT(d->bytes > 0 && memchr(d->title, '\0', sizeof d->title) != NULL &&
               doc_id(1, 0, 0) <= d->id);
        if (strcmp(source, "kjv") != 0)
            ASSERT(i == 0 || d->id > last);  // there a file may repeat a chapter
        last = d->id;
    }
    if (st == OK) ASSERT(docs_normalise(&docs, 0.01, NULL) == OK);
    doclist_free(&docs);
}

#define READER(name, ...)                                                                          \
    static void run_##name(const uint8_t *data, size_t bytes) {                                    \
        extract(#name, (const char *const[]){__VA_ARGS__, NULL}, data, bytes);                     \
    }
READER(austen, "usr/lib/R/Rdata.rdb")
READER(kjv, "usr/lib/bible.data")
READER(foldoc, "a.index", "a.dict.dz")
READER(jargon, "jargon.txt", "more.txt.gz")
READER(history, "history.txt", "more.txt.gz")

static void seed_foldoc(void) {
    fuzz_seed_texts((const char *const[]){"00databaseinfo\tA\tF\nword\tF\tU\nother\tF\tU\n\n%%%%"
                                          "\ninfo\nword\n\n   <field> A {word} and {x;y}.\n\n",
                                          NULL});
}

static void seed_books(void) {
    fuzz_seed_texts((const char *const[]){
        "Contents\n\nChapter 1. First\n=====\n\n   :baroque: adj. A {term}\n   "
        "\xE2\x94\x80\xE2\x94\x80 x\n\nAppendix A\n   (The next cartoon\n   x\n\n   y\n",
        NULL});
}

const FuzzTarget SOURCE_TARGETS[] = {
    {"pod", run_pod, NULL, GOLDEN "pod/usr/share/perl/5.36.0/pod/*.pod"},
    {"rst", run_rst, seed_rst, GOLDEN "rst/usr/share/doc/python3.11/html/_sources/library/*.txt"},
    {"rst_inline", run_rst_inline, seed_inline, NULL},
    {"r_strings", run_r_strings, seed_r_strings, NULL},
    {"lzw", run_lzw, seed_lzw, NULL},
    {"austen", run_austen, NULL, GOLDEN "austen/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"},
    {"kjv", run_kjv, NULL, GOLDEN "kjv/usr/lib/bible.data"},
    {"foldoc", run_foldoc, seed_foldoc,
     GOLDEN "foldoc/usr/share/dictd/foldoc.index+" GOLDEN "foldoc/usr/share/dictd/foldoc.dict.dz"},
    {"jargon", run_jargon, seed_books, NULL},
    {"history", run_history, seed_books,
     GOLDEN "history/usr/share/doc/debian-history/dedication/*.txt"},
    {NULL, NULL, NULL, NULL},
};
