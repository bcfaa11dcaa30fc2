// Sources in which every file is a document. Files are numbered in the order of their paths, so
// that ids do not depend on the order in which a file system lists them.
#include "data/sources/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/text.h"

enum { FILES_LIMIT = 1 << 20 };  // 20 bits of the document id

// Length of the directory part that all paths share.
static size_t shared_prefix(const FileList *files) {
    const char *first = files->paths[0], *last = files->paths[files->count - 1];
    size_t shared = 0;
    // The list is sorted: what its ends share, all share.
    for (size_t i = 0; first[i] != '\0' && first[i] == last[i]; i++) {
        if (first[i] == '/') shared = i + 1;
    }
    return shared;
}

// Removes an ending, if something is left of the name.
static void cut_suffix(char *text, const char *suffix) {
    size_t n = strlen(text), m = strlen(suffix);
    if (n > m && strcmp(text + n - m, suffix) == 0) text[n - m] = '\0';
}

void file_title(char *title, size_t capacity, const FileList *files, size_t index) {
    const char *path = files->paths[index];
    const char *slash = strrchr(path, '/');
    size_t skip = shared_prefix(files);
    if (files->count == 1 && slash != NULL) skip = (size_t)(slash - path) + 1;
    snprintf(title, capacity, "%s", path + skip);
    cut_suffix(title, ".gz");
    cut_suffix(title, ".txt");
}

Status files_convert(DocList *docs, const FileJob *job) {
    Status st = OK;
    FileList files = {0};
    TextBuf out = {0};
    char *text = NULL;
    int64_t so_far = 0;
    TRY_GOTO(filelist_read(&files, job->dir, job->suffixes));
    if (files.count > FILES_LIMIT) {
        st = err_set(E_USAGE, "put several documents into one .jsonl file",
                     "%s: has more than %d files", job->dir, FILES_LIMIT);
        goto done;
    }
    bool full = false;
    for (size_t f = 0; f < files.count && !full; f++) {
        // One buffer serves all files; texts are copied into the list.
        char path[PATH_BYTES], title[sizeof docs->docs->title];
        size_t bytes;
        path_join(path, job->dir, files.paths[f]);
        TRY_GOTO(text_read(path, &text, &bytes));
        textbuf_clear(&out);
        job->convert(&out, (TextSpan){text, bytes});
        free(text);
        text = NULL;
        file_title(title, sizeof title, &files, f);
        uint64_t id = doc_id(job->source, (uint32_t)f, 0);
        full = doclist_take(docs, id, title, (TextSpan){out.text, out.bytes}, job->limit_bytes,
                            &so_far);
    }
done:
    free(text);
    textbuf_free(&out);
    filelist_free(&files);
    return st;
}
