// Text as users hand it over: what is unpacked, decoded, refused; records; links; text for a model.
#include "data/text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/sources/formats.h"
#include "data/sources/sources.h"
#include "tests/ref/tree.h"

static char dir[64];

static void dir_open(void) {
    snprintf(dir, sizeof dir, "/tmp/sterna-test-text-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void dir_close(void) {
    cr_assert_eq(tree_remove(dir), OK);
}

static const char *put_n(const char *name, const char *text, size_t bytes) {
    static char path[PATH_BYTES];
    path_join(path, dir, name);
    cr_assert_eq(file_write(path, text, bytes), OK, "%s", err_message());
    return path;
}

static const char *put(const char *name, const char *text) {
    return put_n(name, text, strlen(text));
}

// The same file through another program: packed, or in another encoding.
static const char *convert(const char *name, const char *from, const char *how) {
    static char path[PATH_BYTES];
    char command[4 * PATH_BYTES];
    snprintf(command, sizeof command, "cd '%s' && %s <'%s' >'%s'", dir, how, from, name);
    cr_assert_eq(system(command), 0, "%s", command);
    path_join(path, dir, name);
    return path;
}

// --- decoding ---

static char *decoded(const char *bytes, size_t count, size_t *n, TextLook *look) {
    char *text = malloc(count + 1);
    memcpy(text, bytes, count);
    text[count] = '\0';
    *n = count;
    if (text_decode(&text, n, look, 0.01, "T") == OK) return text;
    free(text);
    return NULL;
}

static void check_decoded(const char *bytes, size_t count, const char *want, const char *from) {
    size_t n;
    TextLook look;
    char *text = decoded(bytes, count, &n, &look);
    cr_assert_not_null(text, "%s", err_message());
    cr_assert_str_eq(text, want);
    cr_assert_eq(n, strlen(want));
    cr_assert(from == NULL ? look.from == NULL : strcmp(look.from, from) == 0);
    cr_assert_null(look.refused);
    free(text);
}

Test(text, byte_order_marks_are_followed) {
    check_decoded("", 0, "", NULL);
    check_decoded("a\xC3\xA9", 3, "a\xC3\xA9", NULL);
    check_decoded("\xEF\xBB\xBFz", 4, "\xEF\xBB\xBFz", NULL);  // the mark of UTF-8 is text's own
    check_decoded("\xFF\xFE"
                  "a\0\xE9\0",
                  6, "a\xC3\xA9", "UTF-16LE");
    check_decoded("\xFE\xFF\0a\0\xE9", 6, "a\xC3\xA9", "UTF-16BE");
    check_decoded("\xFF\xFE"
                  "4\xD8\x1E\xDD",
                  6, "\xF0\x9D\x84\x9E", "UTF-16LE");  // a pair
    check_decoded("\xFE\xFF\xD8"
                  "4\xDD\x1E",
                  6, "\xF0\x9D\x84\x9E", "UTF-16BE");
    check_decoded("\xFF\xFE\0\0\x1E\xD1\1\0", 8, "\xF0\x9D\x84\x9E", "UTF-32LE");
    check_decoded("\0\0\xFE\xFF\0\1\xD1\x1E", 8, "\xF0\x9D\x84\x9E", "UTF-32BE");
    check_decoded("\xFF\xFE", 2, "", "UTF-16LE");
}

static void check_refused(const char *bytes, size_t count, const char *look_like,
                          const char *hint) {
    size_t n;
    TextLook look;
    cr_assert_null(decoded(bytes, count, &n, &look), "taken: %.20s", bytes);
    cr_assert(strstr(err_message(), "T: ") != NULL && strstr(err_message(), look_like) != NULL,
              "%s", err_message());
    cr_assert(strstr(err_hint(), hint) != NULL, "%s", err_hint());
    cr_assert_not_null(look.refused);
}

Test(text, what_a_mark_promises_is_checked) {
    check_refused("\xFF\xFE"
                  "a\0b",
                  5, "not well-formed UTF-16LE at byte 4", "UTF-8");
    check_refused("\xFF\xFE\0\xDC"
                  "a\0",
                  6, "UTF-16LE at byte 2", "");  // a low surrogate first
    check_refused("\xFF\xFE\0\xD8"
                  "a\0",
                  6, "UTF-16LE at byte 2", "");                            // a high one alone
    check_refused("\xFE\xFF\0a\xD8\0", 6, "UTF-16BE at byte 4", "");       // at the end
    check_refused("\xFF\xFE\0\0\0\0\x11\0", 8, "UTF-32LE at byte 4", "");  // beyond U+10FFFF
    check_refused("\0\0\xFE\xFF\0\0\xD8\0", 8, "UTF-32BE at byte 4", "");
}

// A text of `name` converted by iconv is refused with this guess.
static void check_guess(const char *encoding, const char *text, const char *look_like) {
    char command[256], *bytes;
    size_t n;
    snprintf(command, sizeof command, "iconv -f UTF-8 -t %s", encoding);
    put("utf8", text);
    cr_assert_eq(file_read(convert("other", "utf8", command), &bytes, &n), OK);
    check_refused(bytes, n, look_like, "iconv -f");
    free(bytes);
}

Test(text, other_encodings_are_refused_with_a_guess) {
    static const char LATIN[] = "Fu\xC3\x9F und \xC3\xA4hnliches, \xC3\xA9l\xC3\xA8ve\n";
    static const char RUSSIAN[] =
        "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD0\xBC\xD0\xB8\xD1\x80\n";
    static const char JAPANESE[] = "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xE3\x81\xA7\xE3\x81\x99\n";
    dir_open();
    check_guess("ISO-8859-1", LATIN, "ISO-8859-1");
    check_guess("WINDOWS-1252", "\xE2\x80\x9Cquoted\xE2\x80\x9D caf\xC3\xA9\n", "Windows-1252");
    check_guess("UTF-16LE", LATIN, "UTF-16LE without");
    check_guess("UTF-16BE", LATIN, "UTF-16BE without");
    check_guess("UTF-32LE", LATIN, "UTF-32LE without");
    check_guess("UTF-32BE", LATIN, "UTF-32BE without");
    check_guess("UTF-16LE", RUSSIAN, "UTF-16LE without");
    check_guess("UTF-16BE", RUSSIAN, "UTF-16BE without");
    check_guess("UTF-16LE", JAPANESE, "UTF-16LE without");
    check_guess("SHIFT_JIS", JAPANESE, "East Asian");
    dir_close();
}

Test(text, binary_files_are_refused) {
    char noise[4096];
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (char)(i * i >> 3);
    check_refused(noise, sizeof noise, "it looks like", "");
    memcpy(noise, "PK\x03\x04", 4);
    check_refused(noise, sizeof noise, "a zip archive", "unpack");
    memset(noise, 0, sizeof noise);
    check_refused(noise, sizeof noise, "it looks like", "");
}

Test(text, a_few_invalid_bytes_and_stray_controls_are_text) {
    char text[1001];
    size_t n;
    TextLook look;
    memset(text, 'a', sizeof text);
    for (int i = 0; i < 10; i++) text[i * 50] = '\xE9';  // 1 % at most
    text[3] = text[5] = '\0';
    char *out = decoded(text, 1000, &n, &look);
    cr_assert_not_null(out, "%s", err_message());
    free(out);
    text[999] = '\xE9';
    check_refused(text, 1000, "(11 of 1000 bytes, the first at 0)", "data.max_invalid");
}

// --- names ---

Test(text, kinds_are_told_by_the_end_of_the_name_in_any_case) {
    static const struct {
        const char *name;
        TextKind kind;
        bool listed;
    } NAMES[] = {{"a.txt", TEXT_PROSE, true},        {"a.TXT", TEXT_PROSE, true},
                 {"a.Md.GZ", TEXT_PROSE, true},      {"a.jsonl", TEXT_LINES, true},
                 {"A.JSONL", TEXT_LINES, true},      {"a.ndjson.xz", TEXT_LINES, true},
                 {"a.NDJSON.zst", TEXT_LINES, true}, {"a.json", TEXT_JSON, false},
                 {"a.JSON.gz", TEXT_JSON, false},    {"a.html", TEXT_PROSE, false},
                 {"txt", TEXT_PROSE, false},         {".txt", TEXT_PROSE, false},
                 {"a.txt.bz2", TEXT_PROSE, false},   {"a.gz", TEXT_PROSE, false}};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        bool listed;
        cr_assert_eq(text_kind(NAMES[i].name, &listed), NAMES[i].kind, "%s", NAMES[i].name);
        cr_assert_eq(listed, NAMES[i].listed, "%s", NAMES[i].name);
    }
}

// --- records ---

// Texts of the records with '|' between them.
static Status read_records(char out[512], const char *path, double bad_lines, Cleaning *c) {
    DocList l = {0};
    *c = (Cleaning){0};
    out[0] = '\0';
    Status st = local_read(&l, path, 1, 0, &(TextLimits){0.01, bad_lines}, c);
    for (size_t i = 0; i < l.count; i++) {
        strcat(out, i > 0 ? "|" : "");
        strcat(out, l.docs[i].text);
    }
    doclist_free(&l);
    return st;
}

static void check_records(const char *name, const char *file, const char *want) {
    char got[512];
    Cleaning c;
    cr_assert_eq(read_records(got, put(name, file), 0.01, &c), OK, "%s", err_message());
    cr_assert_str_eq(got, want, "%s", name);
}

Test(text, records_of_json_are_documents) {
    dir_open();
    check_records("a.JSONL", "\xEF\xBB\xBF{\"text\":\"one\"}\r\n\r\n{\"text\":\"two\"}", "one|two");
    check_records("a.ndjson", "{\"text\":\"one\"}\n", "one");
    check_records("a.json", "[{\"text\":\"one\"},\n {\"text\":\"two\"}]", "one|two");
    check_records("a.json", "{\n \"text\": \"one\"\n}\n", "one");
    check_records("a.json", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n",
                  "one|two");  // lines under that name
    check_records("a.json", "[]", "");
    char got[512];
    Cleaning c;
    static const char *const BAD[] = {"{\n\"texts\": 1}", "prose",         "\"text\"",
                                      "[1, 2]",           "{\"text\": 5}", ""};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        cr_assert_eq(read_records(got, put("b.json", BAD[i]), 0.01, &c), E_FORMAT, "%s", BAD[i]);
        cr_assert_not_null(strstr(err_message(), "b.json"), "%s", err_message());
        cr_assert_str_eq(got, "");
    }
    dir_close();
}

Test(text, damaged_lines_are_counted_up_to_the_users_limit) {
    static const char *const BAD[] = {
        "{\"text\": 3}",      "{\"texts\": \"b\"}", "{\"text\": \"cut", "[1]", "x",
        "{\"text\":\"\xFF\"}"};
    enum { KINDS = sizeof BAD / sizeof *BAD, LINES = 200 };
    dir_open();
    for (int bad = 0; bad <= KINDS; bad++) {
        TextBuf file = {0};
        char got[512], name[32];
        Cleaning c;
        for (int i = 0; i < LINES; i++) {
            if (i % 7 == 3 && i / 7 < bad) {
                textbuf_puts(&file, BAD[i / 7]);
                textbuf_puts(&file, "\n");
            } else {
                textbuf_puts(&file, i == 0 ? "{\"text\":\"good\"}\n" : "{\"text\":\"\"}\n");
            }
        }
        snprintf(name, sizeof name, "l%d.jsonl", bad);
        const char *path = put(name, file.text);
        Status st = read_records(got, path, 0.01, &c);
        cr_assert_eq(st, bad <= 2 ? OK : E_FORMAT, "%d bad lines", bad);  // 1 % of 200
        cr_assert_eq(c.bad_lines, bad);
        if (st == E_FORMAT)
            cr_assert_not_null(strstr(err_message(), ".jsonl:4"), "%s", err_message());
        if (bad > 0) cr_assert_not_null(strstr(c.first, ".jsonl:4"), "%s", c.first);
        cr_assert_eq(read_records(got, path, bad == 0 ? 0 : 0.05, &c), OK, "%s", err_message());
        cr_assert_str_eq(got, "good");
        cr_assert_eq(read_records(got, path, 0, &c), bad == 0 ? OK : E_FORMAT);
        textbuf_free(&file);
    }
    dir_close();
}

// --- directories ---

Test(text, of_a_directory_links_to_files_are_read_and_what_is_no_text_is_named) {
    char link[PATH_BYTES], got[512];
    Cleaning c;
    dir_open();
    cr_assert_eq(dir_make(strcat(strcpy(link, dir), "/in")), OK);
    cr_assert_eq(read_records(got, link, 0, &c), E_USAGE);
    cr_assert_not_null(
        strstr(err_message(), "0 text files in it, 0 files of other names, 0 links"));
    put("real.bin", "linked");
    put("in/other.html", "no");
    path_join(link, dir, "in/loop");
    cr_assert_eq(symlink(".", link), 0);
    path_join(link, dir, "in/gone.txt");
    cr_assert_eq(symlink("nowhere", link), 0);
    path_join(link, dir, "in");
    cr_assert_eq(read_records(got, link, 0, &c), E_USAGE);
    cr_assert_not_null(
        strstr(err_message(), "0 text files in it, 1 files of other names, 2 links"));

    path_join(link, dir, "in/b.TXT");
    cr_assert_eq(symlink("../real.bin", link), 0);
    put_n("in/c.txt",
          "\xFF\xFE"
          "w\0",
          4);
    put_n("in/d.md", "caf\xE9 na\xEFve", 10);
    put_n("in/e.txt", "x\0y\0", 4);
    path_join(link, dir, "in");
    cr_assert_eq(read_records(got, link, 0, &c), OK, "%s", err_message());
    cr_assert_str_eq(got, "linked|w");
    cr_assert(c.links_skipped == 2 && c.files_decoded == 1 && c.files_left_out == 2);
    cr_assert_str_eq(c.first, "d.md: ISO-8859-1; e.txt: UTF-16LE without a byte-order mark");
    char text[CLEANING_TEXT_BYTES];
    cr_assert(cleaning_text(text, &c));
    cr_assert_not_null(strstr(text, "left out: 2"), "%s", text);
    cr_assert_not(cleaning_text(text, &(Cleaning){0}));

    path_join(link, dir, "in/b.TXT");
    cr_assert_eq(unlink(link), 0);
    path_join(link, dir, "in/c.txt");
    cr_assert_eq(unlink(link), 0);
    path_join(link, dir, "in");
    cr_assert_eq(read_records(got, link, 0, &c), E_FORMAT, "nothing of it is text");
    cr_assert_not_null(strstr(err_message(), "e.txt"), "%s", err_message());
    dir_close();
}

// --- text for a model ---

static const char PLAIN[] = "It was\n\n  \xC3\xA9t\xC3\xA9 a\n";

static void check_model_text(const char *path, const char *normalisation, const char *want) {
    char *text;
    size_t n;
    cr_assert_eq(model_text_read(&text, &n, path, normalisation), OK, "%s", err_message());
    cr_assert_str_eq(text, want, "%s", path);
    cr_assert_eq(n, strlen(want));
    free(text);
}

Test(text, a_model_that_records_it_gets_every_form_of_a_text_alike) {
    static const char WANT[] = "It was\n\n  \xC3\xA9t\xC3\xA9 a";
    static const char *const HOW[] = {"cat",
                                      "gzip",
                                      "xz",
                                      "sed 's/$/\\r/'",
                                      "tr '\\n' '\\r'",
                                      "iconv -t UTF-16",
                                      "iconv -t UTF-32",
                                      "sed 's/é/e\xCC\x81/g'",
                                      "sed '1s/^/\xEF\xBB\xBF/'",
                                      "sed 's/ / /g'",
                                      "sed 's/$/ \t/'"};
    dir_open();
    put("plain", PLAIN);
    for (size_t i = 0; i < sizeof HOW / sizeof *HOW; i++) {
        check_model_text(convert("other", "plain", HOW[i]), NORMALISATION, WANT);
    }
    check_model_text(put_n("nul", "It w\0as\n\n  \xC3\xA9t\xC3\xA9 a", 18), NORMALISATION, WANT);
    char *text;
    size_t n;
    cr_assert_eq(
        model_text_read(&text, &n, convert("l", "plain", "iconv -t ISO-8859-1"), NORMALISATION),
        E_FORMAT);
    cr_assert_eq(model_text_read(&text, &n, put("a.jsonl", "{}"), NORMALISATION), E_USAGE);
    cr_assert_null(text);
    dir_close();
}

Test(text, a_model_that_records_nothing_gets_its_text_unchanged) {
    static const char ODD[] = "\xEF\xBB\xBFIt \r\n\r\n\r\n\r\n e\xCC\x81 \xFF\xE9\xE9 \n";
    dir_open();
    check_model_text(put("odd", ODD), "", ODD);
    check_model_text(convert("odd.gz", "odd", "gzip"), "", ODD);
    put("plain", PLAIN);
    check_model_text(convert("u16", "plain", "iconv -t UTF-16"), "", PLAIN);
    dir_close();
}

Test(text, an_unknown_normalisation_is_refused) {
    cr_assert_eq(normalisation_check("", "m"), OK);
    cr_assert_eq(normalisation_check(NORMALISATION, "m"), OK);
    cr_assert_eq(normalisation_check("sterna-99", "m/config.json"), E_FORMAT);
    cr_assert_not_null(strstr(err_message(), "m/config.json: text_normalisation 'sterna-99'"));
}

static Status join(const char *text, size_t bytes, void *user) {
    strcat(user, "[");
    strncat(user, text, bytes);
    strcat(user, "]");
    return OK;
}

static void check_prompts(const char *path, const char *normalisation, const char *want) {
    char got[256] = "";
    cr_assert_eq(model_prompts_read(path, normalisation, join, got), OK, "%s", err_message());
    cr_assert_str_eq(got, want);
}

Test(text, a_line_of_a_file_is_a_prompt) {
    static const char WANT[] = "[It was ][\xC3\xA9]";
    dir_open();
    put("p", "It was \n\ne\xCC\x81\n");
    check_prompts(convert("p0", "p", "cat"), NORMALISATION, WANT);
    check_prompts(convert("p1", "p", "sed 's/$/\\r/'"), NORMALISATION, WANT);
    check_prompts(convert("p2", "p", "gzip"), NORMALISATION, WANT);
    check_prompts(convert("p3", "p", "iconv -t UTF-16"), NORMALISATION, WANT);
    check_prompts(convert("p4", "p", "sed '1s/^/\xEF\xBB\xBF/'"), NORMALISATION, WANT);
    check_prompts(convert("p5", "p", "sed '1s/^/\xEF\xBB\xBF/; s/$/\\r/'"), "",
                  "[It was ][e\xCC\x81]");
    dir_close();
}
