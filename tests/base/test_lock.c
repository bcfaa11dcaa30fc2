// Locks between processes: who has it, who waits, and what lets it go.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lock.h"
#include "temp.h"

static char dir[PATH_BYTES], path[PATH_BYTES];

static void setup(void) {
    temp_open(dir);
    path_join(path, dir, "lock");
}
static void cleanup(void) {
    temp_close(dir);
}
TestSuite(lock, .init = setup, .fini = cleanup);

// In a process of its own: 0 taken, 1 held by `by`, 2 anything else.
static int try_elsewhere(pid_t by) {
    pid_t child = fork();
    if (child == 0) {
        Lock l;
        bool held;
        LockHolder holder;
        char wanted[64];
        snprintf(wanted, sizeof wanted, "process %ld on ", (long)by);
        if (lock_try(&l, path, &held, holder) != OK) _exit(2);
        _exit(!held ? 0 : strncmp(holder, wanted, strlen(wanted)) == 0 ? 1 : 2);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

static Lock take(void) {
    Lock l;
    bool held;
    LockHolder holder;
    ASSERT_OK(lock_try(&l, path, &held, holder));
    cr_assert_not(held);
    return l;
}

Test(lock, one_at_a_time_and_its_holder_is_named) {
    Lock l = take();
    cr_expect_eq(try_elsewhere(getpid()), 1);
    lock_release(&l);
    cr_expect_eq(try_elsewhere(0), 0);
    lock_release(&l);  // again is fine
}

Test(lock, other_descriptors_of_the_file_do_not_let_it_go) {
    Lock l = take();
    char *text;
    int fd = open(path, O_RDWR);
    cr_assert_geq(fd, 0);
    close(fd);
    ASSERT_OK(file_read(path, &text, NULL));
    free(text);
    cr_expect_eq(try_elsewhere(getpid()), 1);
    lock_release(&l);
}

Test(lock, a_killed_holder_leaves_none) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        Lock l = take();
        (void)l;
        if (write(ends[1], "x", 1) == 1) pause();
        _exit(1);
    }
    char byte;
    cr_assert_eq(read(ends[0], &byte, 1), 1);
    cr_expect_eq(try_elsewhere(child), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    Lock l = take();
    lock_release(&l);
}

// The child waits for our lock; `signal` or letting go ends that. 0: it got it; else its status.
static int wait_elsewhere(Lock *l, int signal) {
    pid_t child = fork();
    if (child == 0) {
        Lock mine;
        close(l->fd);  // a copy that holds the lock, too
        Status st = lock_wait(&mine, path, "works");
        bool told = st != E_STOPPED || strstr(err_message(), "works") != NULL;
        lock_release(&mine);
        _exit(told ? (int)st : 99);
    }
    usleep(150 * 1000);  // it looks every tenth of a second
    if (signal != 0)
        kill(child, signal);
    else
        lock_release(l);
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

Test(lock, waiting_ends_with_the_lock_or_a_signal) {
    Lock l = take();
    cr_expect_eq(wait_elsewhere(&l, SIGTERM), E_STOPPED);
    cr_expect_eq(wait_elsewhere(&l, SIGINT), E_STOPPED);
    cr_expect_eq(wait_elsewhere(&l, SIGUSR1), E_STOPPED);
    cr_expect_eq(wait_elsewhere(&l, 0), OK);
}

Test(lock, signals_do_what_they_did_after_a_wait) {
    waiting_begin();
    raise(SIGTERM);
    cr_expect_eq(waiting_signal(), SIGTERM);
    waiting_end();
    struct sigaction now;
    sigaction(SIGTERM, NULL, &now);
    cr_expect_eq((void *)now.sa_handler, (void *)SIG_DFL);
}

// Nobody can write there: not the directory, not the file.
Test(lock, no_lock_is_needed_where_nothing_can_be_written) {
    Lock l;
    bool held = true;
    LockHolder holder;
    if (access("/proc/version", R_OK) != 0) cr_skip_test("no /proc here");
    EXPECT_OK(lock_try(&l, "/proc/version", &held, holder));
    cr_expect_not(held);
    lock_release(&l);
    path_join(path, dir, "none/lock");
    EXPECT_FAIL(lock_try(&l, path, &held, holder), E_IO, "none/lock");
}

// ---- a file system without locks: the program's own call of fcntl, answered as such a one does
// ------------------

static int no_locks = 0;  // the error, or 0

int fcntl(int fd, int command, ...) {
    va_list ap;
    va_start(ap, command);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    if (no_locks != 0 && command == 37 /* F_OFD_SETLK */) {
        errno = no_locks;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

static void guard_write(const char *text) {
    char guard[PATH_BYTES];
    snprintf(guard, sizeof guard, "%s.guard", path);
    ASSERT_OK(file_write(guard, text, strlen(text)));
}

static bool guard_is_there(void) {
    char guard[PATH_BYTES];
    snprintf(guard, sizeof guard, "%s.guard", path);
    return path_exists(guard);
}

Test(lock, a_guard_stands_in_where_there_are_no_locks) {
    static const int ERRORS[] = {ENOLCK, EOPNOTSUPP, ENOSYS};
    for (int i = 0; i < 3; i++) {
        no_locks = ERRORS[i];
        Lock l = take();
        cr_expect(guard_is_there());
        cr_expect_eq(try_elsewhere(getpid()), 1);
        lock_release(&l);
        cr_expect_not(guard_is_there());
        cr_expect_eq(try_elsewhere(0), 0);  // which ends without letting go
        l = take();
        lock_release(&l);
    }
}

Test(lock, only_a_dead_process_of_this_host_loses_its_guard) {
    char host[256] = "", text[300];
    bool held;
    LockHolder holder;
    Lock l;
    no_locks = ENOLCK;
    gethostname(host, sizeof host - 1);
    pid_t dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    snprintf(text, sizeof text, "%s %ld\n", host, (long)dead);
    guard_write(text);
    l = take();
    lock_release(&l);

    snprintf(text, sizeof text, "%s %ld\n", host, (long)getppid());
    guard_write(text);
    ASSERT_OK(lock_try(&l, path, &held, holder));
    cr_expect(held && strstr(holder, "lock.guard") != NULL, "%s", holder);
    guard_write("another-host 1\n");
    EXPECT_FAIL(lock_try(&l, path, &held, holder), E_USAGE, "process 1 on another-host");
    cr_expect(strstr(err_message(), "lock.guard") != NULL, "%s", err_message());
    guard_write("");  // by somebody who was killed as he began, or has just begun
    ASSERT_OK(lock_try(&l, path, &held, holder));
    cr_expect(held && guard_is_there());
}

// One of those that wait for `go`, try, answer and keep what they have until `end` is closed.
static void contend(int go, int answer, int end) {
    char c;
    bool held;
    LockHolder holder;
    Lock l;
    if (read(go, &c, 1) != 1) _exit(1);
    Status st = lock_try(&l, path, &held, holder);
    c = st != OK ? 'e' : held ? 'n' : 'y';
    bool told = write(answer, &c, 1) == 1;
    _exit(read(end, &c, 1) == 0 && told ? 0 : 1);
}

Test(lock, one_process_takes_over_a_dead_ones_guard) {
    enum { ROUNDS = 100, PROCESSES = 4 };
    char host[256] = "", text[300], c;
    no_locks = ENOLCK;
    gethostname(host, sizeof host - 1);
    pid_t dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    snprintf(text, sizeof text, "%s %ld\n", host, (long)dead);
    for (int round = 0; round < ROUNDS; round++) {
        int go[2], answer[2], end[2], taken = 0;
        guard_write(text);
        cr_assert(pipe(go) == 0 && pipe(answer) == 0 && pipe(end) == 0);
        for (int p = 0; p < PROCESSES; p++) {
            if (fork() != 0) continue;
            close(end[1]);
            contend(go[0], answer[1], end[0]);
        }
        cr_assert_eq(write(go[1], "4444", PROCESSES), PROCESSES);
        for (int p = 0; p < PROCESSES; p++) {
            cr_assert(read(answer[0], &c, 1) == 1 && c != 'e', "%c", c);
            taken += c == 'y';
        }
        close(end[1]);
        for (int p = 0; p < PROCESSES; p++) wait(NULL);
        close(end[0]), close(go[0]), close(go[1]), close(answer[0]), close(answer[1]);
        cr_assert_eq(taken, 1, "round %d: %d processes hold one lock", round, taken);
    }
}

// As kernels before 3.15 answer.
Test(lock, flock_stands_in_for_locks_of_descriptions) {
    no_locks = EINVAL;
    Lock l = take();
    cr_expect_not(guard_is_there());
    cr_expect_eq(try_elsewhere(getpid()), 1);
    lock_release(&l);
}
