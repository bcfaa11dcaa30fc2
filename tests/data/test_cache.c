// What a cache replaces: its own, also of versions without marks, and nothing else.
#include <unistd.h>

#include "data/sources/sources.h"
#include "tests/data/made_corpus.h"
#include "tests/ref/tree.h"

static const MadeSource SOURCES[] = {{"one", {5, 9, 7}, 2}, {"two", {3, 4}, 2}};
enum { COUNT = 2 };

static void put(const char *dir, const char *name) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    cr_assert_eq(file_write(path, "mine", 4), OK, "%s", err_message());
}

static bool there(const char *dir, const char *name) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    return path_exists(path);
}

Test(cache, a_corpus_without_a_mark_is_known_by_its_index_or_a_shard) {
    char dir[PATH_BYTES], index[PATH_BYTES];
    made_corpus(dir, SOURCES, COUNT);
    cr_assert(own_is(dir, &CORPUS_KIND));
    path_join(index, dir, INDEX_FILE);
    cr_assert_eq(truncate(index, 20), 0);
    cr_assert(own_is(dir, &CORPUS_KIND), "the index is damaged, the shards are ours");
    cr_assert_eq(own_remove(dir, &CORPUS_KIND), OK, "%s", err_message());
    cr_assert_not(path_exists(dir));
}

Test(cache, names_alone_make_no_corpus) {
    static const char *const NAMES[] = {"index.msgpack", "000-00000.tns", "tokenizer.json",
                                        "holdout.txt", "holdout.tns"};
    char dir[] = "/tmp/sterna-test-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    for (int i = 0; i < 5; i++) {
        put(dir, NAMES[i]);
        cr_assert_not(own_is(dir, &CORPUS_KIND), "%s", NAMES[i]);
        cr_assert_eq(own_remove(dir, &CORPUS_KIND), E_USAGE);
        char path[PATH_BYTES];
        path_join(path, dir, NAMES[i]);
        cr_assert_eq(unlink(path), 0);
    }
    for (int i = 0; i < 5; i++) put(dir, NAMES[i]);
    cr_assert_not(own_is(dir, &CORPUS_KIND));
    cr_assert_eq(own_remove(dir, &CORPUS_KIND), E_USAGE);
    for (int i = 0; i < 5; i++) cr_assert(there(dir, NAMES[i]));
    cr_assert_eq(tree_remove(dir), OK);
}

Test(cache, names_of_shards_are_exactly_those_that_are_made) {
    static const char *const OURS[] = {"000-00000.tns", "063-00007.tns", "012-123456.tns"};
    static const char *const OTHERS[] = {"0-0.tns",       "000-00000.tns2", "000-00000",
                                         "000-00000.txt", "a000-00000.tns", "000-0000a.tns",
                                         "-00-00000.tns", "Holdout.txt",    "sub/000-00000.tns"};
    for (int i = 0; i < 3; i++) cr_assert(CORPUS_KIND.names(OURS[i], NULL), "%s", OURS[i]);
    for (int i = 0; i < 9; i++) cr_assert_not(CORPUS_KIND.names(OTHERS[i], NULL), "%s", OTHERS[i]);
}

// The user's directories under the names that unpacked sources take, and files in our own.
Test(cache, unpacked_sources_replace_their_own_kind_alone) {
    char cache[] = "/tmp/sterna-test-XXXXXX", dir[PATH_BYTES], below[PATH_BYTES];
    cr_assert_not_null(mkdtemp(cache));
    for (int i = 0; i < 2; i++) {
        path_join(dir, cache, i == 0 ? "text/kjv" : "text/kjv.new");
        cr_assert_eq(dir_make(dir), OK);
        put(dir, "notes");
        cr_assert_eq(source_fetch("kjv", cache), E_USAGE);
        cr_assert_not_null(strstr(err_message(), dir), "%s", err_message());
        cr_assert(there(dir, "notes") && !there(cache, "packages"));
        cr_assert_eq(tree_remove(dir), OK);
    }

    // As a version without marks left it, one file short.
    path_join(dir, cache, "text/kjv");
    path_join(below, dir, "usr/lib");
    cr_assert_eq(dir_make(below), OK);
    put(below, "bible.data");
    char mark[PATH_BYTES];
    static const char MARK[] = "sterna source 1 bible-kjv-text files 2 bytes 9 wanted 0\n";
    path_join(mark, dir, ".sterna-source");
    cr_assert_eq(file_write(mark, MARK, sizeof MARK - 1), OK);
    cr_assert_eq(source_check("kjv", cache), OK, "%s", err_message());
    put(below, "notes");
    cr_assert_eq(source_fetch("kjv", cache), E_USAGE);
    cr_assert_not_null(strstr(err_message(), "usr/lib/notes"), "%s", err_message());
    cr_assert(there(below, "notes") && there(below, "bible.data"));
    cr_assert_eq(source_check("/some/path", cache), OK);
    cr_assert_eq(tree_remove(cache), OK);
}
