// What a corpus is made from: the list of sources, and one hash of everything that changes the
// result. A corpus with the same hash is used again; any other is made anew.
#include "data/internal.h"

#include "base/pack.h"
#include "data/sources/sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 64 };  // of the user's directories: ends on symbolic links in a circle

// Names go into data.mix, where ',' and '=' separate, and into reports. Bytes above 127 are UTF-8.
static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || (unsigned char)c >= 0x80;
}

// "/home/me/my texts/" -> "my_texts"
static void name_from_spec(char name[SOURCE_NAME_BYTES], const char *spec) {
    size_t end = strlen(spec);
    while (end > 1 && spec[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && spec[begin - 1] != '/') begin--;
    size_t n = 0;
    for (size_t i = begin; i < end && n < SOURCE_NAME_BYTES - 1; i++)
        name[n++] = is_name_char(spec[i]) ? spec[i] : '_';
    name[n] = '\0';
}

// A typing error should not be taken for the name of a missing file.
static Status source_check(const char *spec) {
    if (source_find(spec) != NULL || source_is_path(spec)) return OK;
    int count;
    const Source *table = source_table(&count);
    char known[512] = "";
    for (int i = 0; i < count; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i > 0 ? ", " : "", table[i].name);
    }
    FAIL(E_USAGE, "use one of these names, or the path of a text file or directory",
         "data.sources: unknown source '%s', known are: %s", spec, known);
}

// One entry of the list, `length` bytes at `spec`.
static Status source_append(Inputs *in, const char *spec, size_t length) {
    if (in->count == MAX_SOURCES)
        FAIL(E_USAGE, "put the files in fewer directories", "data.sources: more than %d sources",
             MAX_SOURCES);
    int k = in->count++;
    snprintf(in->spec[k], sizeof in->spec[k], "%.*s", (int)length, spec);
    TRY(source_check(in->spec[k]));
    name_from_spec(in->name[k], in->spec[k]);
    for (int i = 0; i < k; i++)
        if (strcmp(in->name[i], in->name[k]) == 0)
            FAIL(E_USAGE, "rename one of them: reports and data.mix need different names",
                 "data.sources: '%s' and '%s' have the same name '%s'", in->spec[i], in->spec[k],
                 in->name[k]);
    return OK;
}

Status inputs__parse(Inputs *in, const DataConfig *cfg) {
    in->count = 0;
    for (const char *at = cfg->sources; *at != '\0';) {
        at += strspn(at, ", ");
        size_t length = strcspn(at, ","), trimmed = length;
        while (trimmed > 0 && at[trimmed - 1] == ' ') trimmed--;
        if (trimmed > 0) TRY(source_append(in, at, trimmed));
        at += length;
    }
    if (in->count == 0)
        FAIL(E_USAGE, "e.g. data.sources=austen,kjv", "data.sources: no source is named");

    // A typing error in the mixture should not wait for the downloads.
    const char *names[MAX_SOURCES];
    double weights[MAX_SOURCES];
    for (int k = 0; k < in->count; k++) names[k] = in->name[k];
    return mix__parse(weights, cfg->mix, &(MixSources){.names = names, .count = in->count});
}

// --- identity ---

// State of dir_each, one a directory.
typedef struct Walk {
    PackOut *out;
    const char *dir;
    int depth;
} Walk;

static Status manifest_add(PackOut *out, const char *path, int depth);

static Status manifest_visit(const char *name, void *user) {
    Walk *w = user;
    char path[PATH_BYTES];
    if (strlen(w->dir) + strlen(name) + 2 > PATH_BYTES)
        FAIL(E_IO, "move the files to a shorter path", "%s/%s: path too long", w->dir, name);
    path_join(path, w->dir, name);
    packout_text(w->out, name);
    return manifest_add(w->out, path, w->depth + 1);
}

// Size and time of a file, or of all files below a directory in the order of their names.
static Status manifest_add(PackOut *out, const char *path, int depth) {
    struct stat st;
    if (stat(path, &st) != 0) FAIL(E_IO, "check data.sources", "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        if (depth > MAX_DEPTH)
            FAIL(E_IO, "is there a symbolic link to a parent?", "%s: directories too deep", path);
        return dir_each(path, manifest_visit, &(Walk){.out = out, .dir = path, .depth = depth});
    }
    // Reading all the text to notice a change would cost as much as using it.
    packout_i64(out, (int64_t)st.st_size);
    packout_i64(out, (int64_t)st.st_mtim.tv_sec);
    packout_i64(out, (int64_t)st.st_mtim.tv_nsec);
    return OK;
}

// By contents, not by time: the same file is often copied from run to run.
static Status tokenizer_add(PackOut *out, const char *path) {
    if (path[0] == '\0') return OK;
    char *text;
    size_t bytes;
    TRY(file_read(path, &text, &bytes));
    packout_u64(out, hash64(text, bytes));
    free(text);
    return OK;
}

Status inputs__identity(Hash128 *identity, const Inputs *in, const DataConfig *cfg) {
    PackOut *out = packout_new();
    Status st = OK;
    packout_i64(out, CORPUS_VERSION);
    packout_text(out, cfg->holdout);
    packout_i64(out, cfg->tokenizer[0] == '\0' ? cfg->vocab : 0);  // a given tokenizer has its own
    packout_bool(out, cfg->offline);
    packout_bool(out, cfg->dedup);
    packout_i64(out, cfg->sample_mb);
    packout_i64(out, cfg->shard_tokens);
    TRY_GOTO(tokenizer_add(out, cfg->tokenizer));
    for (int k = 0; k < in->count; k++) {
        packout_text(out, in->spec[k]);
        if (source_find(in->spec[k]) == NULL) TRY_GOTO(manifest_add(out, in->spec[k], 0));
    }
    size_t bytes;
    const char *data = packout_data(out, &bytes);
    *identity = hash128(data, bytes);
done:
    packout_free(out);
    return st;
}
