// Normalisation: each rule, idempotence on random input, what is dropped.
#include "data/sources/sources.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static void check_n(const char *in, size_t bytes, const char *expected) {
    size_t n;
    char *out = normalise_text(in, bytes, &n, NULL);
    cr_assert_not_null(out);
    cr_assert_str_eq(out, expected, "from '%s'", in);
    cr_assert_eq(n, strlen(expected));
    free(out);
}
static void check(const char *in, const char *expected) {
    check_n(in, strlen(in), expected);
}

Test(normalise, line_ends_become_lf) {
    check("a\r\nb\rc\nd", "a\nb\nc\nd");
    check("a\xc2\x85"
          "b\xe2\x80\xa8"
          "c\xe2\x80\xa9"
          "d",
          "a\nb\nc\nd");
    check("a\r\r\nb", "a\n\nb");
}

Test(normalise, blanks_are_trimmed_and_runs_of_blank_lines_shortened) {
    check("a  \t\n  b \n", "a\n  b");
    check("\n \n\na\n\n\n\n\n\nb\n\nc\n\n\n", "a\n\n\nb\n\nc");
    check("", "");
    check(" \n\t\n", "");
    check("x", "x");
}

Test(normalise, composes_but_never_compatibly) {
    check("e\xcc\x81", "\xc3\xa9");                     // e + acute
    check("\xe1\x84\x80\xe1\x85\xa1", "\xea\xb0\x80");  // Hangul jamo
    check("\xef\xac\x81", "\xef\xac\x81");              // the ligature fi stays
    check("\xe2\x84\xab", "\xc3\x85");                  // ANGSTROM SIGN is canonically Å
    check("e\xe2\x80\x8b\xcc\x81", "\xc3\xa9");  // what is taken out lets its neighbours compose
}

Test(normalise, what_does_not_show_goes) {
    check_n("a\0b\x01"
            "c\x7f"
            "d",
            7, "abcd");
    check("so\xc2\xad"
          "ft",
          "soft");
    check("\xef\xbb\xbf"
          "bom",
          "bom");
    check("a\xe2\x80\xae"
          "b\xe2\x81\xa6"
          "c",
          "abc");  // bidirectional controls
    check("a\xee\x80\x80"
          "b\xf4\x8f\xbf\xbd"
          "c",
          "abc");  // private use
    check("a\xef\xbf\xbe"
          "b\xf0\x9f\xbf\xbf"
          "c",
          "abc");  // noncharacters
    check("a\xe2\x80\x8d"
          "b",
          "ab");  // a joiner between Latin letters
    check("\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb",
          "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb");
}

Test(normalise, spaces_become_plain_and_tabs_stay) {
    check("a\xc2\xa0"
          "b\xe3\x80\x80"
          "c\xe2\x80\x89"
          "d\te",
          "a b c d\te");
    check("end\xc2\xa0\n", "end");
}

Test(normalise, invalid_bytes_become_replacement_characters) {
    check("a\xff"
          "b",
          "a\xef\xbf\xbd"
          "b");
    check("\xc3", "\xef\xbf\xbd");
    check("\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd");                  // overlong
    check("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
    check("ok\xf0\x9f\x98", "ok\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

Test(normalise, is_idempotent_on_anything) {
    static const char *const PIECES[] = {"a",
                                         " ",
                                         "\n",
                                         "\r",
                                         "\t",
                                         "e\xcc\x81",
                                         "\xcc\x81",
                                         "\xc2\xa0",
                                         "\xff",
                                         "\xe2\x80\x8d",
                                         "\xe2\x80\x8b",
                                         "\xe2\x84\xab",
                                         "\xf0\x9f\x91\xa9",
                                         "\xd9\x84",
                                         "\xe1\x84\x80",
                                         "\xe1\x85\xa1",
                                         "\xef\xbb\xbf",
                                         "\xe2\x80\xa8",
                                         "\xc3",
                                         "\xf0\xaf\xa0\x80",
                                         "\xe0\xbd\xb3",
                                         "\xe2\x80\x80"};
    enum { COUNT = sizeof PIECES / sizeof *PIECES };
    for (uint64_t trial = 0; trial < 3000; trial++) {
        char text[256] = "";
        uint64_t pieces = rng_u64(3, trial, 0) % 40;
        for (uint64_t i = 1; i <= pieces; i++) strcat(text, PIECES[rng_u64(3, trial, i) % COUNT]);
        size_t n1, n2;
        char *once = normalise_text(text, strlen(text), &n1, NULL);
        NormaliseCounts c = {0};
        char *twice = normalise_text(once, n1, &n2, &c);
        cr_assert_str_eq(twice, once, "trial %llu", (unsigned long long)trial);
        cr_assert_eq(n1, n2);
        cr_assert_eq(c.invalid_bytes + c.removed_chars + c.spaces + c.blank_lines, 0);
        free(once);
        free(twice);
    }
}

Test(normalise, a_list_loses_empty_and_garbled_documents_and_keeps_ids) {
    DocList l = {0};
    char mixed[203], garbled[200];
    memset(mixed, 'x', sizeof mixed);
    memcpy(garbled, mixed, sizeof garbled);
    mixed[7] = mixed[9] = '\xff';  // 2 of 203: under 1 %
    garbled[0] = garbled[1] = garbled[2] = '\xff';
    doclist_add(&l, 10, "good", "text\r\n", 6);
    doclist_add(&l, 11, "blank", " \n ", 3);
    doclist_add(&l, 12, "garbled", garbled, sizeof garbled);
    doclist_add(&l, 13, "mixed", mixed, sizeof mixed);
    NormaliseCounts c = {0};
    cr_assert_eq(docs_normalise(&l, 0.01, &c), OK);
    cr_assert_eq(l.count, 2);
    cr_assert_eq(l.docs[0].id, 10);
    cr_assert_str_eq(l.docs[0].text, "text");
    cr_assert_eq(l.docs[0].bytes, 4);
    cr_assert_eq(l.docs[1].id, 13);
    cr_assert_eq(l.docs[1].bytes, 201 + 2 * 3);
    cr_assert_eq(c.docs_in, 4);
    cr_assert_eq(c.docs_empty, 1);
    cr_assert_eq(c.docs_invalid, 1);
    cr_assert_eq(c.invalid_bytes, 5);
    doclist_free(&l);
    cr_assert_eq(docs_normalise(&l, 0.01, NULL), OK, "an empty list");
}

static void check_beginning(const char *in, const char *expected) {
    size_t n;
    char *out = normalise_beginning(in, strlen(in), &n);
    cr_assert_str_eq(out, expected, "from '%s'", in);
    cr_assert_eq(n, strlen(expected));
    free(out);
}

Test(normalise, a_beginning_keeps_what_it_ends_with) {
    check_beginning("", "");
    check_beginning("It was ", "It was ");
    check_beginning("\xef\xbb\xbfIt was\r\n", "It was\n");
    check_beginning("It was  \n", "It was\n");
    check_beginning("a\n\n", "a\n\n");
    check_beginning("a\r\r\r\r\r", "a\n\n\n");  // two blank lines, and the next one may begin
    check_beginning("a\n \n\t", "a\n\n\t");
    check_beginning("\n \n  x ", "  x ");
    check_beginning(" \n", "");
    check_beginning("   ", "   ");
    check_beginning("e\xcc\x81", "\xc3\xa9");
}

// Whatever the program wrote, or a document it was trained on: its beginnings stay as they are.
Test(normalise, a_beginning_of_a_normalised_document_is_normalised) {
    static const char *const PIECES[] = {"a",  " ",        "\n",   "\n\n", "e\xcc\x81",
                                         "\t", "\xc2\xa0", "\r\n", "b",    "\xe1\x84\x80"};
    enum { COUNT = sizeof PIECES / sizeof *PIECES };
    for (uint64_t trial = 0; trial < 500; trial++) {
        char text[128] = "";
        for (uint64_t i = rng_u64(5, trial, 0) % 20; i > 0; i--)
            strcat(text, PIECES[rng_u64(5, trial, i) % COUNT]);
        size_t whole, n;
        char *doc = normalise_text(text, strlen(text), &whole, NULL);
        for (size_t cut = 0; cut <= whole; cut++) {
            if (((unsigned char)doc[cut] & 0xC0) == 0x80) continue;
            char *out = normalise_beginning(doc, cut, &n);
            cr_assert(n == cut && memcmp(out, doc, n) == 0, "trial %d, %zu bytes", (int)trial, cut);
            free(out);
        }
        free(doc);
    }
}
