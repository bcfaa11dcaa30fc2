// Text of the user's own: a file is a document; every line of a .jsonl file is an object with
// "text" (and "title", if it has one); of a directory all .txt, .md and .jsonl files, sorted by
// path. Any of them may be gzip'ed.
#include "data/sources/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

// What every file of one user source shares.
typedef struct Local {
    DocList *docs;
    uint32_t source;
    int64_t limit, bytes;
} Local;

static bool ends_in(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

// Text and title of a record; the title stays what it was when there is none.
static Status record_read(Slice *text, const char **title, const JsonAt *record) {
    JsonAt v;
    TRY(json_member(&v, record, "text"));
    TRY(json_bytes(&text->at, &text->bytes, &v));
    return json_opt_text(title, record, "title");
}

// One line of a .jsonl file. Errors name file and line, as people edit these files by hand.
static Status record_take(Local *l, bool *full, Slice line, uint64_t id, const char *name) {
    char here[PATH_BYTES + 32], fallback[96];
    unsigned record = (unsigned)(id & UINT32_MAX);
    snprintf(here, sizeof here, "%s:%u", name, record + 1);
    Json *root;
    TRY(json_open(&root, line.at, line.bytes, here));
    const char *slash = strrchr(name, '/'), *title = fallback;
    snprintf(fallback, sizeof fallback, "%.60s:%u", slash == NULL ? name : slash + 1, record + 1);
    JsonAt top = json_top(root, here,
                          "each line must be a JSON object with a text \"text\" and "
                          "perhaps a text \"title\"");
    Slice text;
    Status st = record_read(&text, &title, &top);
    if (st == OK) *full = doclist_take(l->docs, id, title, text, l->limit, &l->bytes);
    json_close(root);
    return st;
}

// Record numbers are line numbers, blank lines counted.
static Status records_take(Local *l, bool *full, Slice text, uint64_t id, const char *name) {
    Slice line;
    for (uint32_t record = 0; !*full && line_next(&text, &line); record++) {
        if (!slice_blank(line)) TRY(record_take(l, full, line, id + record, name));
    }
    return OK;
}

// A file by its name: records, or one document.
static Status file_take(Local *l, bool *full, const char *path, const char *title, uint32_t file) {
    char *text;
    size_t bytes;
    Status st = text_read(path, &text, &bytes);
    if (st != OK) return st;
    uint64_t id = doc_id(l->source, file, 0);
    if (ends_in(path, ".jsonl") || ends_in(path, ".jsonl.gz")) {
        st = records_take(l, full, (Slice){text, bytes}, id, path);
    } else {
        *full = doclist_take(l->docs, id, title, (Slice){text, bytes}, l->limit, &l->bytes);
    }
    free(text);
    return st;
}

// Other files are none of our business.
Status local_files(FileList *files, const char *dir) {
    static const char *const SUFFIXES[] = {".txt",   ".md",       ".jsonl", ".txt.gz",
                                           ".md.gz", ".jsonl.gz", NULL};
    return filelist_read(files, dir, SUFFIXES);
}

// All text files below a directory.
static Status dir_take(Local *l, const char *dir) {
    Status st = OK;
    FileList files = {0};
    bool full = false;
    TRY_GOTO(local_files(&files, dir));
    if (files.count == 0 || files.count >= 1u << 20) {
        st = err_set(E_USAGE,
                     "the directory must hold some .txt, .md or .jsonl files, fewer than 2^20",
                     "%s: %zu text files in it", dir, files.count);
        goto done;
    }
    for (size_t f = 0; f < files.count && !full; f++) {
        char path[PATH_BYTES];
        path_join(path, dir, files.paths[f]);
        TRY_GOTO(file_take(l, &full, path, files.paths[f], (uint32_t)f));
    }
done:
    filelist_free(&files);
    return st;
}

Status local_read(DocList *docs, const char *path, uint32_t source, int64_t limit_bytes) {
    Local l = {docs, source, limit_bytes, 0};
    bool full = false;
    if (strlen(path) >= PATH_BYTES / 2) {
        FAIL(E_USAGE, "use a shorter path", "data.sources: '%.80s...' is too long", path);
    }
    if (path_is_dir(path)) return dir_take(&l, path);
    const char *slash = strrchr(path, '/');
    return file_take(&l, &full, path, slash == NULL ? path : slash + 1, 0);
}
