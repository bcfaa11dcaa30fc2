// Requests to stop. A handler only notes the signal; the step's reduction makes all ranks agree on
// it.
#include <signal.h>
#include <string.h>

#include "train/run.h"

static volatile sig_atomic_t pending = 0;

static void note(int signal) {
    pending = signal;
}

void signals_catch(void) {
    waiting_hook = signals_pending;
    static const int SIGNALS[] = {SIGUSR1, SIGTERM, SIGINT};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++) {
        // A second Ctrl-C or TERM ends the program at once, wherever it is.
        action.sa_flags = SA_RESTART | (SIGNALS[i] == SIGUSR1 ? 0 : (int)SA_RESETHAND);
        sigaction(SIGNALS[i], &action, NULL);
    }
}

int signals_pending(void) {
    return pending;
}

const char *signals_reason(int signal) {
    switch (signal) {
    case SIGUSR1:
        return "stopped by SIGUSR1";
    case SIGTERM:
        return "stopped by SIGTERM";
    case SIGINT:
        return "stopped by SIGINT";
    default:
        return "stopped on another rank's signal";
    }
}
