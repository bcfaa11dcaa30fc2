// Whole files, atomic replacement, mappings, directories and checksums on plain POSIX.
//
// Replacement follows the usual recipe for crash safety: write a neighbour, fsync it, rename it
// over the old name, fsync the directory that holds the name. A crash at any point leaves the old
// file or the new, and a neighbour under a name that nobody else gives. Checksums are xxHash's
// XXH3: they find accidents, not forgeries.
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/lost.h"

static const size_t READ_FIRST = 4096;      // first buffer of a file without a size, as a pipe
static const size_t WRITE_MOST = 1u << 30;  // Linux moves at most 2 GiB - 4 KiB a call

// What the user can do about an error number.
static const char *hint_of(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return "free space on that file system, or choose a directory on another one";
    case EACCES:
    case EPERM:
        return "check owner and permissions of the file and of every directory above it";
    case EROFS:
        return "that file system is read-only: choose another directory";
    case ENOENT:
        return "check the spelling of the path, and that its directory exists";
    case ENOTDIR:
        return "a part of the path is a file where a directory is needed";
    case EISDIR:
        return "give the path of a file, not of a directory";
    case ENOTEMPTY:
        return "something else is writing there: stop it and try again";
    case ENAMETOOLONG:
        return "use a shorter path";
    case ELOOP:
        return "the path runs through symbolic links in a circle";
    case EMFILE:
    case ENFILE:
        return "raise the limit of open files: ulimit -n";
    case ENOMEM:
        return "free memory, or use more ranks";
    case EIO:
        return "the storage reported a fault: check the disk or the network file system";
    case ESTALE:
        return "the file server has forgotten this file: give the command again, or mount it anew";
    default:
        return "check the path and the state of its file system";
    }
}

// Every failed system call on a path ends here: "cannot <verb> <path>: <reason>".
static Status fail(const char *verb, const char *path, int error) {
    return err_set(error == ENOMEM ? E_NOMEM : E_IO, hint_of(error), "cannot %s %.1024s: %s", verb,
                   path, strerror(error));
}

Status file_failed(const char *verb, const char *path, int error) {
    return fail(verb, path, error);
}

// Paths

void path_join(char dst[PATH_BYTES], const char *dir, const char *name) {
    size_t n = strlen(dir);
    const char *slash = n == 0 || dir[n - 1] == '/' ? "" : "/";
    int length = snprintf(dst, PATH_BYTES, "%s%s%s", dir, slash, name);
    ASSERT(length >= 0 && length < PATH_BYTES);
}

bool path_exists(const char *path) {
    struct stat s;
    return stat(path, &s) == 0;
}

bool path_is_dir(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

// The first part of a path that leads nowhere; true when that part is a link.
static bool ends_in_link(char part[PATH_BYTES], const char *path) {
    struct stat s;
    size_t n = strlen(path);
    for (size_t i = 1; i <= n && i < PATH_BYTES; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (stat(part, &s) != 0) return lstat(part, &s) == 0;
    }
    return false;
}

Status path_look(const char *path) {
    struct stat s;
    if (stat(path, &s) == 0) return OK;
    if (errno != ENOENT) return fail("look at", path, errno);
    char part[PATH_BYTES];
    if (ends_in_link(part, path))
        FAIL(E_IO, "mount the disk it points to, or correct the link",
             "cannot look at %s: %s is a link to a place that is not there", path, part);
    (void)fail("open", path, ENOENT);
    return E_MISSING;
}

// Directories

// One mkdir; a directory that is already there is what was wanted.
static Status make_one(const char *path) {
    if (mkdir(path, 0777) == 0) return OK;
    int error = errno;
    // Another rank may have been faster. An unwritable or read-only parent may say so before
    // EEXIST.
    if (path_is_dir(path)) return OK;
    if (error == EEXIST) TRY(path_look(path));  // a link that leads nowhere
    return fail("make directory", path, error == EEXIST ? ENOTDIR : error);
}

Status dir_make(const char *path) {
    char part[PATH_BYTES];
    size_t n = strlen(path);
    if (n == 0) return fail("make directory", "''", ENOENT);
    if (n >= sizeof part) return fail("make directory", path, ENAMETOOLONG);
    memcpy(part, path, n + 1);
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/') continue;
        *p = '\0';
        TRY(make_one(part));
        *p = '/';
    }
    return make_one(part);
}

Status dir_sync(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail("open directory", path, errno);
    int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    // Some network file systems cannot sync a directory, and say EINVAL: their rename is all there
    // is.
    return error == 0 || error == EINVAL || error == EROFS ? OK
                                                           : fail("sync directory", path, error);
}

Status dir_probe(const char *path) {
    static const char block[4096];
    char name[PATH_BYTES];
    int n = snprintf(name, sizeof name, "%s/.sterna-probe-XXXXXX", path);
    if (n < 0 || n >= PATH_BYTES) return fail("write in", path, ENAMETOOLONG);
    int fd = mkstemp(name);  // a name that nobody has
    if (fd < 0) return fail("write in", path, errno);
    Status st = write_all(fd, block, sizeof block, name);
    if (close(fd) != 0 && st == OK) st = fail("write", name, errno);
    unlink(name);
    return st;
}

// scandir's filter and order: bytes, not the locale's rules, so that all machines see one order.
static int is_entry(const struct dirent *e) {
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

// The names are read before the first visit: the visitor may add and remove files.
Status dir_each(const char *path, Status (*visit)(const char *name, void *user), void *user) {
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_entry, by_bytes);
    if (count < 0) return fail("read directory", path, errno);
    Status st = OK;
    for (int i = 0; i < count; i++) {
        if (st == OK) st = visit(entries[i]->d_name, user);
        free(entries[i]);
    }
    free(entries);
    return st;
}

// Reading

// Reads fd to its end, whatever size was promised. One byte more than `expected` is made room for,
// so that a file of that size is found at its end by the first short read.
static Status read_all(char **text, size_t *bytes, int fd, size_t expected, const char *path) {
    size_t capacity = expected + 2, used = 0;
    char *buffer = malloc(capacity);
    if (buffer == NULL) return fail("read", path, ENOMEM);
    for (;;) {
        if (capacity - used < 2) {
            char *larger = capacity > SIZE_MAX / 2 ? NULL : realloc(buffer, capacity * 2);
            if (larger == NULL) {
                free(buffer);
                return fail("read", path, ENOMEM);
            }
            buffer = larger;
            capacity *= 2;
        }
        // One byte is kept for the NUL.
        size_t room = capacity - used - 1;
        ssize_t got = read(fd, buffer + used, room < WRITE_MOST ? room : WRITE_MOST);
        if (got == 0) break;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            int error = errno;
            free(buffer);
            return fail("read", path, error);
        }
        used += (size_t)got;
    }
    buffer[used] = '\0';
    *text = buffer;
    *bytes = used;
    return OK;
}

// The size of a regular file is a good guess, not a promise: it may grow, and /proc files say 0.
Status file_read(const char *path, char **text, size_t *bytes) {
    *text = NULL;
    if (bytes != NULL) *bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail("open", path, errno);
    struct stat s;
    size_t expected = READ_FIRST, got = 0;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) expected = (size_t)s.st_size;
    Status st = read_all(text, &got, fd, expected, path);
    close(fd);
    if (bytes != NULL) *bytes = got;
    return st;
}

Status file_size(const char *path, uint64_t *bytes) {
    struct stat s;
    *bytes = 0;
    if (stat(path, &s) != 0) return fail("open", path, errno);
    if (!S_ISREG(s.st_mode)) return fail("size", path, S_ISDIR(s.st_mode) ? EISDIR : EINVAL);
    *bytes = (uint64_t)s.st_size;
    return OK;
}

Status file_map(const char *path, Mapping *m) {
    *m = (Mapping){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail("open", path, errno);
    struct stat s;
    int error = fstat(fd, &s) == 0 ? 0 : errno;
    if (error == 0 && !S_ISREG(s.st_mode)) error = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
    if (error == 0 && s.st_size == 0) {
        m->data = "";  // nothing can be mapped, and nothing needs to be
    } else if (error == 0) {
        void *data = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) error = errno;
        if (error == 0) *m = (Mapping){data, (size_t)s.st_size};
        if (error == 0) lost__watch(path, data, (size_t)s.st_size);
    }
    close(fd);  // the mapping keeps the file
    return error == 0 ? OK : fail("map", path, error);
}

void file_unmap(Mapping *m) {
    if (m->bytes > 0) lost__forget(m->data);
    if (m->bytes > 0) munmap((void *)(uintptr_t)m->data, m->bytes);
    *m = (Mapping){0};
}

// Writing

// write may take less than it was given, as at a signal: go on from there.
Status write_all(int fd, const void *data, size_t bytes, const char *path) {
    const char *from = data;
    while (bytes > 0) {
        ssize_t put = write(fd, from, bytes < WRITE_MOST ? bytes : WRITE_MOST);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail("write", path, errno);
        from += put;
        bytes -= (size_t)put;
    }
    return OK;
}

// dst = the directory that holds `path`.
static void parent_of(char dst[PATH_BYTES], const char *path) {
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    memcpy(dst, slash == NULL ? "." : path, slash == NULL ? 2 : n);
    if (slash != NULL) dst[n] = '\0';
}

// Where the content goes in the end: links stay, and what they point to is replaced. *plain: it is
// or will be a regular file; a device or a pipe is written as it is.
static Status draft_target(Draft *d, const char *path) {
    struct stat s;
    char real[PATH_MAX];
    d->plain = stat(path, &s) != 0 || S_ISREG(s.st_mode);
    if (!d->plain && S_ISDIR(s.st_mode)) return fail("replace", path, EISDIR);
    bool link = lstat(path, &s) == 0 && S_ISLNK(s.st_mode);
    if (link && d->plain && realpath(path, real) == NULL) return fail("replace", path, errno);
    const char *target = link && d->plain ? real : path;
    size_t n = strlen(target);
    if (n + sizeof DRAFT_SUFFIX > PATH_BYTES) return fail("write", path, ENAMETOOLONG);
    memcpy(d->target, target, n + 1);
    snprintf(d->path, sizeof d->path, "%s%s", target, d->plain ? DRAFT_SUFFIX : "");
    return OK;
}

// Only this program gives files this name, so one that is there is what a killed process left.
static int draft_create(const char *path) {
    for (int tries = 0;; tries++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST || tries == 2) return fd;
        if (unlink(path) != 0 && errno != ENOENT) return -1;
    }
}

Status draft_open(Draft *d, const char *path) {
    *d = (Draft){.fd = -1};
    TRY(draft_target(d, path));
    d->fd = d->plain ? draft_create(d->path) : open(d->path, O_WRONLY | O_CLOEXEC);
    struct stat s;
    if (d->fd < 0 || fstat(d->fd, &s) != 0) return fail("create", d->path, errno);
    d->device = s.st_dev;
    d->inode = s.st_ino;
    return OK;
}

// Another process that writes the same file takes the name for a rest, and begins its own.
static bool draft_is_there(const Draft *d) {
    struct stat s;
    return lstat(d->path, &s) == 0 && s.st_dev == d->device && s.st_ino == d->inode;
}

Status draft_sync(Draft *d) {
    if (d->fd < 0) return OK;
    int error = fsync(d->fd) == 0 || !d->plain ? 0 : errno;
    int fd = d->fd;
    d->fd = -1;
    // Network file systems report a full disk as late as here.
    if (close(fd) != 0 && error == 0) error = errno;
    return error == 0 ? OK : fail("write", d->path, error);
}

Status draft_commit(Draft *d) {
    char dir[PATH_BYTES];
    TRY(draft_sync(d));
    if (!d->plain) return OK;
    if (!draft_is_there(d))
        FAIL(E_IO, "let one process write this file", "%s: another process writes it, too",
             d->target);
    if (rename(d->path, d->target) != 0) return fail("replace", d->target, errno);
    d->plain = false;  // nothing is left to drop
    parent_of(dir, d->target);
    return dir_sync(dir);
}

void draft_drop(Draft *d) {
    if (d->fd >= 0) close(d->fd);
    if (d->plain && draft_is_there(d)) unlink(d->path);
    *d = (Draft){.fd = -1};
}

Status file_write(const char *path, const void *data, size_t bytes) {
    Draft d;
    Status st = draft_open(&d, path);
    if (st == OK) st = write_all(d.fd, data, bytes, d.path);
    if (st == OK) st = draft_commit(&d);
    draft_drop(&d);  // the first error is the one to tell; a part of a file helps nobody
    return st;
}

Status file_remove(const char *path) {
    return unlink(path) == 0 || errno == ENOENT ? OK : fail("remove", path, errno);
}

// Bytes of a regular file, else -1; *torn: its last line has no end.
static off_t lines_end(int fd, bool *torn) {
    struct stat s;
    char last = '\n';
    *torn = false;
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) return -1;
    if (s.st_size > 0 && pread(fd, &last, 1, s.st_size - 1) == 1) *torn = last != '\n';
    return s.st_size;
}

// No fsync: logs are appended often, and a lost last line harms nobody.
Status file_append_lines(const char *path, const void *lines, size_t bytes) {
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return fail("open", path, errno);
    bool torn;
    off_t end = lines_end(fd, &torn);
    Status st = torn ? write_all(fd, "\n", 1, path) : OK;
    if (st == OK) st = write_all(fd, lines, bytes, path);
    // A part of a line is taken back. Where that fails as well, the next call ends the line.
    if (st != OK && end >= 0 && ftruncate(fd, end) != 0) st = err_context(st, "a part stays");
    if (close(fd) != 0 && st == OK) st = fail("write", path, errno);
    return st;
}

// Checksums

uint64_t hash64(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

Hash128 hash128(const void *data, size_t bytes) {
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    return (Hash128){h.low64, h.high64};
}

void hash128_hex(char out[33], Hash128 h) {
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.high, (unsigned long long)h.low);
}
