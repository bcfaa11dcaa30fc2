// index.msgpack with a wrong kind of value in every place; JSONL records likewise.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/internal.h"
#include "data/sources/formats.h"
#include "data/sources/sources.h"
#include "tests/json_walk.h"
#include "tests/pack_walk.h"
#include "tests/ref/tree.h"

static char dir[PATH_BYTES];

static void open_dir(void) {
    snprintf(dir, sizeof dir, "/tmp/sterna_walk_XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}
static void close_dir(void) {
    cr_assert_eq(tree_remove(dir), OK);
}
TestSuite(walk, .init = open_dir, .fini = close_dir);

static const char *write_fast(const char *name, const char *data, size_t bytes) {
    static char path[PATH_BYTES];
    path_join(path, dir, name);
    FILE *file = fopen(path, "wb");  // not file_write: hundreds of files need no fsync
    cr_assert(file != NULL && fwrite(data, 1, bytes, file) == bytes);
    fclose(file);
    return path;
}

// The last ten bytes are the hash of all before them.
static Status read_index(const char *data, size_t bytes) {
    bool hashed = bytes > 10 && memcmp(data + bytes - 10, "\xc4\x08", 2) == 0;
    if (!hashed) return err_set(E_FORMAT, "", "no hash");
    char *copy = memcpy(malloc(bytes), data, bytes);
    uint64_t hash = hash64(copy, bytes - 10);
    memcpy(copy + bytes - sizeof hash, &hash, sizeof hash);
    write_fast("index.msgpack", copy, bytes);
    free(copy);
    Index ix;
    Status st = index__read(&ix, dir);
    if (st == OK) index__free(&ix);
    return st;
}

Test(walk, every_place_of_an_index_refuses_other_kinds_of_values) {
    IndexShard shard = {.tokens = 5, .docs = 1, .hash = 77};
    Index ix = {.vocab = 300, .eod = 2, .shards = &shard, .shard_count = 1};
    ix.report.count = 1;
    ix.report.source[0] = (SourceReport){.docs = 1, .bytes = 9, .tokens = 5, .weight = 0.5};
    snprintf(ix.report.source[0].name, sizeof ix.report.source[0].name, "mine");
    ix.report.bytes_per_token = 1.5;
    ix.corpus = index__corpus_hash(&ix);
    cr_assert_eq(index__write(&ix, dir), OK, "%s", err_message());
    char path[PATH_BYTES], *text;
    size_t bytes;
    path_join(path, dir, "index.msgpack");
    cr_assert_eq(file_read(path, &text, &bytes), OK);
    cr_assert_eq(read_index(text, bytes), OK, "%s", err_message());
    // File names are for people.
    cr_assert_gt(pack_walk(text, bytes, read_index, " file ", " weight bytes_per_token "), 150);
    free(text);
}

static Status read_record(const char *text, size_t bytes) {
    DocList docs = {0};
    Cleaning cleaned = {0};
    const TextLimits none = {0, 0};  // one damaged record is too many
    Status st = local_read(&docs, write_fast("a.jsonl", text, bytes), 0, 0, &none, &cleaned);
    doclist_free(&docs);
    return st;
}

Test(walk, every_place_of_a_record_refuses_other_kinds_of_values) {
    static const char *const ALLOWED[] = {"title N", "id TFBNLO", "meta TIFBNL", "meta/* TIFBNLO",
                                          NULL};
    cr_assert_gt(
        json_walk("{\"text\":\"Some words.\",\"title\":\"A title\",\"id\":5,\"meta\":{\"text\":1}}",
                  read_record, ALLOWED),
        25);
}
