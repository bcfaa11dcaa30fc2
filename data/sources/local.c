// Text of the user's own: a file is a document; every line of a .jsonl or .ndjson file is an object
// with "text" (and "title", if it has one), a .json file is a list of such objects, or such
// objects; of a directory all .txt, .md, .jsonl and .ndjson files, sorted by path. Any of them may
// be packed.
#include "data/sources/formats.h"
#include "data/sources/sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/text.h"

const TextLimits TEXT_LIMITS = {.invalid = 0.01, .bad_lines = 0.01};
static const char RECORD_HINT[] = "each record must be a JSON object with a string \"text\"";

enum { HERE_BYTES = PATH_BYTES + 32 };

// What every file of one user source shares.
typedef struct Local {
    DocList *docs;
    uint32_t source;
    int64_t limit, bytes;
    const TextLimits *limits;
    Cleaning *cleaned;
    int64_t records;             // good and bad
    char bad[HERE_BYTES + 256];  // the first bad one: where, and what is wrong
} Local;

// Adds to what the report has room for: "a.txt: ISO-8859-1".
static void note(Cleaning *c, const char *before, const char *after) {
    char text[sizeof c->first];
    size_t used = strlen(c->first);
    int n = snprintf(text, sizeof text, "%s%s: %s", used > 0 ? "; " : "", before, after);
    if (n > 0 && used + (size_t)n < sizeof c->first) memcpy(c->first + used, text, (size_t)n + 1);
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void doc_take(Local *l, bool *full, uint64_t id, const char *title, TextSpan text) {
    l->cleaned->docs_empty += span_blank(text);
    *full = doclist_take(l->docs, id, title, text, l->limit, &l->bytes);
}

// --- records ---

// One record of a file. `here` names file and line, as people edit these files by hand.
static Status record_take(Local *l, bool *full, const JsonAt *record, uint64_t id,
                          const char *here) {
    char fallback[96];
    snprintf(fallback, sizeof fallback, "%.90s", last_part(here));
    const char *title = fallback;
    JsonAt v;
    TextSpan text;
    TRY(json_member(&v, record, "text"));
    TRY(json_bytes(&text.at, &text.bytes, &v));
    TRY(json_opt_text(&title, record, "title"));
    doc_take(l, full, id, title, text);
    return OK;
}

// Damage to one record is counted, and judged when all have been read.
static Status record_judge(Local *l, Status st, const char *here) {
    l->records++;
    if (st != E_FORMAT) return st;
    if (l->cleaned->bad_lines++ == 0) {
        snprintf(l->bad, sizeof l->bad, "%s", err_message());
        note(l->cleaned, "the first", last_part(here));
    }
    err_clear();
    return OK;
}

// Record numbers are line numbers, blank lines counted.
static Status lines_take(Local *l, bool *full, TextSpan text, uint64_t id, const char *name) {
    TextSpan line;
    for (uint32_t record = 0; !*full && line_next(&text, &line); record++) {
        if (span_blank(line)) continue;
        char here[HERE_BYTES];
        Json *root = NULL;
        snprintf(here, sizeof here, "%s:%u", name, record + 1);
        Status st = json_open(&root, line.at, line.bytes, here);
        JsonAt top = json_top(root, here, RECORD_HINT);
        if (st == OK) st = record_take(l, full, &top, id + record, here);
        json_close(root);
        TRY(record_judge(l, st, here));
    }
    return OK;
}

static Status list_take(Local *l, bool *full, const JsonAt *list, uint64_t id, const char *name) {
    for (size_t record = 0; !*full && record < json_count(list); record++) {
        char here[HERE_BYTES];
        JsonAt item;
        snprintf(here, sizeof here, "%s:%zu", name, record + 1);
        TRY(json_item(&item, list, record));
        Status st = record_take(l, full, &item, id + record, here);
        TRY(record_judge(l, st, here));
    }
    return OK;
}

// Does the first line stand for itself? Then the file has an object a line, whatever it is called.
static bool has_lines(TextSpan text) {
    TextSpan line = {"", 0};
    while (line_next(&text, &line) && span_blank(line)) continue;
    Json *root = NULL;
    bool object = json_open(&root, line.at, line.bytes, "") == OK;
    JsonAt top = json_top(root, "", NULL);
    object = object && json_kind(&top) == J_OBJECT;
    json_close(root);
    err_clear();
    return object;
}

static Status json_take(Local *l, bool *full, TextSpan text, uint64_t id, const char *name) {
    if (has_lines(text)) return lines_take(l, full, text, id, name);
    Json *root = NULL;
    TRY(json_open(&root, text.at, text.bytes, name));
    JsonAt top = json_top(root, name, RECORD_HINT);
    Status st;
    if (json_kind(&top) == J_LIST) {
        st = list_take(l, full, &top, id, name);
    } else {
        st = record_take(l, full, &top, id, name);
        l->records++;
    }
    json_close(root);
    return st;
}

// After all records: were too many of them bad?
static Status records_judge(const Local *l) {
    int64_t bad = l->cleaned->bad_lines;
    if ((double)bad <= l->limits->bad_lines * (double)l->records) return OK;
    FAIL(E_FORMAT, RECORD_HINT,
         "%s (the first of %lld damaged records of %lld; data.max_bad_lines=%g)", l->bad,
         (long long)bad, (long long)l->records, l->limits->bad_lines);
}

// --- files ---

// A file by its name: records, or one document. look->refused: it is no text.
static Status file_take(Local *l, bool *full, TextLook *look, const char *path, const char *title,
                        uint32_t file) {
    char *text = NULL;
    size_t bytes;
    bool listed;
    *look = (TextLook){0};
    TRY(text_read(path, &text, &bytes));
    Status st = text_decode(&text, &bytes, look, l->limits->invalid, path);
    TextSpan all = st == OK ? text_skip_mark((TextSpan){text, bytes}) : (TextSpan){"", 0};
    l->cleaned->files_decoded += look->from != NULL;
    uint64_t id = doc_id(l->source, file, 0);
    TextKind kind = text_kind(path, &listed);
    if (st == OK && kind == TEXT_LINES) {
        st = lines_take(l, full, all, id, path);
    } else if (st == OK && kind == TEXT_JSON) {
        st = json_take(l, full, all, id, path);
    } else if (st == OK) {
        doc_take(l, full, id, title, all);
    }
    free(text);
    return st;
}

// Other files are none of our business.
Status local_files(FileList *files, size_t *others, const char *dir) {
    files->follow = true;
    TRY(filelist_read(files, dir, NULL));
    size_t kept = 0;
    for (size_t i = 0; i < files->count; i++) {
        bool listed;
        text_kind(files->paths[i], &listed);
        if (listed) {
            files->paths[kept++] = files->paths[i];
        } else {
            free(files->paths[i]);
        }
    }
    *others = files->count - kept;
    files->count = kept;
    return OK;
}

// One that is no text is left out of a directory, by name.
static Status listed_take(Local *l, bool *full, const char *dir, const char *name, uint32_t file) {
    char path[PATH_BYTES];
    TextLook look;
    path_join(path, dir, name);
    Status st = file_take(l, full, &look, path, name, file);
    if (st != E_FORMAT || look.refused == NULL) return st;
    l->cleaned->files_left_out++;
    note(l->cleaned, name, look.refused);
    return OK;
}

// All text files below a directory.
static Status dir_take(Local *l, const char *dir) {
    Status st = OK;
    FileList files = {0};
    bool full = false;
    size_t others;
    TRY_GOTO(local_files(&files, &others, dir));
    l->cleaned->links_skipped += (int64_t)files.links;
    if (files.count == 0 || files.count >= 1u << 20) {
        st = err_set(
            E_USAGE,
            "the directory must hold some .txt, .md, .jsonl or .ndjson files, also packed by "
            "gzip, xz or zstd, fewer than 2^20; others are named one by one",
            "%s: %zu text files in it, %zu files of other names, %zu links to directories or "
            "nowhere, which are not followed",
            dir, files.count, others, files.links);
        goto done;
    }
    for (size_t f = 0; f < files.count && !full; f++) {
        TRY_GOTO(listed_take(l, &full, dir, files.paths[f], (uint32_t)f));
    }
    // Nothing is left: the last one's message and hint say why.
    if (l->cleaned->files_left_out == (int64_t)files.count) st = E_FORMAT;
done:
    filelist_free(&files);
    return st;
}

Status local_read(DocList *docs, const char *path, uint32_t source, int64_t limit_bytes,
                  const TextLimits *limits, Cleaning *cleaned) {
    if (strlen(path) >= PATH_BYTES / 2) {
        FAIL(E_USAGE, "use a shorter path", "data.sources: '%.80s...' is too long", path);
    }
    Local l = {
        .docs = docs, .source = source, .limit = limit_bytes, .limits = limits, .cleaned = cleaned};
    bool full = false;
    TextLook look;
    if (path_is_dir(path)) {
        TRY(dir_take(&l, path));
    } else {
        TRY(file_take(&l, &full, &look, path, last_part(path), 0));
    }
    return records_judge(&l);
}
