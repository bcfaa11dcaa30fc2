// One process at a time: a lock on a file, which falls with the process and with nothing else that
// it does. Where the file system has no locks, a guard file beside it stands in, with one warning.
// Nothing here communicates.
#pragma once

#include "base/file.h"

typedef struct Lock {
    int fd;                  // of the locked file; -1: none
    char guard[PATH_BYTES];  // the file that stands in for a lock, or ""
} Lock;
#define NO_LOCK ((Lock){.fd = -1})

// "process 71 on node3", as far as is known, and what to do when it is not true.
typedef char LockHolder[PATH_BYTES + 512];

// Tries once. *held: another process has it, named in `holder`. OK without a lock where nothing can
// be written: nothing needs one there. E_USAGE: the guard of a process on another host, of which
// nobody here can tell whether it lives.
Status lock_try(Lock *l, const char *path, bool *held, LockHolder holder) CHECKED;
void lock_release(Lock *l);  // accepts NO_LOCK

// Tries until the lock is there; says once for whom it waits. E_STOPPED: a signal ended the wait.
// `what`: what the holder does, "prepares the corpus in DIR".
Status lock_wait(Lock *l, const char *path, const char *what) CHECKED;

// The parts of a wait, for waits that several ranks make together. Between begin and end, signals
// that would end the process are noted instead; requests that base/signals.h notes count, too.
void waiting_begin(void);
void waiting_pause(void);
int waiting_signal(void);  // what came since the beginning, or 0
void waiting_end(void);
Status waiting_stopped(int signal, const char *what) CHECKED;  // E_STOPPED
