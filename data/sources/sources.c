// The table of sources, fetching (download, unpack, mark) and extracting (one reader a source).
#include "data/sources/sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/own.h"
#include "data/archive.h"
#include "data/package.h"
#include "data/sources/formats.h"

// Written last into an unpacked directory; a hidden name, so that no reader takes it for text.
static const char MARK[] = ".sterna-source";
enum { UNPACK_VERSION = 1, MARK_BYTES = 512 };

static const Source SOURCES[] = {
    {"austen", "six novels by Jane Austen", "r-cran-janeaustenr", "public domain",
     "*/data/Rdata.rdb", austen_read},
    {"kjv", "the King James Version of the Bible", "bible-kjv-text", "public domain",
     "usr/lib/bible.data", kjv_read},
    {"pod", "the manuals of Perl", "perl-doc", "GPL-1+ or Artistic",
     "*.pod !*/perltoc.pod !*/perlcn.pod !*/perljp.pod !*/perlko.pod !*/perltw.pod", pod_read},
    {"rst", "the manuals of Python", "python3.11-doc", "PSF", "*/_sources/*.rst.txt", rst_read},
    {"foldoc", "the Free On-line Dictionary of Computing", "dict-foldoc", "GFDL-1.1+",
     "*/foldoc.index */foldoc.dict.dz", dictd_read},
    {"jargon", "the Jargon File, hackers' slang and lore", "jargon-text", "public domain",
     "*/jargon.txt.gz", jargon_read},
    {"devil", "The Devil's Dictionary by Ambrose Bierce", "dict-devil", "public domain",
     "*/devil.index */devil.dict.dz", dictd_read},
    {"history", "A Brief History of Debian and its founding papers", "debian-history",
     "GPL and free documents",
     "*/docs/project-history.en.txt.gz */constitution.txt.gz */social-contract.txt.gz"
     " */dedication-2.2.txt */dedication-5.0.txt */dedication-9.0.txt",
     history_read},
};
enum { SOURCE_ROWS = sizeof SOURCES / sizeof *SOURCES };

const Source *source_table(int *count) {
    *count = SOURCE_ROWS;
    return SOURCES;
}

const Source *source_find(const char *name) {
    for (int i = 0; i < SOURCE_ROWS; i++) {
        if (strcmp(SOURCES[i].name, name) == 0) return &SOURCES[i];
    }
    return NULL;
}

bool source_is_path(const char *name) {
    return strchr(name, '/') != NULL || (source_find(name) == NULL && path_exists(name));
}

Status source_require(const Source **source, const char *name) {
    *source = source_find(name);
    if (*source != NULL) return OK;
    char known[256] = "";
    for (int i = 0; i < SOURCE_ROWS; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "", SOURCES[i].name);
    }
    FAIL(E_USAGE, "use one of these names, or the path of a text file or directory",
         "data.sources: unknown source '%s', known are: %s", name, known);
}

// --- the unpacked directory and its mark ---

// CACHE/text/NAME
static void source_dir(char dir[PATH_BYTES], const char *cache_dir, const char *name) {
    char text[PATH_BYTES];
    path_join(text, cache_dir, "text");
    path_join(dir, text, name);
}

// What the mark of a complete directory says, from the files that are there.
static Status mark_expect(char mark[MARK_BYTES], const char *dir, const Source *source) {
    FileList files = {0};
    Status st = filelist_read(&files, dir, NULL);
    uint64_t total = 0;
    for (size_t i = 0; i < files.count && st == OK; i++) {
        char path[PATH_BYTES];
        uint64_t bytes = 0;
        path_join(path, dir, files.paths[i]);
        st = file_size(path, &bytes);
        total += bytes;
    }
    snprintf(mark, MARK_BYTES, "sterna source %d %s files %zu bytes %llu wanted %016llx\n",
             UNPACK_VERSION, source->package, files.count, (unsigned long long)total,
             (unsigned long long)hash64(source->wanted, strlen(source->wanted)));
    filelist_free(&files);
    return st;
}

// *holds: the directory is whole. Counts the files again: a crash may have left them short although
// the mark is there. Otherwise it is fetched again, so what cannot be read now is a failure.
static Status mark_check(bool *holds, const char *dir, const Source *source) {
    char expected[MARK_BYTES], path[PATH_BYTES], *found = NULL;
    int version = 0;
    *holds = false;
    path_join(path, dir, MARK);
    Status st = path_look(path);
    if (st == E_MISSING) return OK;
    if (st == OK) st = mark_expect(expected, dir, source);
    if (st == OK) st = file_read(path, &found, NULL);
    TRY(st);
    *holds = strcmp(found, expected) == 0;
    if (sscanf(found, "sterna source %d ", &version) == 1 && version > UNPACK_VERSION)
        st = err_set(E_NEWER, "use the version of sterna that wrote it, or another data.cache",
                     "%s: version %d, this program reads %d", path, version, UNPACK_VERSION);
    free(found);
    return st;
}

// The mark is the last thing written, and is written safely.
static Status mark_write(const char *dir, const Source *source) {
    char mark[MARK_BYTES], path[PATH_BYTES];
    TRY(mark_expect(mark, dir, source));
    path_join(path, dir, MARK);
    return file_write(path, mark, strlen(mark));
}

// --- whose it is ---

static bool text_names(const char *name, const void *user) {
    const Source *source = user;
    return strcmp(name, MARK) == 0 || path_wanted(name, source->wanted);
}

// The mark of a complete directory is older than the one of every directory that is ours. One that
// cannot be read is met again by whoever wants to read it.
static bool text_knows(const char *path, const void *user) {
    static const char BEGINS[] = "sterna source ";
    char mark[PATH_BYTES], *text = NULL;
    (void)user;
    path_join(mark, path, MARK);
    Status st = path_look(mark);
    if (st == OK) st = file_read(mark, &text, NULL);
    bool known = st == OK ? strncmp(text, BEGINS, sizeof BEGINS - 1) == 0 : st != E_MISSING;
    free(text);
    err_clear();
    return known;
}

// CACHE/text/NAME and NAME.new: files of the package that are wanted.
static OwnKind text_kind(const Source *source) {
    return (OwnKind){.mark = ".sterna-text",
                     .what = "unpacked source",
                     .remedy = "give another data.cache, or move it away",
                     .whole = true,
                     .nested = true,
                     .names = text_names,
                     .knows = text_knows,
                     .user = source};
}

// --- fetching ---

// Where a source is unpacked, before it takes its place.
static Status fresh_dir(char fresh[PATH_BYTES], const char *dir) {
    int n = snprintf(fresh, PATH_BYTES, "%s.new", dir);
    if (n < PATH_BYTES) return OK;
    FAIL(E_USAGE, "use a shorter path", "%s: path is too long", dir);
}

// Unpacks beside the final place and renames: the directory is never seen half full.
static Status source_unpack(const Source *source, const char *deb, const char *dir) {
    char fresh[PATH_BYTES];
    OwnKind kind = text_kind(source);
    ArchiveCount count;
    TRY(fresh_dir(fresh, dir));
    TRY(own_remove(fresh, &kind));
    TRY(own_take(fresh, &kind));
    TRY(deb_unpack(deb, fresh, source->wanted, &ARCHIVE_LIMITS, &count));
    if (count.files == 0) {
        FAIL(E_FORMAT, "report this: the package has changed", "%s: no text of source %s in it",
             deb, source->name);
    }
    TRY(mark_write(fresh, source));
    return own_replace(fresh, dir, &kind);
}

Status source_check(const char *name, const char *cache_dir) {
    char dir[PATH_BYTES], fresh[PATH_BYTES];
    const Source *source = source_find(name);
    if (source == NULL) return OK;
    OwnKind kind = text_kind(source);
    source_dir(dir, cache_dir, name);
    TRY(fresh_dir(fresh, dir));
    TRY(own_check(fresh, &kind));
    bool holds;
    TRY(mark_check(&holds, dir, source));
    return holds ? OK : own_check(dir, &kind);
}

// Under the lock: somebody else may have finished in the meantime.
static Status source_make(const Source *source, const char *packages_dir, const char *dir) {
    char deb[PATH_BYTES];
    bool holds;
    TRY(mark_check(&holds, dir, source));
    if (holds) return OK;
    TRY(package_fetch(deb, source->package, packages_dir));
    return source_unpack(source, deb, dir);
}

Status source_fetch(const char *name, const char *cache_dir) {
    const Source *source;
    if (source_is_path(name)) return OK;
    TRY(source_require(&source, name));
    char packages[PATH_BYTES], dir[PATH_BYTES];
    path_join(packages, cache_dir, "packages");
    source_dir(dir, cache_dir, name);
    // The common case needs neither lock nor APT.
    bool holds;
    TRY(mark_check(&holds, dir, source));
    if (holds) return OK;
    TRY(source_check(name, cache_dir));
    TRY(dir_make(packages));
    // Several nodes may share the cache: the first one works, the others wait and find it done.
    char lock_path[PATH_BYTES];
    Lock lock;
    path_join(lock_path, packages, ".sterna-packages.lock");
    TRY(lock_wait(&lock, lock_path, "fetches the same packages"));
    Status st = source_make(source, packages, dir);
    lock_release(&lock);
    return st;
}

// --- extracting ---

Status source_extract(const char *name, const char *cache_dir, bool offline, int64_t limit_bytes,
                      uint32_t source_number, DocList *docs) {
    const Source *source;
    if (source_is_path(name)) {
        Cleaning ignored = {0};
        return local_read(docs, name, source_number, limit_bytes, &TEXT_LIMITS, &ignored);
    }
    TRY(source_require(&source, name));
    if (offline) return sample_read(docs, name, source_number, limit_bytes);
    char dir[PATH_BYTES], mark[PATH_BYTES];
    source_dir(dir, cache_dir, name);
    path_join(mark, dir, MARK);
    Status there = path_look(mark);
    if (there == E_MISSING) {
        FAIL(E_IO, "fetch it first, or train with data.offline=true", "source %s is not in %s",
             name, dir);
    }
    TRY(there);
    return source->read(docs, dir, source_number, limit_bytes);
}
