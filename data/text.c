// Files of text by name and content, and text for a model.
#include "data/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "data/decompress.h"
#include "data/sources/sources.h"

// No single text file is larger than this; anything more is damage or an attack.
enum { TEXT_FILE_LIMIT = 1 << 30 };

const char NORMALISATION[] = "sterna-1";

// --- files ---

Status text_read(const char *path, char **text, size_t *bytes) {
    char *data;
    size_t got;
    TRY(file_read(path, &data, &got));
    if (!is_packed(data, got)) {
        *text = data;
        *bytes = got;
        return OK;
    }
    Status st = decompress_all(text, bytes, data, got, TEXT_FILE_LIMIT, path);
    free(data);
    return st;
}

static bool ends_in(const char *name, size_t length, const char *suffix) {
    size_t n = strlen(suffix);
    return length > n && strncasecmp(name + length - n, suffix, n) == 0;
}

TextKind text_kind(const char *path, bool *listed) {
    static const char *const PACKED[] = {".gz", ".xz", ".zst"};
    static const struct {
        const char *suffix;
        TextKind kind;
        bool listed;
    } KINDS[] = {{".txt", TEXT_PROSE, true},
                 {".md", TEXT_PROSE, true},
                 {".jsonl", TEXT_LINES, true},
                 {".ndjson", TEXT_LINES, true},
                 {".json", TEXT_JSON, false}};  // many directories hold settings in such files
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof PACKED / sizeof *PACKED; i++) {
        if (!ends_in(path, n, PACKED[i])) continue;
        n -= strlen(PACKED[i]);
        break;
    }
    *listed = false;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (!ends_in(path, n, KINDS[i].suffix)) continue;
        *listed = KINDS[i].listed;
        return KINDS[i].kind;
    }
    return TEXT_PROSE;
}

// --- text for a model ---

Status normalisation_check(const char *name, const char *where) {
    if (name[0] == '\0' || strcmp(name, NORMALISATION) == 0) return OK;
    FAIL(E_FORMAT, "use the version of this program that wrote it, or a later one",
         "%s: text_normalisation '%.40s' is not known, only '%s' is", where, name, NORMALISATION);
}

// In place of *text.
static Status normalise(char **text, size_t *bytes, bool whole, const char *name) {
    char *clean = whole ? normalise_text(*text, *bytes, bytes, NULL)
                        : normalise_beginning(*text, *bytes, bytes);
    if (clean == NULL) FAIL(E_NOMEM, "free some memory", "no memory to normalise %s", name);
    free(*text);
    *text = clean;
    return OK;
}

// Decoded, as far as the model wants its text like that.
static Status read_decoded(char **text, size_t *bytes, const char *path,
                           const char *normalisation) {
    TextLook look;
    bool listed, recorded = normalisation[0] != '\0';
    if (text_kind(path, &listed) != TEXT_PROSE) {
        FAIL(E_USAGE, "put the text itself into a file of plain text",
             "%s: records of JSON are read by data.sources and `tokenizer train` only", path);
    }
    TRY(text_read(path, text, bytes));
    return text_decode(text, bytes, &look, recorded ? TEXT_LIMITS.invalid : (double)INFINITY, path);
}

Status model_text_read(char **text, size_t *bytes, const char *path, const char *normalisation) {
    *text = NULL;
    Status st = read_decoded(text, bytes, path, normalisation);
    if (st == OK && normalisation[0] != '\0') st = normalise(text, bytes, true, path);
    if (st == OK) return OK;
    free(*text);
    *text = NULL;
    return st;
}

Status model_prompt(char **text, size_t *bytes, const char *name, const char *normalisation) {
    TextLook look;
    if (normalisation[0] == '\0') return OK;
    TRY(text_decode(text, bytes, &look, TEXT_LIMITS.invalid, name));
    return normalise(text, bytes, false, name);
}

Status model_prompts_read(const char *path, const char *normalisation,
                          Status (*visit)(const char *text, size_t bytes, void *user), void *user) {
    char *text = NULL;
    size_t bytes = 0;
    Status st = read_decoded(&text, &bytes, path, normalisation);
    TextSpan rest = text_skip_mark((TextSpan){text, bytes}), line;
    while (st == OK && line_next(&rest, &line)) {
        char *prompt = malloc(line.bytes + 1);
        ASSERT(prompt != NULL);
        memcpy(prompt, line.at, line.bytes);
        prompt[line.bytes] = '\0';
        size_t n = line.bytes;
        if (normalisation[0] != '\0') st = normalise(&prompt, &n, false, path);
        if (st == OK && n > 0) st = visit(prompt, n, user);
        free(prompt);
    }
    free(text);
    return st;
}
