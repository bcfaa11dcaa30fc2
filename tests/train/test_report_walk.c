// The report's files with a wrong kind of value in every place: none is read as a default.
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "tests/json_walk.h"
#include "train/report_internal.h"
#include "tests/ref/tree.h"

static char dir[PATH_BYTES];
static const char *name;  // of the file that is walked

static void open_dir(void) {
    snprintf(dir, sizeof dir, "/tmp/sterna_walk_XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}
static void close_dir(void) {
    cr_assert_eq(tree_remove(dir), OK);
}
TestSuite(report_walk, .init = open_dir, .fini = close_dir);

// A report is always made; what it could not read stands in it.
static Status read_piece(const char *text, size_t bytes) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL && fwrite(text, 1, bytes, file) == bytes);
    fclose(file);
    Report r;
    cr_assert_eq(report__read(&r, dir), OK);
    Status st = r.damage[0] == '\0' ? OK : err_set(E_FORMAT, "", "%s", r.damage);
    cr_assert_eq(r.torn_lines > 0, st != OK && strcmp(name, "metrics.jsonl") == 0);
    report__free(&r);
    return st;
}

Test(report_walk, the_corpus) {
    static const char *const ALLOWED[] = {"holdout_text IFBNLO", "sources/*/* N", "[bhpm]* N",
                                          "embedded_sample N", NULL};
    name = "corpus.json";
    cr_assert_gt(
        json_walk(
            "{\"sources\":[{\"name\":\"a\",\"docs\":1,\"bytes\":2,\"tokens\":3,\"duplicates\":4,"
            "\"held_out_docs\":5,\"weight\":0.5}],\"bytes_per_token\":2.5,\"holdout_text\":\"x\","
            "\"holdout_bytes\":6,\"holdout_tokens\":7,\"embedded_sample\":false,"
            "\"parameters\":8,\"model\":\"m\"}",
            read_piece, ALLOWED),
        80);
}

Test(report_walk, the_exchanges) {
    static const char *const ALLOWED[] = {
        "uses/*/* N", "between_steps/*/* N", "ranks N", "?p N", "steps N",
        "step_s N",   "resident TFBNLO",     NULL};
    name = "comm.json";
    cr_assert_gt(
        json_walk("{\"dp\":1,\"sp\":2,\"tp\":3,\"ranks\":6,\"steps\":4,\"step_s\":0.5,"
                  "\"uses\":[{\"name\":\"a\",\"calls\":1.5,\"bytes\":2.5,\"wait_s\":0.5,\"exposed_"
                  "s\":0.5}],"
                  "\"between_steps\":[{\"name\":\"b\",\"calls\":1.5,\"bytes\":2.5,\"wait_s\":0.5,"
                  "\"exposed_s\":0.5}],\"resident\":7}",
                  read_piece, ALLOWED),
        80);
}

Test(report_walk, the_end) {
    static const char *const ALLOWED[] = {"* N", "step TFBLO", NULL};
    name = "exit.json";
    cr_assert_gt(json_walk("{\"reason\":\"r\",\"status\":\"OK\",\"code\":0,\"step\":1,\"steps\":2}",
                           read_piece, ALLOWED),
                 25);
}

Test(report_walk, the_compressors) {
    static const char *const ALLOWED[] = {NULL};
    name = "compressors.json";
    cr_assert_gt(json_walk("{\"gzip\":2.5,\"xz\":2.25}", read_piece, ALLOWED), 8);
}

Test(report_walk, the_metrics) {
    static const char *const ALLOWED[] = {"data_hash IFBNLO", "kind N", "[ltgbnf]* N", "step_s N",
                                          NULL};
    name = "metrics.jsonl";
    cr_assert_gt(
        json_walk(
            "{\"kind\":\"step\",\"step\":1,\"loss\":2.5,\"lr\":0.5,\"gnorm\":0.5,\"tokens\":64,"
            "\"tokens_seen\":64,\"data_hash\":\"x\",\"step_s\":0.5,\"tok_s\":0.5}",
            read_piece, ALLOWED),
        40);
    cr_assert_gt(json_walk("{\"kind\":\"eval\",\"step\":1,\"final\":true,\"nats_per_token\":0.5,"
                           "\"bits_per_byte\":0.5,"
                           "\"tokens\":64}",
                           read_piece, ALLOWED),
                 25);
}
