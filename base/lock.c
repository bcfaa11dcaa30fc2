// Locks of open file descriptions: POSIX's own belong to the process and fall as soon as it closes
// any descriptor of the file. flock where the system knows no such locks. Waiting is trying again,
// so that a signal ends it on every file system.
#define _GNU_SOURCE  // F_OFD_SETLK
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/signals.h"

// --- who holds it ---

typedef struct Owner {
    char host[256];
    long pid;  // 0: not known
} Owner;

static Owner owner_self(void) {
    Owner o = {.pid = (long)getpid()};
    if (gethostname(o.host, sizeof o.host - 1) != 0 || o.host[0] == '\0')
        snprintf(o.host, sizeof o.host, "localhost");
    return o;
}

static Owner owner_read(int fd) {
    char text[300] = "";
    Owner o = {.pid = 0};
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0 || sscanf(text, "%255s %ld", o.host, &o.pid) != 2 || o.pid <= 0)
        return (Owner){.pid = 0};
    return o;
}

static Status owner_write(int fd, const char *path) {
    char text[300];
    Owner o = owner_self();
    int n = snprintf(text, sizeof text, "%s %ld\n", o.host, o.pid);
    return write_all(fd, text, (size_t)n, path);
}

static void owner_text(LockHolder out, const Owner *o) {
    if (o->pid > 0)
        snprintf(out, sizeof(LockHolder), "process %ld on %s", o->pid, o->host);
    else
        snprintf(out, sizeof(LockHolder), "another process");
}

// --- the guard: where there are no locks ---

// Left by a process of this host that is no more.
static bool is_stale(const Owner *o) {
    Owner self = owner_self();
    if (o->pid <= 0 || strcmp(o->host, self.host) != 0) return false;
    return o->pid == self.pid || (kill((pid_t)o->pid, 0) != 0 && errno == ESRCH);
}

static bool is_foreign(const Owner *o) {
    Owner self = owner_self();
    return o->pid > 0 && strcmp(o->host, self.host) != 0;
}

// A name in the host's memory that one process can have, and that ends with it: it guards the
// moment between reading a dead process's guard and removing it, in which another process of this
// host might put its own there. -1: taken.
static int takeover_begin(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0sterna-guard"};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) == 0) return fd;
    close(fd);
    return -1;
}

// *gone: there is no guard any more.
static Status guard_read(Owner *o, bool *gone, const char *guard) {
    int fd = open(guard, O_RDONLY | O_CLOEXEC);
    *gone = fd < 0 && errno == ENOENT;
    if (*gone) return OK;
    if (fd < 0) return file_failed("open", guard, errno);
    *o = owner_read(fd);
    close(fd);
    return OK;
}

// From a dead process. A living one may have been faster: *o is then its owner, as far as that is
// known.
static Status guard_take_over(Owner *o, bool *gone, const char *guard) {
    int turn = takeover_begin();
    o->pid = 0;
    if (turn < 0) return OK;
    Status st = guard_read(o, gone, guard);
    if (st == OK && !*gone && is_stale(o)) {
        *gone = true;
        st = file_remove(guard);
    }
    close(turn);
    return st;
}

// The guard is there. *gone: it was a dead process's, and is no more.
static Status guard_judge(const char *guard, bool *gone, bool *held, LockHolder holder) {
    Owner o;
    TRY(guard_read(&o, gone, guard));
    if (!*gone && is_stale(&o)) TRY(guard_take_over(&o, gone, guard));
    if (*gone) return OK;
    owner_text(holder, &o);
    if (is_foreign(&o))
        FAIL(E_USAGE, "wait for it; if it does not run any more, remove that file",
             "%s: %s is at work here", guard, holder);
    size_t n = strlen(holder);
    snprintf(holder + n, sizeof(LockHolder) - n, " (if it does not run any more, remove %s)",
             guard);
    *held = true;
    return OK;
}

static Status guard_make(Lock *l, const char *guard, int fd) {
    Status st = owner_write(fd, guard);
    close(fd);
    if (st == OK)
        snprintf(l->guard, sizeof l->guard, "%s", guard);
    else
        unlink(guard);
    return st;
}

static Status guard_try(Lock *l, const char *path, int why, bool *held, LockHolder holder) {
    static bool warned = false;
    char guard[PATH_BYTES];
    int n = snprintf(guard, sizeof guard, "%s.guard", path);
    if (n >= PATH_BYTES) return file_failed("create", path, ENAMETOOLONG);
    for (bool gone = true; gone;) {
        int fd = open(guard, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            if (!warned)
                log_warn("%s cannot be locked (%s): %s stands in for the lock", path, strerror(why),
                         guard);
            warned = true;
            return guard_make(l, guard, fd);
        }
        if (errno != EEXIST) return file_failed("create", guard, errno);
        TRY(guard_judge(guard, &gone, held, holder));
    }
    return OK;
}

// --- the lock ---

// 0, EAGAIN when another process has it, or why there are no locks.
static int take(int fd, bool shared) {
    struct flock whole = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    int failed;
    do failed = fcntl(fd, F_OFD_SETLK, &whole);
    while (failed != 0 && errno == EINTR);
    if (failed != 0 && errno == EINVAL) failed = flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
    if (failed == 0) return 0;
    return errno == EACCES || errno == EWOULDBLOCK ? EAGAIN : errno;
}

// A file of somebody else can be read, perhaps: then a share of the lock keeps writers out.
static int lock_open(const char *path, bool *shared) {
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    *shared = fd < 0 && (errno == EACCES || errno == EPERM || errno == EROFS);
    return *shared ? open(path, O_RDONLY | O_CLOEXEC) : fd;
}

static bool parent_is_writable(const char *path) {
    char dir[PATH_BYTES];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL) return access(".", W_OK) == 0;
    slash[slash == dir] = '\0';
    return access(dir, W_OK) == 0;
}

Status lock_try(Lock *l, const char *path, bool *held, LockHolder holder) {
    bool shared;
    *l = NO_LOCK;
    *held = false;
    int fd = lock_open(path, &shared);
    // Where the directory can be written but not this file of somebody else, a share keeps out no
    // other sharer.
    if (shared && parent_is_writable(path)) {
        if (fd >= 0) close(fd);
        return guard_try(l, path, EACCES, held, holder);
    }
    if (fd < 0 && shared) return OK;
    if (fd < 0) return file_failed("open", path, errno);
    int error = take(fd, shared);
    if (error == 0) {
        l->fd = fd;
        // For those who wait; a full disk is no reason to stop here.
        if (!shared && (ftruncate(fd, 0) != 0 || owner_write(fd, path) != OK)) err_clear();
        return OK;
    }
    Owner o = owner_read(fd);
    close(fd);
    if (error != EAGAIN) return shared ? OK : guard_try(l, path, error, held, holder);
    owner_text(holder, &o);
    *held = true;
    return OK;
}

void lock_release(Lock *l) {
    // Its holder is not to be read any more. A share was opened for reading, and has no name in it.
    bool cleared = l->fd < 0 || ftruncate(l->fd, 0) == 0;
    (void)cleared;
    if (l->fd >= 0) close(l->fd);
    if (l->guard[0] != '\0') unlink(l->guard);
    *l = NO_LOCK;
}

// --- waiting ---

static const struct {
    int number;
    const char *name;
} SIGNALS[] = {{SIGINT, "SIGINT"},   {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"},
               {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGXCPU, "SIGXCPU"}};
enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof SIGNALS[0] };

static volatile sig_atomic_t noted = 0;
static struct sigaction before[SIGNAL_COUNT];

static void note(int signal) {
    noted = signal;
}

static bool is_default(const struct sigaction *a) {
    return (a->sa_flags & SA_SIGINFO) == 0 && a->sa_handler == SIG_DFL;
}

void waiting_begin(void) {
    struct sigaction action = {.sa_handler = note};
    noted = 0;
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        sigaction(SIGNALS[i].number, NULL, &before[i]);
        if (is_default(&before[i])) sigaction(SIGNALS[i].number, &action, NULL);
    }
}

void waiting_pause(void) {
    nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);  // a signal cuts it short
}

int waiting_signal(void) {
    return noted != 0 ? (int)noted : signals_pending();
}

void waiting_end(void) {
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        if (is_default(&before[i])) sigaction(SIGNALS[i].number, &before[i], NULL);
    }
}

Status waiting_stopped(int signal, const char *what) {
    const char *name = "a signal";
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        if (SIGNALS[i].number == signal) name = SIGNALS[i].name;
    }
    FAIL(E_STOPPED, "run the same command again to go on", "stopped by %s while waiting: %s", name,
         what);
}

Status lock_wait(Lock *l, const char *path, const char *what) {
    bool held;
    LockHolder holder, why = "";
    Status st = lock_try(l, path, &held, holder);
    if (st != OK || !held) return st;
    snprintf(why, sizeof why, "%.300s %s", holder, what);
    log_warn("waiting: %s", why);
    waiting_begin();
    while (st == OK && held && waiting_signal() == 0) {
        waiting_pause();
        st = lock_try(l, path, &held, holder);
    }
    waiting_end();
    if (st != OK || (!held && waiting_signal() == 0)) return st;
    lock_release(l);
    return waiting_stopped(waiting_signal(), why);
}
