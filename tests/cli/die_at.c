// Preloaded by train_resume.sh and failing_rank.sh: something happens at the n-th call of a kind.
// DIE_AT=n: the process is killed right before its n-th fsync or rename of something below ckpt/.
// FAIL_AT=n: that call fails instead. FAIL_MAP=n: the program's n-th anonymous mapping is refused.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_due(const char *variable, int calls) {
    const char *at = getenv(variable);
    return at != NULL && calls == atoi(at);
}

// Whether this call is to fail; says so, for a program that survives it.
static bool count(const char *path) {
    static int calls = 0;
    if (strstr(path, "/ckpt") == NULL) return false;
    calls++;
    if (is_due("DIE_AT", calls)) kill(getpid(), SIGKILL);
    if (!is_due("FAIL_AT", calls)) return false;
    fprintf(stderr, "fails here: %s\n", path);
    errno = EIO;
    return true;
}

int fsync(int fd) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0 && count(path)) return -1;
    int (*next)(int);
    *(void **)&next = dlsym(RTLD_NEXT, "fsync");
    return next(fd);
}

int rename(const char *from, const char *to) {
    if (count(to)) return -1;
    int (*next)(const char *, const char *);
    *(void **)&next = dlsym(RTLD_NEXT, "rename");
    return next(from, to);
}

// Not a library's: those map memory, too. dladdr is asked only where the answer matters.
static bool is_program(void *caller) {
    Dl_info info;
    const char *name = strrchr(getenv("FAIL_MAP_OF"), '/');
    if (name == NULL || dladdr(caller, &info) == 0) return false;
    const char *file = strrchr(info.dli_fname, '/');
    return file != NULL && strcmp(file, name) == 0;
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    static int calls = 0;
    if ((flags & MAP_ANONYMOUS) != 0 && getenv("FAIL_MAP") != NULL &&
        is_program(__builtin_return_address(0)) && is_due("FAIL_MAP", ++calls)) {
        fprintf(stderr, "fails here: %zu bytes\n", bytes);
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
}
