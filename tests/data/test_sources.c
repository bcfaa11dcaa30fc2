// The table of sources, the compiled-in sample, the user's own files, and fetching from packages
// that lie in the cache.
#include "data/sources/sources.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "data/extract.h"
#include "tests/ref/tree.h"

static char dir[PATH_BYTES];

static void dir_open(void) {
    snprintf(dir, sizeof dir, "/tmp/sterna_sources_XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}
static void dir_close(void) {
    cr_assert_eq(tree_remove(dir), OK);
}

static const char *put(const char *name, const char *text) {
    static char path[PATH_BYTES], parent[PATH_BYTES];
    path_join(path, dir, name);
    memcpy(parent, path, sizeof parent);
    *strrchr(parent, '/') = '\0';
    cr_assert_eq(dir_make(parent), OK);
    cr_assert_eq(file_write(path, text, strlen(text)), OK);
    return path;
}

Test(sources, the_table_is_whole) {
    int count;
    const Source *table = source_table(&count);
    for (int i = 0; i < count; i++) {
        cr_assert_eq(source_find(table[i].name), &table[i]);
        cr_assert(table[i].package[0] && table[i].description[0] && table[i].licence[0]);
        cr_assert_not_null(table[i].read);
        cr_assert_not(source_is_path(table[i].name));
    }
    cr_assert_null(source_find("austin"));
    cr_assert(source_is_path("./austen"));
}

Test(sources, an_unknown_name_lists_the_known_ones) {
    DocList l = {0};
    cr_assert_eq(source_extract("austin", "/tmp", false, 0, 0, &l), E_USAGE);
    cr_assert_not_null(strstr(err_message(), "'austin'"));
    cr_assert_not_null(strstr(err_message(), "austen, kjv"));
    cr_assert_eq(source_fetch("austin", "/tmp"), E_USAGE);
}

Test(sources, the_sample_has_a_held_out_novel_and_is_already_normal) {
    DocList l = {0};
    cr_assert(sample_has("austen") && sample_has("kjv") && sample_has("devil"));
    cr_assert_not(sample_has("pod"));
    cr_assert_eq(source_extract("austen", "", true, 0, 4, &l), OK);
    cr_assert_eq(l.count, 3);
    cr_assert_str_eq(l.docs[2].title, "Persuasion");
    cr_assert_eq(l.docs[2].id, doc_id(4, 2, 0));
    cr_assert_gt(l.docs[2].bytes, 50000);
    for (size_t i = 0; i < l.count; i++) cr_assert_null(strstr(l.docs[i].text, "%%"));
    cr_assert_eq(source_extract("kjv", "", true, 0, 5, &l), OK);
    cr_assert_eq(l.count, 53);
    cr_assert_str_eq(l.docs[52].title, "Genesis 50");
    NormaliseCounts c = {0};
    cr_assert_eq(docs_normalise(&l, 0.01, &c), OK);
    cr_assert_eq(c.docs_empty + c.docs_invalid + c.invalid_bytes + c.removed_chars + c.spaces, 0);
    cr_assert_eq(source_extract("pod", "", true, 0, 6, &l), OK);
    cr_assert_eq(l.count, 53, "no sample: nothing is added");
    doclist_free(&l);
}

Test(sources, the_sample_respects_a_limit) {
    DocList l = {0};
    cr_assert_eq(source_extract("kjv", "", true, 5000, 5, &l), OK);
    cr_assert_eq(l.count, 2);
    doclist_free(&l);
}

Test(sources, a_text_file_is_one_document) {
    dir_open();
    DocList l = {0};
    const char *path = put("my.txt", "Hello\n");
    cr_assert_eq(source_extract(path, "", true, 0, 9, &l), OK, "%s", err_message());
    cr_assert_eq(source_fetch(path, ""), OK);
    cr_assert_eq(l.count, 1);
    cr_assert_str_eq(l.docs[0].title, "my.txt");
    cr_assert_eq(l.docs[0].id, doc_id(9, 0, 0));
    doclist_free(&l);
    cr_assert_eq(source_extract("/nowhere/x.txt", "", true, 0, 9, &l), E_IO);
    dir_close();
}

Test(sources, jsonl_lines_are_documents_and_bad_lines_are_named) {
    dir_open();
    DocList l = {0};
    const char *path =
        put("a.jsonl", "{\"text\":\"one\",\"title\":\"T\"}\n\n{\"text\":\"tw\\u00f6\"}\n");
    cr_assert_eq(source_extract(path, "", false, 0, 1, &l), OK, "%s", err_message());
    cr_assert_eq(l.count, 2);
    cr_assert_str_eq(l.docs[0].title, "T");
    cr_assert_str_eq(l.docs[1].text, "tw\xc3\xb6");
    cr_assert_str_eq(l.docs[1].title, "a.jsonl:3");
    cr_assert_eq(l.docs[1].id, doc_id(1, 0, 2));
    static const char *const BAD[] = {
        "{\"text\":\"a\"}\nnot json\n", "{\"text\":\"a\"}\n{\"texts\":\"b\"}\n",
        "{\"text\":\"a\"}\n{\"text\":3}\n", "{\"text\":\"a\"}\n[1]\n"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        cr_assert_eq(source_extract(put("b.jsonl", BAD[i]), "", false, 0, 1, &l), E_FORMAT, "%s",
                     BAD[i]);
        cr_assert_not_null(strstr(err_message(), "b.jsonl:2"), "%s", err_message());
    }
    doclist_free(&l);
    dir_close();
}

Test(sources, a_directory_is_read_in_sorted_order_without_links_and_other_files) {
    dir_open();
    put("b.txt", "second");
    put("sub/c.md", "third");
    put("a.md", "first");
    put("ignored.html", "no");
    put(".hidden.txt", "no");
    put("empty.txt", "  \n");
    put("d.jsonl", "{\"text\":\"record\"}");
    char link_path[PATH_BYTES];
    path_join(link_path, dir, "loop");
    cr_assert_eq(symlink(dir, link_path), 0);
    DocList l = {0};
    cr_assert_eq(source_extract(dir, "", false, 0, 2, &l), OK, "%s", err_message());
    static const char *const TEXTS[] = {"first", "second", "record", "third"};
    cr_assert_eq(l.count, 4);
    for (size_t i = 0; i < l.count; i++) cr_assert_str_eq(l.docs[i].text, TEXTS[i]);
    cr_assert_str_eq(l.docs[3].title, "sub/c.md");
    doclist_free(&l);
    cr_assert_eq(source_extract(dir, "", false, 8, 2, &l), OK);
    cr_assert_eq(l.count, 2, "the limit");
    doclist_free(&l);
    dir_close();
    dir_open();
    cr_assert_eq(source_extract(dir, "", false, 0, 2, &l), E_USAGE, "nothing to read");
    dir_close();
}

Test(sources, reading_before_fetching_is_an_io_error_with_a_hint) {
    dir_open();
    DocList l = {0};
    cr_assert_eq(source_extract("kjv", dir, false, 0, 0, &l), E_IO);
    cr_assert_not_null(strstr(err_hint(), "offline"));
    dir_close();
}

// --- fetching without a network: a package that was put into the cache by hand, and no APT in PATH
// ---

static void deb_of(const char *name, const char *files_below) {
    char command[4 * PATH_BYTES];
    snprintf(
        command, sizeof command,
        "cd '%s' && mkdir -p packages x && tar -C '%s' --owner=0 --group=0 -cf x/data.tar . && "
        "printf '2.0\\n' > x/debian-binary && ar qS packages/%s_1_all.deb x/debian-binary "
        "x/data.tar "
        "2>/dev/null && rm -r x",
        dir, files_below, name);
    cr_assert_eq(system(command), 0);
}

static const char GOLDEN[] = TEST_SOURCE_DIR "/golden/data";

Test(sources, fetch_unpacks_marks_repairs_and_then_does_nothing) {
    dir_open();
    char from[PATH_BYTES], path[PATH_BYTES];
    path_join(from, GOLDEN, "kjv");
    deb_of("bible-kjv-text", from);
    setenv("PATH", "/nonexistent", 1);
    DocList l = {0};
    cr_assert_eq(source_fetch("kjv", dir), OK, "%s", err_message());
    cr_assert_eq(source_extract("kjv", dir, false, 0, 0, &l), OK, "%s", err_message());
    cr_assert_eq(l.count, 1);

    // A file cut by a crash is noticed and made again.
    path_join(path, dir, "text/kjv/usr/lib/bible.data");
    cr_assert_eq(truncate(path, 10), 0);
    cr_assert_eq(source_fetch("kjv", dir), OK);
    uint64_t bytes;
    cr_assert_eq(file_size(path, &bytes), OK);
    cr_assert_eq(bytes, 1300);

    // Whole: the package is not needed any more.
    path_join(path, dir, "packages");
    cr_assert_eq(tree_remove(path), OK);
    cr_assert_eq(source_fetch("kjv", dir), OK, "%s", err_message());
    doclist_free(&l);
    dir_close();
}

Test(sources, what_cannot_be_read_or_is_newer_is_not_made_again) {
    dir_open();
    char from[PATH_BYTES], mark[PATH_BYTES], text[PATH_BYTES], away[PATH_BYTES];
    path_join(from, GOLDEN, "kjv");
    deb_of("bible-kjv-text", from);
    setenv("PATH", "/nonexistent", 1);
    cr_assert_eq(source_fetch("kjv", dir), OK, "%s", err_message());
    path_join(mark, dir, "text/kjv/.sterna-source");
    cr_assert_eq(file_write(mark, "sterna source 9 x\n", 18), OK);
    cr_assert_eq(source_fetch("kjv", dir), E_NEWER);
    cr_assert_eq(unlink(mark), 0);
    cr_assert_eq(symlink(".sterna-source", mark), 0);
    cr_assert_eq(source_fetch("kjv", dir), E_IO);

    // A text directory on a disk that is not mounted.
    path_join(text, dir, "text/kjv");
    path_join(away, dir, "away");
    cr_assert_eq(rename(text, away), 0);
    cr_assert_eq(symlink("/nonexistent/disk", text), 0);
    cr_assert_eq(source_fetch("kjv", dir), E_IO);
    cr_assert_not_null(strstr(err_message(), "text/kjv is a link"), "%s", err_message());
    path_join(mark, dir, "away/usr/lib/bible.data");
    cr_assert(path_exists(mark));
    dir_close();
}

Test(sources, a_package_with_other_files_is_refused) {
    dir_open();
    char from[PATH_BYTES];
    path_join(from, GOLDEN, "kjv");
    deb_of("perl-doc", from);
    setenv("PATH", "/nonexistent", 1);
    cr_assert_eq(source_fetch("pod", dir), E_FORMAT);
    cr_assert_not_null(strstr(err_message(), "no text of source pod"));
    char path[PATH_BYTES];
    path_join(path, dir, "text/pod");
    cr_assert_not(path_exists(path));
    dir_close();
}

Test(sources, without_apt_and_without_a_copy_a_source_is_out_of_reach) {
    dir_open();
    setenv("PATH", "/nonexistent", 1);
    cr_assert_eq(source_fetch("devil", dir), E_NETWORK);
    cr_assert_not_null(strstr(err_message(), "dict-devil"));
    cr_assert_not_null(strstr(err_hint(), "offline"));
    dir_close();
}
