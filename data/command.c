// posix_spawn, two pipes and poll. Spawning shares no memory pages with the child, which matters
// inside an MPI program whose pages may be registered with a network card.
#define _GNU_SOURCE  // posix_spawn_file_actions_addchdir_np
#include "data/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { OUTPUT_LIMIT = 1 << 20, ERROR_LIMIT = 4096 };

extern char **environ;

// One stream of the child: our end, its end, and what came so far.
typedef struct Pipe {
    int read_end, write_end;
    char *text;
    size_t bytes, limit;
} Pipe;

static Status pipe_open(Pipe *p, size_t limit) {
    int ends[2];
    *p = (Pipe){-1, -1, malloc(limit + 1), 0, limit};
    if (p->text == NULL) FAIL(E_NOMEM, "free some memory", "no memory to read from a program");
    p->text[0] = '\0';
    if (pipe(ends) != 0) FAIL(E_IO, "close some files", "pipe: %s", strerror(errno));
    p->read_end = ends[0];
    p->write_end = ends[1];
    // Only the copies made by dup2 may reach the child, or its end would never be seen.
    fcntl(p->read_end, F_SETFD, FD_CLOEXEC);
    fcntl(p->write_end, F_SETFD, FD_CLOEXEC);
    return OK;
}

static void end_close(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void pipe_close(Pipe *p) {
    end_close(&p->read_end);
    end_close(&p->write_end);
    free(p->text);
}

// Takes what is there; closes at the end. Text beyond the limit is dropped, the program is still
// read to its end.
static void pipe_drain(Pipe *p) {
    char waste[4096];
    bool full = p->bytes == p->limit;
    ssize_t n = full ? read(p->read_end, waste, sizeof waste)
                     : read(p->read_end, p->text + p->bytes, p->limit - p->bytes);
    if (n > 0 && !full) p->bytes += (size_t)n;
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) end_close(&p->read_end);
    p->text[p->bytes] = '\0';
}

// Until both streams end; false when the time is over. Both at once, as a full pipe stops the
// child.
static bool pipes_read(Pipe *out, Pipe *err, double deadline) {
    while (out->read_end >= 0 || err->read_end >= 0) {
        double left = deadline - clock_s();
        if (left <= 0) return false;
        struct pollfd fds[2] = {{out->read_end, POLLIN, 0}, {err->read_end, POLLIN, 0}};
        poll(fds, 2, left > 1 ? 1000 : (int)(left * 1000) + 1);
        if (fds[0].revents != 0) pipe_drain(out);
        if (fds[1].revents != 0) pipe_drain(err);
    }
    return true;
}

// Standard input is empty: a program that asks gets an answer at once.
static Status spawn(pid_t *pid, const char *const argv[], const char *dir, const Pipe *out,
                    const Pipe *err) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out->write_end, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err->write_end, STDERR_FILENO);
    if (dir != NULL) posix_spawn_file_actions_addchdir_np(&actions, dir);
    int rc = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        bool ours = rc == EAGAIN || rc == ENOMEM || rc == EMFILE || rc == ENFILE;
        FAIL(ours ? E_IO : E_NETWORK, "install it, or train with data.offline=true",
             "%s: cannot be started: %s", argv[0], strerror(rc));
    }
    return OK;
}

// The last line that is not blank: where programs put their reason.
static const char *last_line(char *text) {
    size_t n = strlen(text);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ')) text[--n] = '\0';
    const char *lf = strrchr(text, '\n');
    return lf == NULL ? text : lf + 1;
}

Status command_read(char **output, const char *const argv[], const char *dir, double timeout_s) {
    Status st = OK;
    Pipe out = {-1, -1, NULL, 0, 0}, err = out;
    pid_t pid;
    *output = NULL;
    TRY_GOTO(pipe_open(&out, OUTPUT_LIMIT));
    TRY_GOTO(pipe_open(&err, ERROR_LIMIT));
    TRY_GOTO(spawn(&pid, argv, dir, &out, &err));
    end_close(&out.write_end);  // the child's copies are then the last, and their end is the end
    end_close(&err.write_end);

    bool in_time = pipes_read(&out, &err, clock_s() + timeout_s);
    if (!in_time) kill(pid, SIGKILL);
    // Always wait, also for a killed child: no zombies in a job of days.
    int code = 0;
    while (waitpid(pid, &code, 0) < 0 && errno == EINTR) continue;
    if (!in_time) {
        st = err_set(E_NETWORK, "check the network, or train with data.offline=true",
                     "%s %s: no answer after %.0f s", argv[0], argv[1], timeout_s);
    } else if (!WIFEXITED(code) || WEXITSTATUS(code) != 0) {
        st = err_set(E_NETWORK, "run the same command by hand, or train with data.offline=true",
                     "%s %s failed: %s", argv[0], argv[1], last_line(err.text));
    } else {
        *output = out.text;
        out.text = NULL;
    }
done:
    pipe_close(&out);
    pipe_close(&err);
    return st;
}
