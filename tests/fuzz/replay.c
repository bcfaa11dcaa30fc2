// The targets over their seeds and over files, without libFuzzer.
//   fuzz_replay                  every target: its seeds, and what once failed (regress/TARGET/*)
//   fuzz_replay TARGET FILE...   these inputs
//   fuzz_replay --seeds DIR      writes the seeds to DIR/TARGET/N
//   fuzz_replay --list           the targets' names
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static int inputs;

static void run_input(const FuzzTarget *t, const uint8_t *data, size_t bytes, void *user) {
    (void)user;
    // A copy of exactly this size: reading behind it is seen.
    uint8_t *copy = malloc(bytes == 0 ? 1 : bytes);
    ASSERT(copy != NULL);
    if (bytes > 0) memcpy(copy, data, bytes);
    fuzz_input(t, copy, bytes);
    free(copy);
    inputs++;
}

static void run_file(const FuzzTarget *t, const char *path) {
    char *text;
    size_t bytes;
    if (file_read(path, &text, &bytes) != OK) {
        fprintf(stderr, "fuzz_replay: %s\n", err_message());
        exit(74);
    }
    fprintf(stderr, "%s %s\n", t->name, path);  // the last line names the input that broke it
    run_input(t, (const uint8_t *)text, bytes, NULL);
    free(text);
}

static void run_target(const FuzzTarget *t, void *user) {
    (void)user;
    char pattern[PATH_BYTES];
    fprintf(stderr, "%s: seeds\n", t->name);
    inputs = 0;
    run_input(t, (const uint8_t *)"", 0, NULL);
    fuzz_seeds(t, run_input, NULL);
    ASSERT(inputs > 1);
    snprintf(pattern, sizeof pattern, "%s/tests/fuzz/regress/%s/*", FUZZ_SOURCE_DIR, t->name);
    glob_t found;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) run_file(t, found.gl_pathv[i]);
        globfree(&found);
    }
}

static void write_seed(const FuzzTarget *t, const uint8_t *data, size_t bytes, void *user) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", (const char *)user, t->name);
    ASSERT(dir_make(path) == OK);
    snprintf(path, sizeof path, "%s/%s/%016llx", (const char *)user, t->name,
             (unsigned long long)hash64(data, bytes));
    ASSERT(file_write(path, data, bytes) == OK);
}

static void write_target(const FuzzTarget *t, void *user) {
    fuzz_seeds(t, write_seed, user);
}

static void print_name(const FuzzTarget *t, void *user) {
    (void)user;
    puts(t->name);
}

int main(int argc, char **argv) {
    if (argc == 1) {
        fuzz_each(run_target, NULL);
    } else if (strcmp(argv[1], "--list") == 0) {
        fuzz_each(print_name, NULL);
    } else if (strcmp(argv[1], "--seeds") == 0 && argc == 3) {
        fuzz_each(write_target, argv[2]);
    } else {
        const FuzzTarget *t = fuzz_find(argv[1]);
        if (t == NULL) return fprintf(stderr, "fuzz_replay: no target %s\n", argv[1]), 64;
        for (int i = 2; i < argc; i++) run_file(t, argv[i]);
    }
    return 0;
}
