// Preloaded by errors.sh: system calls on some paths fail. FAULT="CALL:PART:ERRNO ...": every call
// of this kind on a path that holds PART; calls: open stat mkdir write fsync rename.
// FAULT_WHILE=FILE: only as long as this file is there.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    int number;
} ERRORS[] = {{"EIO", EIO},       {"ESTALE", ESTALE}, {"EACCES", EACCES}, {"EMFILE", EMFILE},
              {"ENOMEM", ENOMEM}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}};

#define NEXT(name)                                                                                 \
    __typeof__(name) *next;                                                                        \
    *(void **)&next = dlsym(RTLD_NEXT, #name)

static bool is_on(void) {
    const char *file = getenv("FAULT_WHILE");
    return file == NULL || faccessat(AT_FDCWD, file, F_OK, 0) == 0;
}

// Sets errno where this call is to fail, and says so.
static bool fails(const char *call, const char *path) {
    const char *at = getenv("FAULT");
    char kind[16], part[256], error[16];
    for (int n = 0;
         at != NULL && sscanf(at, " %15[^:]:%255[^:]:%15s%n", kind, part, error, &n) == 3;
         at += n) {
        if (strcmp(kind, call) != 0 || strstr(path, part) == NULL || !is_on()) continue;
        fprintf(stderr, "fails here: %s %s\n", call, path);
        for (size_t i = 0; i < sizeof ERRORS / sizeof ERRORS[0]; i++)
            if (strcmp(ERRORS[i].name, error) == 0) errno = ERRORS[i].number;
        return true;
    }
    return false;
}

static bool fails_on(const char *call, int fd) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && fails(call, path);
}

int open(const char *path, int flags, ...) {
    NEXT(open);
    va_list ap;
    va_start(ap, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return fails("open", path) ? -1 : next(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode) {
    NEXT(fopen);
    return fails("open", path) ? NULL : next(path, mode);
}

int mkstemp(char *path) {
    NEXT(mkstemp);
    return fails("open", path) ? -1 : next(path);
}

int scandir(const char *path, struct dirent ***list, int (*filter)(const struct dirent *),
            int (*compare)(const struct dirent **, const struct dirent **)) {
    NEXT(scandir);
    return fails("open", path) ? -1 : next(path, list, filter, compare);
}

int stat(const char *path, struct stat *s) {
    NEXT(stat);
    return fails("stat", path) ? -1 : next(path, s);
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    return fails("mkdir", path) ? -1 : next(path, mode);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    NEXT(write);
    return fd > STDERR_FILENO && fails_on("write", fd) ? -1 : next(fd, data, bytes);
}

int fsync(int fd) {
    NEXT(fsync);
    return fails_on("fsync", fd) ? -1 : next(fd);
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    return fails("rename", to) ? -1 : next(from, to);
}
