// Marks, and removal of what carries one. Removing works below open directories and never follows a
// link, and each entry is asked for by name again as it is removed: nothing that came in between,
// and nothing outside, can be reached.
#define _GNU_SOURCE  // renameat2
#include "base/own.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

enum { MAX_DEPTH = 32 };

// --- marks ---

static bool is_marked(const char *path, const OwnKind *kind) {
    char mark[PATH_BYTES];
    struct stat s;
    path_join(mark, path, kind->mark);
    if (lstat(mark, &s) == 0) return S_ISREG(s.st_mode);
    return errno != ENOENT && errno != ENOTDIR;  // who wants to use it will meet the same failure
}

bool own_is(const char *path, const OwnKind *kind) {
    return is_marked(path, kind) || (kind->knows != NULL && kind->knows(path, kind->user));
}

// An empty file: it needs no room on a full disk, and no write that could be lost.
Status own_mark(const char *path, const OwnKind *kind) {
    char mark[PATH_BYTES];
    path_join(mark, path, kind->mark);
    int fd = open(mark, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return file_failed("create", mark, errno);
    close(fd);
    return OK;
}

// --- names ---

// A draft has the right of the file it was to become. Earlier versions ended theirs in ".tmp".
static bool has_our_name(const char *name, const OwnKind *kind) {
    static const char *const SUFFIXES[] = {"", DRAFT_SUFFIX, ".tmp"};
    char stem[PATH_BYTES];
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof SUFFIXES[0] && n < sizeof stem; i++) {
        size_t m = strlen(SUFFIXES[i]);
        if (n <= m || strcmp(name + n - m, SUFFIXES[i]) != 0) continue;
        memcpy(stem, name, n - m);
        stem[n - m] = '\0';
        if (kind->names(stem, kind->user)) return true;
    }
    return false;
}

static Status refuse_entry(const char *path, const char *name, const OwnKind *kind) {
    FAIL(E_USAGE, kind->remedy, "%s: '%s' in it was not made by this program: it is not removed",
         path, name);
}

// --- walking through a whole directory ---

typedef struct Walk {
    const char *path;  // what messages call the directory
    const OwnKind *kind;
    bool removes;  // else: looks only
} Walk;

static Status walk_dir(const Walk *w, int fd, const char *below, int depth);

static Status walk_subdir(const Walk *w, int fd, const char *name, const char *below, int depth) {
    if (!w->kind->nested || depth == MAX_DEPTH) return refuse_entry(w->path, below, w->kind);
    int sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub < 0) return file_failed("read directory", w->path, errno);
    TRY(walk_dir(w, sub, below, depth + 1));
    if (!w->removes || unlinkat(fd, name, AT_REMOVEDIR) == 0) return OK;
    return file_failed("remove", w->path, errno);
}

// One entry of the open directory `fd`, which lies at `below` in the whole.
static Status walk_entry(const Walk *w, int fd, const char *name, const char *below, int depth) {
    char relative[PATH_BYTES];
    struct stat s;
    int n = snprintf(relative, sizeof relative, "%s%s%s", below, below[0] ? "/" : "", name);
    if (n >= (int)sizeof relative) return refuse_entry(w->path, name, w->kind);
    if (strcmp(relative, w->kind->mark) == 0) return OK;  // the last to go
    if (strncmp(name, ".nfs", 4) == 0) return OK;  // what NFS keeps of a file that is still open
    if (fstatat(fd, name, &s, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? OK : file_failed("examine", w->path, errno);
    if (S_ISDIR(s.st_mode)) return walk_subdir(w, fd, name, relative, depth);
    if (!S_ISREG(s.st_mode) || !has_our_name(relative, w->kind))
        return refuse_entry(w->path, relative, w->kind);
    if (!w->removes || unlinkat(fd, name, 0) == 0 || errno == ENOENT) return OK;
    return file_failed("remove", w->path, errno);
}

// Takes `fd`.
static Status walk_dir(const Walk *w, int fd, const char *below, int depth) {
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int error = errno;
        close(fd);
        return file_failed("read directory", w->path, error);
    }
    Status st = OK;
    for (struct dirent *e = readdir(dir); st == OK && e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        st = walk_entry(w, fd, e->d_name, below, depth);
    }
    closedir(dir);
    return st;
}

static Status walk(const char *path, const OwnKind *kind, bool removes) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return OK;  // another process has renamed it
    if (fd < 0) return file_failed("read directory", path, errno);
    return walk_dir(&(Walk){path, kind, removes}, fd, "", 0);
}

// --- checks ---

// A visitor of dir_each, for directories that are not ours.
typedef struct Visit {
    const char *path;
    const OwnKind *kind;
} Visit;

static Status refuse_visited(const char *name, void *user) {
    const Visit *v = user;
    if (v->kind->whole)
        FAIL(E_USAGE, v->kind->remedy, "%s was not made by this program: no %s takes its place",
             v->path, v->kind->what);
    if (!has_our_name(name, v->kind)) return OK;
    FAIL(E_USAGE, v->kind->remedy, "%s/%s was not made by this program: no %s takes its place",
         v->path, name, v->kind->what);
}

static Status refuse_kind(const char *path, const OwnKind *kind, const char *is) {
    FAIL(E_USAGE, kind->remedy, "%s is %s: no %s takes its place", path, is, kind->what);
}

Status own_check(const char *path, const OwnKind *kind) {
    struct stat s;
    int found = kind->whole ? lstat(path, &s) : stat(path, &s);
    if (found != 0 && errno == ENOENT) return OK;
    if (found != 0) return file_failed("examine", path, errno);
    if (S_ISLNK(s.st_mode)) return refuse_kind(path, kind, "a symbolic link");
    if (!S_ISDIR(s.st_mode) && kind->whole) return refuse_kind(path, kind, "not a directory");
    if (!S_ISDIR(s.st_mode)) return file_failed("make directory", path, ENOTDIR);
    // Twice: another process may have made it, or be making it, in between.
    for (int look = 0;; look++) {
        if (own_is(path, kind)) return kind->whole ? walk(path, kind, false) : OK;
        Status st = dir_each(path, refuse_visited, &(Visit){path, kind});
        if (st == OK || (lstat(path, &s) != 0 && errno == ENOENT)) return OK;
        if (look == 1) return st;
    }
}

// --- public ---

Status own_take(const char *path, const OwnKind *kind) {
    TRY(own_check(path, kind));
    TRY(dir_make(path));
    return own_mark(path, kind);
}

Status own_remove(const char *path, const OwnKind *kind) {
    struct stat s;
    ASSERT(kind->whole);
    if (lstat(path, &s) != 0 && errno == ENOENT) return OK;
    TRY(own_check(path, kind));
    // What an earlier version made may be known by a file that goes early. A disk that has no room
    // for the mark is a reason to go on.
    if (own_mark(path, kind) != OK) err_clear();
    TRY(walk(path, kind, true));

    char mark[PATH_BYTES];
    path_join(mark, path, kind->mark);
    TRY(file_remove(mark));
    return rmdir(path) == 0 ? OK : file_failed("remove", path, errno);
}

Status own_replace(const char *from, const char *to, const OwnKind *kind) {
    TRY(own_check(to, kind));
    // At once where the file system can: there is a whole one at every moment.
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0) {
        if (own_remove(from, kind) != OK) log_warn("%s stays: %s", from, err_message());
        return OK;
    }
    TRY(own_remove(to, kind));
    return rename(from, to) == 0 ? OK : file_failed("replace", to, errno);
}
