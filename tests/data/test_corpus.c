// Opening a corpus: what is there is read, what is damaged or exchanged is refused by name.
#include "tests/data/made_corpus.h"
#include "tests/ref/tree.h"

static const MadeSource SOURCES[] = {{"one", {5, 9, 7}, 2}, {"none", {0}, 1}, {"two", {3, 4}, 2}};
enum { COUNT = 3 };

static void file_of(char path[PATH_BYTES], const char *dir, const char *name) {
    path_join(path, dir, name);
}

static void check_refused(const char *dir, Status expected, const char *name) {
    Corpus *c;
    cr_assert_eq(corpus_open(&c, dir), expected, "%s", err_message());
    cr_assert_null(c);
    cr_assert_not_null(strstr(err_message(), name), "'%s' is not named: %s", name, err_message());
}

Test(corpus, opens_and_reads_across_shards_and_around_the_end) {
    char dir[PATH_BYTES];
    made_corpus(dir, SOURCES, COUNT);
    Corpus *c;
    cr_assert_eq(corpus_open(&c, dir), OK, "%s", err_message());
    cr_assert_eq(corpus_vocab(c), MADE_VOCAB);
    cr_assert_eq(corpus__source_tokens(c, 0), 21);
    cr_assert_eq(corpus__source_tokens(c, 1), 0);
    int32_t tokens[50];
    for (uint64_t begin = 0; begin < 63; begin++) {
        corpus__read(c, 0, begin, 50, tokens);
        for (int i = 0; i < 50; i++) {
            int p = (int)((begin + (uint64_t)i) % 21);
            bool end = p == 4 || p == 13 || p == 20;
            cr_assert_eq(tokens[i], end ? MADE_EOD : MADE_FIRST + p);
        }
        uint64_t next = begin;
        while (next % 21 != 0 && next % 21 != 5 && next % 21 != 14) next++;
        cr_assert_eq(corpus__document(c, 0, begin), next);
    }
    Holdout held = corpus_holdout(c);
    cr_assert(held.tokens == 8 && held.bytes == 20 && held.docs == 2);
    cr_assert(held.ends[0] == 5 && held.ends[1] == 8);
    cr_assert(held.ids[4] == MADE_EOD && held.ids[7] == MADE_EOD);
    corpus_close(c);
    cr_assert_eq(tree_remove(dir), OK);
}

Test(corpus, every_flipped_byte_of_the_index_is_detected) {
    char dir[PATH_BYTES], path[PATH_BYTES], *data;
    size_t bytes;
    made_corpus(dir, SOURCES, COUNT);
    file_of(path, dir, INDEX_FILE);
    cr_assert_eq(file_read(path, &data, &bytes), OK);
    for (size_t i = 0; i < bytes; i++) {
        for (int bit = 0; bit < 8; bit += 3) {
            data[i] ^= (char)(1 << bit);
            FILE *f = fopen(path, "wb");
            fwrite(data, 1, bytes, f);
            fclose(f);
            Index ix;
            Status st = index__read(&ix, dir);
            // The 8 bytes of the hash are preceded by their own head, which only pack_open looks
            // at.
            cr_assert_eq(st, E_FORMAT, "byte %zu of %zu", i, bytes);
            data[i] ^= (char)(1 << bit);
        }
    }
    free(data);
    cr_assert_eq(tree_remove(dir), OK);
}

Test(corpus, every_truncation_of_the_index_is_detected) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    uint64_t bytes;
    made_corpus(dir, SOURCES, COUNT);
    file_of(path, dir, INDEX_FILE);
    cr_assert_eq(file_size(path, &bytes), OK);
    while (bytes-- > 0) {
        cr_assert_eq(truncate(path, (off_t)bytes), 0);
        check_refused(dir, E_FORMAT, INDEX_FILE);
    }
    cr_assert_eq(tree_remove(dir), OK);
}

Test(corpus, missing_files_are_named) {
    const char *names[] = {"index.msgpack", "000-00001.tns", "holdout.tns", "tokenizer.json",
                           "holdout.txt"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char dir[PATH_BYTES], path[PATH_BYTES];
        made_corpus(dir, SOURCES, COUNT);
        file_of(path, dir, names[i]);
        cr_assert_eq(unlink(path), 0);
        check_refused(dir, E_MISSING, names[i]);
        cr_assert_eq(tree_remove(dir), OK);
    }
}

// Not damage: what is known to be damaged is made again, and replaced.
Test(corpus, files_that_cannot_be_read_are_neither_missing_nor_damaged) {
    const char *names[] = {"index.msgpack", "000-00001.tns", "holdout.tns", "tokenizer.json",
                           "holdout.txt"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char dir[PATH_BYTES], path[PATH_BYTES];
        made_corpus(dir, SOURCES, COUNT);
        file_of(path, dir, names[i]);
        const char *const targets[] = {names[i], "/nonexistent/disk"};  // a circle; nowhere
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(unlink(path), 0);
            cr_assert_eq(symlink(targets[k], path), 0);
            check_refused(dir, E_IO, names[i]);
        }
        cr_assert_eq(tree_remove(dir), OK);
    }
}

Test(corpus, an_index_of_a_newer_version_says_so) {
    char dir[PATH_BYTES], path[PATH_BYTES], *data;
    size_t bytes;
    made_corpus(dir, SOURCES, COUNT);
    file_of(path, dir, INDEX_FILE);
    cr_assert_eq(file_read(path, &data, &bytes), OK);
    char *version = strstr(data + 1, "version");
    cr_assert_not_null(version);
    version[7] = CORPUS_VERSION + 1;
    uint64_t hash = hash64(data, bytes - 10);
    memcpy(data + bytes - 8, &hash, 8);
    cr_assert_eq(file_write(path, data, bytes), OK);
    free(data);
    char wanted[32];
    snprintf(wanted, sizeof wanted, "corpus version %d", CORPUS_VERSION + 1);
    check_refused(dir, E_NEWER, wanted);
    cr_assert_not_null(strstr(err_hint(), "version of sterna"));
    cr_assert_eq(tree_remove(dir), OK);
}

Test(corpus, a_valid_shard_in_the_place_of_another_is_refused) {
    const MadeSource twins[] = {{"one", {5, 9, 7}, 2}, {"twin", {5, 9, 7}, 2}, {"two", {3, 4}, 2}};
    const char *others[] = {"002-00000.tns", "001-00000.tns"};  // of another size, of the same
    for (size_t i = 0; i < 2; i++) {
        char dir[PATH_BYTES], from[PATH_BYTES], to[PATH_BYTES];
        made_corpus(dir, twins, COUNT);
        file_of(from, dir, others[i]);
        file_of(to, dir, "000-00000.tns");
        cr_assert_eq(rename(from, to), 0);
        check_refused(dir, E_FORMAT, "000-00000.tns");
        cr_assert_eq(tree_remove(dir), OK);
    }
}

Test(corpus, changed_texts_beside_the_shards_are_refused) {
    const char *names[] = {"tokenizer.json", "holdout.txt"};
    for (size_t i = 0; i < 2; i++) {
        char dir[PATH_BYTES];
        made_corpus(dir, SOURCES, COUNT);
        made_text(dir, names[i], "[]");
        check_refused(dir, E_FORMAT, names[i]);
        cr_assert_eq(tree_remove(dir), OK);
    }
}

Test(corpus, hash_depends_on_tokens_and_names_alone) {
    const MadeSource other[] = {{"one", {5, 9, 7}, 2}, {"none", {0}, 1}, {"tow", {3, 4}, 2}};
    const MadeSource longer[] = {{"one", {5, 9, 8}, 2}, {"none", {0}, 1}, {"two", {3, 4}, 2}};
    const MadeSource *made[] = {SOURCES, SOURCES, other, longer};
    Hash128 hash[4];
    for (int i = 0; i < 4; i++) {
        char dir[PATH_BYTES];
        Corpus *c;
        made_corpus(dir, made[i], COUNT);
        cr_assert_eq(corpus_open(&c, dir), OK, "%s", err_message());
        hash[i] = corpus_hash(c);
        corpus_close(c);
        cr_assert_eq(tree_remove(dir), OK);
    }
    cr_assert_eq(memcmp(&hash[0], &hash[1], sizeof hash[0]), 0);
    cr_assert_neq(memcmp(&hash[0], &hash[2], sizeof hash[0]), 0);
    cr_assert_neq(memcmp(&hash[0], &hash[3], sizeof hash[0]), 0);
}

Test(holdout, titles_are_matched_by_any_of_the_words) {
    cr_assert(holdout__matches("Persuasion", "Persuasion"));
    cr_assert(holdout__matches("Emma, Persuasion", "Persuasion, chapter 3"));
    cr_assert(holdout__matches("x, Lady Susan ,y", "The Lady Susan letters"));
    cr_assert_not(holdout__matches("Persuasion", "persuasion"));
    cr_assert_not(holdout__matches("", "Emma"));
    cr_assert_not(holdout__matches(" , ,", "Emma"));
    cr_assert_not(holdout__matches("Emmas", "Emma"));
}
