// What all targets share: the table, files of one input, seeds.
#include "fuzz.h"
#include "tests/ref/tree.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char SEPARATOR[] = "\n%%%%\n";
static const FuzzTarget *const TABLES[] = {BASE_TARGETS, TOKENIZER_TARGETS, TEXT_TARGETS,
                                           SOURCE_TARGETS, MODEL_TARGETS};

void fuzz_each(void (*visit)(const FuzzTarget *t, void *user), void *user) {
    for (size_t i = 0; i < sizeof TABLES / sizeof TABLES[0]; i++)
        for (const FuzzTarget *t = TABLES[i]; t->name != NULL; t++) visit(t, user);
}

const FuzzTarget *fuzz_find(const char *name) {
    for (size_t i = 0; i < sizeof TABLES / sizeof TABLES[0]; i++)
        for (const FuzzTarget *t = TABLES[i]; t->name != NULL; t++)
            if (strcmp(t->name, name) == 0) return t;
    return NULL;
}

// A broken invariant must look like a crash, with a stack.
static void crash(int code) {
    (void)code;
    abort();
}

void fuzz_input(const FuzzTarget *t, const uint8_t *data, size_t bytes) {
    panic_hook = crash;
    err_clear();
    t->run(data, bytes);
    if (path_exists(fuzz_dir())) ASSERT(tree_remove(fuzz_dir()) == OK);
}

// --- files ---

const char *fuzz_dir(void) {
    static char dir[64];
    if (dir[0] == '\0') {
        const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(dir, sizeof dir, "%s/sterna-fuzz.%d", root, (int)getpid());
    }
    return dir;
}

const char *fuzz_path(const char *name) {
    static char paths[4][PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4], parent[PATH_BYTES];
    path_join(path, fuzz_dir(), name);
    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = '\0';
    ASSERT(dir_make(parent) == OK);
    return path;
}

// Without the fsync of file_write, which would be most of the time of an input.
const char *fuzz_file(const char *name, const void *data, size_t bytes) {
    const char *path = fuzz_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ASSERT(fd >= 0 && write_all(fd, data, bytes, path) == OK);
    close(fd);
    return path;
}

FuzzPart fuzz_part(FuzzPart *rest) {
    size_t n = sizeof SEPARATOR - 1;
    for (size_t i = 0; i + n <= rest->bytes; i++) {
        if (memcmp(rest->at + i, SEPARATOR, n) != 0) continue;
        FuzzPart part = {rest->at, i};
        *rest = (FuzzPart){rest->at + i + n, rest->bytes - i - n};
        return part;
    }
    FuzzPart part = *rest;
    *rest = (FuzzPart){rest->at + rest->bytes, 0};
    return part;
}

char *fuzz_text(FuzzPart part) {
    char *text = malloc(part.bytes + 1);
    ASSERT(text != NULL);
    if (part.bytes > 0) memcpy(text, part.at, part.bytes);
    text[part.bytes] = '\0';
    return text;
}

// --- seeds ---

static struct {
    const FuzzTarget *target;
    FuzzSink *sink;
    void *user;
} seeding;

void fuzz_seed(const void *data, size_t bytes) {
    seeding.sink(seeding.target, data, bytes, seeding.user);
}

void fuzz_seed_parts(const char *const *parts, const size_t *bytes, int count) {
    size_t used = 0, n = sizeof SEPARATOR - 1;
    for (int i = 0; i < count; i++) used += bytes[i] + n;
    char *all = malloc(used), *to = all;
    ASSERT(all != NULL);
    for (int i = 0; i < count; i++) {
        if (i > 0) to = (char *)memcpy(to, SEPARATOR, n) + n;
        if (bytes[i] > 0) memcpy(to, parts[i], bytes[i]);
        to += bytes[i];
    }
    fuzz_seed(all, (size_t)(to - all));
    free(all);
}

void fuzz_seed_texts(const char *const *texts) {
    for (; *texts != NULL; texts++) fuzz_seed(*texts, strlen(*texts));
}

// "A+B": one input of several files, by names without wildcards.
static void seed_joined(char *word) {
    char *parts[4] = {0}, *state;
    size_t bytes[4];
    int count = 0;
    for (char *name = strtok_r(word, "+", &state); name != NULL;
         name = strtok_r(NULL, "+", &state)) {
        char path[PATH_BYTES];
        path_join(path, FUZZ_SOURCE_DIR, name);
        ASSERT(count < 4 && file_read(path, &parts[count], &bytes[count]) == OK);
        count++;
    }
    fuzz_seed_parts((const char *const *)parts, bytes, count);
    for (int i = 0; i < count; i++) free(parts[i]);
}

static void seed_files(const char *pattern) {
    char path[PATH_BYTES];
    glob_t found;
    path_join(path, FUZZ_SOURCE_DIR, pattern);
    ASSERT(glob(path, 0, NULL, &found) == 0);  // a seed that moved must not be lost in silence
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *text;
        size_t bytes;
        ASSERT(file_read(found.gl_pathv[i], &text, &bytes) == OK);
        fuzz_seed(text, bytes);
        free(text);
    }
    globfree(&found);
}

void fuzz_seeds(const FuzzTarget *t, FuzzSink *sink, void *user) {
    seeding.target = t, seeding.sink = sink, seeding.user = user;
    if (t->seeds != NULL) t->seeds();
    char *list = strdup(t->files == NULL ? "" : t->files), *state;
    ASSERT(list != NULL);
    for (char *word = strtok_r(list, " ", &state); word != NULL;
         word = strtok_r(NULL, " ", &state)) {
        if (strchr(word, '+') != NULL) {
            seed_joined(word);
        } else {
            seed_files(word);
        }
    }
    free(list);
}
