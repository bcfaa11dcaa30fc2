// What a corpus is made from: the list of sources, and one hash of everything that changes the
// result. A corpus with the same hash is used again; any other is made anew.
#include "data/internal.h"

#include "base/pack.h"
#include "data/sources/formats.h"
#include "data/sources/sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
static Status spec_check(const char *spec) {
    const Source *source;
    return source_is_path(spec) ? OK : source_require(&source, spec);
}

// One entry of the list, `length` bytes at `spec`.
static Status source_append(Inputs *in, const char *spec, size_t length) {
    if (in->count == MAX_SOURCES)
        FAIL(E_USAGE, "put the files in fewer directories", "data.sources: more than %d sources",
             MAX_SOURCES);
    int k = in->count++;
    snprintf(in->spec[k], sizeof in->spec[k], "%.*s", (int)length, spec);
    TRY(spec_check(in->spec[k]));
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

// --- places ---

static bool is_named(const Inputs *in, int k) {
    return source_find(in->spec[k]) != NULL;
}

Status inputs__outside(const Inputs *in, const char *key, const char *path) {
    for (int k = 0; k < in->count; k++) {
        if (is_named(in, k) || !path_is_dir(in->spec[k])) continue;
        if (!path_is_within(path, in->spec[k])) continue;
        FAIL(E_USAGE,
             "choose a place outside of the texts: what is written there would be read as text",
             "%s=%s lies inside of data.sources '%s'", key, path, in->spec[k]);
    }
    return OK;
}

Status corpus_check_outside(const DataConfig *cfg, const char *key, const char *path) {
    Inputs in;
    TRY(inputs__parse(&in, cfg));
    TRY(cache__check(&in, cfg));
    TRY(inputs__outside(&in, key, path));
    return cache__check_outside(cfg, key, path);
}

Status corpus_check_kept(const DataConfig *cfg, const char *place) {
    Inputs in;
    TRY(inputs__parse(&in, cfg));
    for (int k = 0; k <= in.count; k++) {
        const char *path = k < in.count ? in.spec[k] : cfg->cache;
        if ((k < in.count && is_named(&in, k)) || !path_is_within(path, place)) continue;
        FAIL(E_USAGE, "give another train.run_dir: what lies there is replaced by the run's own",
             "%s: %s lies inside of %s", k < in.count ? "data.sources" : "data.cache", path, place);
    }
    return OK;
}

// --- identity ---

// Reading all the text to notice a change would cost as much as using it.
static Status file_add(PackOut *out, const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) FAIL(E_IO, "check data.sources", "%s: %s", path, strerror(errno));
    packout_i64(out, (int64_t)st.st_size);
    packout_i64(out, (int64_t)st.st_mtim.tv_sec);
    packout_i64(out, (int64_t)st.st_mtim.tv_nsec);
    return OK;
}

// Size and time of a file, or of all files of a directory that are read, with their names.
static Status manifest_add(PackOut *out, const char *spec) {
    if (!path_is_dir(spec)) return file_add(out, spec);
    FileList files = {0};
    size_t others;
    Status st = local_files(&files, &others, spec);
    for (size_t i = 0; i < files.count && st == OK; i++) {
        char path[PATH_BYTES];
        path_join(path, spec, files.paths[i]);
        packout_text(out, files.paths[i]);
        st = file_add(out, path);
    }
    filelist_free(&files);
    return st;
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
    packout_f64(out, cfg->max_invalid);
    packout_f64(out, cfg->max_bad_lines);
    TRY_GOTO(tokenizer_add(out, cfg->tokenizer));
    if (cfg->eod_given) packout_i64(out, cfg->eod);
    for (int k = 0; k < in->count; k++) {
        packout_text(out, in->spec[k]);
        if (source_find(in->spec[k]) == NULL) TRY_GOTO(manifest_add(out, in->spec[k]));
    }
    size_t bytes;
    const char *data = packout_data(out, &bytes);
    *identity = hash128(data, bytes);
done:
    packout_free(out);
    return st;
}
