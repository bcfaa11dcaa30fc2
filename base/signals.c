// The handler and its table: one row a signal.
#include "base/signals.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t pending = 0;

static const struct {
    int number, flags;
    const char *reason;
} SIGNALS[] = {
    {SIGUSR1, 0, "stopped by SIGUSR1"},
    {SIGUSR2, 0, "stopped by SIGUSR2"},
    {SIGXCPU, 0, "stopped by SIGXCPU"},
    // A terminal that closes may send two: its own and the shell's.
    {SIGHUP, 0, "stopped by SIGHUP"},
    {SIGTERM, (int)SA_RESETHAND, "stopped by SIGTERM"},
    {SIGINT, (int)SA_RESETHAND, "stopped by SIGINT"},
};
enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof SIGNALS[0] };

static void note(int signal) {
    pending = signal;
}

void signals_catch(void) {
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        struct sigaction action, before;
        memset(&action, 0, sizeof action);
        action.sa_handler = note;
        action.sa_flags = SA_RESTART | SIGNALS[i].flags;
        sigaction(SIGNALS[i].number, &action, &before);
        // nohup means it. Shells ignore SIGINT for every command in the background, without a wish
        // behind it.
        if (SIGNALS[i].number == SIGHUP && before.sa_handler == SIG_IGN) {
            sigaction(SIGHUP, &before, NULL);
        }
    }
}

int signals_pending(void) {
    return pending;
}

const char *signals_reason(int signal) {
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        if (SIGNALS[i].number == signal) return SIGNALS[i].reason;
    }
    return "stopped on another rank's signal";
}

Status signals_check(const char *during) {
    if (pending == 0) return OK;
    FAIL(E_STOPPED, "run the same command again to go on", "%s while %s", signals_reason(pending),
         during);
}
