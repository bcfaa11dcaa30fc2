// Every format against stored texts, and against input that is damaged, endless or hostile.
#include "data/sources/formats.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/clock.h"
#include "base/rng.h"
#include "tests/ref/tree.h"

// --- stored texts: golden/data/NAME is an unpacked package, NAME.expected its documents ---

static void check_golden(const char *name, SourceReader *read) {
    char path[PATH_BYTES], *expected;
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/data/%s", name);
    DocList docs = {0};
    cr_assert_eq(read(&docs, path, 3, 0), OK, "%s: %s", name, err_message());
    TextBuf all = {0};
    for (size_t i = 0; i < docs.count; i++) {
        char head[160];
        snprintf(head, sizeof head, "%%%% %llx %s\n", (unsigned long long)docs.docs[i].id,
                 docs.docs[i].title);
        textbuf_puts(&all, head);
        textbuf_add(&all, docs.docs[i].text, docs.docs[i].bytes);
    }
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/data/%s.expected", name);
    cr_assert_eq(file_read(path, &expected, NULL), OK, "%s", err_message());
    cr_assert_str_eq(all.text, expected, "%s", name);
    free(expected);
    textbuf_free(&all);
    doclist_free(&docs);
}

Test(extract, austen_gives_six_titled_novels) {
    check_golden("austen", austen_read);
}
Test(extract, kjv_decodes_the_original_codes) {
    check_golden("kjv", kjv_read);
}
Test(extract, pod_keeps_text_and_drops_markup) {
    check_golden("pod", pod_read);
}
Test(extract, rst_keeps_text_and_drops_markup) {
    check_golden("rst", rst_read);
}
Test(extract, dictionary_entries_appear_once) {
    check_golden("foldoc", dictd_read);
}
Test(extract, jargon_is_cut_into_entries) {
    check_golden("jargon", jargon_read);
}
Test(extract, history_is_cut_into_chapters) {
    check_golden("history", history_read);
}

// --- LZW against an encoder of its own ---

// As compress(1) writes it: groups of 8 codes, the table is full at 16 bits and then stays, or is
// cleared.
typedef struct Encoder {
    TextBuf out;
    int width, in_group, next;
    unsigned char group[16];
} Encoder;

static void encoder_flush(Encoder *e, int bytes) {
    textbuf_add(&e->out, (char *)e->group, (size_t)bytes);
    memset(e->group, 0, sizeof e->group);
    e->in_group = 0;
}

static void encoder_code(Encoder *e, int code) {
    for (int b = 0; b < e->width; b++) {
        int bit = e->in_group * e->width + b;
        e->group[bit / 8] |= (unsigned char)((code >> b & 1) << bit % 8);
    }
    if (++e->in_group == 8) encoder_flush(e, e->width);
}

static void encoder_width(Encoder *e, int width) {
    if (e->in_group > 0) encoder_flush(e, e->width);
    e->width = width;
}

// Strings are found by searching the table: slow and plain.
static void lzw_encode(TextBuf *out, const unsigned char *data, size_t bytes, size_t clear_every) {
    Encoder e = {.width = 9, .next = 257};
    int *child = malloc(sizeof(int) * 65536 * 256);
    memset(child, 0, sizeof(int) * 65536 * 256);
    int code = data[0];
    size_t since_clear = 0;
    for (size_t i = 1; i < bytes; i++) {
        int *slot = &child[(size_t)code * 256 + data[i]];
        since_clear++;
        if (*slot != 0) {
            code = *slot;
            continue;
        }
        encoder_code(&e, code);
        if (e.next < 65536) *slot = e.next++;
        // The decoder's table is one entry behind.
        if (e.next - 1 >= 1 << e.width && e.width < 16) encoder_width(&e, e.width + 1);
        code = data[i];
        if (clear_every > 0 && since_clear >= clear_every) {
            encoder_code(&e, code);
            encoder_code(&e, 256);
            encoder_width(&e, 9);
            memset(child, 0, sizeof(int) * 65536 * 256);
            e.next = 257;
            since_clear = 0;
            if (++i == bytes) goto end;
            code = data[i];
        }
    }
    encoder_code(&e, code);
end:
    encoder_flush(&e, (e.in_group * e.width + 7) / 8);
    textbuf_add(out, e.out.text, e.out.bytes);
    textbuf_free(&e.out);
    free(child);
}

static void check_lzw(size_t bytes, int letters, size_t clear_every) {
    unsigned char *data = calloc(1, bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)(rng_u64(1, 2, i) % (uint64_t)letters);
    TextBuf codes = {0}, back = {0};
    lzw_encode(&codes, data, bytes, clear_every);
    cr_assert_eq(lzw_decode(&back, (unsigned char *)codes.text, codes.bytes, bytes), OK, "%s",
                 err_message());
    cr_assert_eq(back.bytes, bytes);
    cr_assert_eq(memcmp(back.text, data, bytes), 0, "%zu bytes of %d letters", bytes, letters);
    textbuf_free(&codes);
    textbuf_free(&back);
    free(data);
}

Test(lzw, round_trips_through_all_widths_and_a_full_table) {
    check_lzw(1, 256, 0);
    check_lzw(2, 1, 0);
    check_lzw(5000, 1, 0);  // every code is the one the decoder does not have yet
    check_lzw(3000, 2, 0);
    check_lzw(400000, 256, 0);  // more strings than the table holds
}

Test(lzw, round_trips_through_clears) {
    check_lzw(20000, 3, 1000);
    check_lzw(20000, 256, 777);
}

Test(lzw, random_codes_end_in_an_error_or_in_bounds) {
    for (uint64_t trial = 0; trial < 300; trial++) {
        unsigned char noise[512];
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = (unsigned char)rng_u64(7, trial, i);
        TextBuf out = {0};
        Status st = lzw_decode(&out, noise, sizeof noise, 10000);
        cr_assert(st == OK || st == E_FORMAT);
        cr_assert_lt(out.bytes, 10000 + 70000);
        textbuf_free(&out);
    }
}

// --- damaged packages ---

// Reads dir with one file of a golden source replaced.
static Status read_damaged(SourceReader *read, const char *name, const char *file, size_t cut,
                           size_t flip) {
    char path[PATH_BYTES], dir[] = "/tmp/sterna_extract_XXXXXX", *data;
    size_t bytes;
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/data/%s/%s", name, file);
    cr_assert_eq(file_read(path, &data, &bytes), OK);
    cr_assert_not_null(mkdtemp(dir));
    const char *slash = strrchr(file, '/');
    path_join(path, dir, slash + 1);
    if (flip < bytes) data[flip] ^= 0x55;
    cr_assert_eq(file_write(path, data, cut < bytes ? cut : bytes), OK);
    DocList docs = {0};
    Status st = read(&docs, dir, 1, 0);
    doclist_free(&docs);
    free(data);
    cr_assert_eq(tree_remove(dir), OK);
    return st;
}

static const char RDB[] = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb",
                  BIBLE[] = "usr/lib/bible.data";

Test(extract, truncated_databases_are_format_errors) {
    for (size_t cut = 1; cut < 700; cut += 61) {
        Status st = read_damaged(austen_read, "austen", RDB, cut, SIZE_MAX);
        cr_assert(st == E_FORMAT || st == OK, "whole records may be missing");
    }
    cr_assert_eq(read_damaged(austen_read, "austen", RDB, 50, SIZE_MAX), E_FORMAT);
    cr_assert_eq(read_damaged(kjv_read, "kjv", BIBLE, 90, SIZE_MAX), E_FORMAT);
    cr_assert_eq(read_damaged(kjv_read, "kjv", BIBLE, 1000, SIZE_MAX), E_FORMAT);
    cr_assert_eq(read_damaged(kjv_read, "kjv", BIBLE, SIZE_MAX, 0), E_FORMAT);
}

Test(extract, flipped_bytes_never_crash_a_reader) {
    for (size_t flip = 0; flip < 732; flip += 23) {
        Status st = read_damaged(austen_read, "austen", RDB, SIZE_MAX, flip);
        cr_assert(st == OK || st == E_FORMAT);
        st = read_damaged(kjv_read, "kjv", BIBLE, SIZE_MAX, flip < 160 ? flip : flip + 400);
        cr_assert(st == OK || st == E_FORMAT);
    }
}

Test(extract, an_empty_directory_is_a_format_error) {
    char dir[] = "/tmp/sterna_extract_XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    DocList docs = {0};
    cr_assert_eq(austen_read(&docs, dir, 0, 0), E_FORMAT);
    cr_assert_eq(kjv_read(&docs, dir, 0, 0), E_FORMAT);
    cr_assert_eq(dictd_read(&docs, dir, 0, 0), E_FORMAT);
    cr_assert_eq(pod_read(&docs, "/nowhere/at/all", 0, 0), E_IO);
    cr_assert_eq(docs.count, 0);
    rmdir(dir);
}

Test(extract, an_index_that_points_outside_is_refused) {
    char dir[] = "/tmp/sterna_extract_XXXXXX", path[PATH_BYTES];
    static const char *const BAD[] = {"word\tA\t99", "word\t//////\tB", "word",
                                      "word\tA",     "word\t*\tB",      "word\tAAAAAAAAAAAAA\tB"};
    cr_assert_not_null(mkdtemp(dir));
    DocList docs = {0};
    path_join(path, dir, "x.dict.dz");
    cr_assert_eq(file_write(path, "short text", 10), OK);
    path_join(path, dir, "x.index");
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        cr_assert_eq(file_write(path, BAD[i], strlen(BAD[i])), OK);
        cr_assert_eq(dictd_read(&docs, dir, 0, 0), E_FORMAT, "%s", BAD[i]);
        cr_assert_not_null(strstr(err_message(), "x.index:1"));
    }
    // Texts that overlap would have one id, and could be as many as lines of any length.
    static const char *const OVERLAP[] = {"a\tB\tC\nb\tB\tD\n", "a\tE\tC\nb\tA\tF\n"};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(file_write(path, OVERLAP[i], strlen(OVERLAP[i])), OK);
        cr_assert_eq(dictd_read(&docs, dir, 0, 0), E_FORMAT, "%s", OVERLAP[i]);
        cr_assert_not_null(strstr(err_message(), "overlap"));
    }
    cr_assert_eq(file_write(path, "word\tB\tC", 8), OK);
    cr_assert_eq(dictd_read(&docs, dir, 0, 0), OK);
    cr_assert_eq(docs.count, 1);
    cr_assert_str_eq(docs.docs[0].text, "ho\n");
    doclist_free(&docs);
    cr_assert_eq(tree_remove(dir), OK);
}

// --- limits ---

Test(extract, a_limited_read_takes_a_share_of_every_novel) {
    DocList docs = {0};
    cr_assert_eq(austen_read(&docs, TEST_SOURCE_DIR "/golden/data/austen", 0, 6 * 30), OK);
    cr_assert_eq(docs.count, 6);
    cr_assert_str_eq(docs.docs[5].title, "Persuasion");
    for (size_t i = 0; i < docs.count; i++) {
        cr_assert_leq(docs.docs[i].bytes, 30);
        cr_assert_eq(docs.docs[i].text[docs.docs[i].bytes - 1], '\n', "whole lines");
    }
    doclist_free(&docs);
}

Test(extract, other_sources_stop_after_the_document_that_passes_the_limit) {
    DocList docs = {0};
    cr_assert_eq(jargon_read(&docs, TEST_SOURCE_DIR "/golden/data/jargon", 0, 100), OK);
    cr_assert_eq(docs.count, 1);
    doclist_free(&docs);
}

// --- markup ---

static void check_markup(void (*convert)(TextBuf *, TextSpan), const char *in,
                         const char *expected) {
    TextBuf out = {0};
    textbuf_puts(&out, "");
    convert(&out, (TextSpan){in, strlen(in)});
    cr_assert_str_eq(out.text, expected, "from '%s'", in);
    textbuf_free(&out);
}

Test(pod, nested_and_unusual_codes) {
    check_markup(pod_to_text, "=pod\n\nC<<< a >> b >>> I<B<x> y>\n", "a >> b x y\n\n");
    check_markup(pod_to_text, "=pod\n\nC<a<b> 1 E<lt> 2 A<B\n", "a<b 1 < 2 B\n\n");
    check_markup(pod_to_text, "=pod\n\nL<perl(1)/\"A/B\"> L<< a|b >> L<x::y>\n",
                 "\"A/B\" in perl(1) a x::y\n\n");
    check_markup(pod_to_text, "=pod\n\nC<$a{'>'}>\n", "$a{''}>\n\n");
    check_markup(pod_to_text, "=pod", "");
    check_markup(pod_to_text, "=pod\n\nX<a> X<b>\n", "");  // a paragraph of nothing but blanks
    check_markup(pod_to_text, "=pod\n\na\n\nX<a> X<b>\n", "a\n\n");
    check_markup(pod_to_text, "", "");
    check_markup(pod_to_text, "no pod at all\n\nnone", "");
    check_markup(pod_to_text, "=item\n\n=item *\n\n=head1 X\n", "* \n* \nX\n\n");
}

Test(rst, inline_markup_needs_its_boundaries) {
    check_markup(rst_inline, "a*b*c and * alone and ** two", "a*b*c and * alone and ** two");
    check_markup(rst_inline, "(*x*) \"``y``\" -``z``-", "(x) \"y\" -z-");
    check_markup(rst_inline, ":func:`f` :func:`g()` :func:`t <mod.f>` :meth:`~A.b`",
                 "f() g() t b()");
    check_markup(rst_inline, ":file:`/a/{b}.txt` :samp:`{x}+1` :kbd:`C-c`", "/a/b.txt x+1 C-c");
    check_markup(rst_inline, "`text\n  <https://example.org>`__ and `plain`", "text and plain");
    check_markup(rst_inline, "a ``b` c :d: `", "a ``b` c :d: `");
    check_markup(rst_inline, "", "");
    check_markup(rst_inline, "\\", "\\");
}

// With a search to the end of the text at each of them this would take hours.
Test(rst, marks_that_open_nothing_are_passed_over) {
    enum { BYTES = 4 << 20 };
    char *text = malloc(BYTES);
    cr_assert_not_null(text);
    for (const char *mark = ":`*\\"; *mark != '\0'; mark++) {
        memset(text, *mark, BYTES);
        TextBuf out = {0};
        rst_inline(&out, (TextSpan){text, BYTES});
        cr_assert(out.bytes >= BYTES / 2 && out.bytes <= BYTES);
        textbuf_free(&out);
    }
    free(text);
}

Test(rst, blocks_at_the_end_of_the_text) {
    check_markup(rst_to_text, "a::", "a:\n");
    check_markup(rst_to_text, "..", "");
    check_markup(rst_to_text, ".. note::", "Note:\n");
    check_markup(rst_to_text, ".. function:: f()", "f()\n");
    check_markup(rst_to_text, "T\n===", "T\n");
    check_markup(rst_to_text, "====\nT\n====\n\nx", "T\n\nx\n");
    check_markup(rst_to_text, ".. c:function:: int f(*x*)\n\n   b\n", "int f(x)\n\n   b\n");
}

Test(rst, grid_tables_become_rows_of_cells) {
    check_markup(rst_to_text,
                 "+-----+-----------+\n| A   | ``b c``   |\n+=====+===========+\n"
                 "| \xc3\xa9   | :func:`f  |\n|     | <m.f>`    |\n+-----+-----------+\n"
                 "| spans both      |\n+-----+-----------+\n\nend\n",
                 "A | b c\n\xc3\xa9 | f\nspans both\n\nend\n");
    check_markup(rst_to_text, "   +--+--+\n   |a |b |\n", "   a | b\n");
    check_markup(rst_to_text, "+--+\n", "");
    check_markup(rst_to_text, "+--+\n|\n+\n||||\n", "||\n");
}

// A parser that looks for the end of every opened mark would need hours for these.
Test(extract, hostile_markup_takes_linear_time) {
    static const char *const UNITS[] = {"C<",     "L<<  ",       "*a ",  "``a ",
                                        ":a:`b ", "=item *\n\n", "`a <", "a::\n\n b\n\n"};
    double begin = clock_s();
    for (size_t u = 0; u < sizeof UNITS / sizeof *UNITS; u++) {
        TextBuf in = {0}, out = {0};
        textbuf_puts(&in, "=pod\n\n");
        while (in.bytes < 200000) textbuf_puts(&in, UNITS[u]);
        pod_to_text(&out, (TextSpan){in.text, in.bytes});
        rst_to_text(&out, (TextSpan){in.text, in.bytes});
        textbuf_free(&in);
        textbuf_free(&out);
    }
    cr_assert_lt(clock_s() - begin, 20);
}

// --- small parts ---

Test(extract, lines_and_slices) {
    TextSpan rest = {"a\r\n\nb", 5}, line;
    cr_assert(line_next(&rest, &line) && span_same(line, "a"));
    cr_assert(line_next(&rest, &line) && line.bytes == 0);
    cr_assert(line_next(&rest, &line) && span_same(line, "b"));
    cr_assert_not(line_next(&rest, &line));
    cr_assert_eq(span_indent((TextSpan){" \t x", 4}), 9);
    char cut[5];
    span_copy(cut, sizeof cut, (TextSpan){"ab\xc3\xa9\xc3\xa9", 6}, 99);
    cr_assert_str_eq(cut, "ab\xc3\xa9");
    span_copy(cut, sizeof cut, (TextSpan){"abc\xc3\xa9", 5}, 4);
    cr_assert_str_eq(cut, "abc");
}

Test(extract, code_points_become_utf8) {
    static const struct {
        uint32_t code;
        const char *utf8;
    } C[] = {{'a', "a"},
             {0xE9, "\xc3\xa9"},
             {0x20AC, "\xe2\x82\xac"},
             {0x1F600, "\xf0\x9f\x98\x80"},
             {0, "\xef\xbf\xbd"},
             {0xD800, "\xef\xbf\xbd"},
             {0x110000, "\xef\xbf\xbd"}};
    for (size_t i = 0; i < sizeof C / sizeof *C; i++) {
        TextBuf b = {0};
        textbuf_code_point(&b, C[i].code);
        cr_assert_str_eq(b.text, C[i].utf8);
        textbuf_free(&b);
    }
}
