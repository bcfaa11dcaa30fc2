// The handler of SIGBUS for mapped files. The signal is raised by the thread that looks, in our own
// code: no lock of a library is held there, so telling and ending by panic_hook is safe. A SIGBUS
// of anything else keeps its meaning.
#include "base/lost.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"

enum { NAME_BYTES = 512 };

// One that is forgotten has no data, and serves the next: the list only grows, so that the handler
// may walk it at any moment.
typedef struct Watched {
    _Atomic(const char *) data;
    size_t bytes;
    char path[NAME_BYTES];
    struct Watched *next;
} Watched;
static _Atomic(Watched *) all = NULL;
static pthread_mutex_t writers = PTHREAD_MUTEX_INITIALIZER;
static bool installed = false;

static const Watched *find(const char *address) {
    for (const Watched *w = atomic_load(&all); w != NULL; w = w->next) {
        const char *data = atomic_load(&w->data);
        if (data != NULL && address >= data && address < data + w->bytes) return w;
    }
    return NULL;
}

static void tell(const char *text) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;  // nobody is left to hear
}

static void on_bus_error(int signal, siginfo_t *info, void *context) {
    (void)context;
    const Watched *w = info->si_code > 0 ? find(info->si_addr) : NULL;  // else sent by somebody
    if (w == NULL) {
        struct sigaction plain = {.sa_handler = SIG_DFL};
        sigaction(signal, &plain, NULL);
        raise(signal);  // held back until the handler returns
        return;
    }
    tell("sterna: cannot read ");
    tell(w->path);
    tell(": it was cut short while it was in use, or its disk failed\n"
         "  hint: find out what writes there; a corpus is prepared again by the next run\n");
    panic_hook(status_exit_code(E_IO));
    _Exit(status_exit_code(E_IO));
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    installed = sigaction(SIGBUS, &action, NULL) == 0;
}

void lost__watch(const char *path, const void *data, size_t bytes) {
    pthread_mutex_lock(&writers);
    if (!installed) install();
    Watched *w = atomic_load(&all);
    while (w != NULL && atomic_load(&w->data) != NULL) w = w->next;
    bool fresh = w == NULL;
    if (fresh) w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    size_t n = strnlen(path, NAME_BYTES - 1);
    memcpy(w->path, path, n);
    w->path[n] = '\0';
    w->bytes = bytes;
    atomic_store(&w->data, data);
    if (fresh) {
        w->next = atomic_load(&all);
        atomic_store(&all, w);
    }
    pthread_mutex_unlock(&writers);
}

void lost__forget(const void *data) {
    pthread_mutex_lock(&writers);
    for (Watched *w = atomic_load(&all); w != NULL; w = w->next) {
        if (atomic_load(&w->data) == data) atomic_store(&w->data, NULL);
    }
    pthread_mutex_unlock(&writers);
}
